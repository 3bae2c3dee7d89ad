# SPDX-License-Identifier: Apache-2.0
"""Sound as libsndfile reads it; what is refused, and why."""
import os
import pathlib
import struct
import subprocess
import wave

import numpy
import pytest
import soundfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build" / "release")) / "bin" / "media_dump"
CODED = {"flac": dict(format="FLAC"), "mp3": dict(format="MP3"), "vorbis": dict(format="OGG", subtype="VORBIS"),
         "opus": dict(format="OGG", subtype="OPUS")}


def decode(path, rate):
    result = subprocess.run([PROGRAM, path, "--rate", str(rate)], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    facts, _, samples = result.stdout.partition(b"\n")
    assert facts.split() == [str(rate).encode(), str(len(samples) // 4).encode()]
    return numpy.frombuffer(samples, "f4")


def refusal(path):
    result = subprocess.run([PROGRAM, path, "--rate", "16000"], capture_output=True, text=True, errors="replace")
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert result.stderr.startswith(f"{path}: "), result.stderr
    return result.stderr


def sound(rate, samples, channels=1):
    """Two tones and noise, other ones in each channel."""
    rng = numpy.random.default_rng(samples)
    time = numpy.arange(samples) / rate
    tones = [0.4 * numpy.sin(2 * numpy.pi * (330 + 220 * c) * time) + 0.2 * numpy.sin(2 * numpy.pi * 1200 * time)
             for c in range(channels)]
    return numpy.stack(tones, 1) + rng.normal(0, 0.02, (samples, channels))


def libsndfile(path):
    return soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_wav(tmp_path, subtype, channels):
    soundfile.write(tmp_path / "a.wav", sound(16000, 1234, channels), 16000, subtype=subtype)
    got = decode(tmp_path / "a.wav", 16000)
    assert got.shape == (1234,)
    # One channel to the bit; a mean of several is rounded once more.
    assert abs(got - libsndfile(tmp_path / "a.wav")).max() <= (0 if channels == 1 else 1e-7)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_flac(tmp_path, subtype):
    soundfile.write(tmp_path / "a.flac", sound(44100, 5000, 2), 44100, subtype=subtype)
    assert abs(decode(tmp_path / "a.flac", 44100) - libsndfile(tmp_path / "a.flac")).max() <= 1e-7


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("kind", ["mp3", "vorbis"])
@pytest.mark.parametrize("samples", [500, 30001])
def test_lossy(tmp_path, kind, rate, samples):
    soundfile.write(tmp_path / "a", sound(rate, samples, 2), rate, **CODED[kind])
    want = libsndfile(tmp_path / "a")
    got = decode(tmp_path / "a", rate)
    assert got.shape == want.shape
    # Both decoders compute in single precision.
    assert abs(got - want).max() <= 2e-6


def test_opus(tmp_path):
    soundfile.write(tmp_path / "a", sound(48000, 48000, 2), 48000, **CODED["opus"])
    want, got = libsndfile(tmp_path / "a"), decode(tmp_path / "a", 48000)
    assert got.shape == want.shape
    # The format leaves a decoder some freedom, and FFmpeg's is not libopus.
    assert abs(got - want).max() <= 5e-3 * abs(want).max()
    assert numpy.sqrt(((got - want) ** 2).mean() / (want ** 2).mean()) <= 1e-3


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampled_tones_are_the_same_tones(tmp_path, rate):
    seconds, tones = 0.5, [100, 1000, 0.8 * min(rate, 16000) / 2]

    def chord(at):
        return sum(0.3 * numpy.sin(2 * numpy.pi * hz * numpy.arange(-(-int(seconds * rate) * at // rate)) / at) for hz in tones)

    soundfile.write(tmp_path / "a.wav", chord(rate), rate, subtype="FLOAT")
    got, want = decode(tmp_path / "a.wav", 16000), chord(16000)
    assert got.shape == want.shape
    inside = slice(300, -300)       # at its ends the chord begins and stops at once
    assert abs(got - want)[inside].max() <= 1e-5


def test_nothing_folds_back(tmp_path):
    samples = 0.5 * numpy.sin(2 * numpy.pi * 9000 * numpy.arange(24000) / 48000)
    soundfile.write(tmp_path / "a.wav", samples, 48000, subtype="FLOAT")
    assert abs(decode(tmp_path / "a.wav", 16000)[300:-300]).max() <= 1e-5


def test_wav_comes_back_to_the_bit(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(16000, 1000), 16000, subtype="PCM_16")
    written = subprocess.run([PROGRAM, tmp_path / "a.wav", "--wav", "16000"], capture_output=True, check=True).stdout
    (tmp_path / "b.wav").write_bytes(written)
    with wave.open(str(tmp_path / "b.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 16000, 1000)
    assert numpy.array_equal(libsndfile(tmp_path / "b.wav"), libsndfile(tmp_path / "a.wav"))


def test_mp3_with_tags_and_junk(tmp_path):
    soundfile.write(tmp_path / "a.mp3", sound(16000, 8000), 16000, **CODED["mp3"])
    want, plain = libsndfile(tmp_path / "a.mp3"), (tmp_path / "a.mp3").read_bytes()
    tag = b"ID3\4\0\0" + bytes([0, 0, 7, 104]) + bytes(7 * 128 + 104)
    for file in (tag + plain, plain + b"TAG" + bytes(125), plain + bytes(900)):
        (tmp_path / "b.mp3").write_bytes(file)
        got = decode(tmp_path / "b.mp3", 16000)
        assert got.shape == want.shape and abs(got - want).max() <= 2e-6


@pytest.mark.parametrize("kind", ["wav", *CODED])
def test_a_file_cut_short(tmp_path, kind):
    soundfile.write(tmp_path / "a", sound(16000, 6000), 16000, **CODED.get(kind, dict(format="WAV")))
    file = (tmp_path / "a").read_bytes()
    assert len(decode(tmp_path / "a", 16000)) == 6000
    for length in (len(file) - 1, len(file) - 40, len(file) * 2 // 3, len(file) // 2, 100, 20):
        (tmp_path / "cut").write_bytes(file[:length])
        assert refusal(tmp_path / "cut")


def test_a_wav_cut_short_names_both_numbers(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(16000, 1000), 16000, subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1201])
    assert "2000 bytes of samples, 799 are there" in refusal(tmp_path / "a.wav")


def test_no_samples(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    assert "0 samples" in refusal(tmp_path / "a.wav")


@pytest.mark.parametrize("name, content, said", [
    ("a.wav", b"\x89PNG\r\n\x1a\n" + bytes(40), "a PNG"), ("a.mp3", b"RIFF\0\0\0\0AVI " + bytes(40), "an AVI"),
    ("a.flac", b"\0\0\0\x20ftypM4A " + bytes(40), "an M4A"), ("a.ogg", b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ("a.wav", b"not a sound", "unknown kind"), ("a.wav", b"", "empty")])
def test_a_file_that_is_not_what_it_claims(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


def test_other_codecs_are_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(16000, 1000), 16000, subtype="IMA_ADPCM")
    assert "adpcm_ima_wav" in refusal(tmp_path / "a.wav")


def test_not_a_number_is_refused(tmp_path):
    samples = sound(16000, 100)
    samples[37] = numpy.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert "sample 37 is nan" in refusal(tmp_path / "a.wav")


def test_a_few_bytes_of_years_of_silence(tmp_path):
    """A FLAC header that promises 2^36 - 1 samples costs no memory."""
    soundfile.write(tmp_path / "a.flac", numpy.zeros(4096), 16000)
    file = bytearray((tmp_path / "a.flac").read_bytes())
    low, = struct.unpack_from(">I", file, 22)
    assert low == 4096
    file[21] |= 0x0f
    struct.pack_into(">I", file, 22, 0xffffffff)
    (tmp_path / "a.flac").write_bytes(file)
    assert "68719476735 samples, 4096 are there" in refusal(tmp_path / "a.flac")
