# SPDX-License-Identifier: Apache-2.0
"""Accept or refuse: our safetensors reader against the reference package, on mutated files.

    .venv/bin/python tests/fuzz/differential_safetensors.py build/release/bin/io_tool [--files 600] [--seed 0]

We must refuse whatever the reference refuses. We may refuse more only for a reason that
veomni/io/safetensors.h states; those are counted. Anything else ends in exit code 1.
"""
import argparse
import collections
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import safetensors

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
         "F8_E4M3": 1, "U16": 2, "C64": 8}
# Words of our messages that stand for a documented difference.
STRICTER = {"twice": "duplicate names", "unknown field": "unknown fields", "does not begin with": "leading space",
            "__metadata__ has null": "null metadata", "unsupported dtype": "dtypes we cannot compute with"}


def valid_header(rng):
    header, end = {}, 0
    for i in range(rng.randrange(5)):
        dtype = rng.choice(list(SIZES)[: 13 if rng.random() < 0.1 else 10])
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        size = SIZES[dtype]
        for dim in shape:
            size *= dim
        header[f"t{i}.{rng.choice(['w', 'b', 'é', ''])}"] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    if rng.random() < 0.4:
        header["__metadata__"] = {"format": "pt"}
    items = list(header.items())
    rng.shuffle(items)
    return dict(items), end


def odd_value(rng):
    return rng.choice([None, -1, 0, 1, 1.0, 2 ** 31, 2 ** 63, 2 ** 64 - 1, 2 ** 64, "F32", "F99", "", [], {}, [0], [0, 4], True,
                       {"a": "b"}, {"a": 1}])


def mutate_header(rng, header):
    """One change to one place of a header."""
    if not header:
        header["x"] = odd_value(rng)
        return
    name = rng.choice(list(header))
    entry = header[name]
    kind = rng.randrange(8)
    if kind == 0:
        header[name] = odd_value(rng)
    elif kind == 1 and isinstance(entry, dict) and entry:
        entry[rng.choice(list(entry))] = odd_value(rng)
    elif kind == 2 and isinstance(entry, dict) and entry:
        del entry[rng.choice(list(entry))]
    elif kind == 3 and isinstance(entry, dict):
        entry["extra"] = odd_value(rng)
    elif kind == 4:
        header["__metadata__"] = odd_value(rng)
    elif isinstance(entry, dict) and isinstance(entry.get("data_offsets"), list):
        where = rng.choice(["data_offsets", "shape"])
        values = entry[where]
        if isinstance(values, list) and values:
            at = rng.randrange(len(values))
            if isinstance(values[at], int):
                values[at] += rng.choice([-4, -1, 1, 4, 8, 2 ** 32, 2 ** 62])
        elif isinstance(values, list):
            values.append(rng.choice([0, 1, 2 ** 63]))


def mutate_text(rng, text):
    """One change to the JSON text: padding, a key given twice, a byte."""
    kind = rng.randrange(7)
    if kind == 0:
        return text + rng.choice([b" " * 5, b"\n\t ", b"\0\0", b"x", b"{}", b"\xc2\xa0"])
    if kind == 1:
        return rng.choice([b" ", b"\n", b"\xef\xbb\xbf", b"\0"]) + text
    if kind == 2 and b'":{' in text:
        first = text[1:text.index(b"}") + 1]
        return b"{" + first + b"," + text[1:]
    if kind == 3:
        return text[: rng.randrange(len(text) + 1)]
    at = rng.randrange(len(text))
    return text[:at] + bytes([rng.choice([0, 0x20, 0x22, 0x5c, 0x7b, 0x7d, 0x80, 0xff, rng.randrange(256)])]) + text[at + 1:]


def make_file(rng):
    header, data_bytes = valid_header(rng)
    if rng.random() < 0.6:
        mutate_header(rng, header)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode()
    if rng.random() < 0.4:
        text = mutate_text(rng, text)
    length = len(text)
    if rng.random() < 0.1:
        length = rng.choice([0, length - 1, length + 1, 100_000_001, 2 ** 63, 2 ** 64 - 1, length + data_bytes])
    data_bytes = max(0, data_bytes + rng.choice([0] * 12 + [-1, 1, 8]))
    content = struct.pack("<Q", max(0, length)) + text + bytes(data_bytes)
    return content if rng.random() > 0.05 else content[: rng.randrange(len(content) + 1)]


def reference_accepts(content):
    try:
        safetensors.deserialize(content)
        return True
    except safetensors.SafetensorError:
        return False


def our_answers(checker, files):
    answers = []
    for i in range(0, len(files), 200):
        batch = files[i:i + 200]
        done = subprocess.run([checker, "check", *map(str, batch)], capture_output=True)
        lines = done.stdout.decode(errors="replace").split("\n")[:-1]
        if done.returncode not in (0, 1) or len(lines) != len(batch):
            sys.exit(f"{checker} ended with code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
        answers += lines
    return answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checker")
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    contents = [make_file(rng) for _ in range(args.files)]
    counts, wrong = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, content in enumerate(contents):
            files.append(pathlib.Path(folder) / f"{i}")
            files[-1].write_bytes(content)
        for content, answer in zip(contents, our_answers(args.checker, files)):
            ours, theirs = answer == "accept", reference_accepts(content)
            reason = next((what for word, what in STRICTER.items() if word in answer), None)
            if ours == theirs:
                counts["both accept" if ours else "both refuse"] += 1
            elif theirs and reason:
                counts[f"stricter: {reason}"] += 1
            else:
                wrong.append((content, answer, theirs))
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    for content, answer, theirs in wrong[:20]:
        print(f"DIFFERS: reference {'accepts' if theirs else 'refuses'}, ours: {answer}\n    {content[:300]!r}")
    print(f"{args.files} files, {len(wrong)} undocumented differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
