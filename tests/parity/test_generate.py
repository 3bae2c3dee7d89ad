# SPDX-License-Identifier: Apache-2.0
"""Greedy generation equals transformers.generate; a batch equals its prompts one by one."""
import json

import torch
from reference import byte_tokenizer, make_qwen3, veomni

CONFIG = dict(vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
PROMPTS = ["hello", "a", "the quick brown fox jumps over the lazy dog", "What is a potato?"]
NEW_TOKENS = 24


def answers(folder, *arguments):
    veomni("generate", folder, *arguments, "--template", "none", "--max-new-tokens", NEW_TOKENS, "--dtype", "float32",
           "--out", folder / "out.jsonl")
    return [json.loads(line)["ids"] for line in (folder / "out.jsonl").read_text().splitlines()]


def prompt_arguments(prompts):
    return [word for prompt in prompts for word in ("--prompt", prompt)]


def test_greedy_equals_transformers(tmp_path):
    model = make_qwen3(5, **CONFIG)
    model.save_pretrained(tmp_path)
    tokenizer = byte_tokenizer(tmp_path)
    got = answers(tmp_path, *prompt_arguments(PROMPTS))
    for prompt, ids in zip(PROMPTS, got):
        start = torch.tensor([tokenizer.encode(prompt).ids])
        want = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=NEW_TOKENS, do_sample=False,
                              eos_token_id=None, pad_token_id=0)
        assert ids == want[0, start.shape[1]:].tolist(), prompt


def test_sampling_is_keyed_by_seed_and_batches_do_not_mix(tmp_path):
    make_qwen3(6, **CONFIG).save_pretrained(tmp_path)
    byte_tokenizer(tmp_path)
    sampling = ["--temperature", "1", "--top-p", "0.9", "--seed", "4"]
    batch = answers(tmp_path, *prompt_arguments(PROMPTS), *sampling)
    assert batch == answers(tmp_path, *prompt_arguments(PROMPTS), *sampling)
    assert batch[0] == answers(tmp_path, *prompt_arguments(PROMPTS[:1]), *sampling)[0]
    assert batch != answers(tmp_path, *prompt_arguments(PROMPTS), *sampling[:-1], "5")
