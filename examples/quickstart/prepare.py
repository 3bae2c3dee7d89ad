# SPDX-License-Identifier: Apache-2.0
"""Prepares the quickstart's data: pictures of clothes, two speakers' voices, and a dictionary, as JSONL of messages.

All of it comes in six packages of the distribution, pinned by SHA-256, downloaded into the data directory and never
installed: Fashion-MNIST (MIT licence), Asterisk's prompts in English and French with their transcripts (CC-BY-SA-3.0)
and WordNet 3.0 (Princeton's permissive licence). The data is a function of the packages and these scripts alone.

    vq_train.jsonl                       the 60,000 training pictures alone, for the picture tokenizer
    image_{train,test}.jsonl             picture -> label; Fashion-MNIST's official split, 60,000 and 10,000
    draw_train.jsonl                     label -> picture, the 60,000
    draw_prompts.jsonl                   the ten labels, each with a test picture
    reconstruct_test.jsonl               2,000 test pictures, 200 a label, in the form of draw_train
    audio_{train,test}.jsonl, wav/       a second of speech -> language and speaker; nobody says on one side what
                                         anybody says on the other
    gloss_{train,test}.jsonl             word -> gloss; 2,000 held-out synsets, no gloss on both sides
    texts_for_tokenizer.jsonl            the training text
    prepared.json                        written last: what is there; a second run that finds it complete ends at once
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

import debs
import pictures
import sounds
import wordnet

PACKAGES = {p.name: p for p in (
    debs.Package("wordnet-base", "1:3.0-37", "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
                 ("wordnet/data.*",), "653e140439eca991b2137df5692a5fe84942ff8708343575b7f12624ba328ed1", "WordNet 3.0"),
    debs.Package("dataset-fashion-mnist", "0.0~git20200523.55506a9-1",
                 "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                 ("datasets/fashion-mnist/*-ubyte.gz",),
                 "20265ab350043b9c3879509a3d368bc350d8032bf9b471e541439b6c9e068d75", "MIT"),
    debs.Package("asterisk-core-sounds-en-wav", "1.6.1-1",
                 "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
                 ("asterisk/sounds/en_US_f_Allison/**/*.wav",),
                 "2db32cf68ebeb99b36f72edda35a577cc458ff2b70bcde70490bd351f6ab4f7e", "CC-BY-SA-3.0"),
    debs.Package("asterisk-core-sounds-fr-wav", "1.6.1-1",
                 "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
                 ("asterisk/sounds/fr_CA_f_June/**/*.wav",),
                 "266144e81d764da08489b412176af71324a391fdb4d8391034e73f7eac35cd2e", "CC-BY-SA-3.0"),
    debs.Package("asterisk-core-sounds-en", "1.6.1-1",
                 "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
                 ("doc/asterisk-core-sounds-en/core-sounds-en.txt.gz",),
                 "764a8485cc93737d6d718e47a036327d4b1c48fb6db377c01138a9c4b895d969", "CC-BY-SA-3.0"),
    debs.Package("asterisk-core-sounds-fr", "1.6.1-1",
                 "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
                 ("doc/asterisk-core-sounds-fr/core-sounds-fr.txt.gz",),
                 "9ed250985634cb4f677cd6e4b0e6f0e6e94ac076361d8a0180347e015ead790a", "CC-BY-SA-3.0"),
)}
RECONSTRUCTED_EACH = 200
# A label or prompt occurs as often as a common word, so that the tokenizer makes it one or two tokens.
PHRASE_REPEATS = 1000
STAMP = "prepared.json"


def fingerprint():
    """Of everything that decides what is written."""
    sources = sorted(pathlib.Path(__file__).parent / f"{name}.py"
                     for name in ("debs", "pictures", "png", "prepare", "sounds", "wordnet"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def write_pictures(folder, source):
    train = [(label, pictures.data_uri(pixels)) for label, pixels in pictures.read_set(source, "train")]
    test = [(label, pictures.data_uri(pixels)) for label, pixels in pictures.read_set(source, "t10k")]
    labels = [label for label, _ in test]
    first = {label: index for index, label in reversed(list(enumerate(labels)))}
    prompts = [test[first[label]] for label in range(len(pictures.LABELS))]
    reconstruct = [test[i] for i in pictures.balanced(labels, RECONSTRUCTED_EACH)]
    for name, line, records in (("image_train", pictures.label_line, train), ("image_test", pictures.label_line, test),
                                ("draw_train", pictures.draw_line, train), ("draw_prompts", pictures.draw_line, prompts),
                                ("reconstruct_test", pictures.draw_line, reconstruct)):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as out:
            out.writelines(line(label, uri) for label, uri in records)
    with open(folder / "vq_train.jsonl", "w", encoding="utf-8") as out:
        out.writelines(pictures.media_line(uri) for _, uri in train)
    return f"pictures: {len(train)} to train on, {len(test)} official test pictures, {len(reconstruct)} to reconstruct"


def write_sounds(folder, share):
    clips = {language: sounds.read_clips(share[f"asterisk-core-sounds-{language}-wav"] / "asterisk/sounds" / name)
             for language, name in sounds.FOLDERS.items()}
    transcripts = [sounds.read_transcripts(share[name] / f"doc/{name}/core-sounds-{language}.txt.gz")
                   for language in sounds.FOLDERS for name in [f"asterisk-core-sounds-{language}"]]
    stems = [stem for stem in sorted(set().union(*clips.values()))
             if sounds.is_speech(stem, [texts.get(stem, "") for texts in transcripts])]
    train, held = sounds.split(sounds.groups(stems, transcripts))
    (folder / "wav").mkdir()
    counts = {}
    for name, part, starts in (("audio_train", train, sounds.window_starts),
                               ("audio_test", held, lambda samples: [sounds.middle_start(samples)])):
        records = list(sounds.windows(clips, part, starts))
        for file, _, samples in records:
            with open(folder / "wav" / file, "xb") as out:   # no two windows may share a name
                out.write(sounds.wav(samples))
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as out:
            out.writelines(sounds.line(f"wav/{file}", language) for file, language, _ in records)
        counts[name] = len(records)
    return (f"sounds: {counts['audio_train']} windows of {len(train)} prompts to train on, {counts['audio_test']} of "
            f"{len(held)} held-out prompts; language and speaker are one answer")


def write_glosses(folder, source):
    train, held = wordnet.split(list(wordnet.synsets(source)))
    for name, entries in (("gloss_train", train), ("gloss_test", held)):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as out:
            out.writelines(json.dumps(wordnet.record(*e[1:]), ensure_ascii=False) + "\n" for e in entries)
    phrases = [*(pictures.prompt(label) for label in pictures.LABELS), *pictures.LABELS, *sounds.ANSWERS.values()]
    texts = [f"{wordnet.question(part, word)}\n{gloss}" for _, part, word, gloss in train] + phrases * PHRASE_REPEATS
    with open(folder / "texts_for_tokenizer.jsonl", "w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": text + "\n"}, ensure_ascii=False) + "\n" for text in texts)
    size = sum(len(gloss.encode()) for *_, gloss in train) / 1e6
    return f"glosses: {len(train)} synsets to train on ({size:.1f} MB), {len(held)} held out"


def write_all(folder, packages, unpacked):
    """Writes every file into `folder`; returns what to tell of them."""
    share = {name: debs.unpack(packages, package, unpacked / name) for name, package in PACKAGES.items()}
    return [write_pictures(folder, share["dataset-fashion-mnist"] / "datasets/fashion-mnist"),
            write_sounds(folder, share), write_glosses(folder, share["wordnet-base"] / "wordnet")]


def sizes(folder):
    """{path: bytes} of all files below."""
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def finished(data):
    """The stamp of an earlier run of the same scripts, if all that it lists is there; else None."""
    try:
        stamp = json.loads((data / STAMP).read_text())
        whole = all((data / name).stat().st_size == size for name, size in stamp["files"].items())
        return stamp if whole and stamp["fingerprint"] == fingerprint() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def move_in(made, data):
    """Puts what was made in the place of what was there, the stamp last: a run that is cut short leaves none."""
    stamp = data / STAMP
    stamp.unlink(missing_ok=True)
    for entry in sorted(made.iterdir()):
        if entry.name == STAMP:
            continue
        target = data / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)
    os.replace(made / STAMP, stamp)


def prepare(data):
    """Returns the stamp of complete data in `data`, made where it was not."""
    stamp = finished(data)
    if stamp:
        return stamp
    packages = data / "packages"
    debs.download(packages, PACKAGES.values())
    for old in data.glob(".preparing-*"):   # of a run that was killed
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=data, prefix=".preparing-") as work:
        made, unpacked = pathlib.Path(work, "made"), pathlib.Path(work, "unpacked")
        made.mkdir()
        unpacked.mkdir()
        about = write_all(made, packages, unpacked)
        stamp = {"fingerprint": fingerprint(), "about": about, "files": sizes(made)}
        (made / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
        move_in(made, data)
    return stamp


def main():
    parser = argparse.ArgumentParser(description="Prepare the quickstart's data.")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/quickstart"))
    data = parser.parse_args().data
    begin = time.monotonic()
    try:
        stamp = prepare(data)
    except debs.Failed as error:
        sys.exit(f"prepare.py: {error}")
    except OSError as error:
        sys.exit(f"prepare.py: {error.filename}: {error.strerror}")
    for text in stamp["about"]:
        print(text)
    print(f"in {data}/, {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main()
