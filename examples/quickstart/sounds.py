# SPDX-License-Identifier: Apache-2.0
"""Asterisk's spoken prompts as records: one English and one Canadian French speaker, split by what is said.

Language and speaker cannot be told apart in these recordings (Allison speaks all of the English, June all of the French),
so the answer names both.
"""
import gzip
import hashlib
import io
import json
import re
import wave

FOLDERS = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June"}
ANSWERS = {"en": "English, Allison", "fr": "French, June"}
RATE = 8000
WINDOW = RATE            # one second
HOP = RATE // 2
SHORTEST = 3 * RATE // 10
MOST_WINDOWS = 6         # of one training clip, lest the few long ones outweigh the others
HELD_OUT = 100           # stems
HELD_OUT_KEY = b"veomni quickstart sound 1"


def read_transcripts(path):
    """{stem: text}; a stem is a file's path without .wav, such as digits/1."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line and not line.startswith(";"))
    return {stem.strip(): text.strip() for stem, _, text in pairs}


def read_clips(folder):
    """{stem: samples as bytes, 16 bits each} of all .wav files below."""
    clips = {}
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            if form != (1, 2, RATE):
                raise ValueError(f"{path}: {form[0]} channels, {form[1]} bytes a sample, {form[2]} Hz")
            clips[path.relative_to(folder).with_suffix("").as_posix()] = file.readframes(file.getnframes())
    return clips


def is_speech(stem, texts):
    """Whether words are spoken: not silence, and not what either transcript only describes, as in [ascending tones]."""
    return not stem.startswith("silence/") and not any(re.fullmatch(r"[\[(<].*[\])>]", text) for text in texts)


def normalised(text):
    return re.sub(r"\W+", " ", text.lower()).strip()


def groups(stems, transcripts):
    """Stems that share a text in any language are one group, which is split as a whole. Sorted.

    @param transcripts  one {stem: text} a language; stems without a text, and empty texts, join nothing
    """
    leader = {stem: stem for stem in stems}

    def find(stem):
        while leader[stem] != stem:
            stem = leader[stem]
        return stem

    for texts in transcripts:
        first = {}
        for stem in sorted(leader):
            text = normalised(texts.get(stem, ""))
            if text:
                a, b = sorted((find(stem), find(first.setdefault(text, stem))))
                leader[b] = a
    members = {}
    for stem in sorted(leader):
        members.setdefault(find(stem), []).append(stem)
    return [tuple(group) for _, group in sorted(members.items())]


def split(all_groups, held_out=HELD_OUT):
    """(training stems, held-out stems): groups of the smallest keyed hash are held out until they hold `held_out` stems."""
    def draw(group):
        return hashlib.blake2b(group[0].encode(), key=HELD_OUT_KEY, digest_size=8).digest()
    train, held = [], []
    for group in sorted(all_groups, key=draw):
        (held if len(held) < held_out else train).extend(group)
    return sorted(train), sorted(held)


def window_starts(samples):
    """Where a training clip's windows begin: every half second, thinned evenly to MOST_WINDOWS; a short clip is one."""
    count = max(0, samples - WINDOW) // HOP + 1
    kept = min(count, MOST_WINDOWS)
    return [HOP * (i * (count - 1) // max(1, kept - 1)) for i in range(kept)]


def middle_start(samples):
    return max(0, samples - WINDOW) // 2


def wav(samples):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples)
    return out.getvalue()


def windows(clips, stems, starts_of):
    """(file name, language, samples as bytes) of every window, by stem, then language. Clips keep their length if shorter.

    @param clips  {language: {stem: samples}}
    """
    for stem in stems:
        for language in sorted(clips):
            samples = clips[language].get(stem, b"")
            if len(samples) < 2 * SHORTEST:
                continue
            for start in starts_of(len(samples) // 2):
                name = f"{language}_{stem.replace('/', '_')}_{start * 1000 // RATE}.wav"
                yield name, language, samples[2 * start:2 * (start + WINDOW)]


def line(file, language):
    return json.dumps({"messages": [{"role": "user", "content": [{"type": "audio", "audio": file}]},
                                    {"role": "assistant", "content": ANSWERS[language]}]}) + "\n"


def read_labelled(path):
    """[(samples as bytes, answer)] of a file of line()s."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        user, assistant = json.loads(text)["messages"]
        with wave.open(str(path.parent / user["content"][0]["audio"])) as file:
            found.append((file.readframes(file.getnframes()), assistant["content"]))
    return found
