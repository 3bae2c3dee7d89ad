# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST as records: its files, labels and prompts, and the way back from a record to pixels."""
import base64
import gzip
import json
import struct

import png

# By Fashion-MNIST's numbers; short words, so that a label is a token or two.
LABELS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SIDE = 28


def prompt(label):
    return f"Draw a {label}"   # no label begins with a vowel's sound


LABEL_OF_PROMPT = {prompt(label): index for index, label in enumerate(LABELS)}


def read_idx(path):
    """(sizes, bytes) of an IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    kind, dims = struct.unpack(">HBB", data[:4])[1:]
    sizes = struct.unpack(f">{dims}I", data[4:4 + 4 * dims])
    if kind != 8:
        raise ValueError(f"{path}: IDX type {kind}, not 8 (unsigned bytes)")
    return sizes, data[4 + 4 * dims:]


def read_set(folder, name):
    """[(label, pixels)] of `train` or `t10k`, in file order."""
    (count, height, width), pixels = read_idx(folder / f"{name}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")[1]
    if (height, width) != (SIDE, SIDE) or len(labels) != count:
        raise ValueError(f"{folder}: {name} has {count} pictures of {width} x {height} and {len(labels)} labels")
    size = SIDE * SIDE
    return [(labels[i], pixels[i * size:(i + 1) * size]) for i in range(count)]


def data_uri(pixels):
    return "data:image/png;base64," + base64.b64encode(png.write_grey(pixels, SIDE, SIDE)).decode()


def balanced(labels, each):
    """Indices of the first `each` items of every label, in order."""
    seen, chosen = {}, []
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= each:
            chosen.append(index)
    return chosen


# Written without a JSON library, twenty times as fast: base64 and the labels hold nothing that JSON would escape.
def media_line(uri):
    return f'{{"image": "{uri}"}}\n'


def label_line(label, uri):
    return (f'{{"messages": [{{"role": "user", "content": [{{"type": "image", "image": "{uri}"}}]}}, '
            f'{{"role": "assistant", "content": "{LABELS[label]}"}}]}}\n')


def draw_line(label, uri):
    return (f'{{"messages": [{{"role": "user", "content": "{prompt(LABELS[label])}"}}, '
            f'{{"role": "assistant", "content": [{{"type": "image", "image": "{uri}"}}]}}]}}\n')


def read_labelled(path):
    """(pixels of all pictures in one bytes, labels) of a file of label_line()s."""
    pixels, labels = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        user, assistant = json.loads(line)["messages"]
        width, height, channels, data = png.read(base64.b64decode(user["content"][0]["image"].partition(",")[2]))
        if (width, height, channels) != (SIDE, SIDE, 1):
            raise ValueError(f"{path}: a picture of {width} x {height} pixels, {channels} channels")
        pixels.append(data)
        labels.append(LABELS.index(assistant["content"]))
    return b"".join(pixels), labels
