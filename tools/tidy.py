# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy's allow-list (.clang-tidy) over the project's sources; any finding makes it fail.

    .venv/bin/python tools/tidy.py [FILE...]      without files: every source of the release build but tests
"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/release"
WORK = ROOT / "build/tidy"
GCC_INCLUDE = subprocess.run(["g++", "-print-file-name=include"], capture_output=True, text=True).stdout.strip()


def clang_command(entry):
    """g++'s command without its launcher and its precompiled header, which clang cannot read."""
    words = shlex.split(entry["command"])
    begin = next(i for i, word in enumerate(words) if word.startswith("-"))
    while not pathlib.Path(words[begin - 1]).name.startswith(("c++", "g++", "clang++")):
        begin = next(i for i in range(begin + 1, len(words)) if words[i].startswith("-"))
    # libtorch's headers include omp.h, which comes with g++ here.
    out, skip = ["clang++-14", "-idirafter", GCC_INCLUDE], False
    for word in words[begin:]:
        if skip or word in ("-Winvalid-pch", "-fpch-preprocess"):
            skip = False
            continue
        if word == "-o":
            skip = True
            continue
        if word.endswith("cmake_pch.hxx"):
            # A copy elsewhere: beside the original lies g++'s binary, which clang would pick up.
            copy = WORK / (pathlib.Path(word).parent.name + ".hxx")
            copy.write_text(pathlib.Path(word).read_text())
            word = str(copy)
        out.append(word)
    return out


def database(wanted):
    entries = []
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if not path.is_relative_to(ROOT) or path.is_relative_to(ROOT / "build"):
            continue
        relative = path.relative_to(ROOT)
        if relative in wanted or (not wanted and relative.parts[0] in ("libs", "apps") and "tests" not in relative.parts):
            entries.append({"directory": entry["directory"], "file": entry["file"], "arguments": clang_command(entry)})
    (WORK / "compile_commands.json").write_text(json.dumps(entries))
    return [entry["file"] for entry in entries]


def check(path):
    run = subprocess.run(["clang-tidy-14", "--quiet", "-p", str(WORK), path], capture_output=True, text=True, cwd=ROOT)
    return path, run.returncode, run.stdout + (run.stderr if run.returncode and not run.stdout.strip() else "")


def main():
    begin = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = {pathlib.Path(os.path.relpath(name, ROOT)) for name in sys.argv[1:]}
    files = database(wanted)
    if not files:
        sys.exit("tidy.py: no source matches; is build/release built, and are the names right?")
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, code, text in pool.map(check, files):
            if code:
                bad += 1
                print(f"{os.path.relpath(path, ROOT)}:\n{text.strip()}")
    print(f"clang-tidy: {len(files)} files, {bad} with findings ({time.monotonic() - begin:.0f} s)")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
