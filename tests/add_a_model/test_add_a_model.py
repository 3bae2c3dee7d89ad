# SPDX-License-Identifier: Apache-2.0
"""docs/add_a_model.md is followed to the letter on a copy of the tree: it touches what it says, builds, and is right."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build/release"))
PAGE = (ROOT / "docs/add_a_model.md").read_text()
MOST_FILES = 8
COPIED = ["cmake", "libs/model", "apps", "recipes", "tests/parity", "tests/pytest.ini"]
# Only the model library and the program are built; the others come ready from the build under test.
BUILT_ANEW = {"model", "apps"}
CACHED = ["CMAKE_BUILD_TYPE", "CMAKE_CXX_COMPILER", "CMAKE_CXX_FLAGS_RELEASE", "CMAKE_CXX_FLAGS_DEBUG", "TORCH_DIR",
          "VEOMNI_SANITIZE", "VEOMNI_WITH_CUDA"]


def listed_files():
    return re.findall(r"^\| \d+ \| `([^`]+)` \|", PAGE, re.M)


def blocks():
    """(language, file, text) of every fenced block that names a file, in the page's order."""
    return re.findall(r"^```(\w+) file=(\S+)\n(.*?)^```$", PAGE, re.M | re.S)


def snapshot(tree):
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def run(*command, **options):
    done = subprocess.run([*map(str, command)], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-8000:]}"
    return done.stdout


def apply_page(tree):
    for language, name, text in blocks():
        if language == "diff":
            patch = tree / "page.patch"
            patch.write_text(f"--- a/{name}\n+++ b/{name}\n{text}")
            run("git", "apply", "--recount", patch, cwd=tree, env=dict(os.environ, GIT_CEILING_DIRECTORIES=str(tree.parent)))
            patch.unlink()
        else:
            assert not (tree / name).exists(), f"{name} is there already: the page must edit it by a diff block"
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)


def imported_libraries():
    """CMake lines for the libraries of BUILD, with the edges that it recorded."""
    edges = {}
    for line in (BUILD / "edges.txt").read_text().splitlines():
        library, dependency = line.split()
        edges.setdefault(library, []).append(dependency)
        edges.setdefault(dependency, [])
    lines = []
    for library in sorted(set(edges) - BUILT_ANEW):
        archive = BUILD / f"lib/libveomni_{library}.a"
        assert archive.is_file(), archive
        dependencies = ";".join(f"veomni::{dependency}" for dependency in edges[library])
        lines += [f"add_library(veomni::{library} STATIC IMPORTED GLOBAL)",
                  f"set_target_properties(veomni::{library} PROPERTIES IMPORTED_LOCATION {archive}",
                  f"  INTERFACE_INCLUDE_DIRECTORIES {ROOT}/libs/{library}/include",
                  f'  INTERFACE_LINK_LIBRARIES "{dependencies};third_party")']
    return "\n".join(lines)


def write_project(tree):
    (tree / "CMakeLists.txt").write_text(f"""cmake_minimum_required(VERSION 3.25)
project(veomni VERSION 0.0.0 LANGUAGES CXX)
set(VEOMNI_BUILD_TESTS OFF)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${{CMAKE_BINARY_DIR}}/bin)
list(APPEND CMAKE_MODULE_PATH ${{CMAKE_SOURCE_DIR}}/cmake)
include(Toolchain)
include(LibTorch)
include(Dependencies)
include(VeomniLibrary)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(AV REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil libswresample)
add_library(third_party INTERFACE)
target_link_libraries(third_party INTERFACE
  deps::yaml deps::json deps::pcre2 deps::xxhash PkgConfig::UTF8PROC PkgConfig::AV libtorch::torch Threads::Threads)
{imported_libraries()}
add_subdirectory(libs/model)
add_subdirectory(apps/veomni)
""")


def build(tree):
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.M))
    settings = [f"-D{name}={cache[name]}" for name in CACHED if cache.get(name)]
    cmake = cache["CMAKE_COMMAND"]
    run(cmake, "-S", tree, "-B", tree / "build", "-G", "Ninja", *settings)
    run(cmake, "--build", tree / "build", "--target", "veomni", "--parallel", "2")
    return tree / "build/bin/veomni"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A copy of the tree on which the page was applied, and the files that this touched."""
    tree = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, tree / name)
    before = snapshot(tree)
    apply_page(tree)
    after = snapshot(tree)
    return tree, {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture(scope="module")
def program(followed):
    tree, _ = followed
    write_project(tree)
    return build(tree)


def test_the_page_touches_what_it_lists(followed):
    _, touched = followed
    assert touched == set(listed_files())
    assert len(touched) <= MOST_FILES
    stated = set(map(int, re.findall(r"\b(\d+) files", PAGE)))
    assert stated == {len(touched)}


def test_the_program_lists_the_model_and_takes_its_recipe(followed, program):
    tree, _ = followed
    rows = [line.split()[:2] for line in run(program, "models").splitlines()]
    assert ["foundation", "llama"] in rows and ["foundation", "qwen3"] in rows
    plan = run(program, "train", tree / "recipes/llama.yaml", "--print-plan", cwd=tree)
    assert re.search(r"^foundation\.layers\.0 .*fsdp2", plan, re.M), plan


def test_the_model_equals_transformers(followed, program):
    tree, _ = followed
    said = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", tree / "tests/pytest.ini", "--rootdir",
               tree / "tests", tree / "tests/parity/test_forward.py", "-k", "llama",
               env=dict(os.environ, VEOMNI_BIN=str(program)))
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", said.splitlines()[-1])}
    assert counts.get("passed", 0) > 10 and not {"failed", "skipped", "error", "errors"} & counts.keys(), said
