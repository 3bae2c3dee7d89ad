# SPDX-License-Identifier: Apache-2.0
"""Janus's picture tokenizer by itself: codes, pictures drawn from them and every gradient against transformers, whose
own forward decodes codes without a gradient for the encoder and is made straight-through here."""
import copy
import random

import pytest
import torch
import transformers
from compare import gradient_errors, relative_error
from reference import randomize, run_forward, veomni
from safetensors.torch import save_file
from transformers.models.janus.configuration_janus import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE

BASE = dict(base_channels=32, num_res_blocks=1, num_patches=4, projection_dim=24, image_token_embed_dim=24)
CONFIGS = {
    "two-levels": dict(channel_multiplier=[1, 2], embed_dim=6, num_embeddings=41, latent_channels=20),
    "three-levels-narrowing": dict(channel_multiplier=[2, 1, 3], embed_dim=8, num_embeddings=64, latent_channels=16),
    "one-level-two-blocks": dict(channel_multiplier=[2], num_res_blocks=2, embed_dim=4, num_embeddings=16,
                                 latent_channels=32),
    "wide-two-blocks": dict(base_channels=64, channel_multiplier=[1, 1], num_res_blocks=2, embed_dim=5,
                            num_embeddings=130, latent_channels=7),
}
RANKS = [("--mesh.dp_shard=2",), ("--mesh.dp_shard=3",), ("--mesh.dp_shard=4", "--parallel.default.recompute=layer")]
TIE = 1e-5              # codes whose distances differ by less, relatively, are one as good as the other
MOST_TIES = 1e-3


class Case:
    """A random tokenizer of transformers, saved in a directory of its own, and pictures."""

    def __init__(self, directory, name, pictures=3, height=None, width=None, model=None):
        torch.manual_seed(len(name))
        self.directory = directory
        self.config = JanusVQVAEConfig(**{**BASE, **CONFIGS[name]})
        self.model = randomize((model or JanusVQVAE(self.config)).float())
        factor = 2 ** (len(self.config.channel_multiplier) - 1)
        height, width = (height or 4) * factor, (width or 4) * factor
        self.pixels = torch.randn(pictures, 3, height, width)
        self.cotangent = torch.randn(pictures, 3, height, width)
        self.spread_codes(factor)

    def spread_codes(self, factor):
        # Codes like the latents of other pictures, or all pictures would have one and the same code.
        with torch.no_grad():
            rows = latents(self.model, torch.randn(12, 3, 4 * factor, 4 * factor)).flatten(0, 2)
            codes = rows[torch.randperm(len(rows))[:self.config.num_embeddings]]
            self.model.quantize.embedding.weight.copy_(codes + 0.1 * codes.std() * torch.randn(codes.shape))

    def save(self):
        self.model.save_pretrained(self.directory)
        return self

    def batch(self):
        return {"pixel_values": self.pixels, "cotangent": self.cotangent}

    def reference(self, codes, dtype):
        """Pixels and gradients of sum(pixels · cotangent), with these codes."""
        model = copy.deepcopy(self.model).to(dtype)
        z = latents(model, self.pixels.to(dtype))
        nearest = model.quantize.embedding(codes.view(z.shape[:3]))
        quantised = z + (nearest - z).detach()
        quantised = torch.nn.functional.normalize(quantised, dim=-1).permute(0, 3, 1, 2)
        pixels = model.decoder(model.post_quant_conv(quantised))
        (pixels * self.cotangent.to(dtype)).sum().backward()
        return pixels.detach(), {name: torch.zeros_like(p) if p.grad is None else p.grad
                                 for name, p in model.named_parameters()}

    def count_ties(self, codes):
        """How many codes are not transformers'; one that is farther than a tie fails."""
        with torch.no_grad():
            theirs = self.model.encode(self.pixels).image_tokens
            z = latents(self.model.double(), self.pixels.double()).flatten(0, 2)
            distances = torch.cdist(z, self.model.quantize.embedding.weight,
                                    compute_mode="donot_use_mm_for_euclid_dist") ** 2
            self.model.float()
        ours, theirs = codes.flatten(), theirs.flatten()
        differ = (ours != theirs).nonzero().flatten()
        for row in differ:
            a, b = distances[row, ours[row]], distances[row, theirs[row]]
            assert (a - b).abs() <= TIE * b, f"code {row}: {ours[row]} at {a}, transformers' {theirs[row]} at {b}"
        return len(differ)

    def check(self, *arguments):
        out, gradients = run_forward(self.directory, self.batch(), *arguments)
        return self.compare(out, gradients)

    def compare(self, out, gradients):
        codes = out["codes"]
        assert codes.dtype == torch.int64 and codes.shape[0] == len(self.pixels)
        ties = self.count_ties(codes)
        assert ties <= MOST_TIES * codes.numel(), ties
        assert len(codes.unique()) > 4
        pixels, want = self.reference(codes, torch.float64)
        assert relative_error(out["pixels"], pixels) <= 1e-5
        return ties, check_gradients(gradients, want)


def latents(model, pixels):
    return model.quant_conv(model.encoder(pixels)).permute(0, 2, 3, 1)


def check_gradients(got, want):
    """Every gradient against those in float64. Some are zeros in exact arithmetic (of the biases of attention's keys, and
    of biases before a norm over groups of one channel): in float32 no more may be left of them than one rounding of all
    gradients together."""
    assert set(got) == set(want)
    together = sum(gradient.norm() ** 2 for gradient in want.values()) ** 0.5
    zeros = {name for name, gradient in want.items() if gradient.norm() <= 1e-14 * together}
    assert len(zeros) < len(want) / 4
    left = {name: float(got[name].norm() / together) for name in zeros}
    assert not {n: x for n, x in left.items() if x > 2 ** -24}
    errors = {name: e for name, e in gradient_errors(got, want).items() if name not in zeros}
    assert not {n: (e, float(want[n].norm() / together)) for n, e in errors.items() if not e <= 1e-5}
    return max(errors.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(tmp_path, name):
    ties, worst = Case(tmp_path, name).save().check()
    print(f"{name}: {ties} ties, worst gradient {worst:.1e}")


@pytest.mark.parametrize("seed", range(4))
def test_random_models(tmp_path, monkeypatch, seed):
    """Whatever the shape, the gradients are transformers' in float64. In float32 a shape may leave few digits to anybody: where
    a norm's groups are one channel wide, it takes out what the biases before it and attention's give all pixels alike, and
    their gradients are what rounding leaves of sums that cancel. There, as everywhere, ours may be off by 1e-5 or by 3 times
    what the oracle itself is unsure of; having one attention and not two, it is asked in float32 against float64."""
    draw = random.Random(seed)
    levels = [1] if seed == 0 else [draw.randint(1, 3) for _ in range(draw.randint(1, 3))]
    config = dict(channel_multiplier=levels, num_res_blocks=draw.randint(1, 2), embed_dim=draw.randint(4, 9),
                  num_embeddings=draw.randint(24, 150), latent_channels=draw.randint(8, 36))
    monkeypatch.setitem(CONFIGS, f"random {seed}", config)
    case = Case(tmp_path, f"random {seed}", pictures=draw.randint(2, 4), height=draw.randint(3, 5), width=draw.randint(3, 6)).save()
    exact, got = run_forward(tmp_path, case.batch(), "--dtype", "float64")
    _, want = case.reference(exact["codes"], torch.float64)
    assert max(gradient_errors(got, want).values()) <= 1e-10
    out, got = run_forward(tmp_path, case.batch())
    assert case.count_ties(out["codes"]) <= MOST_TIES * out["codes"].numel()
    _, want = case.reference(out["codes"], torch.float64)
    _, rounded = case.reference(out["codes"], torch.float32)
    doubts = gradient_errors(rounded, want)
    together = sum(gradient.norm() ** 2 for gradient in want.values()) ** 0.5
    zeros = {name for name, gradient in want.items() if gradient.norm() <= 1e-14 * together}
    assert all(got[name].norm() <= 2 ** -24 * together for name in zeros)
    bad = {name: (error, doubts[name]) for name, error in gradient_errors(got, want).items()
           if name not in zeros and not error <= max(1e-5, 3 * doubts[name])}
    assert not bad, bad


def test_pictures_need_not_be_square(tmp_path):
    Case(tmp_path, "two-levels", height=3, width=6).save().check()


def test_draws_what_transformers_own_forward_draws(tmp_path):
    case = Case(tmp_path, "three-levels-narrowing").save()
    out, _ = run_forward(tmp_path, case.batch(), grads=False)
    assert case.count_ties(out["codes"]) == 0
    with torch.no_grad():
        want = case.model(case.pixels).decoded_pixel_values
    assert relative_error(out["pixels"], want) <= 1e-5


@pytest.mark.parametrize("arguments", RANKS, ids=" ".join)
def test_sharded_equals_transformers(tmp_path, arguments):
    Case(tmp_path, "two-levels").save().check(*arguments, "--comm.backend=local")     # of 4 ranks one has no picture


def test_float64_equals_transformers_on_every_layout(tmp_path):
    case = Case(tmp_path, "three-levels-narrowing").save()
    for layout in ([], ["--mesh.dp_shard=3", "--comm.backend=local"]):
        out, gradients = run_forward(tmp_path, case.batch(), "--dtype", "float64", *layout)
        pixels, want = case.reference(out["codes"], torch.float64)
        assert relative_error(out["pixels"], pixels) <= 1e-10
        assert set(gradients) == set(want)
        assert not {n: e for n, e in gradient_errors(gradients, want).items() if not e <= 1e-10}


def test_a_whole_models_directory(tmp_path):
    vq = {**BASE, **CONFIGS["two-levels"]}
    torch.manual_seed(3)
    whole = transformers.JanusForConditionalGeneration(transformers.JanusConfig(
        text_config=dict(model_type="llama", hidden_size=24, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, vocab_size=50),
        vision_config=dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4,
                           projection_dim=24), vq_config=vq))
    case = Case(tmp_path, "two-levels", model=whole.model.vqmodel)
    whole.save_pretrained(tmp_path)
    out, gradients = run_forward(tmp_path, case.batch())
    lead = "model.vqmodel."
    assert all(name.startswith(lead) for name in gradients)
    case.compare(out, {name[len(lead):]: gradient for name, gradient in gradients.items()})


def test_no_picture_gives_zero_gradients(tmp_path):
    case = Case(tmp_path, "two-levels", pictures=0).save()
    out, gradients = run_forward(tmp_path, case.batch())
    assert out["codes"].shape[0] == 0 and out["pixels"].shape[0] == 0
    assert set(gradients) == {name for name, _ in case.model.named_parameters()}
    assert not any(gradient.any() for gradient in gradients.values())


def test_bfloat16_runs_and_is_near(tmp_path):
    case = Case(tmp_path, "two-levels").save()
    out, _ = run_forward(tmp_path, case.batch(), "--dtype", "bfloat16", grads=False)
    want, _ = case.reference(out["codes"], torch.float64)
    # bf16 keeps 8 bits: 2^-9 a rounding, some 60 roundings deep, adding up like a random walk.
    assert relative_error(out["pixels"].double(), want) <= 2 ** -9 * 60 ** 0.5 * 2


@pytest.mark.parametrize("shape,expected", [((1, 3, 8, 9), "multiples of 2"), ((1, 4, 8, 8), "pixel_values")])
def test_pictures_that_do_not_fit_are_named(tmp_path, shape, expected):
    Case(tmp_path, "two-levels").save()
    save_file({"pixel_values": torch.zeros(shape)}, tmp_path / "bad.safetensors")
    assert expected in veomni("forward", tmp_path, tmp_path / "bad.safetensors", tmp_path / "o.safetensors", code=2)
