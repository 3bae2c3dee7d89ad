# SPDX-License-Identifier: Apache-2.0
"""Greedy generation equals transformers.generate; a batch equals its prompts one by one."""
import json

import pytest
import torch
import transformers
from PIL import Image
from picture_processor import qwen2_vl_pictures
from reference import byte_tokenizer, make_qwen3, randomize, veomni

CONFIG = dict(vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
PROMPTS = ["hello", "a", "the quick brown fox jumps over the lazy dog", "What is a potato?"]
NEW_TOKENS = 24


def answers(folder, *arguments, template="none"):
    veomni("generate", folder, *arguments, "--template", template, "--max-new-tokens", NEW_TOKENS, "--dtype", "float32",
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


# A whole Qwen2-VL, asked about pictures.

MEDIA = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
VISION_PATCH = 4
QUESTIONS = ["What is it?", "how many hats are there in the picture, and of what colour?", "a"]


def make_qwen2_vl(folder, seed):
    """With a tokenizer of bytes and special tokens, and its picture processor's settings."""
    tokenizer = byte_tokenizer(folder)
    tokenizer.add_special_tokens(MEDIA)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = dict(image_token_id="<|image_pad|>", video_token_id="<|video_pad|>", vision_start_token_id="<|vision_start|>",
               vision_end_token_id="<|vision_end|>")
    torch.manual_seed(seed)
    model = randomize(transformers.Qwen2VLForConditionalGeneration(transformers.Qwen2VLConfig(
        text_config=dict(vocab_size=262, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, bos_token_id=None, eos_token_id=None,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}),
        vision_config=dict(hidden_size=64, depth=2, embed_dim=32, num_heads=2, mlp_ratio=2, patch_size=VISION_PATCH),
        tie_word_embeddings=False, **{key: tokenizer.token_to_id(token) for key, token in ids.items()})).float())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Around zero, not one: what all tokens have in common would make them all say the same.
            if name.endswith("bias"):
                parameter.sub_(1)
    model.save_pretrained(folder)
    processor = qwen2_vl_pictures(patch_size=VISION_PATCH, min_pixels=64, max_pixels=64 * 60)
    (folder / "preprocessor_config.json").write_text(processor.to_json_string())
    return model, tokenizer, processor


def draw(path, height, width, seed):
    levels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(levels.numpy()).save(path)
    return path


# Seeds of models that say more than one word again and again.
@pytest.mark.parametrize("seed, sizes", [(29, [(40, 56)]), (22, [(24, 24), (70, 33)]), (34, [])],
                         ids=["a picture", "two pictures", "text alone"])
def test_greedy_text_about_pictures_equals_transformers(tmp_path, seed, sizes):
    model, tokenizer, processor = make_qwen2_vl(tmp_path, seed)
    files = [draw(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    read = processor(images=[Image.open(file) for file in files], return_tensors="pt") if files else {}
    tokens = [int(grid.prod()) // 4 for grid in read.get("image_grid_thw", [])]
    pictures = "".join("<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>" for count in tokens)
    batch = answers(tmp_path, *prompt_arguments(QUESTIONS), *(word for file in files for word in ("--image", file)),
                    template="qwen")
    said = set()
    for question, ids in zip(QUESTIONS, batch, strict=True):
        start = torch.tensor([tokenizer.encode(
            f"<|im_start|>user\n{pictures}{question}<|im_end|>\n<|im_start|>assistant\n").ids])
        inputs = dict(read, mm_token_type_ids=(start == model.config.image_token_id).int()) if files else {}
        want = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=NEW_TOKENS, do_sample=False,
                              eos_token_id=tokenizer.token_to_id("<|im_end|>"), pad_token_id=0, **inputs)
        want = want[0, start.shape[1]:].tolist()
        assert ids == [i for i in want if i != tokenizer.token_to_id("<|im_end|>")], question
        said.update(want)
        alone = answers(tmp_path, "--prompt", question, *(word for file in files for word in ("--image", file)), template="qwen")
        assert alone == [ids]
    assert len(said) > 8
