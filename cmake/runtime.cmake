# The third way in: libflagdit, shared with a C interface and static with a C++ face, and flagdit_run.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
find_package(Threads REQUIRED)

add_library(flagdit_runtime STATIC
  cpp_ext/runtime/capi.cpp
  cpp_ext/runtime/generation.cpp
  cpp_ext/runtime/library.cpp
  cpp_ext/runtime/picture.cpp
  cpp_ext/runtime/pipeline.cpp
  cpp_ext/runtime/said.cpp
  cpp_ext/runtime/said_options.cpp
  cpp_ext/runtime/said_parts.cpp
  cpp_ext/runtime/said_pipeline.cpp
  cpp_ext/runtime/upright.cpp)
target_include_directories(flagdit_runtime PRIVATE ${PROJECT_BINARY_DIR}/version)
target_link_libraries(flagdit_runtime
  PUBLIC flagdit_core flagdit_files flagdit_onnxruntime flagdit_tensorrt PRIVATE flagdit_options flagdit_third_party)
set_target_properties(flagdit_runtime PROPERTIES POSITION_INDEPENDENT_CODE ON)

# One archive and one shared object of all that is above. The shared one shows what flagdit.h says, under a version;
# the C++ face, whose types are the compiler's, is for those who link the archive.
set(parts flagdit_core flagdit_files flagdit_onnxruntime flagdit_tensorrt flagdit_runtime flagdit_third_party)
list(TRANSFORM parts REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
set(needed Threads::Threads ${CMAKE_DL_LIBS})
add_library(flagdit SHARED ${objects})
target_link_libraries(flagdit PRIVATE ${needed} flagdit_options)
target_link_options(flagdit PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cpp_ext/runtime/flagdit.map)
set_target_properties(flagdit PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cpp_ext/runtime/flagdit.map LINKER_LANGUAGE CXX)
add_library(flagdit_static STATIC ${objects})
target_link_libraries(flagdit_static INTERFACE ${needed})
set_target_properties(flagdit_static PROPERTIES OUTPUT_NAME flagdit LINKER_LANGUAGE CXX EXPORT_NAME static)
if(FLAGDIT_CUDA)
  target_link_libraries(flagdit PRIVATE ${cudart})
  target_link_libraries(flagdit_static INTERFACE ${cudart})
endif()
foreach(target flagdit flagdit_static)
  target_compile_features(${target} PUBLIC cxx_std_17)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp_ext/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  add_library(flagdit::${target} ALIAS ${target})
endforeach()

add_executable(flagdit_run
  cpp_ext/runtime/command.cpp
  cpp_ext/runtime/names.cpp
  cpp_ext/runtime/outputs.cpp
  cpp_ext/runtime/paint.cpp
  cpp_ext/runtime/program.cpp
  cpp_ext/runtime/tell.cpp)
target_include_directories(flagdit_run PRIVATE ${PROJECT_BINARY_DIR}/version)
target_include_directories(flagdit_run SYSTEM PRIVATE cpp_ext/third_party/cli11)
target_link_libraries(flagdit_run PRIVATE flagdit_runtime flagdit_options flagdit_third_party Threads::Threads)

# What others find: find_package(flagdit), and pkg-config.
install(TARGETS flagdit flagdit_static EXPORT flagdit)
install(TARGETS flagdit_run)
install(FILES cpp_ext/include/flagdit.h TYPE INCLUDE)
install(DIRECTORY cpp_ext/include/flagdit TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE NOTICE docs/runtime.md TYPE DOC)
install(EXPORT flagdit NAMESPACE flagdit:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flagdit FILE flagditTargets.cmake)
configure_package_config_file(cmake/flagditConfig.cmake.in ${PROJECT_BINARY_DIR}/runtime/flagditConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flagdit)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/runtime/flagditConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/runtime/flagditConfig.cmake ${PROJECT_BINARY_DIR}/runtime/flagditConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flagdit)
configure_file(cmake/flagdit.pc.in ${PROJECT_BINARY_DIR}/runtime/flagdit.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/runtime/flagdit.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# A tarball and a Debian package: `cpack --config build/runtime/CPackConfig.cmake`.
set(CPACK_PACKAGE_NAME flagdit)
set(CPACK_PACKAGE_CONTACT "the flagdit authors <flagdit@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Flow-based diffusion transformers with region-adaptive sampling, without Python")
set(CPACK_GENERATOR TGZ DEB)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6, libstdc++6")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)

enable_testing()
add_executable(flagdit_core_test tests/runtime/core_test.cpp)
target_link_libraries(flagdit_core_test PRIVATE flagdit_static flagdit_options flagdit_third_party)
add_test(NAME core COMMAND flagdit_core_test
  ${PROJECT_SOURCE_DIR}/engine/demo ${PROJECT_SOURCE_DIR}/tests/runtime/fixtures.json)
