# SPDX-License-Identifier: Apache-2.0
"""The reference packages read what `io` writes, and `io` reads what they write."""
import json
import os
import pathlib
import subprocess
import sys

import pytest
import safetensors
import safetensors.torch
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build/release")) / "bin/io_tool"


def run(*args):
    done = subprocess.run([str(TOOL), *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def tensors():
    made = torch.Generator().manual_seed(1)
    kinds = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16,
             torch.int8, torch.uint8, torch.bool)
    out = {f"layer.{i}.é": torch.randint(0, 2, (3, i + 1), generator=made).to(kind) for i, kind in enumerate(kinds)}
    return {**out, "scalar": torch.tensor(2.5), "none": torch.zeros(0, 4), "large": torch.rand(40, 25, generator=made)}


@pytest.mark.parametrize("max_shard_bytes, shards", [(10**9, 1), (500, 3)])
def test_safetensors_survive_a_round_trip_bit_for_bit(tmp_path, max_shard_bytes, shards):
    safetensors.torch.save_file(tensors(), tmp_path / "in.safetensors", metadata={"format": "pt", "é": "\n"})
    out = tmp_path / "out"
    out.mkdir()
    run("rewrite", tmp_path / "in.safetensors", out, max_shard_bytes)
    files = sorted(out.glob("*.safetensors"))
    assert len(files) == shards
    read = {}
    for file in files:
        with safetensors.safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt", "é": "\n"}
        read.update(safetensors.torch.load_file(file))
    assert read.keys() == tensors().keys()
    for name, want in tensors().items():
        assert read[name].dtype == want.dtype and torch.equal(read[name], want), name
    if shards > 1:
        index = json.loads((out / "model.safetensors.index.json").read_text())
        assert index["weight_map"].keys() == read.keys()
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in read.values())


def trained_tokenizer(pre_tokenizer, **parts):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([LINES] * 3, trainer)
    made.add_special_tokens([AddedToken("<|im_start|>", normalized=False), AddedToken("<mask>", lstrip=True)])
    made.add_tokens(["hello world", AddedToken("wörd", single_word=True)])
    for name, part in parts.items():
        setattr(made, name, part)
    return made


LINES = ["Hello world, hello there: 1234 wörds!", "e\u0301 und é", "<s>日本語 テスト<|im_start|> 42 <mask> wörd", "  two  spaces\n"]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
TEMPLATE = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> <s> $B:1 </s>",
                                         special_tokens=[("<s>", 0), ("</s>", 1)])
TOKENIZERS = {
    "gpt2": lambda: trained_tokenizer(pre_tokenizers.ByteLevel(), post_processor=processors.ByteLevel()),
    "qwen": lambda: trained_tokenizer(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|\s+"), "isolated", False), BYTES]),
        normalizer=normalizers.NFC()),
    "llama": lambda: trained_tokenizer(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s"), "removed", True), BYTES]),
        post_processor=processors.Sequence([processors.ByteLevel(trim_offsets=False), TEMPLATE])),
    "smollm": lambda: trained_tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel()]),
                                        post_processor=TEMPLATE),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_written_tokenizer_gives_the_same_ids(tmp_path, kind):
    made = TOKENIZERS[kind]()
    made.save(str(tmp_path / "in.json"))
    run("tokenizer", tmp_path / "in.json", tmp_path / "out.json")
    read = Tokenizer.from_file(str(tmp_path / "out.json"))
    assert read.get_vocab() == made.get_vocab()
    assert read.get_added_tokens_decoder() == made.get_added_tokens_decoder()
    for line in LINES:
        for special in (False, True):
            want = made.encode(line, add_special_tokens=special).ids
            assert read.encode(line, add_special_tokens=special).ids == want
        assert read.decode(want) == made.decode(want)


def test_reader_agrees_with_the_reference_on_mutated_files():
    script = ROOT / "tests/fuzz/differential_safetensors.py"
    done = subprocess.run([sys.executable, script, TOOL, "--files", "600"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
