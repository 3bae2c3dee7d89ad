# Libraries and tests from data: a library's CMakeLists names its sources and its DEPS, nothing else.
#
# The layering rule (ARCHITECTURE.md) is held by include roots: a library sees only its own `include/` and those of
# its DEPS, so an include against the graph stops the compiler.

set_property(GLOBAL PROPERTY VEOMNI_EDGES "")

# One precompiled header for every torch-using translation unit.
add_library(veomni_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/pch.cpp)
target_link_libraries(veomni_pch PRIVATE libtorch::torch libtorch::fmt veomni_warnings)
target_precompile_headers(veomni_pch PRIVATE
  <torch/types.h> <torch/csrc/autograd/custom_function.h> <torch/csrc/autograd/functions/utils.h>
  <functional> <map> <memory> <optional> <string> <vector> <fmt/format.h>)

# An executable that shares the precompiled header must be compiled as it was: -fPIC, where CMake would say -fPIE.
function(veomni_use_pch target)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
  target_precompile_headers(${target} REUSE_FROM veomni_pch)
endfunction()

# veomni_add_library(NAME n SOURCES … DEPS … [KERNELS …] [PRIVATE_DEPS …] [NO_TORCH])
#   DEPS          veomni::x become edges of the graph; others are third-party
#   KERNELS       plain-pointer sources: no torch headers, no PCH, optimised hard
#   NO_TORCH      the library never sees torch headers
function(veomni_add_library)
  cmake_parse_arguments(A "NO_TORCH" "NAME" "SOURCES;DEPS;PRIVATE_DEPS;KERNELS" ${ARGN})
  add_library(veomni_${A_NAME} STATIC ${A_SOURCES} ${A_KERNELS})
  add_library(veomni::${A_NAME} ALIAS veomni_${A_NAME})
  target_include_directories(veomni_${A_NAME} PUBLIC include PRIVATE src)
  target_link_libraries(veomni_${A_NAME} PUBLIC ${A_DEPS} PRIVATE veomni_warnings libtorch::fmt ${A_PRIVATE_DEPS})
  if(NOT A_NO_TORCH)
    target_link_libraries(veomni_${A_NAME} PUBLIC libtorch::torch)
    target_precompile_headers(veomni_${A_NAME} REUSE_FROM veomni_pch)
  endif()
  if(A_KERNELS)
    set_source_files_properties(${A_KERNELS} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  endif()
  foreach(dep IN LISTS A_DEPS A_PRIVATE_DEPS)
    if(dep MATCHES "^veomni::(.*)$")
      set_property(GLOBAL APPEND PROPERTY VEOMNI_EDGES "${A_NAME} ${CMAKE_MATCH_1}")
    endif()
  endforeach()
endfunction()

set_property(GLOBAL PROPERTY VEOMNI_ON_RANKS "")

# veomni_add_test(NAME n SOURCES … [DEPS …] [ON_RANKS …] [NO_TORCH]) → bin/<n>_test, one binary per library
#   ON_RANKS      sources whose ranks are threads here and processes in bin/layouts_test (tests/on_ranks)
function(veomni_add_test)
  cmake_parse_arguments(A "NO_TORCH" "NAME" "SOURCES;DEPS;ON_RANKS" ${ARGN})
  if(NOT VEOMNI_BUILD_TESTS)
    return()
  endif()
  add_executable(${A_NAME}_test ${A_SOURCES})
  target_link_libraries(${A_NAME}_test PRIVATE ${A_DEPS} veomni_warnings libtorch::fmt GTest::gmock GTest::gtest_main)
  if(TARGET veomni_${A_NAME})
    target_link_libraries(${A_NAME}_test PRIVATE veomni::${A_NAME})
    target_include_directories(${A_NAME}_test PRIVATE src tests)
  endif()
  if(NOT A_NO_TORCH)
    target_link_libraries(${A_NAME}_test PRIVATE libtorch::torch)
    veomni_use_pch(${A_NAME}_test)
  endif()
  if(A_ON_RANKS)
    add_library(${A_NAME}_on_ranks_tests OBJECT ${A_ON_RANKS})
    target_include_directories(${A_NAME}_on_ranks_tests PRIVATE tests)
    target_link_libraries(${A_NAME}_on_ranks_tests PRIVATE veomni::${A_NAME} veomni_on_ranks veomni_warnings
                          libtorch::torch libtorch::fmt GTest::gmock GTest::gtest)
    target_precompile_headers(${A_NAME}_on_ranks_tests REUSE_FROM veomni_pch)
    set_property(GLOBAL APPEND PROPERTY VEOMNI_ON_RANKS ${A_NAME})
    target_sources(${A_NAME}_test PRIVATE $<TARGET_OBJECTS:${A_NAME}_on_ranks_tests>)
    target_link_libraries(${A_NAME}_test PRIVATE veomni_on_ranks)
  endif()
  target_compile_definitions(${A_NAME}_test PRIVATE VEOMNI_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             VEOMNI_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${A_NAME} COMMAND ${A_NAME}_test --gtest_brief=1)
endfunction()
