# SPDX-License-Identifier: Apache-2.0
"""Logits, loss and every gradient of each model against transformers, on one rank and on several."""
import pytest
import torch
from compare import gradient_errors, relative_error
from models import MODELS
from reference import check_against, make_batch, make_model, run_reference, run_veomni, veomni

LAYOUTS = [pytest.param(row, layout, id=f"{row.name}-{layout}") for row in MODELS for layout in row.layouts]
SHARDED = [pytest.param(row, layout, id=f"{row.name}-{layout}") for row in MODELS for layout in row.sharded]
each_model = pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)


def setup_case(tmp_path, row, layout, seed=0, lengths=(23, 7, 1, 16)):
    config = row.config(layout)
    model = make_model(seed, row, config)
    model.save_pretrained(tmp_path)
    return model, make_batch(seed + 1, config["vocab_size"], lengths)


@pytest.mark.parametrize("row,layout", LAYOUTS)
def test_equals_transformers(tmp_path, row, layout):
    model, batch = setup_case(tmp_path, row, layout, seed=len(layout))
    eager, sdpa = (run_reference(model, batch, attention) for attention in ("eager", "sdpa"))
    worst = check_against(run_veomni(tmp_path, batch), eager, sdpa, batch["attention_mask"])
    print(f"{row.name} {layout}: worst gradient {worst:.1e}")


@pytest.mark.parametrize("row,layout", SHARDED)
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_sharded_equals_transformers(tmp_path, row, layout, ranks):
    model, batch = setup_case(tmp_path, row, layout, lengths=(9, 14))     # with 3 and 4 ranks some have no row at all
    eager, sdpa = (run_reference(model, batch, attention) for attention in ("eager", "sdpa"))
    got = run_veomni(tmp_path, batch, f"--mesh.dp_shard={ranks}", "--comm.backend=local")
    check_against(got, eager, sdpa, batch["attention_mask"])


@each_model
@pytest.mark.parametrize("strategy", ["fsdp1", "hsdp", "ddp", "replicate"])
def test_every_strategy_gives_the_same_float64(tmp_path, row, strategy):
    _, batch = setup_case(tmp_path, row, row.sharded[0])
    one = run_veomni(tmp_path, batch, "--dtype", "float64")
    many = run_veomni(tmp_path, batch, "--dtype", "float64", "--mesh.dp_replicate=2", "--mesh.dp_shard=2",
                      "--comm.backend=local", f"--parallel.default.strategy={strategy}")
    assert max(gradient_errors(many["gradients"], one["gradients"]).values()) <= 1e-10
    assert relative_error(many["logits"], one["logits"]) <= 1e-10


@each_model
@pytest.mark.parametrize("recompute", ["none", "layer"])
def test_float64_is_the_same_on_every_layout(tmp_path, row, recompute):
    _, batch = setup_case(tmp_path, row, row.sharded[0])
    one = run_veomni(tmp_path, batch, "--dtype", "float64")
    many = run_veomni(tmp_path, batch, "--dtype", "float64", "--mesh.dp_shard=3", "--comm.backend=local",
                      f"--parallel.default.recompute={recompute}")
    assert max(gradient_errors(many["gradients"], one["gradients"]).values()) <= 1e-10
    assert relative_error(many["logits"], one["logits"]) <= 1e-10


@each_model
def test_cotangent_is_the_gradient_of_the_weighted_sum(tmp_path, row):
    model, batch = setup_case(tmp_path, row, row.sharded[-1])
    generator = torch.Generator().manual_seed(3)
    cotangent = torch.randn(*batch["input_ids"].shape, row.base["vocab_size"], generator=generator)
    cotangent *= batch["attention_mask"][..., None]
    model.set_attn_implementation("sdpa")
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    (logits * cotangent).sum().backward()
    want = {name: parameter.grad for name, parameter in model.named_parameters()}
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    got = run_veomni(tmp_path, {**inputs, "cotangent": cotangent.contiguous()})
    assert max(gradient_errors(got["gradients"], want).values()) <= 1e-5


@each_model
def test_left_padding_and_own_positions(tmp_path, row):
    model, batch = setup_case(tmp_path, row, row.sharded[-1], lengths=(12, 12))
    batch.pop("labels")
    batch["attention_mask"][1, :5] = 0
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        want = model(**batch).logits
    real = batch["attention_mask"].bool()
    assert relative_error(run_veomni(tmp_path, batch, grads=False)["logits"][real], want[real]) <= 1e-5


@each_model
def test_bfloat16_runs_and_is_near(tmp_path, row):
    model, batch = setup_case(tmp_path, row, row.sharded[0])
    sdpa = run_reference(model, batch, "sdpa")
    got = run_veomni(tmp_path, batch, "--dtype", "bfloat16")
    # bf16 keeps 8 bits: 2^-9 a rounding, some 60 roundings deep through 3 layers, adding up like a random walk.
    assert relative_error(got["logits"].float()[batch["attention_mask"].bool()],
                          sdpa["logits"][batch["attention_mask"].bool()]) <= 2 ** -9 * 60 ** 0.5 * 2
    assert got["gradients"]["model.norm.weight"].dtype == torch.float32


@each_model
def test_a_sharded_directory_loads(tmp_path, row):
    model, batch = setup_case(tmp_path, row, row.sharded[-1])
    sdpa = run_reference(model, batch, "sdpa")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    check_against(run_veomni(tmp_path, batch), sdpa, sdpa, batch["attention_mask"])


BAD = {
    "no input": ({}, "input_ids"),
    "labels of another shape": ({"input_ids": torch.zeros(2, 3, dtype=torch.long),
                                 "labels": torch.zeros(2, 4, dtype=torch.long)}, "labels has shape [2, 4]"),
    "an id outside the vocabulary": ({"input_ids": torch.full((1, 3), 999)}, "outside the vocabulary [0, {vocab})"),
    "no labels for gradients": ({"input_ids": torch.zeros(1, 3, dtype=torch.long)}, "cotangent"),
}


@each_model
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(tmp_path, row, case):
    from safetensors.torch import save_file
    setup_case(tmp_path, row, row.sharded[-1])
    tensors, expected = BAD[case]
    save_file(tensors or {"other": torch.zeros(1)}, tmp_path / "bad.safetensors")
    said = veomni("forward", tmp_path, tmp_path / "bad.safetensors", tmp_path / "o.safetensors", "--grads", code=2)
    assert expected.replace("{vocab}", str(row.base["vocab_size"])) in said
    assert len([line for line in said.splitlines() if line.startswith("veomni:")]) == 1
