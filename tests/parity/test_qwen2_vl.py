# SPDX-License-Identifier: Apache-2.0
"""Qwen2-VL whole, straight from a directory of transformers: logits, loss and every gradient."""
import json

import pytest
import torch
import transformers
from compare import gradient_errors, relative_error
from reference import check_against, randomize, run_veomni, veomni
from safetensors.torch import load_file, save_file

IMAGE, START, END = 5, 7, 8      # ids that text does not use: it begins at 10
VOCAB, PATCH = 151, 4
IDS = dict(image_token_id=IMAGE, video_token_id=6, vision_start_token_id=START, vision_end_token_id=END)
CONFIGS = {
    "gqa-tied": (dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                      num_key_value_heads=2), [1, 1, 2],
                 dict(depth=2, embed_dim=32, num_heads=2, mlp_ratio=2), True),
    "mha-untied": (dict(hidden_size=48, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3,
                        num_key_value_heads=3, rms_norm_eps=1e-6), [2, 3, 3],
                   dict(depth=1, embed_dim=48, num_heads=3, mlp_ratio=4), False),
    "mqa-wide-heads": (dict(hidden_size=64, intermediate_size=72, num_hidden_layers=1, num_attention_heads=2,
                            num_key_value_heads=1), [4, 6, 6],
                       dict(depth=3, embed_dim=40, num_heads=1, mlp_ratio=1), False),
}
# A row's pieces: a number is that many text tokens, a pair a picture of so many tokens down and across.
ROWS = [[3, (2, 3), 4, (1, 1), 2], [17], [(3, 2), 1], [1, (1, 4), 6, (2, 2), 5, (1, 2)], [1]]
ONE_ROW_HAS_ALL = [[6], [2, (2, 2), 3, (3, 1), 1], [9]]


def make_model(seed, name):
    text, sections, vision, tied = CONFIGS[name]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    config = transformers.Qwen2VLConfig(
        text_config=dict(vocab_size=VOCAB, rope_parameters=rope, bos_token_id=None, eos_token_id=None, **text),
        vision_config=dict(hidden_size=text["hidden_size"], patch_size=PATCH, **vision), tie_word_embeddings=tied, **IDS)
    torch.manual_seed(seed)
    return randomize(transformers.Qwen2VLForConditionalGeneration(config).float())


def make_batch(seed, rows, padding="right"):
    generator = torch.Generator().manual_seed(seed)
    ids, grids = [], []
    for pieces in rows:
        row = []
        for piece in pieces:
            if isinstance(piece, tuple):
                row += [START] + [IMAGE] * (piece[0] * piece[1]) + [END]
                grids.append((1, 2 * piece[0], 2 * piece[1]))
            else:
                row += torch.randint(10, VOCAB, (piece,), generator=generator).tolist()
        ids.append(row)
    width = max(map(len, ids))
    batch = {"input_ids": torch.full((len(rows), width), 9), "attention_mask": torch.zeros(len(rows), width, dtype=torch.long)}
    for i, row in enumerate(ids):
        where = slice(0, len(row)) if padding == "right" else slice(width - len(row), width)
        batch["input_ids"][i, where] = torch.tensor(row)
        batch["attention_mask"][i, where] = 1
    text = (batch["attention_mask"] == 1) & (batch["input_ids"] >= 10)
    batch["labels"] = torch.where(text & (torch.rand(text.shape, generator=generator) > 0.2), batch["input_ids"], -100)
    if padding == "left":
        batch["labels"][batch["attention_mask"].diff(dim=1, prepend=torch.zeros(len(rows), 1, dtype=torch.long)) == 1] = -100
    if grids:
        batch["image_grid_thw"] = torch.tensor(grids)
        patches = int(batch["image_grid_thw"].prod(1).sum())
        batch["pixel_values"] = torch.randn(patches, 3 * 2 * PATCH ** 2, generator=generator)
    return batch


def reference(model, batch, attention):
    """By the names of the saved files; a vision tower that was not run has zero gradients."""
    inputs = dict(batch)
    if "pixel_values" in batch:
        inputs["mm_token_type_ids"] = (batch["input_ids"] == IMAGE).int()
    model.rope_deltas = model.model.rope_deltas = None
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.set_attn_implementation(attention)
    out = model(**inputs)
    out.loss.backward()
    gradients = {file_name(name): parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {"logits": out.logits.detach(), "loss": out.loss.detach(), "gradients": gradients}


def file_name(parameter):
    return parameter.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def check(directory, model, batch, *arguments):
    eager, sdpa = (reference(model, batch, attention) for attention in ("eager", "sdpa"))
    return check_against(run_veomni(directory, batch, *arguments), eager, sdpa, batch["attention_mask"])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_equals_transformers(tmp_path, name, padding):
    model = make_model(len(name), name)
    model.save_pretrained(tmp_path)
    worst = check(tmp_path, model, make_batch(1, ROWS, padding))
    print(f"{name}: worst gradient {worst:.1e}")


@pytest.mark.parametrize("rows", [ROWS[:3], ONE_ROW_HAS_ALL], ids=["pictures on some ranks", "pictures on one rank"])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_sharded_equals_transformers(tmp_path, rows, ranks):
    model = make_model(3, "gqa-tied")
    model.save_pretrained(tmp_path)
    check(tmp_path, model, make_batch(2, rows), f"--mesh.dp_shard={ranks}", "--comm.backend=local")


@pytest.mark.parametrize("ranks", [1, 2])
def test_text_alone_gives_the_vision_tower_zero_gradients(tmp_path, ranks):
    model = make_model(4, "mha-untied")
    model.save_pretrained(tmp_path)
    check(tmp_path, model, make_batch(3, [[7], [12], [4]]), f"--mesh.dp_shard={ranks}", "--comm.backend=local")


@pytest.mark.parametrize("recompute", ["none", "layer"])
def test_float64_is_the_same_on_every_layout(tmp_path, recompute):
    make_model(5, "gqa-tied").save_pretrained(tmp_path)
    batch = make_batch(4, ROWS)
    one = run_veomni(tmp_path, batch, "--dtype", "float64")
    many = run_veomni(tmp_path, batch, "--dtype", "float64", "--mesh.dp_shard=3", "--comm.backend=local",
                      f"--parallel.default.recompute={recompute}")
    assert relative_error(many["logits"], one["logits"]) <= 1e-10
    assert max(gradient_errors(many["gradients"], one["gradients"]).values()) <= 1e-10


def test_own_positions(tmp_path):
    model = make_model(6, "gqa-tied")
    model.save_pretrained(tmp_path)
    batch = make_batch(5, ROWS)
    generator = torch.Generator().manual_seed(6)
    batch["position_ids"] = torch.randint(0, 40, (3, *batch["input_ids"].shape), generator=generator)
    check(tmp_path, model, batch)


def test_a_directory_with_nested_tensor_names(tmp_path):
    """Some exporters write parameters by the names they have in the class."""
    model = make_model(7, "mha-untied")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {file_name(name): name for name, _ in model.named_parameters()}
    save_file({renamed[name]: tensor for name, tensor in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    batch = make_batch(6, ROWS)
    eager, sdpa = (reference(model, batch, attention) for attention in ("eager", "sdpa"))
    for result in (eager, sdpa):
        result["gradients"] = {renamed[name]: gradient for name, gradient in result["gradients"].items()}
    check_against(run_veomni(tmp_path, batch), eager, sdpa, batch["attention_mask"])


@pytest.mark.parametrize("name", ["gqa-tied", "mha-untied"])
def test_a_directory_with_a_flat_config(tmp_path, name):
    """The first Qwen2-VL files nest nothing but the vision tower, and name the rotary type after the model."""
    model = make_model(8, name)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    for key in ("model_type", "layer_types", "dtype"):
        text.pop(key, None)
    config = {**text, **config, "rope_theta": rope["rope_theta"],
              "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    for key in ("model_type", "in_channels"):
        config["vision_config"].pop(key, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = transformers.Qwen2VLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    check(tmp_path, again, make_batch(7, ROWS))


def test_placeholders_that_do_not_fit_are_named(tmp_path):
    make_model(9, "gqa-tied").save_pretrained(tmp_path)
    batch = make_batch(8, [[3, (2, 2), 2]])
    batch["input_ids"][0, 5] = 20      # in the middle of the picture
    save_file(batch, tmp_path / "bad.safetensors")
    said = veomni("forward", tmp_path, tmp_path / "bad.safetensors", tmp_path / "o.safetensors", code=2)
    assert "image item 0 makes 4 tokens" in said
