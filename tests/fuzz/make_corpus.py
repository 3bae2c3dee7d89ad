# SPDX-License-Identifier: Apache-2.0
"""Writes the seed corpora in tests/fuzz/corpus: small files, each with a feature of its own.

    .venv/bin/python tests/fuzz/make_corpus.py
"""
import json
import pathlib
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def safetensors_file(header, data_bytes):
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    return struct.pack("<Q", len(text)) + text.encode() + bytes(data_bytes)


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    two = {"b": entry("F32", [2, 3], 0, 24), "a": entry("U8", [3], 24, 27)}
    yield "empty", safetensors_file({}, 0)
    yield "padded", safetensors_file("{}      ", 0)
    yield "scalar", safetensors_file({"s": entry("F64", [], 0, 8)}, 8)
    yield "two", safetensors_file(two, 27)
    yield "metadata", safetensors_file({"__metadata__": {"format": "pt", "k\n": "\u00e9"}, **two}, 27)
    yield "zero_size", safetensors_file({"n": entry("BF16", [0, 4], 0, 0), "i": entry("I64", [1], 0, 8)}, 8)
    yield "overlap", safetensors_file({"a": entry("I32", [2], 0, 8), "b": entry("I32", [1], 4, 8)}, 8)
    yield "gap", safetensors_file({"a": entry("I8", [1], 0, 1), "b": entry("BOOL", [1], 2, 3)}, 3)
    yield "twice", safetensors_file('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
                                    '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0)
    yield "overflow", safetensors_file({"a": entry("F16", [2 ** 40, 2 ** 40], 0, 0)}, 0)
    yield "huge_length", struct.pack("<Q", 2 ** 63) + b"{}"
    yield "truncated", safetensors_file(two, 27)[:60]


def tokenizer(**parts):
    bpe = models.BPE(vocab={"a": 0, "b": 1, "ab": 2, "<s>": 3}, merges=[("a", "b")], ignore_merges=True)
    made = Tokenizer(bpe)
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def tokenizer_seeds():
    split = pre_tokenizers.Split(Regex(r"\p{L}+|\s"), "isolated", False)
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    template = processors.TemplateProcessing(single="<s> $A <s>", pair="<s> $A $B:1", special_tokens=[("<s>", 3)])
    plain = tokenizer()
    gpt2 = tokenizer(pre_tokenizer=pre_tokenizers.ByteLevel(), decoder=decoders.ByteLevel(),
                     post_processor=processors.ByteLevel(trim_offsets=False))
    qwen = tokenizer(normalizer=normalizers.NFC(), decoder=decoders.ByteLevel(),
                     pre_tokenizer=pre_tokenizers.Sequence([split, bytes_only]))
    qwen.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False), "<s>"])
    smol = tokenizer(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(True), bytes_only]),
                     post_processor=processors.Sequence([processors.ByteLevel(), template]),
                     normalizer=normalizers.Sequence([normalizers.NFC()]))
    for name, made in {"plain": plain, "gpt2": gpt2, "qwen": qwen, "smol": smol}.items():
        yield name, made.to_str().encode()
    old = json.loads(gpt2.to_str())
    old["model"]["merges"] = ["a b"]
    del old["model"]["type"]
    yield "string_merges", json.dumps(old).encode()
    missing = json.loads(plain.to_str())
    missing["model"]["merges"] = [["a", "c"]]
    yield "missing_merge", json.dumps(missing).encode()
    unsupported = json.loads(plain.to_str())
    unsupported["normalizer"] = {"type": "Precompiled"}
    yield "unsupported", json.dumps(unsupported).encode()


def main():
    for name, seeds in {"safetensors": safetensors_seeds(), "tokenizer_json": tokenizer_seeds()}.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, content in seeds:
            (folder / seed).write_bytes(content)


if __name__ == "__main__":
    main()
