# SPDX-License-Identifier: Apache-2.0
"""Turns WordNet's glosses into questions and answers: train.jsonl, heldout.jsonl and corpus.txt.

WordNet 3.0 (Princeton's permissive licence) comes from the distribution's package wordnet-base, downloaded and
unpacked into the data directory, never installed. Only Python's standard library is used.

    train.jsonl    {"messages": [{"role": "user", "content": "What is a potato?"}, {"role": "assistant", ...}]}
    heldout.jsonl  the same for 2,000 synsets chosen by a keyed hash; no training gloss equals one of theirs
    corpus.txt     the training text, a role, question or answer a line, for the tokenizer's trainer
"""
import argparse
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

PACKAGE = "wordnet-base"
VERSION = "1:3.0-37"
PACKAGE_SHA256 = "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752"
DATA_SHA256 = {
    "data.adj": "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7",
    "data.adv": "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139",
    "data.noun": "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",
    "data.verb": "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2",
}
HELD_OUT = 2000
HELD_OUT_KEY = b"veomni quickstart 1"


def fail(message):
    sys.exit(f"prepare.py: {message}")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command, cwd):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        fail(f"{command[0]} is not on this machine; WordNet comes as a Debian/Ubuntu package")
    return done.returncode, done.stdout + done.stderr


def data_is_right(folder):
    return all((folder / name).is_file() and sha256(folder / name) == want for name, want in DATA_SHA256.items())


def download(cache):
    """Leaves exactly one wordnet-base_*.deb in `cache`."""
    for old in cache.glob(f"{PACKAGE}_*.deb"):
        old.unlink()
    # The pinned version first; a distribution that carries another one still has WordNet 3.0's data in it. Package
    # lists may be absent on a fresh machine, and refreshing them needs root.
    attempts = [["apt-get", "download", f"{PACKAGE}={VERSION}"], ["apt-get", "download", PACKAGE],
                ["apt-get", "-q", "update"], ["apt-get", "download", PACKAGE]]
    for command in attempts:
        code, text = run(command, cache)
        packages = list(cache.glob(f"{PACKAGE}_*.deb"))
        if code == 0 and packages:
            return packages[0]
    fail(f"`apt-get download {PACKAGE}` failed (Ubuntu has it in universe):\n{text.strip()}")


def fetch(cache):
    """The directory with WordNet's data files, fetched and checked at most once."""
    folder = cache / "wordnet"
    if data_is_right(folder):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    package = download(cache)
    if sha256(package) != PACKAGE_SHA256:
        print(f"note: {package.name} is not the pinned {VERSION}; its data files are checked one by one")
    unpacked = cache / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    code, text = run(["dpkg-deb", "-x", package.name, unpacked.name], cache)
    if code != 0:
        fail(f"dpkg-deb could not unpack {package}: {text.strip()}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, want in DATA_SHA256.items():
        shutil.copyfile(unpacked / "usr/share/wordnet" / name, folder / name)
        if sha256(folder / name) != want:
            fail(f"{package.name}: {name} differs from WordNet 3.0's (SHA-256 {sha256(folder / name)}, expected {want})")
    shutil.rmtree(unpacked)
    return folder


def synsets(folder):
    """(key, part of speech, word, gloss) of every synset, in file order."""
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        for line in (folder / name).read_text(encoding="ascii").splitlines():
            if line.startswith(" "):   # the licence
                continue
            facts, _, gloss = line.partition(" | ")
            fields = facts.split()
            # An adjective may carry its position, as in galore(ip).
            word = re.sub(r"\((a|p|ip)\)$", "", fields[4]).replace("_", " ")
            yield f"{name}:{fields[0]}", fields[2], word, gloss.strip()


# Words in e, o and u that begin with a consonant's sound: a ewe, a one-way street, a unit (but an uninvited guest).
CONSONANT_SOUND = re.compile(
    r"eu|ewe|once\b|one\b|oneness|ouija|ufo|ubi|uk[ru]|uni(?!n|m[^o]|d(?!ir))|ur[aeio]|us[aeu]|ut[eio]|uv[eu]")


def article(word):
    """a or an, by the sound a lower-case word begins with."""
    start = word.lower().lstrip("'\"-. ")
    if re.match(r"[a-z]\b", start):   # a letter's name: an x-ray, a u-boat
        return "an" if start[0] in "aefhilmnorsx" else "a"
    if re.match(r"hour|honest|honou?r|heir|8|11\b|18\b", start):
        return "an"
    return "an" if start[0] in "aeiou" and not CONSONANT_SOUND.match(start) else "a"


def question(part, word):
    if part == "n":
        # Names and plural-looking nouns take no article: What is Paris? What is physics?
        if word[0].isupper() or re.search(r"[a-z]{2}(ics|ness)$", word):
            return f"What is {word}?"
        return f"What is {article(word)} {word}?"
    if part == "v":
        return f"What does it mean to {word}?"
    return f'What does "{word}" mean?'


def record(part, word, gloss):
    return {"messages": [{"role": "user", "content": question(part, word)}, {"role": "assistant", "content": gloss}]}


def normalised(gloss):
    return re.sub(r"[^a-z0-9]+", " ", gloss.lower()).strip()


def split(entries):
    """Held-out synsets are those with the smallest keyed hash, one for each gloss; training has none of their glosses."""
    def draw(entry):
        return hashlib.blake2b(entry[0].encode(), key=HELD_OUT_KEY, digest_size=8).digest()
    held, glosses = [], set()
    for entry in sorted(entries, key=draw):
        text = normalised(entry[3])
        if text not in glosses:
            held.append(entry)
            glosses.add(text)
        if len(held) == HELD_OUT:
            break
    return [e for e in entries if normalised(e[3]) not in glosses], held


def write_jsonl(path, entries):
    lines = (json.dumps(record(*entry[1:]), ensure_ascii=False) for entry in entries)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description="Prepare the quickstart's data.")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/quickstart"))
    data = parser.parse_args().data
    train, held = split(list(synsets(fetch(data))))
    write_jsonl(data / "train.jsonl", train)
    write_jsonl(data / "heldout.jsonl", held)
    # The template's role words are in every sample: the tokenizer should spend one token on each.
    corpus = "".join(f"user\n{question(part, word)}\nassistant\n{gloss}\n" for _, part, word, gloss in train)
    (data / "corpus.txt").write_text(corpus, encoding="utf-8")
    size = sum(len(gloss.encode()) for *_, gloss in train) / 1e6
    print(f"WordNet 3.0: {len(train)} training synsets ({size:.1f} MB of glosses), {len(held)} held out, in {data}/")


if __name__ == "__main__":
    main()
