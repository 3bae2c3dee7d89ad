# The CUDA parts of a CUDA wheel. Only cudart comes from the toolkit; the other libraries come with the wheel.
if(NOT EXISTS ${TORCH_DIR}/lib/libtorch_cuda.so)
  message(FATAL_ERROR "VEOMNI_WITH_CUDA=ON, but the wheel at ${TORCH_DIR} is a CPU build (no libtorch_cuda.so).")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
cmake_path(GET TORCH_DIR PARENT_PATH _site_packages)
_libtorch_shared(c10_cuda)
_libtorch_shared(torch_cuda)
target_include_directories(libtorch::torch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
# torch_cuda registers its kernels from static initialisers: keep the DT_NEEDED entry.
target_link_libraries(libtorch::torch INTERFACE libtorch::c10_cuda CUDA::cudart
  "-Wl,--push-state,--no-as-needed" ${TORCH_DIR}/lib/libtorch_cuda.so "-Wl,--pop-state")
file(GLOB _nvidia_libs ${_site_packages}/nvidia/*/lib)
list(JOIN _nvidia_libs ":" _rpath_link)
target_link_options(libtorch::torch INTERFACE "-Wl,-rpath-link,${_rpath_link}")
