# Imported targets from a PyTorch wheel (CPU or CUDA), without find_package(Torch).
#
# in : TORCH_DIR  (…/site-packages/torch); default: the project's .venv, else python3's torch
# out: libtorch::torch   headers, libtorch_cpu, libc10 (+ CUDA parts with VEOMNI_WITH_CUDA)
#      libtorch::fmt     only the wheel's {fmt}, header-only, for libraries that never see torch
#      LIBTORCH_VERSION
if(NOT TORCH_DIR)
  find_program(VEOMNI_PYTHON NAMES python3 PATHS ${CMAKE_SOURCE_DIR}/.venv/bin NO_DEFAULT_PATH)
  find_program(VEOMNI_PYTHON NAMES python3 REQUIRED)
  execute_process(
    COMMAND ${VEOMNI_PYTHON} -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT TORCH_DIR)
    message(FATAL_ERROR "No PyTorch wheel found by ${VEOMNI_PYTHON}. Run `make setup`, or pass -DTORCH_DIR=<site-packages>/torch.")
  endif()
endif()
set(TORCH_DIR ${TORCH_DIR} CACHE PATH "directory of the torch package" FORCE)

file(STRINGS ${TORCH_DIR}/version.py _version REGEX "^__version__")
string(REGEX REPLACE ".*'([^']+)'.*" "\\1" LIBTORCH_VERSION "${_version}")

function(_libtorch_shared name)
  add_library(libtorch::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(libtorch::${name} PROPERTIES IMPORTED_LOCATION ${TORCH_DIR}/lib/lib${name}.so)
endfunction()
_libtorch_shared(c10)
_libtorch_shared(torch_cpu)

# torch carries its own OpenMP runtime; our kernels must use the same one, or two thread pools fight for the cores.
file(GLOB _gomp ${TORCH_DIR}/lib/libgomp*.so* ${TORCH_DIR}/../torch.libs/libgomp*.so*)
list(GET _gomp 0 LIBTORCH_GOMP)

add_library(libtorch::torch INTERFACE IMPORTED GLOBAL)
target_include_directories(libtorch::torch SYSTEM INTERFACE
  ${TORCH_DIR}/include ${TORCH_DIR}/include/torch/csrc/api/include)
target_compile_features(libtorch::torch INTERFACE cxx_std_20)
target_compile_definitions(libtorch::torch INTERFACE AT_PARALLEL_OPENMP=1)
target_compile_options(libtorch::torch INTERFACE -fopenmp)
target_link_libraries(libtorch::torch INTERFACE libtorch::torch_cpu libtorch::c10 ${LIBTORCH_GOMP})

if(VEOMNI_WITH_CUDA)
  include(LibTorchCuda)
endif()

# {fmt} alone: a link to the wheel's fmt folder, so that a torch-free library cannot reach torch's headers.
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fmt_include)
file(CREATE_LINK ${TORCH_DIR}/include/fmt ${CMAKE_BINARY_DIR}/fmt_include/fmt SYMBOLIC)
add_library(libtorch::fmt INTERFACE IMPORTED GLOBAL)
target_include_directories(libtorch::fmt SYSTEM INTERFACE ${CMAKE_BINARY_DIR}/fmt_include)
target_compile_definitions(libtorch::fmt INTERFACE FMT_HEADER_ONLY=1)

message(STATUS "libtorch ${LIBTORCH_VERSION} at ${TORCH_DIR}")
