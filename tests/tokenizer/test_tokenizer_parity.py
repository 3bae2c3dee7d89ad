# SPDX-License-Identifier: Apache-2.0
"""Ids equal those of the `tokenizers` package, line by line.

Six tokenizers: GPT-2's and Qwen's (fetched), two that we train, and two that the package trains with
SmolLM's and Llama-3's pre-tokenizers and with added tokens of every kind. The lines: fetched text in
many languages, random words of 26 Unicode blocks, and nasty_lines.NASTY.

A download that fails is a failure. With VEOMNI_OFFLINE=1 nothing is fetched: the tokenizers made here
are compared on the lines made here, and the output says so.
"""
import importlib.util
import json
import os
import pathlib
import random
import subprocess

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAM = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build" / "release")) / "bin" / "tokenize_lines"
CACHE = pathlib.Path(os.environ.get("VEOMNI_CACHE", ROOT / ".cache")) / "tokenizer_corpus"
OFFLINE = os.environ.get("VEOMNI_OFFLINE") == "1"
FETCHED = ["gpt2", "qwen"]
MADE = ["trained_qwen2", "trained_gpt2", "smollm_like", "llama3_like"]


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nasty = load("nasty_lines", HERE / "nasty_lines.py")


def run(*args):
    result = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def write_lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "ascii")
    return path


@pytest.fixture(scope="session")
def corpus():
    """Name of each source -> lines."""
    made = {"nasty": nasty.NASTY, "random": nasty.random_lines(400 if OFFLINE else 150)}
    if OFFLINE:
        print("VEOMNI_OFFLINE=1: fetched text and vocabularies are NOT compared, only those made here")
        return made
    problems = load("fetch", ROOT / "tools" / "fetch_tokenizer_corpus.py").fetch(CACHE)
    assert not problems, "\n".join(problems)
    lines = [json.loads(line) for line in (CACHE / "lines.txt").read_text("ascii").splitlines()]
    for row in (CACHE / "lines.sources").read_text("ascii").splitlines():
        package, count = row.split()
        made[package], lines = lines[:int(count)], lines[int(count):]
    return made


@pytest.fixture(scope="session")
def lines(corpus):
    return [line for source in corpus.values() for line in source]


@pytest.fixture(scope="session")
def lines_file(lines, tmp_path_factory):
    return write_lines(tmp_path_factory.mktemp("lines") / "lines.txt", lines)


def train_with_package(lines, steps, ignore_merges, path):
    """A BPE with every kind of added token, trained by the package."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizers.NFC() if ignore_merges else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=nasty.SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(lines[::4], trainer)
    tokenizer.add_tokens([
        AddedToken("[MASK]", lstrip=True, rstrip=True, normalized=False),
        AddedToken("word", single_word=True, normalized=False),
        AddedToken("<tag>", rstrip=True, normalized=False),
        AddedToken("<tag>s", lstrip=True, normalized=False),
        AddedToken("caf\u00e9X", normalized=True),
    ])
    tokenizer.save(str(path))


@pytest.fixture(scope="session")
def tokenizer_file(lines, lines_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")

    def path_of(name):
        if name in FETCHED:
            return CACHE / f"{name}.json"
        path = folder / f"{name}.json"
        if path.exists():
            return path
        if name.startswith("trained_"):
            run("train", name.removeprefix("trained_"), 2048, lines_file, path)
        elif name == "smollm_like":
            steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
            train_with_package(lines, steps, False, path)
        else:
            pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                       r"|\s*[\r\n]+|\s+(?!\S)|\s+")
            steps = [pre_tokenizers.Split(Regex(pattern), "isolated"),
                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
            train_with_package(lines, steps, True, path)
        return path

    return path_of


def name_params():
    return MADE if OFFLINE else FETCHED + MADE


@pytest.mark.parametrize("name", name_params())
def test_ids_and_texts_equal(name, tokenizer_file, corpus, lines, lines_file, tmp_path, capsys):
    path = tokenizer_file(name)
    reference = Tokenizer.from_file(str(path))
    expected = [encoding.ids for encoding in reference.encode_batch(lines, add_special_tokens=False)]
    run("encode", path, lines_file, tmp_path / "ids.txt")
    ids = [[int(i) for i in row.split()] for row in (tmp_path / "ids.txt").read_text("ascii").split("\n")[:-1]]
    assert len(ids) == len(lines) >= 10_000
    wrong = [i for i in range(len(lines)) if ids[i] != expected[i]]
    assert not wrong, f"{len(wrong)} lines differ; {lines[wrong[0]]!r}: {ids[wrong[0]]} != {expected[wrong[0]]}"

    # Decoding: what was encoded, every fourth line, and random ids, whose bytes are mostly no UTF-8.
    rng = random.Random(2)
    size = reference.get_vocab_size()
    chosen = ids[::4] + [[rng.randrange(size) for _ in range(20)] for _ in range(500)]
    (tmp_path / "chosen.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in chosen), "ascii")
    run("decode", path, tmp_path / "chosen.txt", tmp_path / "texts.txt")
    texts = [json.loads(row) for row in (tmp_path / "texts.txt").read_text("utf-8").split("\n")[:-1]]
    assert texts == reference.decode_batch(chosen, skip_special_tokens=False)
    with capsys.disabled():
        counts = ", ".join(f"{source} {len(rows)}" for source, rows in corpus.items())
        print(f"\n{name}: {len(lines)} lines ({counts}), {sum(map(len, ids))} ids and {len(chosen)} decoded texts "
              f"equal those of tokenizers {tokenizers.__version__}")


def test_qwen_template_equals_encoding_the_whole_text(tokenizer_file, corpus, tmp_path):
    path = tokenizer_file("trained_qwen2")
    reference = Tokenizer.from_file(str(path))
    rng = random.Random(3)
    contents = corpus["nasty"] + corpus["random"][:500]
    talks = [[{"role": role, "content": rng.choice(contents)} for role in ("system", "user", "assistant")] for _ in range(1000)]
    run("chat", "qwen", path, write_lines(tmp_path / "talks.txt", talks), tmp_path / "ids.txt")
    ids = [[int(i) for i in row.split()] for row in (tmp_path / "ids.txt").read_text("ascii").split("\n")[:-1]]
    texts = ["".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in talk) for talk in talks]
    assert ids == [encoding.ids for encoding in reference.encode_batch(texts, add_special_tokens=False)]
