# SPDX-License-Identifier: Apache-2.0
"""What encoders read of pictures and sound: `veomni data features` against transformers' processors."""
import json
import os
import pathlib
import subprocess

import numpy
import pytest
import soundfile
import torch
from picture_processor import qwen2_vl_pictures
from PIL import Image
from safetensors.numpy import load_file
from transformers import WhisperFeatureExtractor

ROOT = pathlib.Path(__file__).resolve().parents[2]
VEOMNI = os.environ.get("VEOMNI_BIN", str(ROOT / "build/release/bin/veomni"))

VISION = {"architectures": ["Qwen2VisionTransformerPretrainedModel"], "model_type": "qwen2_vl_vision", "depth": 1, "embed_dim": 32,
          "num_heads": 2, "hidden_size": 24, "mlp_ratio": 2, "patch_size": 14, "spatial_merge_size": 2,
          "temporal_patch_size": 2}
AUDIO = {"architectures": ["Qwen2_5OmniAudioEncoder"], "model_type": "qwen2_5_omni_audio", "num_mel_bins": 128, "encoder_layers": 1,
         "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 32, "n_window": 100, "output_dim": 24}


def run(*arguments):
    return subprocess.run([VEOMNI, "data", "features", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, OMP_NUM_THREADS="1"))


def features(tmp_path, *arguments):
    done = run(tmp_path / "model", *arguments[:1], tmp_path / "out.safetensors", *arguments[1:])
    assert done.returncode == 0, done.stderr
    out = load_file(tmp_path / "out.safetensors")
    assert out.keys() == {"features", "grid", "tokens", "token_grid"}
    assert out["tokens"].tolist() == [int(out["token_grid"].prod())]
    return out


def write_model(tmp_path, config, preprocessor=None, name="preprocessor_config.json"):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    if preprocessor is not None:
        (tmp_path / "model" / name).write_text(json.dumps(preprocessor))


# Pictures.

def scene(height, width, seed=0):
    """Waves, a red square and noise."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[:height, :width]
    pixels = numpy.stack([127 + 120 * numpy.sin(x / 9), 127 + 120 * numpy.cos(y / 7), 127 + 120 * numpy.sin((x + y) / 13)], -1)
    pixels[height // 4:height // 2, width // 4:width // 2] = [255, 0, 0]
    return Image.fromarray((pixels + rng.normal(0, 20, pixels.shape)).clip(0, 255).astype(numpy.uint8))


def levels(ours, theirs, std):
    """The largest difference in levels of 255, before normalisation."""
    differences = abs(ours.astype(float) - theirs).reshape(len(ours), 3, -1).max((0, 2))
    return (differences * std).max() * 255


def check_picture(tmp_path, path, processor, most=1e-3):
    out = features(tmp_path, path)
    with Image.open(path) as image:
        want = processor(images=[image], return_tensors="np")
    assert out["grid"].tolist() == want["image_grid_thw"][0].tolist()
    merge = processor.merge_size
    t, h, w = out["grid"].tolist()
    assert out["token_grid"].tolist() == [t, h // merge, w // merge]
    assert out["features"].shape == want["pixel_values"].shape
    assert levels(out["features"], want["pixel_values"], numpy.array(processor.image_std)) <= most
    return out


SIZES = [(28, 28), (56, 56), (57, 83), (100, 1000), (10, 10), (1, 150), (333, 500), (640, 480), (900, 1300), (20, 3000), (29, 41),
         (42, 70), (98, 126), (1300, 700)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_pngs_of_many_sizes(tmp_path, size):
    write_model(tmp_path, VISION)
    scene(*size).save(tmp_path / "a.png")
    check_picture(tmp_path, tmp_path / "a.png", qwen2_vl_pictures())


@pytest.mark.parametrize("kind, options, most", [("gif", {}, 1e-3), ("webp", dict(lossless=True), 1e-3), ("webp", dict(quality=80), 1e-3),
                                                 ("jpg", dict(quality=90), 1e-3)], ids=["gif", "webp-lossless", "webp", "jpg"])
def test_other_formats(tmp_path, kind, options, most):
    write_model(tmp_path, VISION)
    scene(112, 168).save(tmp_path / f"a.{kind}", **options)
    check_picture(tmp_path, tmp_path / f"a.{kind}", qwen2_vl_pictures(), most)


@pytest.mark.parametrize("size", [(333, 500), (640, 480), (100, 1000)], ids=lambda size: "x".join(map(str, size)))
def test_resizing_as_torchvision_does(tmp_path, size):
    """transformers' other image processor resizes by torch's kernel, whose weights have 15 bits."""
    write_model(tmp_path, VISION)
    image = scene(*size)
    image.save(tmp_path / "a.png")
    out = features(tmp_path, tmp_path / "a.png")
    _, h, w = out["grid"].tolist()
    pixels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, (14 * h, 14 * w), mode="bicubic", antialias=True)
    processor = qwen2_vl_pictures(do_resize=False)
    want = processor(images=[Image.fromarray(resized[0].permute(1, 2, 0).numpy())], return_tensors="np")["pixel_values"]
    std = numpy.array(processor.image_std)
    assert levels(out["features"], want, std) <= 2.01
    off = abs(out["features"] - want) > 1e-3
    assert off.mean() <= 0.01


@pytest.mark.parametrize("settings", [
    dict(min_pixels=100 * 28 * 28, max_pixels=200 * 28 * 28), dict(size={"shortest_edge": 28 * 28, "longest_edge": 9 * 28 * 28}),
    dict(size={"shortest_edge": 28 * 28, "longest_edge": 90 * 28 * 28}, max_pixels=5 * 28 * 28),
    dict(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.5, 1.0])], ids=["pixels", "size", "both", "mean-std"])
@pytest.mark.parametrize("saved_as", ["preprocessor_config.json", "processor_config.json"])
def test_settings_of_the_directory(tmp_path, settings, saved_as):
    processor = qwen2_vl_pictures(**json.loads(json.dumps(settings)))
    whole = saved_as == "processor_config.json"
    saved = json.loads(processor.to_json_string())
    write_model(tmp_path, VISION, {"image_processor": saved} if whole else settings, saved_as)
    scene(200, 300).save(tmp_path / "a.png")
    check_picture(tmp_path, tmp_path / "a.png", processor)


def test_sizes_of_the_model(tmp_path):
    write_model(tmp_path, {**VISION, "patch_size": 4, "spatial_merge_size": 3, "temporal_patch_size": 1},
                {"min_pixels": 144, "max_pixels": 144 * 40})
    scene(50, 70).save(tmp_path / "a.png")
    processor = qwen2_vl_pictures(patch_size=4, merge_size=3, temporal_patch_size=1, min_pixels=144, max_pixels=144 * 40)
    out = check_picture(tmp_path, tmp_path / "a.png", processor)
    assert out["features"].shape[1] == 3 * 4 * 4


@pytest.mark.parametrize("setting", [dict(patch_size=16), dict(merge_size=3), dict(temporal_patch_size=1), dict(resample=2),
                                     dict(do_normalize=False), dict(do_rescale=False), dict(rescale_factor=1.0),
                                     dict(image_std=[1, 1]), dict(min_pixels=5000, max_pixels=4000), dict(size=224)],
                         ids=lambda setting: "-".join(setting))
def test_settings_that_do_not_fit(tmp_path, setting):
    write_model(tmp_path, VISION, setting)
    scene(28, 28).save(tmp_path / "a.png")
    done = run(tmp_path / "model", tmp_path / "a.png", tmp_path / "out")
    assert done.returncode == 2 and next(iter(setting)) in done.stderr and done.stderr.count("\n") == 1, done.stderr


# Sound.

def clip(kind, samples):
    time, rng = numpy.arange(samples) / 16000, numpy.random.default_rng(samples)
    return {"noise": lambda: rng.normal(0, 0.1, samples), "tone": lambda: 0.5 * numpy.sin(2 * numpy.pi * 440 * time),
            "quiet-then-loud": lambda: 1e-3 * numpy.sin(2 * numpy.pi * (200 + 500 * time) * time) + (time > 1) * 0.4 * numpy.sin(9000 * time),
            "silence": lambda: numpy.zeros(samples)}[kind]().clip(-1, 1)


def check_clip(tmp_path, path, samples, extractor):
    out = features(tmp_path, path)
    want = extractor(samples, sampling_rate=16000, return_tensors="np", padding="max_length", return_attention_mask=True)
    valid = want["attention_mask"][0].astype(bool)
    frames = int(valid.sum())
    assert out["grid"].tolist() == [frames, 1, 1]
    assert out["token_grid"].tolist() == [((frames - 1) // 2 + 1 - 2) // 2 + 1, 1, 1]
    theirs = want["input_features"][0].T[valid]
    assert out["features"].shape == theirs.shape
    assert abs(out["features"] - theirs).max() <= 1e-4
    return out


@pytest.mark.parametrize("samples", [640, 1000, 48000, 48077, 16000 * 30 - 1, 16000 * 30, 16000 * 31])
@pytest.mark.parametrize("kind", ["noise", "tone", "quiet-then-loud", "silence"])
def test_clips(tmp_path, kind, samples):
    write_model(tmp_path, AUDIO, {"chunk_length": 30})
    soundfile.write(tmp_path / "a.wav", clip(kind, samples), 16000, subtype="PCM_16")
    heard = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    check_clip(tmp_path, tmp_path / "a.wav", heard, WhisperFeatureExtractor(feature_size=128, chunk_length=30))


def test_the_models_own_settings(tmp_path):
    write_model(tmp_path, AUDIO)
    soundfile.write(tmp_path / "a.flac", clip("noise", 16000 * 35), 16000)
    heard = soundfile.read(tmp_path / "a.flac", dtype="float32")[0]
    check_clip(tmp_path, tmp_path / "a.flac", heard, WhisperFeatureExtractor(feature_size=128, chunk_length=300))


def test_80_bands_and_settings_of_a_whole_processor(tmp_path):
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=4)
    write_model(tmp_path, {**AUDIO, "num_mel_bins": 80}, {"feature_extractor": json.loads(extractor.to_json_string())},
                "processor_config.json")
    soundfile.write(tmp_path / "a.wav", clip("noise", 16000 * 5), 16000, subtype="FLOAT")
    heard = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    assert check_clip(tmp_path, tmp_path / "a.wav", heard, extractor)["grid"].tolist() == [400, 1, 1]


@pytest.mark.parametrize("setting", [dict(feature_size=80), dict(dither=1e-3), dict(padding_value=1.0), dict(chunk_length=0),
                                     dict(sampling_rate=0), dict(n_fft=401)], ids=lambda setting: "-".join(setting))
def test_settings_of_sound_that_do_not_fit(tmp_path, setting):
    write_model(tmp_path, AUDIO, setting)
    soundfile.write(tmp_path / "a.wav", clip("tone", 1600), 16000)
    done = run(tmp_path / "model", tmp_path / "a.wav", tmp_path / "out")
    assert done.returncode == 2 and next(iter(setting)) in done.stderr and done.stderr.count("\n") == 1, done.stderr


# The command itself.

def test_a_whole_model_has_several_parts(tmp_path):
    write_model(tmp_path, {"architectures": ["Qwen2_5OmniThinkerForConditionalGeneration"], "model_type": "qwen2_5_omni_thinker",
                           "audio_config": AUDIO})
    soundfile.write(tmp_path / "a.wav", clip("tone", 1600), 16000)
    assert features(tmp_path, tmp_path / "a.wav", "--modality", "audio")["grid"].tolist() == [10, 1, 1]


@pytest.mark.parametrize("name, content, said", [("a.png", b"\xff\xd8\xff\xe0", "a JPEG cut short"), ("a.png", b"hello", "not a JPEG, PNG"),
                                                 ("a.png", b"", "empty")])
def test_a_file_that_is_no_picture(tmp_path, name, content, said):
    write_model(tmp_path, VISION)
    (tmp_path / name).write_bytes(content)
    done = run(tmp_path / "model", tmp_path / name, tmp_path / "out")
    assert done.returncode == 1 and said in done.stderr and name in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_ratio_and_a_clip_too_short(tmp_path):
    write_model(tmp_path, VISION)
    Image.new("RGB", (10000, 1)).save(tmp_path / "a.png")
    done = run(tmp_path / "model", tmp_path / "a.png", tmp_path / "out")
    assert done.returncode == 1 and "200" in done.stderr, done.stderr
    (tmp_path / "model/config.json").write_text(json.dumps(AUDIO))
    soundfile.write(tmp_path / "a.wav", clip("tone", 100), 16000)
    done = run(tmp_path / "model", tmp_path / "a.wav", tmp_path / "out")
    assert done.returncode == 1 and "100 samples" in done.stderr, done.stderr


def test_mistakes(tmp_path):
    write_model(tmp_path, VISION)
    for arguments, said in [((tmp_path / "none", "a.png", "out"), "none"), ((tmp_path / "model", tmp_path / "none.png", "out"), "none.png"),
                            ((tmp_path / "model", "a.png", "out", "--modality", "audio"), "image encoder")]:
        done = run(*arguments)
        assert done.returncode == 2 and said in done.stderr, done.stderr
