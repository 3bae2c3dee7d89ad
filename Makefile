# SPDX-License-Identifier: Apache-2.0
# Every target sets up what it needs first; a second run does no set-up again. `make` alone explains.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build quickstart test soak bench bench-comm bench-kernels format tidy clean

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: veomni.cpp - train any-modality models, in C++.
#:
#:   make quickstart   set up, build, then train a small omni model on four tasks and judge it
#:   make test         set up, build, then run every test
#:   make build        set up, then build/release/bin/veomni
#:
#:   make setup        system packages (apt: root or sudo) and .venv with PyTorch's wheel
#:   make bench        speed against plain PyTorch FSDP2 (out/bench/compare.md and .html)
#:   make bench-comm   collectives against OpenMPI, Gloo and memcpy, 2 and 4 ranks
#:   make bench-kernels  every op against ATen and the machine's limits (out/bench/kernels.md)
#:   make soak         the long checks; PARTS="fuzz asan" runs some of them (docs/soak.md)
#:   make format       clang-format over all sources
#:   make tidy         clang-tidy over all sources; FILES="a.cpp b.cpp" for some
#:   make clean        remove build/ and out/ (data/ and .venv stay)
#:
#:   TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu make build
#:                     takes PyTorch's CPU-only wheel; without it pip's own configuration decides

setup:
	@tools/setup.sh build

build:
	@tools/setup.sh build
	@tools/build.sh release veomni

quickstart: build
	@examples/quickstart/run.sh

test:
	@tools/setup.sh test
	@tools/build.sh release
	@.venv/bin/python tools/run_tests.py --build-dir build/release

bench:
	@tools/setup.sh soak
	@CMAKE_ARGS=-DVEOMNI_BUILD_BENCH=ON tools/build.sh release veomni gemm_rate
	@.venv/bin/python bench/compare/compare.py $(ARGS)

bench-comm:
	@tools/setup.sh soak
	@CMAKE_ARGS=-DVEOMNI_BUILD_BENCH=ON tools/build.sh release comm_bench
	@bench/comm/run.sh build/release $(RANKS)

bench-kernels:
	@tools/setup.sh soak
	@CMAKE_ARGS=-DVEOMNI_BUILD_BENCH=ON tools/build.sh release kernels_bench
	@.venv/bin/python bench/kernels/run.py $(ARGS)

soak:
	@tools/setup.sh soak
	@tools/build.sh release
	@.venv/bin/python tools/soak.py $(PARTS)

format:
	@tools/setup.sh soak
	@git ls-files '*.h' '*.cpp' | xargs clang-format-14 -i

tidy:
	@tools/setup.sh soak
	@tools/build.sh release
	@.venv/bin/python tools/tidy.py $(FILES)

clean:
	rm -rf build out
