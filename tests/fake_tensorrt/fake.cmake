# The backend over a library that keeps TensorRT's rules, and the emulator's CUDA: a program of tests.
set(fake ${PROJECT_SOURCE_DIR}/tests/fake_tensorrt)
target_include_directories(flagdit_tensorrt SYSTEM PRIVATE ${emulator}/include)
# It takes CUDA from the program that loads it, as the real one does from the system.
add_library(fake_nvinfer MODULE ${fake}/nvinfer.cpp)
target_include_directories(fake_nvinfer SYSTEM PRIVATE ${fake} ${emulator}/include)
target_link_libraries(fake_nvinfer PRIVATE flagdit_options)
add_executable(tensorrt_test ${fake}/tensorrt_test.cpp)
target_include_directories(tensorrt_test SYSTEM PRIVATE ${emulator}/include)
target_link_libraries(tensorrt_test PRIVATE flagdit_tensorrt flagdit_core flagdit_options)
target_compile_definitions(tensorrt_test PRIVATE FAKE_NVINFER="$<TARGET_FILE:fake_nvinfer>")
set_target_properties(tensorrt_test PROPERTIES ENABLE_EXPORTS ON)
add_dependencies(tensorrt_test fake_nvinfer)
