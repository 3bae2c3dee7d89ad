# SPDX-License-Identifier: Apache-2.0
"""Logits, loss and every gradient of Qwen3 against transformers, on one rank and on several."""
import pytest
import torch
import transformers
from compare import gradient_errors, relative_error
from reference import check_against, make_batch, make_qwen3, run_reference, run_veomni, veomni

BASE = dict(vocab_size=211, hidden_size=48, intermediate_size=80, num_hidden_layers=3, rms_norm_eps=1e-6)
LAYOUTS = {
    "gqa3-tied": dict(num_attention_heads=6, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True),
    "mha-untied": dict(num_attention_heads=4, num_key_value_heads=4, head_dim=12, tie_word_embeddings=False),
    "mqa-untied": dict(num_attention_heads=5, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False),
    "wide-heads-tied": dict(num_attention_heads=2, num_key_value_heads=1, head_dim=64, tie_word_embeddings=True),
    "head128-untied": dict(num_attention_heads=8, num_key_value_heads=2, head_dim=128, hidden_size=72,
                           tie_word_embeddings=False),
    "bias-theta-tied": dict(num_attention_heads=4, num_key_value_heads=2, head_dim=24, attention_bias=True,
                            rope_parameters={"rope_type": "default", "rope_theta": 1e6}, hidden_size=40,
                            tie_word_embeddings=True),
    "one-layer-odd": dict(num_attention_heads=3, num_key_value_heads=3, head_dim=10, hidden_size=33, num_hidden_layers=1,
                          intermediate_size=49, vocab_size=97, tie_word_embeddings=False),
    "window": dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16, use_sliding_window=True, sliding_window=5,
                   max_window_layers=1, tie_word_embeddings=False),
}


def setup_case(tmp_path, layout, seed=0, lengths=(23, 7, 1, 16)):
    config = {**BASE, **LAYOUTS[layout]}
    model = make_qwen3(seed, **config)
    model.save_pretrained(tmp_path)
    return model, make_batch(seed + 1, config["vocab_size"], lengths)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_transformers(tmp_path, layout):
    model, batch = setup_case(tmp_path, layout, seed=len(layout))
    eager, sdpa = (run_reference(model, batch, attention) for attention in ("eager", "sdpa"))
    worst = check_against(run_veomni(tmp_path, batch), eager, sdpa, batch["attention_mask"])
    print(f"{layout}: worst gradient {worst:.1e}")


@pytest.mark.parametrize("layout", ["gqa3-tied", "mha-untied"])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_sharded_equals_transformers(tmp_path, layout, ranks):
    model, batch = setup_case(tmp_path, layout, lengths=(9, 14))     # with 3 and 4 ranks some have no row at all
    eager, sdpa = (run_reference(model, batch, attention) for attention in ("eager", "sdpa"))
    got = run_veomni(tmp_path, batch, f"--mesh.dp_shard={ranks}", "--comm.backend=local")
    check_against(got, eager, sdpa, batch["attention_mask"])


@pytest.mark.parametrize("recompute", ["none", "layer"])
def test_float64_is_the_same_on_every_layout(tmp_path, recompute):
    _, batch = setup_case(tmp_path, "gqa3-tied")
    one = run_veomni(tmp_path, batch, "--dtype", "float64")
    many = run_veomni(tmp_path, batch, "--dtype", "float64", "--mesh.dp_shard=3", "--comm.backend=local",
                      f"--parallel.default.recompute={recompute}")
    assert max(gradient_errors(many["gradients"], one["gradients"]).values()) <= 1e-10
    assert relative_error(many["logits"], one["logits"]) <= 1e-10


def test_cotangent_is_the_gradient_of_the_weighted_sum(tmp_path):
    model, batch = setup_case(tmp_path, "mha-untied")
    generator = torch.Generator().manual_seed(3)
    cotangent = torch.randn(*batch["input_ids"].shape, BASE["vocab_size"], generator=generator)
    cotangent *= batch["attention_mask"][..., None]
    model.set_attn_implementation("sdpa")
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    (logits * cotangent).sum().backward()
    want = {name: parameter.grad for name, parameter in model.named_parameters()}
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    got = run_veomni(tmp_path, {**inputs, "cotangent": cotangent.contiguous()})
    assert max(gradient_errors(got["gradients"], want).values()) <= 1e-5


def test_left_padding_and_own_positions(tmp_path):
    model, batch = setup_case(tmp_path, "mha-untied", lengths=(12, 12))
    batch.pop("labels")
    batch["attention_mask"][1, :5] = 0
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        want = model(**batch).logits
    real = batch["attention_mask"].bool()
    assert relative_error(run_veomni(tmp_path, batch, grads=False)["logits"][real], want[real]) <= 1e-5


def test_bfloat16_runs_and_is_near(tmp_path):
    model, batch = setup_case(tmp_path, "gqa3-tied")
    sdpa = run_reference(model, batch, "sdpa")
    got = run_veomni(tmp_path, batch, "--dtype", "bfloat16")
    # bf16 keeps 8 bits: 2^-9 a rounding, some 60 roundings deep through 3 layers, adding up like a random walk.
    assert relative_error(got["logits"].float()[batch["attention_mask"].bool()],
                          sdpa["logits"][batch["attention_mask"].bool()]) <= 2 ** -9 * 60 ** 0.5 * 2
    assert got["gradients"]["model.norm.weight"].dtype == torch.float32


def test_a_sharded_directory_loads(tmp_path):
    model, batch = setup_case(tmp_path, "mha-untied")
    sdpa = run_reference(model, batch, "sdpa")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    check_against(run_veomni(tmp_path, batch), sdpa, sdpa, batch["attention_mask"])


BAD = {
    "no input": ({}, "input_ids"),
    "labels of another shape": ({"input_ids": torch.zeros(2, 3, dtype=torch.long),
                                 "labels": torch.zeros(2, 4, dtype=torch.long)}, "labels has shape [2, 4]"),
    "an id outside the vocabulary": ({"input_ids": torch.full((1, 3), 999)}, "outside the vocabulary [0, 211)"),
    "no labels for gradients": ({"input_ids": torch.zeros(1, 3, dtype=torch.long)}, "cotangent"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(tmp_path, case):
    from safetensors.torch import save_file
    setup_case(tmp_path, "mha-untied")
    tensors, expected = BAD[case]
    save_file(tensors or {"other": torch.zeros(1)}, tmp_path / "bad.safetensors")
    said = veomni("forward", tmp_path, tmp_path / "bad.safetensors", tmp_path / "o.safetensors", "--grads", code=2)
    assert expected in said
    assert len([line for line in said.splitlines() if line.startswith("veomni:")]) == 1
