# The .cu files as C++ over the emulator. Only Python is needed, no part of CUDA.
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
set(emulator ${PROJECT_SOURCE_DIR}/tests/cuda_emulator)
set(emulated_sources)
foreach(source ${cuda_sources})
  if(source MATCHES "\\.cu$")
    get_filename_component(name ${source} NAME_WE)
    set(emulated ${PROJECT_BINARY_DIR}/emulated/${name}.cpp)
    add_custom_command(OUTPUT ${emulated} DEPENDS ${source} ${emulator}/rewrite.py
      COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/emulated
      COMMAND ${Python_EXECUTABLE} ${emulator}/rewrite.py ${PROJECT_SOURCE_DIR}/${source} ${emulated})
  else()
    set(emulated ${source})
  endif()
  list(APPEND emulated_sources ${emulated})
endforeach()
list(APPEND emulated_sources ${emulator}/block.cpp ${emulator}/runtime.cpp ${emulator}/threads.cpp)
# Products and sums are rounded one by one, as the CPU's; pragmas of loops are nvcc's.
set_source_files_properties(${emulated_sources} PROPERTIES
  COMPILE_OPTIONS "-ffp-contract=off;-Wno-unknown-pragmas"
  INCLUDE_DIRECTORIES "${emulator}/include;${PROJECT_SOURCE_DIR}/cpp_ext/src")
target_sources(flagdit_core PRIVATE ${emulated_sources})
