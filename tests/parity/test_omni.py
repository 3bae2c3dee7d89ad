# SPDX-License-Identifier: Apache-2.0
"""A model composed of a foundation, two encoders and a decoder: trained, resumed, saved in parts that transformers opens,
reloaded, and made to draw."""
import base64
import io
import json
import math
import struct
import wave

import pytest
import torch
import transformers
from compare import relative_error
from PIL import Image
from reference import read_metrics, run_forward, veomni
from safetensors.torch import load_file
from transformers.models.janus.modeling_janus import JanusVQVAE
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

FOUNDATION = dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], vocab_size=300, hidden_size=24,
                  intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
                  tie_word_embeddings=True)
# 16 wide, so that a projector joins it to the foundation's 24.
VISION = dict(model_type="qwen2_vl_vision", depth=2, embed_dim=16, hidden_size=16, num_heads=2, mlp_ratio=2,
              in_channels=3, patch_size=4, spatial_merge_size=2, temporal_patch_size=1)
AUDIO = dict(model_type="qwen2_5_omni_audio_encoder", num_mel_bins=8, d_model=16, encoder_layers=1,
             encoder_attention_heads=2, encoder_ffn_dim=32, n_window=20, output_dim=24, max_source_positions=200)
VQ = dict(model_type="janus_vqgan", base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1, latent_channels=16,
          embed_dim=8, num_embeddings=19, num_patches=4)


def picture(seed):
    pixels = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def sound(path, hertz):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(hertz * i / 8000 * 6.28))) for i in range(2000)))


class Job:
    def __init__(self, folder):
        self.folder = folder
        text = folder / "text.txt"
        text.write_text("boot shirt high low draw a hat thing\n" * 4)
        veomni("data", "train-tokenizer", "--vocab-size", "300", "--out", folder / "tokenizer", text)
        for name, hertz in (("low", 200), ("high", 900)):
            sound(folder / f"{name}.wav", hertz)
        self.write("read", [("image", picture(i), ("boot", "shirt")[i % 2]) for i in range(6)])
        self.write("hear", [("audio", name + ".wav", name) for name in ("low", "high")])
        turns = [[{"role": "user", "content": "draw a hat"},
                  {"role": "assistant", "content": [{"type": "image", "image": picture(20 + i)}]}] for i in range(5)]
        self.lines("draw", turns)
        self.lines("text", [[{"role": "user", "content": "thing"}, {"role": "assistant", "content": "a hat"}]] * 3)

    def lines(self, name, conversations):
        (self.folder / f"{name}.jsonl").write_text("".join(json.dumps({"messages": c}) + "\n" for c in conversations))

    def write(self, name, items):
        self.lines(name, [[{"role": "user", "content": [{"type": kind, kind: location}]},
                           {"role": "assistant", "content": answer}] for kind, location, answer in items])

    def recipe(self, name="run", **sections):
        recipe = {
            "model": {"foundation": {"config": FOUNDATION},
                      "encoders": {"image": {"type": "qwen2_vl_vision", "config": VISION,
                                             "preprocessor": {"min_pixels": 64, "max_pixels": 64}},
                                   "audio": {"type": "qwen2_5_omni_audio", "config": AUDIO}},
                      "decoders": {"image": {"type": "janus_vq16", "config": VQ, "preprocessor": {"size": 8, "min_size": 4}}}},
            "data": {"tokenizer": str(self.folder / "tokenizer"), "template": "plain", "on_bad_record": "fail",
                     "sources": [{"name": n, "path": str(self.folder / f"{n}.jsonl"), "loss": loss}
                                 for n, loss in (("read", "label"), ("hear", "label"), ("draw", "text"), ("text", "text"))]},
            "parallel": {"default": {"param_dtype": "float32"}},
            "optim": {"name": "adamw", "lr": 1e-3},
            "train": {"steps": 6, "micro_batch_tokens": 96, "seed": 3, "loss_weights": {"image": 0.5}},
            "output": str(self.folder / name),
        }
        for section, values in sections.items():
            recipe[section] = {**recipe.get(section, {}), **values} if isinstance(values, dict) else values
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(recipe))
        return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("omni"))
    sources = [{"name": "label", "path": str(job.folder / "read.jsonl"), "metrics": ["accuracy", "loss"],
                "generate": {"max_new_tokens": 3}},
               {"name": "draw", "path": str(job.folder / "draw.jsonl"), "metrics": ["generated"], "repeat": 2,
                "generate": {"guidance": 1.5}},
               {"name": "rebuilt", "path": str(job.folder / "draw.jsonl"),
                "metrics": ["reconstructed", "mean_squared_error", "code_perplexity"]}]
    recipe = job.recipe(eval={"sources": sources, "samples": ["draw a hat"], "generate": {"max_new_tokens": 4}},
                        checkpoint={"every": 3, "keep": 0})
    veomni("train", recipe)
    return job, recipe


def test_every_loss_is_in_the_metrics(trained):
    job, _ = trained
    metrics = read_metrics(job.folder / "run")
    assert len(metrics) == 6
    for line in metrics:
        assert {"loss/text", "loss/label", "loss/image"} <= set(line)
        want = line["loss/text"] + line["loss/label"] + 0.5 * line["loss/image"]
        assert line["loss"] == pytest.approx(want, rel=1e-6)


def test_a_new_process_gives_the_same_table_and_the_same_pictures(trained):
    job, recipe = trained
    out = job.folder / "again" / "eval.json"
    out.parent.mkdir(exist_ok=True)
    veomni("eval", recipe, "--checkpoint", job.folder / "run/hf", "--out", out)
    assert out.read_text() == (job.folder / "run/eval.json").read_text()
    files = sorted(p.relative_to(job.folder / "run") for p in (job.folder / "run/pictures").rglob("*.png"))
    assert len(files) == 5 * 2 + 5
    for file in files:
        assert (job.folder / "run" / file).read_bytes() == (job.folder / "again" / file).read_bytes()


def test_resumed_is_bit_equal(trained):
    job, _ = trained
    half = job.recipe("half", train={"steps": 3}, checkpoint={"every": 3})
    veomni("train", half)
    whole = job.recipe("half", train={"steps": 6}, checkpoint={"every": 3}, optim={"schedule": "constant"})
    straight = job.recipe("straight", optim={"schedule": "constant"})
    veomni("train", job.recipe("half2", train={"steps": 3}, checkpoint={"every": 3}, optim={"schedule": "constant"}))
    veomni("train", straight)
    resumed = json.loads(whole.read_text())
    resumed["output"] = str(job.folder / "half2")
    whole.write_text(json.dumps(resumed))
    veomni("train", whole)
    got, want = read_metrics(job.folder / "half2"), read_metrics(job.folder / "straight")
    assert [line["loss"] for line in got] == [line["loss"] for line in want]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_train_the_same_model(trained, ranks):
    job, _ = trained
    one = job.recipe("one", train={"accumulation": ranks}, optim={"name": "sgd", "lr": 0.05, "schedule": "constant"})
    many = job.recipe("many", mesh={"dp_shard": ranks}, comm={"backend": "local"},
                      optim={"name": "sgd", "lr": 0.05, "schedule": "constant"})
    veomni("train", one)
    veomni("train", many)
    losses = [[line["loss"] for line in read_metrics(job.folder / name)] for name in ("one", "many")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_transformers_opens_every_part(trained):
    job, _ = trained
    hf = job.folder / "run/hf"
    assert json.loads((hf / "config.json").read_text())["encoders"]["image"] == "encoders/image"
    text = transformers.AutoModelForCausalLM.from_pretrained(hf / "foundation", dtype=torch.float32)
    ids = torch.arange(12)[None]
    got, _ = run_forward(hf / "foundation", {"input_ids": ids}, grads=False)
    assert relative_error(got["logits"], text(input_ids=ids).logits) <= 1e-5
    vision = Qwen2VisionTransformerPretrainedModel.from_pretrained(hf / "encoders/image", dtype=torch.float32)
    pixels, grid = torch.randn(8, 48), torch.tensor([[1, 2, 4]])
    got, _ = run_forward(hf / "encoders/image", {"pixel_values": pixels, "image_grid_thw": grid}, grads=False)
    assert relative_error(got["features"], vision(pixels, grid_thw=grid).pooler_output) <= 1e-5
    vq = JanusVQVAE.from_pretrained(hf / "decoders/image", dtype=torch.float32).eval()
    pixels = torch.randn(2, 3, 8, 8)
    got, _ = run_forward(hf / "decoders/image", {"pixel_values": pixels}, grads=False)
    assert relative_error(got["pixels"], vq(pixels).decoded_pixel_values) <= 1e-5
    assert {"projectors"} <= {p.name for p in hf.iterdir()}
    assert set(load_file(hf / "projectors/model.safetensors")) == {
        f"encoders.image.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")}


def test_generate_draws_a_picture_and_reads_one(trained):
    job, _ = trained
    hf, out = job.folder / "run/hf", job.folder / "hat.png"
    veomni("generate", hf, "--template", "plain", "--prompt", "draw a hat", "--output-modality", "image", "--out", out,
           "--max-new-tokens", "3", "--guidance", "2")
    with Image.open(out) as image:
        assert image.size == (8, 8)
    veomni("generate", hf, "--template", "plain", "--prompt", "", "--image", out, "--audio", job.folder / "low.wav",
           "--max-new-tokens", "3")


def test_a_part_that_reads_nothing_is_a_clear_mistake(trained):
    job, _ = trained
    recipe = json.loads(job.recipe("deaf").read_text())
    del recipe["model"]["encoders"]["audio"]
    path = job.folder / "deaf.yaml"
    path.write_text(json.dumps(recipe))
    assert "audio" in veomni("train", path, code=1)
