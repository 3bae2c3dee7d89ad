# SPDX-License-Identifier: Apache-2.0
"""Pictures as Pillow decodes and resizes them; what is refused, and why."""
import io
import os
import pathlib
import struct
import subprocess
import zlib

import numpy
import pytest
from PIL import Image, ImageOps

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = pathlib.Path(os.environ.get("VEOMNI_BUILD_DIR", ROOT / "build" / "release")) / "bin" / "media_dump"


def dump(*args):
    result = subprocess.run([PROGRAM, *map(str, args)], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def refusal(path, *args):
    result = subprocess.run([PROGRAM, path, *map(str, args)], capture_output=True, text=True, errors="replace")
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert result.stderr.startswith(f"{path}: "), result.stderr
    return result.stderr


def decode(*args):
    """Every picture that the program writes."""
    output, pictures = dump(*args), []
    while output:
        facts, _, output = output.partition(b"\n")
        height, width = map(int, facts.split())
        pictures.append(numpy.frombuffer(output[:height * width * 3], numpy.uint8).reshape(height, width, 3))
        output = output[height * width * 3:]
    return pictures


def pillow(path):
    """As transformers' load_image and convert_to_rgb do."""
    with Image.open(path) as image:
        return numpy.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def scene(height, width, channels=3, seed=0):
    """Waves, an edge and noise."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[:height, :width]
    planes = [127 + 90 * numpy.sin(x / (5 + 3 * c) + y / (11 - c)) + rng.normal(0, 12, (height, width))
              + 60 * (x + y > (height + width) / 2) * (-1) ** c for c in range(channels)]
    return numpy.stack(planes, -1).clip(0, 255).astype(numpy.uint8)


def picture(mode, height=45, width=61, seed=0):
    if mode in ("L", "LA"):
        pixels = scene(height, width, len(mode), seed)
        return Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)
    if mode == "I;16":
        fine = scene(height, width, 2, seed).astype(numpy.uint16)
        return Image.fromarray(fine[..., 0] * 256 + fine[..., 1])
    if mode == "1":
        return picture("L", height, width, seed).convert("1")
    if mode == "P":
        return picture("RGB", height, width, seed).quantize(40)
    return Image.fromarray(scene(height, width, len(mode), seed), mode)


def differences(*files):
    """Of each file, in levels."""
    pictures = decode(*files)
    assert len(pictures) == len(files)
    result = []
    for ours, file in zip(pictures, files):
        theirs = pillow(file)
        assert ours.shape == theirs.shape
        result.append(numpy.abs(ours.astype(int) - theirs))
    return result


SIZES = [(1, 1), (1, 7), (5, 1), (2, 2), (3, 4), (16, 16), (45, 61), (64, 130)]


def save_all(folder, kind, mode, **options):
    """A file of each of SIZES."""
    files = [folder / f"{height}x{width}.{kind}" for height, width in SIZES]
    for file, size in zip(files, SIZES):
        picture(mode, *size).save(file, **options)
    return files


def assert_equal(*files):
    for file, difference in zip(files, differences(*files)):
        assert difference.max() == 0, file


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGB", "RGBA"])
def test_png(tmp_path, mode):
    assert_equal(*save_all(tmp_path, "png", mode))


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("mode, transparency", [("P", 3), ("P", bytes(range(0, 240, 6))), ("RGB", (90, 80, 70)), ("L", 7)],
                         ids=["index", "alphas", "colour", "grey"])
def test_png_transparency(tmp_path, mode, transparency):
    picture(mode).save(tmp_path / "a.png", transparency=transparency)
    assert_equal(tmp_path / "a.png")


def png(width, height, depth, colour, interlaced, data, more=()):
    """Of filtered rows. more: chunks before the data."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *(chunk(*c) for c in more),
                     chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")])


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


# Pillow writes neither interlaced PNGs nor 16 bits a colour. Colour types: 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA.
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("colour, channels, depth", [
    (0, 1, 1), (0, 1, 2), (0, 1, 4), (0, 1, 8), (0, 1, 16), (2, 3, 8), (2, 3, 16), (3, 1, 1), (3, 1, 2), (3, 1, 4),
    (3, 1, 8), (4, 2, 8), (4, 2, 16), (6, 4, 8), (6, 4, 16)])
def test_png_of_every_kind(tmp_path, colour, channels, depth, interlaced):
    rng = numpy.random.default_rng(depth)
    palette = rng.integers(0, 256, 3 * 2 ** min(depth, 8), numpy.uint8).tobytes()
    files = []
    for height, width in SIZES:
        values = rng.integers(0, 2 ** depth, (height, width, channels))
        data = b""
        for y, x, step_y, step_x in ADAM7 if interlaced else [(0, 0, 1, 1)]:
            for row in values[y::step_y, x::step_x]:
                if len(row):
                    bits = "".join(f"{value:0{depth}b}" for value in row.flat)
                    data += b"\0" + int(bits.ljust(-len(bits) // 8 * -8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
        more = [(b"PLTE", palette)] if colour == 3 else []
        files.append(tmp_path / f"{height}x{width}.png")
        files[-1].write_bytes(png(width, height, depth, colour, interlaced, data, more))
    assert_equal(*files)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_gif(tmp_path, mode):
    assert_equal(*save_all(tmp_path, "gif", mode))


@pytest.mark.parametrize("options", [dict(transparency=3), dict(interlace=0), dict(background=5, transparency=9)], ids=str)
def test_gif_options(tmp_path, options):
    picture("P").save(tmp_path / "a.gif", **options)
    assert_equal(tmp_path / "a.gif")


def test_gif_gives_its_first_frame(tmp_path):
    frames = [picture("P", seed=seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    assert_equal(tmp_path / "a.gif")


@pytest.mark.parametrize("lossless", [False, True], ids=["lossy", "lossless"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(tmp_path, mode, lossless):
    assert_equal(*save_all(tmp_path, "webp", mode, lossless=lossless, exact=True))


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg(tmp_path, subsampling, quality):
    assert_equal(*save_all(tmp_path, "jpg", "RGB", subsampling=subsampling, quality=quality))


@pytest.mark.parametrize("options", [dict(progressive=True), dict(optimize=True), dict(restart_marker_blocks=2),
                                     dict(keep_rgb=True)], ids=lambda options: next(iter(options)))
def test_jpeg_options(tmp_path, options):
    assert_equal(*save_all(tmp_path, "jpg", "RGB", **options))


def test_jpeg_of_grey(tmp_path):
    assert_equal(*save_all(tmp_path, "jpg", "L"))


def test_jpeg_of_cmyk(tmp_path):
    picture("RGB").convert("CMYK").save(tmp_path / "a.jpg")
    assert_equal(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_exif_orientation(tmp_path, kind):
    files = [tmp_path / f"{orientation}.{kind}" for orientation in range(1, 9)]
    for orientation, file in enumerate(files, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture("RGB").save(file, exif=exif, **(dict(lossless=True) if kind == "webp" else {}))
    assert_equal(*files)


def check_resize(image, file, sizes):
    image.save(file)
    for ours, to in zip(decode(file, "--resize", *(side for to in sizes for side in to)), sizes, strict=True):
        theirs = numpy.asarray(image.resize(to[::-1], Image.Resampling.BICUBIC))
        assert numpy.array_equal(ours, theirs), to


# Which axis is first depends on how much each shrinks.
@pytest.mark.parametrize("size", [(45, 61), (1, 1), (2, 300), (333, 20), (224, 336), (57, 83)], ids=str)
def test_resize(tmp_path, size):
    rng = numpy.random.default_rng(size[0])
    sizes = [(28, 28), (56, 84), (45, 61), (1, 1), (45, 100), (100, 61), (7, 300), (300, 7), (22, 31), (23, 30)]
    sizes += rng.integers(1, 130, (40, 2)).tolist()
    check_resize(picture("RGB", *size), tmp_path / "a.png", sizes)


def test_resize_of_black_and_white_overshoots_as_pillow_does(tmp_path):
    pixels = numpy.random.default_rng(0).integers(0, 2, (50, 70, 3), numpy.uint8) * 255
    check_resize(Image.fromarray(pixels), tmp_path / "a.png", [(20, 30), (51, 69), (200, 211)])


def test_pillow_reads_our_png(tmp_path):
    image = picture("RGB")
    image.save(tmp_path / "a.png")
    written = dump(tmp_path / "a.png", "--png")
    assert numpy.array_equal(numpy.asarray(Image.open(io.BytesIO(written))), numpy.asarray(image))


SAVED = {"png": dict(), "jpg": dict(), "webp": dict(), "gif": dict(), "lossless.webp": dict(lossless=True),
         "progressive.jpg": dict(progressive=True)}


@pytest.mark.parametrize("kind", SAVED)
def test_picture_cut_short(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    picture("RGB", 40, 50).save(file, **SAVED[kind])
    whole = file.read_bytes()
    # A GIF's last byte, the trailer, comes after its first picture.
    for length in [10, 30, len(whole) // 4, len(whole) // 2, len(whole) - 20, len(whole) - 2]:
        file.write_bytes(whole[:length])
        refusal(file)


BAD_PICTURES = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am no picture", "68 65 6c 6c 6f"),
    "page": (b"<!DOCTYPE html><html></html>", "HTML"),
    "pdf": (b"%PDF-1.7 and so on", "a PDF"),
    "bitmap": (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0" + bytes(60), "a BMP"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt ", "a WAV"),
    "magic only": (b"\x89PNG\r\n\x1a\n", "cut short"),
    "ratio": (png(10000, 1, 8, 0, 0, bytes(10001)), "10000"),
    "pixels": (png(100000, 100000, 8, 2, 0, b""), "100000 x 100000"),
    "no pixels": (png(0, 5, 8, 2, 0, b""), "0 x 5"),
    "too little data": (png(20, 20, 8, 2, 0, bytes(61 * 10)), "PNG"),
    "wrong depth": (png(4, 4, 3, 2, 0, bytes(52)), "PNG"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_picture(tmp_path, name):
    content, word = BAD_PICTURES[name]
    (tmp_path / "a.png").write_bytes(content)
    assert word in refusal(tmp_path / "a.png")


def test_name_does_not_decide(tmp_path):
    picture("RGB").save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert_equal(tmp_path / "a.jpg")
