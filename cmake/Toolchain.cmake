# ccache, linker, sanitizers, warnings: what every target shares.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are cached only with these sloppiness settings (ccache manual, "Precompiled headers").
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} ${CCACHE_PROGRAM})
endif()

# mold links a test program in a third of the time; GCC before 12.1 does not know it.
include(CheckLinkerFlag)
check_linker_flag(CXX -fuse-ld=mold VEOMNI_HAVE_MOLD)
if(VEOMNI_HAVE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Ranks compare it, so that one job never runs two builds.
add_link_options(-Wl,--build-id)

if(VEOMNI_SANITIZE)
  add_compile_options(-fsanitize=${VEOMNI_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${VEOMNI_SANITIZE})
endif()

# Linked PRIVATE: warnings are ours, never our users'.
add_library(veomni_warnings INTERFACE)
target_compile_options(veomni_warnings INTERFACE -Wall -Wextra -Wno-sign-compare -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # ccache can only reuse an object built with a precompiled header if the compiler preprocesses that way.
  target_compile_options(veomni_warnings INTERFACE -fpch-preprocess)
endif()

# Objects of a static library need not wait for the libraries it links: two cores stay busy.
set(CMAKE_OPTIMIZE_DEPENDENCIES ON)
