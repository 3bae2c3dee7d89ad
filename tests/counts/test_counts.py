# SPDX-License-Identifier: Apache-2.0
"""Instructions that each kernel executes on a small shape, against the committed table.

    .venv/bin/python tests/counts/test_counts.py --update      writes the table anew

callgrind counts what runs inside the program at the AVX2 level on one thread: the same on every machine, quiet or not. A kernel
may take 2 % more or fewer than table.txt says; a change that is meant is written there with --update. Another compiler
emits other instructions: the table then says nothing, and a count must only be the same twice.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE / "table.txt"
BUILD = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", HERE.parents[1] / "build/release"))
PROGRAM = BUILD / "bin/kernel_counts"
TOLERANCE = 0.02


def compiler():
    """Name and version of the compiler of this build."""
    files = sorted(BUILD.glob("CMakeFiles/*/CMakeCXXCompiler.cmake"))
    text = files[-1].read_text()
    found = [re.search(rf'set\(CMAKE_CXX_COMPILER_{key} "([^"]*)"\)', text)[1] for key in ("ID", "VERSION")]
    return " ".join(found)


def own_instructions(dump, program):
    """(what was run, instructions executed in functions of `program` itself) of one dump of callgrind."""
    names, here, skip, count, trigger = {}, False, False, 0, ""
    for line in dump.read_text().splitlines():
        if line.startswith("desc: Trigger:"):
            trigger = line.split("Client Request:", 1)[-1].strip()
        elif line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            names.setdefault(number, name)
            here = names[number] == str(program)
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            skip = True                       # the next line holds what the callee cost
        elif line[:1] in "+-*0123456789" and len(fields := line.split()) == 2:
            if here and not skip:
                count += int(fields[1])
            skip = False
    return trigger, count


def measure():
    """Instructions by "KERNEL DTYPE SHAPE"."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/dump", PROGRAM],
            capture_output=True, text=True, timeout=300, env=dict(os.environ, OMP_NUM_THREADS="1"))
        assert done.returncode == 0, done.stderr
        dumps = sorted(pathlib.Path(folder).glob("dump.*"), key=lambda path: int(path.suffix[1:]))
        counts = dict(own_instructions(path, PROGRAM) for path in dumps)
    counts.pop("Program termination", None)
    return {name: count for name, count in counts.items() if name}


def read_table():
    lines = TABLE.read_text().splitlines()
    return lines[0].removeprefix("# ").split(":")[0], {
        name: int(count.replace(",", "")) for name, count in (line.rsplit(None, 1) for line in lines[1:])}


def write_table(counts):
    width = max(map(len, counts))
    lines = [f"# {compiler()}: instructions at the AVX2 level; written by tests/counts/test_counts.py --update"]
    lines += [f"{name:<{width}} {count:>12,}" for name, count in counts.items()]
    TABLE.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def counts():
    assert PROGRAM.exists(), f"{PROGRAM} is not built; it needs valgrind's headers (apt install valgrind)"
    return measure()


def test_every_kernel_was_counted(counts):
    listed = (HERE.parents[1] / "libs/ops/src/kernels/kernel_list.h").read_text()
    kernels = set(re.findall(r"^  X\((\w+)\)", listed, re.M))
    for dtype in ("float32", "bfloat16"):
        assert {re.match(r"\w+", name)[0] for name, count in counts.items() if dtype in name and count > 0} == kernels


def test_the_table_still_holds(counts):
    made_by, want = read_table()
    assert counts.keys() == want.keys(), "kernels or shapes changed: run tests/counts/test_counts.py --update"
    if made_by != compiler():
        assert measure() == counts
        return
    changed = {name: f"{want[name]:,} -> {counts[name]:,} ({counts[name] / want[name] - 1:+.1%})" for name in want
               if abs(counts[name] - want[name]) > TOLERANCE * want[name]}
    assert not changed, "instructions changed; if meant, run tests/counts/test_counts.py --update:\n" + json.dumps(changed, indent=1)


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    write_table(measure())
