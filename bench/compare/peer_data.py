# SPDX-License-Identifier: Apache-2.0
"""The tokens, pictures and clips that both sides read, from the same files in the same order."""
import json
import random
import string

import tokenizers

from cases import BATCHES, CLIPS, DOCUMENT, LENGTH, PICTURES, PIXELS, ROWS, SECONDS, TOKENS

MEDIA = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"]
FILES = 32                     # pictures or clips in all; rows draw from them
QUESTION = 40                  # characters of the user's text
IMAGE_TOKENS = (PIXELS // 28) ** 2
AUDIO_TOKENS = SECONDS * 25
RATE = 16000


def byte_tokenizer():
    """An entry a byte, then the tokens that stand for media."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(MEDIA)
    return tokenizer


def letters(draw, count):
    return "".join(draw.choices(string.ascii_letters + string.digits, k=count))


def documents():
    """Random text of LENGTH tokens each."""
    draw = random.Random(1)
    return [letters(draw, LENGTH) for _ in range(BATCHES * ROWS)]


def document_lengths(draw):
    """Lengths within DOCUMENT that fill a row of TOKENS exactly; the last is what is left."""
    lengths, left = [], TOKENS
    while left:
        length = draw.randint(*DOCUMENT)
        length = left if left - length < DOCUMENT[0] else length
        lengths.append(length)
        left -= length
    return lengths


def packed_lengths():
    """The lengths of the documents of every batch."""
    draw = random.Random(1)
    return [document_lengths(draw) for _ in range(BATCHES)]


def packed_documents():
    draw = random.Random(2)
    return [letters(draw, length) for lengths in packed_lengths() for length in lengths]


def write_pictures(folder):
    from PIL import Image
    folder.mkdir(exist_ok=True)
    draw = random.Random(3)
    for number in range(FILES):
        small = Image.frombytes("RGB", (14, 14), draw.randbytes(14 * 14 * 3))
        small.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC).save(folder / f"{number}.png")


def write_clips(folder):
    import numpy
    import soundfile
    folder.mkdir(exist_ok=True)
    draw = numpy.random.default_rng(3)
    time = numpy.arange(SECONDS * RATE) / RATE
    for number in range(FILES):
        sound = sum(numpy.sin(2 * numpy.pi * hertz * time) for hertz in draw.uniform(100, 4000, 4)) / 5
        soundfile.write(folder / f"{number}.wav", sound + draw.normal(0, 0.02, len(time)), RATE, subtype="PCM_16")


def media_rows(kind):
    """What each row holds: (numbers of its media files, question, answer), LENGTH tokens in all."""
    draw = random.Random(4)
    count, tokens = (PICTURES, IMAGE_TOKENS) if kind == "pictures" else (CLIPS, AUDIO_TOKENS)
    answer = LENGTH - count * (tokens + 2) - QUESTION - 2          # a newline ends each message
    return [([draw.randrange(FILES) for _ in range(count)], letters(draw, QUESTION), letters(draw, answer))
            for _ in range(BATCHES * ROWS)]


def write_records(folder, kind):
    part, where, suffix = ("image", "pictures", "png") if kind == "pictures" else ("audio", "clips", "wav")
    with open(folder / "records.jsonl", "w") as out:
        for numbers, question, answer in media_rows(kind):
            content = [{"type": part, part: f"{where}/{n}.{suffix}"} for n in numbers] + [{"type": "text", "text": question}]
            out.write(json.dumps({"messages": [{"role": "user", "content": content},
                                               {"role": "assistant", "content": answer}]}) + "\n")


def write(folder, kind):
    """Everything but the model: tokenizer.json and tokens.txt, or records.jsonl with its media."""
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    if kind in ("dense", "packed"):
        lines = documents() if kind == "dense" else packed_documents()
        (folder / "tokens.txt").write_text("".join(line + "\n" for line in lines))
        return
    write_pictures(folder / "pictures") if kind == "pictures" else write_clips(folder / "clips")
    write_records(folder, kind)
