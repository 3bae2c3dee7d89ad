# SPDX-License-Identifier: Apache-2.0
"""The graph in ARCHITECTURE.md is the graph that CMake builds, and an include against it does not compile."""
import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build/release"))
# Model code knows nothing of ranks, and what spreads a model knows nothing of any one model.
FORBIDDEN = [("model", "comm"), ("model", "parallel"), ("nn", "comm"), ("nn", "parallel"),
             ("comm", "model"), ("parallel", "model")]


def stated_graph():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    block = text.split("<!-- graph:begin -->")[1].split("<!-- graph:end -->")[0]
    rows = [line.split(":") for line in block.splitlines() if re.match(r"\w+:", line)]
    return {library: set(dependencies.split()) for library, dependencies in rows}


def built_graph():
    edges = [line.split() for line in (BUILD / "edges.txt").read_text().splitlines() if line]
    graph = {}
    for library, dependency in edges:
        graph.setdefault(library, set()).add(dependency)
    return graph


def reachable(graph, library):
    found, todo = set(), [library]
    while todo:
        for dependency in graph.get(todo.pop(), ()):
            if dependency not in found:
                found.add(dependency)
                todo.append(dependency)
    return found


def headers(library):
    root = ROOT / "libs" / library / "include"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.h"))


def compiler():
    cache = (BUILD / "CMakeCache.txt").read_text()
    return re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache, re.M)[1]


def include_flags(library):
    """-I, -isystem, -D and -std of the library's own sources, tests left out."""
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        if not entry["file"].startswith(str(ROOT / "libs" / library / "src") + "/"):
            continue
        words, flags = shlex.split(entry["command"]), []
        for i, word in enumerate(words):
            if word == "-isystem":
                flags += [word, words[i + 1]]
            elif word.startswith(("-I", "-D", "-std=")):
                flags.append(word)
        return flags
    raise AssertionError(f"compile_commands.json has no source of libs/{library}")


def compile_line(library, line, *modes):
    command = [compiler(), *include_flags(library), *modes, "-x", "c++", "-"]
    return subprocess.run(command, input=line + "\n", text=True, capture_output=True)


def test_stated_graph_is_the_built_one():
    stated, built = stated_graph(), built_graph()
    assert {library: deps for library, deps in stated.items() if deps} == built


def test_graph_has_no_cycle():
    graph = stated_graph()
    assert [library for library in graph if library in reachable(graph, library)] == []


def test_every_library_folder_is_in_the_graph():
    folders = {path.parent.name for path in (ROOT / "libs").glob("*/CMakeLists.txt")}
    assert folders | {"apps"} == set(stated_graph())


def test_a_library_sees_its_dependencies_and_nothing_else():
    graph = stated_graph()
    with_headers = [library for library in graph if library != "apps" and headers(library)]
    wrong = []
    for library in with_headers:
        probes = "".join(f'#if __has_include("{headers(other)[0]}")\nsees_{other}\n#endif\n' for other in with_headers)
        run = compile_line(library, probes, "-E", "-P")
        assert run.returncode == 0, run.stderr
        sees = set(re.findall(r"^sees_(\w+)$", run.stdout, re.M)) - {library}
        # A dependency's private dependencies are in reach of the linker, not of an #include.
        allowed, needed = reachable(graph, library), graph[library] & set(with_headers)
        if not needed <= sees <= allowed:
            wrong.append(f"{library} sees {sorted(sees)}, may see {sorted(allowed)}")
    assert wrong == []


@pytest.mark.parametrize("library,other", FORBIDDEN)
def test_forbidden_include_does_not_compile(library, other):
    header = "veomni/comm/communicator.h" if other == "comm" else headers(other)[0]
    assert (ROOT / "libs" / other / "include" / header).is_file()
    run = compile_line(library, f'#include "{header}"', "-fsyntax-only")
    assert run.returncode != 0
    assert f"{header}: No such file or directory" in run.stderr


@pytest.mark.parametrize("library,other", [("model", "nn"), ("parallel", "comm")])
def test_allowed_include_is_found(library, other):
    # Preprocessed only: that these headers compile is the build's own proof, and libtorch's take their time.
    run = compile_line(library, f'#include "{headers(other)[0]}"', "-E", "-fopenmp", "-o", os.devnull)
    assert run.returncode == 0, run.stderr


def test_allowed_include_compiles():
    run = compile_line("model", '#include "veomni/base/error.h"', "-fsyntax-only")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("library,other", FORBIDDEN)
def test_no_source_includes_a_forbidden_header(library, other):
    sources = [path for path in (ROOT / "libs" / library).rglob("*") if path.suffix in (".h", ".cpp")]
    assert sources
    pattern = re.compile(rf'^\s*#\s*include\s*["<]veomni/{other}/', re.M)
    assert [str(path.relative_to(ROOT)) for path in sources if pattern.search(path.read_text())] == []
