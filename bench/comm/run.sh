#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the table of collectives for 2 and 4 ranks: bench/comm/run.sh BUILD_DIR [RANKS...]
set -e
build=$1
shift
here=$(dirname "$0")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
echo "commit $(git -C "$here" rev-parse --short HEAD)$(git -C "$here" diff --quiet HEAD -- || echo ' (with changes)'), $(date -u +%F)," \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, Linux $(uname -r)"
for ranks in ${@:-2 4}; do
  # Two ranks on one core are another measurement; more ranks than cores cannot be bound.
  if [ "$ranks" -le "$(nproc)" ]; then bind=core; else bind=none; fi
  {
    mpirun --oversubscribe --bind-to $bind --mca btl vader,self -n "$ranks" "$build/bin/comm_bench"
    PYTHONWARNINGS=ignore "$here/../../.venv/bin/python" "$here/gloo.py" "$ranks"
  } | tee "$build/comm_bench_$ranks.txt" | python3 "$here/table.py"
done
