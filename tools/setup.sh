#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what a target needs, once: system packages by apt, then .venv with PyTorch's wheel.
#
#   tools/setup.sh [build|test|soak]      each level holds the ones before it
#
# Variables:
#   TORCH_INDEX_URL  index for the torch wheel alone; without it pip's own configuration decides
#   SKIP_APT=1       trust that the packages of tools/apt-packages*.txt, or their equivalents, are there
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-build}
apt_lists=(tools/apt-packages.txt)
pip_lists=(tools/requirements.txt)
case $level in
  build) ;;
  test) pip_lists+=(tools/requirements-test.txt) ;;
  soak) pip_lists+=(tools/requirements-test.txt); apt_lists+=(tools/apt-packages-soak.txt) ;;
  *) echo "tools/setup.sh: unknown level '$level' (build, test, soak)" >&2; exit 2 ;;
esac

python=.venv/bin/python
log_dir=.cache/setup
mkdir -p "$log_dir"
digest=$(cat tools/setup.sh "${apt_lists[@]}" "${pip_lists[@]}" | sha256sum | cut -c1-16)
stamp=$log_dir/$level-$digest
# The stamp names the .venv it was made for, so a .venv that was replaced is looked at again.
[[ -f $stamp && -x $python && $(<"$stamp") == "$(realpath .venv)" ]] && exit 0

words() { sed -e 's/#.*//' "$@" | xargs; }

# phase NAME COMMAND... : one line with the seconds; the command's output goes to a log, shown if it fails.
phase() {
  local name=$1 log begin=$SECONDS
  log=$log_dir/${name// /-}.log
  shift
  printf 'set-up: %s ... ' "$name"
  if "$@" >"$log" 2>&1 </dev/null; then
    printf 'done (%d s)\n' $((SECONDS - begin))
  else
    printf 'FAILED after %d s; the end of %s:\n' $((SECONDS - begin)) "$log"
    tail -n 25 "$log"
    exit 1
  fi
}

missing_packages() {
  local package
  for package in $(words "${apt_lists[@]}"); do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s ' "$package"
  done
}

apt_install() {
  local get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
  # Lists may be absent (a fresh container) or stale: fetch them only when an install without them fails.
  "${get[@]}" install --no-install-recommends "$@" ||
    { "${get[@]}" update && "${get[@]}" install --no-install-recommends "$@"; }
}

install_system_packages() {
  [[ ${SKIP_APT:-0} == 1 ]] && return
  if ! command -v dpkg-query apt-get >/dev/null; then
    echo "This machine has no apt. Install the equivalents of these packages, then run again with SKIP_APT=1:" >&2
    words "${apt_lists[@]}" >&2
    exit 1
  fi
  local missing
  missing=$(missing_packages)
  [[ -z $missing ]] && return
  as_root=()
  if [[ $(id -u) != 0 ]]; then
    # With a terminal sudo may ask for its password; without one it must not.
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }; then
      as_root=(sudo)
    else
      echo "Neither root nor sudo here. Ask for these packages, then run this again:" >&2
      echo "apt-get install $missing" >&2
      exit 1
    fi
  fi
  # shellcheck disable=SC2086  # the list is words
  phase "system packages" apt_install $missing
}

make_venv() {
  # A half-made environment (no pip) is completed, an existing one is kept.
  [[ -x $python ]] && "$python" -m pip --version >/dev/null 2>&1 && return
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "python3 is $(python3 -V 2>&1); PyTorch 2.13 needs 3.10 or newer." >&2
    exit 1
  fi
  phase "python environment" python3 -m venv .venv
}

# Requirement lines of the files given that the environment does not satisfy yet, one a line.
unmet() {
  "$python" - "$@" <<'PY'
import re, sys
from importlib import metadata
numbers = lambda v: [int(n) for n in re.findall(r"\d+", v.split("+")[0])]
for path in sys.argv[1:]:
    for line in open(path):
        m = re.match(r"([\w.-]+)(==|>=)([\w.]+)", line)
        if not m:
            continue
        try:
            have = metadata.version(m[1])
        except metadata.PackageNotFoundError:
            have = None
        if not have or (numbers(have) != numbers(m[3]) if m[2] == "==" else numbers(have) < numbers(m[3])):
            print(m[0])
PY
}

install_python_packages() {
  local line torch=() others=()
  while read -r line; do
    if [[ $line == torch==* ]]; then torch+=("$line"); else others+=("$line"); fi
  done < <(unmet "${pip_lists[@]}")
  local pip=("$python" -m pip install --disable-pip-version-check --no-input)
  if ((${#torch[@]})); then
    phase "PyTorch wheel" "${pip[@]}" ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "${torch[@]}"
  fi
  if ((${#others[@]})); then
    phase "python packages" "${pip[@]}" "${others[@]}"
  fi
}

# The presets need CMake 3.25; Ubuntu 22.04 has 3.22. PyPI's wheel goes into .venv, where tools/build.sh looks first.
ensure_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/.*version //p')
  [[ -n $version && $(printf '3.25\n%s\n' "$version" | sort -V | head -n 1) == 3.25 ]] && return
  [[ -x .venv/bin/cmake ]] && return
  phase "newer cmake" "$python" -m pip install --disable-pip-version-check --no-input 'cmake>=3.25,<5'
}

install_system_packages
make_venv
install_python_packages
ensure_cmake
realpath .venv >"$stamp"
