# SPDX-License-Identifier: Apache-2.0
"""Qwen2.5-Omni's audio encoder by itself: features and every gradient against transformers, clips of many lengths."""
import pytest
import torch
from compare import gradient_errors, relative_error
from reference import EncoderReference, run_forward, veomni
from safetensors.torch import save_file
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

CONFIGS = {
    "two-heads": dict(encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48, d_model=32, output_dim=24,
                      num_mel_bins=16, n_window=5),
    "mel128-window100": dict(encoder_layers=1, encoder_attention_heads=4, encoder_ffn_dim=64, d_model=64, output_dim=40,
                             num_mel_bins=128, n_window=100),
    "tiny-window": dict(encoder_layers=3, encoder_attention_heads=1, encoder_ffn_dim=20, d_model=12, output_dim=7,
                        num_mel_bins=3, n_window=1, max_source_positions=1),
}
LENGTHS = {
    "whole chunks": [20, 10, 30],
    "all short": [1, 2, 3, 4, 5],
    "mixed": [37, 3, 1, 10, 2, 11, 9, 25],
    "one": [23],
    "one frame beside others": [1, 9],
    "long": [431, 200, 199, 201],
}
RANKS = [("--mesh.dp_shard=2",), ("--mesh.dp_shard=3",), ("--mesh.dp_shard=4", "--parallel.default.recompute=layer")]


def setup_case(tmp_path, name, lengths):
    config = Qwen2_5OmniAudioEncoderConfig(**CONFIGS[name])
    reference = EncoderReference(tmp_path, len(name), Qwen2_5OmniAudioEncoder(config))
    mels = torch.randn(config.num_mel_bins, sum(lengths), generator=torch.Generator().manual_seed(1))
    return reference, {"input_features": mels, "feature_lens": torch.tensor(lengths, dtype=torch.long)}


def features(batch):
    return lambda model: model(batch["input_features"], feature_lens=batch["feature_lens"]).last_hidden_state


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(tmp_path, name, lengths):
    reference, batch = setup_case(tmp_path, name, LENGTHS[lengths])
    worst = reference.check(batch, features(batch))
    print(f"{name}, {lengths}: worst gradient {worst:.1e}")


@pytest.mark.parametrize("arguments", RANKS, ids=" ".join)
def test_sharded_equals_transformers(tmp_path, arguments):
    reference, batch = setup_case(tmp_path, "two-heads", [23, 7, 12])      # with 4 ranks one has no clip
    reference.check(batch, features(batch), *arguments, "--comm.backend=local")


def test_float64_is_the_same_on_every_layout(tmp_path):
    _, batch = setup_case(tmp_path, "two-heads", LENGTHS["mixed"])
    tokens = sum((frames + 1) // 4 for frames in LENGTHS["mixed"])
    batch["cotangent"] = torch.randn(tokens, 24, generator=torch.Generator().manual_seed(2))
    one, want = run_forward(tmp_path, batch, "--dtype", "float64")
    many, got = run_forward(tmp_path, batch, "--dtype", "float64", "--mesh.dp_shard=3", "--comm.backend=local")
    assert relative_error(many["features"], one["features"]) <= 1e-10
    assert max(gradient_errors(got, want).values()) <= 1e-10


@pytest.mark.parametrize("lengths", [[], [1, 2, 1]], ids=["no clip", "clips too short for a token"])
def test_no_token_gives_zero_gradients(tmp_path, lengths):
    reference, batch = setup_case(tmp_path, "two-heads", lengths)
    out, gradients = run_forward(tmp_path, {**batch, "cotangent": torch.zeros(0, 24)})
    assert out["features"].shape == (0, 24)
    assert set(gradients) == {name for name, _ in reference.model.named_parameters()}
    assert not any(gradient.any() for gradient in gradients.values())


def test_bfloat16_runs_and_is_near(tmp_path):
    reference, batch = setup_case(tmp_path, "two-heads", LENGTHS["mixed"])
    out, _ = run_forward(tmp_path, batch, "--dtype", "bfloat16", grads=False)
    with torch.no_grad():
        want = features(batch)(reference.model)
    # bf16 keeps 8 bits: 2^-9 a rounding, some 40 roundings deep, adding up like a random walk.
    assert relative_error(out["features"].float(), want) <= 2 ** -9 * 40 ** 0.5 * 2


def test_inside_a_whole_model(tmp_path):
    """The thinker of Qwen2.5-Omni: its audio tower alone is read."""
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerForConditionalGeneration
    text = dict(vocab_size=31, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 3]})
    vision = dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=32, out_hidden_size=24, fullatt_block_indexes=[0])
    config = Qwen2_5OmniThinkerConfig(audio_config=CONFIGS["two-heads"], text_config=text, vision_config=vision)
    torch.manual_seed(0)
    thinker = Qwen2_5OmniThinkerForConditionalGeneration(config).float()
    thinker.save_pretrained(tmp_path)
    batch = {"input_features": torch.randn(16, 40), "feature_lens": torch.tensor([29, 11])}
    with torch.no_grad():
        want = features(batch)(thinker.audio_tower)
    assert relative_error(run_forward(tmp_path, batch, grads=False)[0]["features"], want) <= 1e-5


def test_lengths_that_do_not_fit_are_named(tmp_path):
    setup_case(tmp_path, "two-heads", [9])
    save_file({"input_features": torch.zeros(16, 12), "feature_lens": torch.tensor([9])}, tmp_path / "bad.safetensors")
    said = veomni("forward", tmp_path, tmp_path / "bad.safetensors", tmp_path / "o.safetensors", code=2)
    assert "feature_lens speaks of 9 rows, the features have 12" in said
