# SPDX-License-Identifier: Apache-2.0
"""docs/add_a_model.md is followed to the letter on a copy of the tree: each part touches what it lists; all three together
build, pass their tests, train and generate."""
import base64
import io
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy
import pytest
import tokenizers
from PIL import Image
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build/release"))
PAGE = (ROOT / "docs/add_a_model.md").read_text()
PARTS = {name: text for name, text in re.findall(r"^## An? \w+: (\w+)\n(.*?)(?=^## )", PAGE, re.M | re.S)}
MOST_FILES = 8
COPIED = ["cmake", "libs/model", "apps", "recipes", "tests/parity", "tests/pytest.ini"]
# Only the model library and the program are built; the others come ready from the build under test.
BUILT_ANEW = {"model", "apps"}
CACHED = ["CMAKE_BUILD_TYPE", "CMAKE_CXX_COMPILER", "CMAKE_CXX_FLAGS_RELEASE", "CMAKE_CXX_FLAGS_DEBUG", "TORCH_DIR",
          "VEOMNI_SANITIZE", "VEOMNI_WITH_CUDA"]
GREYS = (0, 90, 160, 255)      # of the pictures that are trained on


def listed_files(part):
    return re.findall(r"^\| \d+ \| `([^`]+)` \|", part, re.M)


def blocks(part):
    """(language, file, text) of every fenced block that names a file, in the page's order."""
    return re.findall(r"^```(\w+) file=(\S+)\n(.*?)^```$", part, re.M | re.S)


def snapshot(tree):
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def run(*command, **options):
    done = subprocess.run([*map(str, command)], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-8000:]}"
    return done.stdout


def copy_tree(tree):
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


def apply_part(tree, part):
    for language, name, text in blocks(part):
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
find_package(GTest REQUIRED)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(MEDIA REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil libswresample libturbojpeg)
add_library(third_party INTERFACE)
target_link_libraries(third_party INTERFACE deps::yaml deps::json deps::pcre2 deps::xxhash PkgConfig::UTF8PROC PkgConfig::MEDIA
  libtorch::torch Threads::Threads)
if(TARGET deps::mpi)
  target_link_libraries(third_party INTERFACE deps::mpi)
endif()
{imported_libraries()}
add_subdirectory(libs/model)
add_subdirectory(apps/veomni)
# Of the model library's tests those that the page adds to.
add_executable(parts_test libs/model/tests/encoders_test.cpp libs/model/tests/pixel_codes_test.cpp)
target_link_libraries(parts_test PRIVATE veomni::model veomni_warnings libtorch::fmt GTest::gmock GTest::gtest_main)
veomni_use_pch(parts_test)
""")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the tree with all parts of the page, built."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    for part in PARTS.values():
        apply_part(tree, part)
    write_project(tree)
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.M))
    settings = [f"-D{name}={cache[name]}" for name in CACHED if cache.get(name)]
    run(cache["CMAKE_COMMAND"], "-S", tree, "-B", tree / "build", "-G", "Ninja", *settings)
    run(cache["CMAKE_COMMAND"], "--build", tree / "build", "--target", "veomni", "parts_test", "--parallel", "2")
    return tree


@pytest.fixture(scope="module")
def program(built):
    return built / "build/bin/veomni"


def test_the_page_has_a_part_of_each_kind():
    assert list(PARTS) == ["Llama", "patch_mlp", "pixel_codes"]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_alone_touches_what_it_lists(name, tmp_path):
    tree = copy_tree(tmp_path)
    before = snapshot(tree)
    apply_part(tree, PARTS[name])
    after = snapshot(tree)
    touched = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert touched == set(listed_files(PARTS[name]))
    assert len(touched) <= MOST_FILES
    assert set(map(int, re.findall(r"\b(\d+) files", PARTS[name]))) == {len(touched)}


def test_the_program_lists_the_models_and_takes_the_foundations_recipe(built, program):
    rows = [line.split()[:2] for line in run(program, "models").splitlines()]
    for row in (["foundation", "llama"], ["encoder", "patch_mlp"], ["decoder", "pixel_codes"], ["foundation", "qwen3"]):
        assert row in rows
    plan = run(program, "train", built / "recipes/llama.yaml", "--print-plan", cwd=built)
    assert re.search(r"^foundation\.layers\.0 .*fsdp2", plan, re.M), plan


def test_the_foundation_equals_transformers(built, program):
    said = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", built / "tests/pytest.ini", "--rootdir",
               built / "tests", built / "tests/parity/test_forward.py", "-k", "llama",
               env=dict(os.environ, VEOMNI_BIN=str(program)))
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", said.splitlines()[-1])}
    assert counts.get("passed", 0) > 10 and not {"failed", "skipped", "error", "errors"} & counts.keys(), said


@pytest.mark.parametrize("tests", ["*EncoderTest.*", "PixelCodes.*"])
def test_the_tests_of_the_parts_pass(built, tests):
    said = run(built / "build/bin/parts_test", f"--gtest_filter={tests}")
    assert re.search(r"PASSED  \] \d+ tests", said) and ("PatchMlp" in said or "PixelCodes" in said), said


def picture(seed):
    """A PNG of 28 x 28 pixels, each 14 x 14 quarter of one grey."""
    greys = numpy.roll(numpy.array(GREYS, numpy.uint8), seed).reshape(2, 2)
    file = io.BytesIO()
    Image.fromarray(greys.repeat(14, 0).repeat(14, 1)).convert("RGB").save(file, "png")
    return file.getvalue()


def message(role, text, image=None):
    parts = [] if image is None else [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(image).decode()}}]
    return {"role": role, "content": [*parts, *([{"type": "text", "text": text}] if text else [])]}


RECORDS = {
    "patch_mlp": lambda i: [message("user", "What is it?", picture(i)), message("assistant", f"number {i}")],
    "pixel_codes": lambda i: [message("user", f"Draw number {i}."), message("assistant", "", picture(i))],
    "text": lambda i: [message("user", f"Say {i}."), message("assistant", f"number {i}")],
}
FOLDER = {"patch_mlp": "encoders/image", "pixel_codes": "decoders/image"}
# What `train: projector` and `train: head` train, and what they leave.
TRAINED = {"patch_mlp": ("encoders", "projector", ["layers.fc2.bias", "layers.fc2.weight"]),
           "pixel_codes": ("decoders", "head", ["head.classifier.weight"])}


class Runs:
    """Runs of the page's recipe for one part, on records made by hand."""

    def __init__(self, built, folder, name):
        self.recipe, self.program = built / f"recipes/{name}.yaml", built / "build/bin/veomni"
        self.folder, self.name = folder, name
        alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
        bpe = tokenizers.models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[])
        tokenizer = tokenizers.Tokenizer(bpe)
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        tokenizer.add_special_tokens(special)
        tokenizer.save(str(folder / "tokenizer.json"))
        for kind, record in RECORDS.items():
            lines = [json.dumps({"messages": record(i)}) for i in range(4)]
            (folder / f"{kind}.jsonl").write_text("\n".join(lines) + "\n")

    def train(self, output, kind, *settings, steps=3):
        """The weights of the part after `steps` steps on the records of one kind, and the metrics of each step."""
        out = self.folder / output
        run(self.program, "train", self.recipe, f"--data.tokenizer={self.folder}/tokenizer.json",
            f"--data.sources=[{{name: made, path: {self.folder}/{kind}.jsonl}}]", "--data.on_bad_record=fail",
            f"--train.steps={steps}", "--optim.warmup_steps=0", "--parallel.default.param_dtype=float32",
            f"--output={out}", *settings)
        metrics = out / "metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
        return load_file(out / "hf" / FOLDER[self.name] / "model.safetensors"), lines


@pytest.fixture(scope="module", params=list(FOLDER))
def runs(request, built, tmp_path_factory):
    return Runs(built, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def fresh(runs):
    return runs.train("fresh", runs.name, steps=0)[0]


@pytest.fixture(scope="module")
def trained(runs):
    return runs.train("trained", runs.name)


def changed(weights, since):
    assert weights.keys() == since.keys() and since
    return sorted(name for name in since if not numpy.array_equal(weights[name], since[name]))


def test_a_part_trains(runs, fresh, trained):
    weights, metrics = trained
    assert changed(weights, fresh) == sorted(fresh)
    steps = [line for line in metrics if "loss" in line]
    assert len(steps) == 3 and all(math.isfinite(line["loss"]) for line in steps), metrics
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_records_without_pictures_leave_a_part_as_it_is(runs, fresh):
    assert changed(runs.train("text", "text")[0], fresh) == []


def test_a_part_is_trained_in_part(runs, fresh):
    kind, train, names = TRAINED[runs.name]
    weights, _ = runs.train("in_part", runs.name, f"--model.{kind}.image.train={train}")
    assert changed(weights, fresh) == names


def test_a_saved_part_generates(runs, trained, tmp_path):
    saved = runs.folder / "trained/hf"
    if runs.name == "patch_mlp":
        (tmp_path / "in.png").write_bytes(picture(0))
        said = run(runs.program, "generate", saved, "--template", "plain", "--prompt", "What is it?", "--image",
                   tmp_path / "in.png", "--max-new-tokens", "4", "--out", tmp_path / "out.jsonl")
        answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert len(answers) == 1 and answers[0]["prompt"] == "What is it?", said
    else:
        run(runs.program, "generate", saved, "--template", "plain", "--prompt", "Draw number 0.", "--output-modality",
            "image", "--out", tmp_path / "out.png")
        drawn = numpy.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
        assert drawn.shape == (14, 14, 3) and (drawn == drawn[..., :1]).all()
        assert (drawn % 17 == 0).all()      # 16 levels of grey
        assert len(numpy.unique(drawn)) > 1
