#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures a preset when needed and builds targets of it.
#
#   tools/build.sh PRESET [TARGET...]     presets: release debug asan fuzz cuda
#
# JOBS=N overrides the number of compile jobs; CMAKE_ARGS adds arguments to the configure step.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
dir=build/$preset
mkdir -p "$dir"

# The environment's cmake exists only where the system's is too old; its ctest and presets match it.
cmake=cmake
[[ -x .venv/bin/cmake ]] && cmake=.venv/bin/cmake

# One torch translation unit takes up to 1.5 GiB while it compiles.
free_gib=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$((free_gib * 2 / 3))
((jobs > $(nproc))) && jobs=$(nproc)
((jobs < 1)) && jobs=1
jobs=${JOBS:-$jobs}

begin=$SECONDS
if [[ ! -f $dir/build.ninja || CMakePresets.json -nt $dir/build.ninja || -n ${CMAKE_ARGS:-} ]]; then
  # shellcheck disable=SC2086  # CMAKE_ARGS is words
  if ! "$cmake" --preset "$preset" ${CMAKE_ARGS:-} >"$dir/configure.log" 2>&1; then
    echo "build: configuring '$preset' FAILED; the end of $dir/configure.log:" >&2
    tail -n 30 "$dir/configure.log" >&2
    exit 1
  fi
  echo "build: configured '$preset' ($((SECONDS - begin)) s)"
fi

begin=$SECONDS
if [[ -t 1 ]]; then
  "$cmake" --build "$dir" -j "$jobs" ${@:+--target "$@"}
else
  # Without a terminal Ninja prints a line a step; only warnings and errors are worth keeping.
  log=$dir/build.log
  if ! NINJA_STATUS='' "$cmake" --build "$dir" -j "$jobs" ${@:+--target "$@"} >"$log" 2>&1; then
    echo "build: '$preset' FAILED after $((SECONDS - begin)) s; from $log:" >&2
    grep -E -A 12 'FAILED|error:|undefined reference' "$log" | head -n 80 >&2 || tail -n 40 "$log" >&2
    exit 1
  fi
  grep -E 'warning:' "$log" | sort -u | head -n 20 || true
fi
echo "build: '$preset' ${*:-all targets} ready ($((SECONDS - begin)) s, $jobs jobs)"
