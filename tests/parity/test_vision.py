# SPDX-License-Identifier: Apache-2.0
"""Qwen2-VL's vision tower by itself: features and every gradient against transformers."""
import pytest
import torch
from compare import gradient_errors, relative_error
from reference import EncoderReference, run_forward, veomni
from safetensors.torch import save_file
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

CONFIGS = {
    "two-heads": dict(depth=2, embed_dim=32, hidden_size=24, num_heads=2, mlp_ratio=2, patch_size=4),
    "head80-patch14": dict(depth=1, embed_dim=160, hidden_size=56, num_heads=2, mlp_ratio=4, patch_size=14),
    "merge3-one-frame-gelu": dict(depth=3, embed_dim=24, hidden_size=40, num_heads=3, mlp_ratio=3, patch_size=3,
                                  spatial_merge_size=3, temporal_patch_size=1, hidden_act="gelu"),
    "no-merge-one-channel": dict(depth=2, embed_dim=64, hidden_size=16, num_heads=4, mlp_ratio=1, patch_size=5,
                                 spatial_merge_size=1, in_channels=1),
}
SIZES = [(1, 2, 3), (1, 1, 1), (3, 2, 1), (1, 4, 2), (2, 1, 3)]      # frames, then tokens down and across
RANKS = [("--mesh.dp_shard=2",), ("--mesh.dp_shard=3",), ("--mesh.dp_shard=4", "--parallel.default.recompute=layer")]


def setup_case(tmp_path, name, sizes=SIZES):
    config = Qwen2VLVisionConfig(**CONFIGS[name])
    reference = EncoderReference(tmp_path, len(name), Qwen2VisionTransformerPretrainedModel(config))
    merge = config.spatial_merge_size
    grid = torch.tensor([(t, h * merge, w * merge) for t, h, w in sizes]).view(-1, 3)
    width = config.in_channels * config.temporal_patch_size * config.patch_size ** 2
    pixels = torch.randn(int(grid.prod(1).sum()), width, generator=torch.Generator().manual_seed(1))
    return reference, {"pixel_values": pixels, "image_grid_thw": grid}


def features(batch):
    return lambda model: model(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(tmp_path, name):
    reference, batch = setup_case(tmp_path, name)
    worst = reference.check(batch, features(batch))
    print(f"{name}: worst gradient {worst:.1e}")


def test_the_encoders_own_argument_names(tmp_path):
    reference, batch = setup_case(tmp_path, "two-heads")
    renamed = {"hidden_states": batch["pixel_values"], "grid_thw": batch["image_grid_thw"]}
    reference.check(renamed, features(batch))


@pytest.mark.parametrize("arguments", RANKS, ids=" ".join)
def test_sharded_equals_transformers(tmp_path, arguments):
    reference, batch = setup_case(tmp_path, "two-heads", SIZES[:3])      # with 4 ranks one has no picture
    reference.check(batch, features(batch), *arguments, "--comm.backend=local")


def test_float64_is_the_same_on_every_layout(tmp_path):
    _, batch = setup_case(tmp_path, "merge3-one-frame-gelu")
    tokens = int(batch["image_grid_thw"].prod(1).sum()) // 9
    batch["cotangent"] = torch.randn(tokens, 40, generator=torch.Generator().manual_seed(2))
    one, want = run_forward(tmp_path, batch, "--dtype", "float64")
    many, got = run_forward(tmp_path, batch, "--dtype", "float64", "--mesh.dp_shard=3", "--comm.backend=local")
    assert relative_error(many["features"], one["features"]) <= 1e-10
    assert max(gradient_errors(got, want).values()) <= 1e-10


def test_no_picture_gives_zero_gradients(tmp_path):
    reference, batch = setup_case(tmp_path, "two-heads", [])
    out, gradients = run_forward(tmp_path, {**batch, "cotangent": torch.zeros(0, 24)})
    assert out["features"].shape == (0, 24)
    assert set(gradients) == {name for name, _ in reference.model.named_parameters()}
    assert not any(gradient.any() for gradient in gradients.values())


def test_bfloat16_runs_and_is_near(tmp_path):
    reference, batch = setup_case(tmp_path, "two-heads")
    out, _ = run_forward(tmp_path, batch, "--dtype", "bfloat16", grads=False)
    with torch.no_grad():
        want = features(batch)(reference.model)
    # bf16 keeps 8 bits: 2^-9 a rounding, some 40 roundings deep, adding up like a random walk.
    assert relative_error(out["features"].float(), want) <= 2 ** -9 * 40 ** 0.5 * 2


@pytest.mark.parametrize("grid,expected", [([(1, 3, 4)], "multiples of 2"), ([(1, 4, 4)], "speaks of 16 rows")])
def test_a_grid_that_does_not_fit_is_named(tmp_path, grid, expected):
    setup_case(tmp_path, "two-heads")
    save_file({"pixel_values": torch.zeros(12, 96), "image_grid_thw": torch.tensor(grid)}, tmp_path / "bad.safetensors")
    assert expected in veomni("forward", tmp_path, tmp_path / "bad.safetensors", tmp_path / "o.safetensors", code=2)
