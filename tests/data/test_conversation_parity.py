# SPDX-License-Identifier: Apache-2.0
"""Conversations with pictures and sound: the ids of transformers' processors and the positions of its models.

Random conversations are given to Qwen2-VL's and Qwen2.5-Omni's own processors with real pictures and sound of the
sizes that make the same numbers of tokens, and their ids to the models' own get_rope_index.
"""
import json
import os
import pathlib
import random
import subprocess
import types

import numpy
import pytest
import torch
from picture_processor import qwen2_vl_pictures
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5OmniProcessor, Qwen2VLProcessor, WhisperFeatureExtractor
from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni
from transformers.models.qwen2_vl import modeling_qwen2_vl as vl

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build" / "release")) / "bin"
WORDS = ["the cat", " sat", "on the mat.", "\n", "\n\n", "  ", " what is this?", "a", "1 2 34", "é́", "日本", "don't", ""]
PATCH, SAMPLES_PER_TOKEN = 28, 640  # of a picture's token grid; of a token of sound: hop 160, halved twice

# Qwen2-VL's and Qwen2.5-Omni's published templates, for conversations that begin with a system message.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}")


def conversation(rng, modalities):
    """Messages whose media carry their token grid."""
    def text():
        return {"type": "text", "text": "".join(rng.choices(WORDS, k=rng.randint(0, 4)))}

    def media():
        if rng.choice(modalities) == "audio":
            return {"type": "audio", "grid": (rng.randint(1, 40), 1, 1)}
        return {"type": "image", "grid": (1, rng.randint(1, 6), rng.randint(1, 6))}

    messages = [{"role": "system", "content": "You are a helpful assistant."}]
    for _ in range(rng.randint(1, 3)):
        parts = [text()] + [part for _ in range(rng.randint(0, 3)) for part in (media(), text())]
        rng.shuffle(parts)
        messages.append({"role": "user", "content": parts})
        messages.append({"role": "assistant", "content": "an answer" + "".join(rng.choices(WORDS, k=2))})
    return messages


def our_record(messages, folder):
    """The record, its media as files that name their grid."""
    def ours(part):
        if part["type"] == "text":
            return part
        name = " ".join(map(str, part["grid"]))
        (folder / name).write_text(name)
        return {"type": part["type"], part["type"]: name}

    return {"messages": [dict(message, content=message["content"] if isinstance(message["content"], str)
                              else [ours(part) for part in message["content"]]) for message in messages]}


def grids(messages, modality):
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    return [part["grid"] for part in parts if part["type"] == modality]


def pictures(messages):
    return [Image.new("RGB", (w * PATCH, h * PATCH)) for _, h, w in grids(messages, "image")] or None


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "texts").write_text("".join(json.dumps(word * 3) + "\n" for word in WORDS) * 3)
    subprocess.run([BIN / "tokenize_lines", "train", "qwen2", "400", folder / "texts", folder / "tokenizer.json"],
                   check=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    names = {"image": "<|image_pad|>", "video": "<|endoftext|>", "vision_bos": "<|vision_start|>",
             "vision_eos": "<|vision_end|>", "audio": "<|AUDIO|>", "audio_bos": "<|audio_bos|>",
             "audio_eos": "<|audio_eos|>"}
    for role, token in names.items():
        setattr(tokenizer, role + "_token", token)
        setattr(tokenizer, role + "_token_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer, folder


def image_processor():
    return qwen2_vl_pictures(min_pixels=PATCH * PATCH, max_pixels=1 << 24)


def without_checks(processor_class, **parts):
    """A processor whose parts are not asked for their classes: the video part needs torchvision."""
    class Processor(processor_class):
        def check_argument_for_proper_class(self, name, argument):
            return type(argument)

    return Processor(**parts)


def rendered(tokenizer_folder, talks, folder):
    records = folder / "records.jsonl"
    records.write_text("".join(json.dumps(our_record(talk, folder)) + "\n" for talk in talks))
    subprocess.run([BIN / "render_records", tokenizer_folder, records, folder / "out.jsonl"], check=True)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_qwen2_vl(tokenizer, tmp_path):
    tokenizer, folder = tokenizer
    rng = random.Random(1)
    talks = [conversation(rng, ["image"]) for _ in range(60)]
    processor = without_checks(Qwen2VLProcessor, image_processor=image_processor(), tokenizer=tokenizer,
                               video_processor=None, chat_template=TEMPLATE)
    model = types.SimpleNamespace(config=types.SimpleNamespace(vision_config=types.SimpleNamespace(spatial_merge_size=2)))
    model.get_vision_position_ids = types.MethodType(vl.Qwen2VLModel.get_vision_position_ids, model)
    with_pictures = 0
    for talk, ours in zip(talks, rendered(folder, talks, tmp_path), strict=True):
        text = tokenizer.apply_chat_template(talk, chat_template=TEMPLATE, tokenize=False)
        theirs = processor(text=[text], images=pictures(talk), return_tensors="pt", return_mm_token_type_ids=True)
        assert ours["ids"] == theirs["input_ids"][0].tolist()
        grid = theirs.get("image_grid_thw")
        positions, _ = vl.Qwen2VLModel.get_rope_index(model, theirs["input_ids"], theirs["mm_token_type_ids"], grid)
        assert ours["position_ids"] == positions[:, 0].tolist()
        with_pictures += grid is not None
    assert with_pictures > 30


def test_qwen2_5_omni(tokenizer, tmp_path):
    tokenizer, folder = tokenizer
    rng = random.Random(2)
    talks = [conversation(rng, ["image", "audio", "audio"]) for _ in range(60)]
    processor = without_checks(Qwen2_5OmniProcessor, image_processor=image_processor(), tokenizer=tokenizer,
                               video_processor=types.SimpleNamespace(merge_size=2), chat_template=TEMPLATE,
                               feature_extractor=WhisperFeatureExtractor(feature_size=8, chunk_length=2))
    config = types.SimpleNamespace(
        image_token_id=tokenizer.image_token_id, video_token_id=tokenizer.video_token_id,
        audio_token_id=tokenizer.audio_token_id, vision_start_token_id=tokenizer.vision_bos_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id, position_id_per_seconds=25, seconds_per_chunk=2)
    model = types.SimpleNamespace(config=config, spatial_merge_size=2)
    base = omni.Qwen2_5OmniPreTrainedModelForConditionalGeneration
    for name in ("get_llm_pos_ids_for_vision", "get_chunked_index"):
        setattr(model, name, types.MethodType(getattr(base, name), model))
    with_both = 0
    for talk, ours in zip(talks, rendered(folder, talks, tmp_path), strict=True):
        text = tokenizer.apply_chat_template(talk, chat_template=TEMPLATE, tokenize=False)
        sounds = [numpy.zeros(n * SAMPLES_PER_TOKEN, "float32") for n, _, _ in grids(talk, "audio")] or None
        theirs = processor(text=[text], images=pictures(talk), audio=sounds, return_tensors="pt")
        assert ours["ids"] == theirs["input_ids"][0].tolist()
        grid = theirs.get("image_grid_thw")
        seconds = theirs["feature_attention_mask"].sum(-1) if sounds else None
        # use_audio_in_video is False; second_per_grids belongs to video.
        positions, _ = base.get_rope_index(model, theirs["input_ids"], grid, None, torch.ones_like(theirs["input_ids"]),
                                           False, seconds, None)
        assert ours["position_ids"] == positions[:, 0].tolist()
        with_both += grid is not None and sounds is not None
    assert with_both > 15


def test_only_answers_are_trained_and_no_pad_is(tokenizer, tmp_path):
    tokenizer, folder = tokenizer
    talk = [{"role": "user", "content": [{"type": "image", "grid": (1, 2, 2)}, {"type": "text", "text": "a cat"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "here: "}, {"type": "image", "grid": (1, 1, 3)}]}]
    ours, = rendered(folder, [talk], tmp_path)
    trained = tokenizer.decode([label for label in ours["labels"] if label != -100])
    assert trained == "here: <|vision_start|><|vision_end|><|im_end|>"
