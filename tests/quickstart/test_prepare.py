# SPDX-License-Identifier: Apache-2.0
"""The quickstart's own PNG reader, its splits, its judge's arithmetic and its limits, on tiny made-up inputs."""
import base64
import gzip
import json
import pathlib
import random
import struct
import sys
import wave
import zlib

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples/quickstart"))
import debs  # noqa: E402
import judge  # noqa: E402
import pictures  # noqa: E402
import png  # noqa: E402
import prepare  # noqa: E402
import probe  # noqa: E402
import sounds  # noqa: E402
import summary  # noqa: E402
import wordnet  # noqa: E402


def filtered_png(rows, step, colour, kinds):
    """A PNG of rows of bytes, row i filtered by kinds[i] as the standard's table says."""
    out = b""
    for y, (row, kind) in enumerate(zip(rows, kinds)):
        above = rows[y - 1] if y else bytes(len(row))
        out += bytes([kind])
        for x, value in enumerate(row):
            a, b, c = (row[x - step] if x >= step else 0), above[x], (above[x - step] if x >= step else 0)
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            out += bytes([(value - [0, a, b, (a + b) // 2, nearest][kind]) % 256])
    header = struct.pack(">IIBBBBB", len(rows[0]) // step, len(rows), 8, colour, 0, 0, 0)
    body = zlib.compress(out)
    return (png.SIGNATURE + png.chunk(b"IHDR", header) + png.chunk(b"tEXt", b"a\0b") + png.chunk(b"IDAT", body[:7]) +
            png.chunk(b"IDAT", body[7:]) + png.chunk(b"IEND", b""))


@pytest.mark.parametrize("colour, step", [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_every_filter_of_a_png_is_undone(colour, step):
    rng = random.Random(colour)
    rows = [bytes(rng.randrange(256) for _ in range(5 * step)) for _ in range(20)]
    kinds = [0, 1, 2, 3, 4] + [4, 3, 2, 1] + [rng.randrange(5) for _ in range(11)]
    assert png.read(filtered_png(rows, step, colour, kinds)) == (5, 20, step, b"".join(rows))
    first = [rng.randrange(5)] + [0] * 19   # the first row has none above it
    assert png.read(filtered_png(rows, step, colour, first)) == (5, 20, step, b"".join(rows))


def test_what_is_written_is_read():
    pixels = bytes(range(256)) * 3
    data = png.write_grey(pixels, 24, 32)
    assert png.read(data) == (24, 32, 1, pixels)
    with pytest.raises(ValueError, match="768 bytes"):
        png.write_grey(pixels, 28, 28)


def test_a_broken_png_is_refused():
    good = png.write_grey(bytes(16), 4, 4)
    flipped = bytearray(good)
    flipped[-20] ^= 1
    wide = good.replace(struct.pack(">II", 4, 4), struct.pack(">II", 5, 4))
    for bad, why in ((b"", "signature"), (b"GIF89a..", "signature"), (good[:-3], "ends inside"), (good[:-12], "IEND"),
                     (bytes(flipped), "CRC"), (wide, "CRC")):
        with pytest.raises(png.Unreadable, match=why):
            png.read(bad)
    header = png.chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 8, 0, 0, 0, 0))
    body = png.chunk(b"IDAT", zlib.compress(b"\0" * 20))
    with pytest.raises(png.Unreadable, match="20 bytes of pixels, not 24"):
        png.read(png.SIGNATURE + header + body + png.chunk(b"IEND", b""))
    with pytest.raises(png.Unreadable, match="16 bits"):
        deep = png.chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 0, 0, 0, 0))
        png.read(png.SIGNATURE + deep + body + png.chunk(b"IEND", b""))


def write_idx(path, sizes, data):
    path.write_bytes(gzip.compress(struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes) + data))


def test_pictures_keep_their_pixels_labels_and_forms(tmp_path):
    pixels = random.Random(1).randbytes(12 * 784)
    labels = [3, 0, 3, 1, 2, 3, 0, 4, 5, 6, 7, 9]
    for name in ("train", "t10k"):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", (12, 28, 28), pixels)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", (12,), bytes(labels))
    records = pictures.read_set(tmp_path, "train")
    assert [label for label, _ in records] == labels and b"".join(p for _, p in records) == pixels
    path = tmp_path / "image.jsonl"
    path.write_text("".join(pictures.label_line(label, pictures.data_uri(p)) for label, p in records))
    assert pictures.read_labelled(path) == (pixels, labels)

    uri = pictures.data_uri(records[0][1])
    assert json.loads(pictures.media_line(uri)) == {"image": uri}
    assert json.loads(pictures.draw_line(7, uri)) == {"messages": [
        {"role": "user", "content": "Draw a sneaker"},
        {"role": "assistant", "content": [{"type": "image", "image": uri}]}]}
    assert json.loads(pictures.label_line(0, uri)) == {"messages": [
        {"role": "user", "content": [{"type": "image", "image": uri}]}, {"role": "assistant", "content": "t-shirt"}]}


def test_a_balanced_choice_takes_the_first_of_each_label():
    assert pictures.balanced([1, 1, 0, 1, 0, 0, 2], 2) == [0, 1, 2, 4, 6]


def test_prompts_lead_back_to_their_labels():
    assert [pictures.LABEL_OF_PROMPT[pictures.prompt(label)] for label in pictures.LABELS] == list(range(10))
    assert not any(label[0] in "aeiou" for label in pictures.LABELS)   # the article


def test_stems_that_share_a_text_in_any_language_are_one_group():
    english = {"a": "Thank you.", "b": "thank  you", "c": "Goodbye", "d": "Hello", "e": "", "f": ""}
    french = {"c": "au revoir", "d": "Au revoir !", "a": "merci", "x": "merci"}
    found = sounds.groups(["f", "e", "d", "c", "b", "a"], [english, french])
    assert found == [("a", "b"), ("c", "d"), ("e",), ("f",)]


def test_groups_chain_over_languages():
    english = {"a": "one", "b": "one", "c": "two", "d": "two", "e": "three"}
    french = {"b": "un", "c": "un", "e": "trois"}
    assert sounds.groups(list("abcde"), [english, french]) == [("a", "b", "c", "d"), ("e",)]


def test_a_split_cuts_no_group_and_depends_on_names_alone():
    rng = random.Random(3)
    every = [tuple(f"g{i}/{k}" for k in range(rng.choice([1, 1, 1, 2, 3]))) for i in range(60)]
    train, held = sounds.split(every, held_out=20)
    assert 20 <= len(held) <= 22 and sorted(train + held) == sorted(stem for group in every for stem in group)
    for group in every:
        assert set(group) <= set(train) or set(group) <= set(held)
    shuffled = rng.sample(every, len(every))
    assert sounds.split(shuffled, held_out=20) == (train, held)
    # One prompt more elsewhere moves no other group to the other side, save the last one held out.
    more_train, more_held = sounds.split(every + [("new",)], held_out=20)
    assert len(set(held) - set(more_held)) <= 3


@pytest.mark.parametrize("stem, texts, speech", [
    ("beep", ["[this is a simple beep tone]", ""], False), ("beeperr", ["", "(ahooga)"], False),
    ("join", ["<beep ascending>", "(beep)"], False), ("silence/1", ["", ""], False),
    ("dir-usingkeypad", ["Using your touch tone keypad (or not)", ""], True), ("digits/et", ["", ""], True)])
def test_what_is_speech(stem, texts, speech):
    assert sounds.is_speech(stem, texts) == speech


@pytest.mark.parametrize("seconds, starts", [
    (0.4, [0]), (1, [0]), (1.4, [0]), (1.5, [0, .5]), (3.5, [0, .5, 1, 1.5, 2, 2.5]), (6, [0, 1, 2, 3, 4, 5]),
    (60, [0, 11.5, 23.5, 35, 47, 59])])
def test_windows_of_a_clip(seconds, starts):
    found = sounds.window_starts(int(seconds * sounds.RATE))
    assert [start / sounds.RATE for start in found] == starts
    assert all(start + sounds.WINDOW <= seconds * sounds.RATE or start == 0 for start in found)


def test_short_clips_keep_their_length_and_the_shortest_are_left_out():
    clips = {"fr": {"a": b"\1\2" * 3000, "b": b"\0\0" * 2399}, "en": {"a": b"\3\4" * 20000}}
    found = list(sounds.windows(clips, ["a", "b"], lambda n: [sounds.middle_start(n)]))
    assert [(name, language, len(data)) for name, language, data in found] == [
        ("en_a_750.wav", "en", 16000), ("fr_a_0.wav", "fr", 6000)]


def test_a_wav_file_is_read_back(tmp_path):
    samples = random.Random(2).randbytes(5000)
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/x.wav").write_bytes(sounds.wav(samples))
    with wave.open(str(tmp_path / "wav/x.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 2500)
    (tmp_path / "a.jsonl").write_text(sounds.line("wav/x.wav", "fr"))
    assert sounds.read_labelled(tmp_path / "a.jsonl") == [(samples, "French, June")]


def test_transcripts_are_read(tmp_path):
    text = "; a comment: not a stem\n\ndigits/1: One: first\nvm-é: Où ?\n"
    (tmp_path / "t.gz").write_bytes(gzip.compress(text.encode()))
    assert sounds.read_transcripts(tmp_path / "t.gz") == {"digits/1": "One: first", "vm-é": "Où ?"}


def test_no_gloss_is_on_both_sides():
    entries = [(f"data.noun:{i}", "n", f"word{i}", f"gloss number {i % 3000}!" if i % 2 else f"Gloss, number {i % 3000}")
               for i in range(6000)]
    train, held = wordnet.split(entries)
    assert len(held) == wordnet.HELD_OUT
    sides = [{wordnet.normalised(e[3]) for e in side} for side in (train, held)]
    assert not sides[0] & sides[1] and len(sides[1]) == len(held) and len(train) == 2000


@pytest.mark.parametrize("part, word, asked", [
    ("n", "potato", "What is a potato?"), ("n", "hour", "What is an hour?"), ("n", "unit", "What is a unit?"),
    ("n", "uninvited guest", "What is an uninvited guest?"), ("n", "Paris", "What is Paris?"),
    ("n", "physics", "What is physics?"), ("v", "whisper", "What does it mean to whisper?"),
    ("s", "cheerful", 'What does "cheerful" mean?')])
def test_questions(part, word, asked):
    assert wordnet.question(part, word) == asked


def test_content_is_pinned_whatever_the_compression(tmp_path):
    for name, level in (("one", 1), ("two", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.gz").write_bytes(gzip.compress(b"data" * 100, level))
        (tmp_path / name / "a").write_bytes(b"x")
        (tmp_path / name / "readme").write_text(name)   # not used, hence not pinned
    one, two = (debs.content_sha256(tmp_path / name, ("a", "*.gz")) for name in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "a").write_bytes(b"y")
    assert debs.content_sha256(tmp_path / "two", ("a", "*.gz")) != one


def make_data(folder):
    """What prepare.write_all would leave, in small."""
    (folder / "wav").mkdir()
    (folder / "wav/x.wav").write_bytes(b"x")
    (folder / "a.jsonl").write_text("{}\n")
    return ["one line"]


def test_a_second_preparation_does_nothing_and_damage_is_noticed(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(debs, "download", lambda *_: None)
    monkeypatch.setattr(prepare, "write_all", lambda folder, *_: calls.append(1) or make_data(folder))
    stamp = prepare.prepare(tmp_path)
    assert stamp["files"] == {"a.jsonl": 3, "wav/x.wav": 1} and stamp["about"] == ["one line"]
    assert prepare.prepare(tmp_path) == stamp and len(calls) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "prepared.json", "wav"]

    (tmp_path / "wav/x.wav").unlink()
    (tmp_path / "wav/old.wav").write_bytes(b"of another version")
    prepare.prepare(tmp_path)
    assert len(calls) == 2 and [p.name for p in (tmp_path / "wav").iterdir()] == ["x.wav"]
    (tmp_path / "prepared.json").write_text("{")
    prepare.prepare(tmp_path)
    monkeypatch.setattr(prepare, "fingerprint", lambda: "other scripts")
    prepare.prepare(tmp_path)
    assert len(calls) == 4


def test_a_preparation_cut_short_leaves_no_stamp(tmp_path, monkeypatch):
    monkeypatch.setattr(debs, "download", lambda *_: None)
    monkeypatch.setattr(prepare, "write_all", lambda folder, *_: make_data(folder))
    prepare.prepare(tmp_path)
    (tmp_path / "a.jsonl").unlink()

    def fail(*_):
        raise OSError("disk full")
    monkeypatch.setattr(prepare.os, "replace", fail)
    with pytest.raises(OSError):
        prepare.prepare(tmp_path)
    assert not (tmp_path / "prepared.json").exists() and prepare.finished(tmp_path) is None


class SeesTheLabelInTheFirstPixel(torch.nn.Module):
    """A judge of pictures whose first pixel is their label / 10."""

    def forward(self, x):
        return torch.nn.functional.one_hot((x[:, 0, 0, 0] * 10).round().long().clamp(0, 9), 10).float()


def drawn(folder, items):
    """Writes a folder of pictures; items: (label asked for, grey value of the first pixel or None for no file, others)."""
    folder.mkdir(parents=True)
    with open(folder / "index.jsonl", "w") as index:
        for i, (label, first, rest) in enumerate(items):
            if first is not None:
                rows = [[first] * 3 + [rest] * 81] + [[rest] * 84] * 27
                (folder / f"{i:05}.png").write_bytes(filtered_png([bytes(r) for r in rows], 3, 2, [i % 5] * 28))
            row = {"file": "" if first is None else f"{i:05}.png", "prompt": pictures.prompt(pictures.LABELS[label]),
                   "kind": "generated"}
            index.write(json.dumps(row) + "\n")


def test_missing_and_blank_pictures_are_wrong_and_not_diverse(tmp_path):
    drawn(tmp_path / "draw", [(1, 26, 0), (1, 26, 200), (2, 26, 0), (1, None, 0), (0, 10, 10), (0, 0, 99)])
    pixels, labels, usable = judge.read_folder(tmp_path / "draw")
    assert labels.tolist() == [1, 1, 2, 1, 0, 0] and usable.tolist() == [True, True, True, False, False, True]
    share, spread, unusable = judge.judged(SeesTheLabelInTheFirstPixel(), tmp_path / "draw")
    assert share == pytest.approx(3 / 6) and unusable == 2   # a blank picture of label 0 is not right by chance
    apart = 200 / 255 * (783 / 784) ** 0.5                   # one pair of label 1's three; none of label 0's
    assert spread == pytest.approx((apart / 3 + 0) / 2, rel=1e-5)


def test_a_file_that_is_no_png_counts_as_wrong_and_one_of_another_size_stops(tmp_path):
    drawn(tmp_path / "draw", [(1, 26, 0), (1, 26, 0)])
    (tmp_path / "draw/00001.png").write_bytes(b"not a picture")
    assert judge.judged(SeesTheLabelInTheFirstPixel(), tmp_path / "draw")[0] == 0.5
    (tmp_path / "draw/00001.png").unlink()
    assert judge.judged(SeesTheLabelInTheFirstPixel(), tmp_path / "draw")[0] == 0.5
    (tmp_path / "draw/00001.png").write_bytes(png.write_grey(bytes(16), 4, 4))
    with pytest.raises(SystemExit, match="4 x 4"):
        judge.read_folder(tmp_path / "draw")


def test_the_judges_table_keeps_what_was_there(tmp_path):
    for name, rest in (("reconstruct", (0, 250)), ("draw", (0, 125)), ("draw_guided", (0, 0))):
        drawn(tmp_path / name, [(1, 26, rest[0]), (1, 26, rest[1])])
    added = judge.measures(SeesTheLabelInTheFirstPixel(), 0.9, tmp_path)
    assert added["generation_agreement"] == added["generation_agreement_relative"] == added["guided_agreement"] == 1
    assert added["generation_diversity"] == pytest.approx(0.5) and added["guided_diversity"] == 0
    path = tmp_path / "eval.json"
    path.write_text('{"z": 0.1234567890123456789, "judge_accuracy": 0, "samples": [{"prompt": "é", "answer": "b"}], "a": null}')
    before = json.loads(path.read_text())
    judge.add_to_table(path, added)
    after = json.loads(path.read_text())
    assert list(after)[:4] == ["z", "judge_accuracy", "samples", "a"] and after["judge_accuracy"] == 0.9
    assert {key: after[key] for key in ("z", "samples", "a")} == {key: before[key] for key in ("z", "samples", "a")}
    text = path.read_text()
    judge.add_to_table(path, added)
    assert path.read_text() == text and [p.name for p in tmp_path.glob(".eval*")] == []


def test_the_judge_learns_the_same_network_twice():
    rng = torch.Generator().manual_seed(1)
    x, y = torch.rand(300, 1, 28, 28, generator=rng), torch.randint(10, (300,), generator=rng)
    one, two = (judge.train(x, y).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_linear_probe_is_as_good_as_the_weights_that_made_the_labels_and_finds_nothing_in_noise():
    rng = torch.Generator().manual_seed(2)
    x, weights = torch.randn(4000, 5, generator=rng), torch.randn(5, 3, generator=rng)
    y = torch.multinomial((x @ weights).softmax(1), 1, generator=rng).squeeze(1)
    best = ((x[2000:] @ weights).argmax(1) == y[2000:]).double().mean().item()
    assert 0.5 < best < 0.9
    assert abs(probe.accuracy((x[:2000], y[:2000]), (x[2000:], y[2000:]), 3) - best) < 0.02   # two deviations of a share
    noise = torch.randint(3, (4000,), generator=rng)
    assert probe.accuracy((x[:2000], noise[:2000]), (x[2000:], noise[2000:]), 3) < 0.4
    assert probe.chance([1, 0, 1, 1]) == 0.75


def test_a_spectrum_tells_pitch():
    t = torch.arange(4000) / sounds.RATE
    features = [probe.spectrum((torch.sin(6.28318 * hertz * t) * 9000).short().numpy().tobytes()) for hertz in (500, 1500)]
    assert [int(f[:129].argmax()) for f in features] == [16, 48]   # 31.25 Hz a line


GOOD = {"image_accuracy": 0.86, "audio_accuracy": 0.97, "gloss_bits_per_byte": 2.2, "gloss_unigram_bits_per_byte": 3.1,
        "judge_accuracy": 0.9, "generation_agreement": 0.7, "generation_agreement_of_reconstructions": 0.8,
        "generation_agreement_relative": 0.875, "generation_diversity": 0.9}


def missed(table, tflop=35, seconds=400):
    return [row.label for row in summary.rows(table, tflop, seconds) if not row.holds()]


def test_every_limit_can_be_missed():
    assert missed(GOOD) == []
    for key, bad in (("image_accuracy", 0.8399), ("audio_accuracy", 0.9499), ("gloss_bits_per_byte", 2.3251),
                     ("judge_accuracy", 0.8899), ("generation_agreement", 0.6399), ("generation_diversity", 0.7999),
                     ("generation_agreement_of_reconstructions", 0.7799)):
        assert missed({**GOOD, key: bad}) == [key]
        assert key in missed({**GOOD, key: None})
        assert key in missed({k: v for k, v in GOOD.items() if k != key})
    assert missed(GOOD, tflop=40.01) == ["training TFLOP, both phases"]
    assert missed(GOOD, seconds=601) == ["wall clock, s"]


def test_a_table_is_compared_exactly(tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text('{"x": 0.1, "n": null, "samples": [{"prompt": "p", "answer": "q"}]}')
    b.write_text(a.read_text())
    assert summary.compare(a, b) == []
    for other in ('{"x": 0.10000000000000002, "n": null, "samples": [{"prompt": "p", "answer": "q"}]}',
                  '{"x": 0.1, "samples": [{"prompt": "p", "answer": "q"}]}',
                  '{"x": 0.1, "n": null, "y": 1, "samples": [{"prompt": "p", "answer": "q"}]}',
                  '{"x": 0.1, "n": null, "samples": [{"prompt": "p", "answer": "r"}]}'):
        b.write_text(other)
        assert len(summary.compare(a, b)) == 1 and len(summary.compare(b, a)) == 1


def test_training_work_is_summed_over_both_phases(tmp_path):
    for phase, work in (("vq", [1, 2]), ("omni", [10, 20.5])):
        (tmp_path / phase).mkdir()
        lines = (json.dumps({"step": i, "model_tflop": w}) + "\n" for i, w in enumerate(work))
        (tmp_path / phase / "metrics.jsonl").write_text("".join(lines))
    assert summary.training_tflop(tmp_path) == 33.5


def test_a_picture_in_a_record_is_strict_base64():
    uri = pictures.data_uri(bytes(range(256)) * 3 + bytes(16))
    kind, _, text = uri.partition(",")
    assert kind == "data:image/png;base64"
    assert png.read(base64.b64decode(text, validate=True))[:3] == (28, 28, 1)
