# SPDX-License-Identifier: Apache-2.0
"""WordNet 3.0's glosses as questions and answers ("What is a potato?"), split so that no gloss is on both sides."""
import hashlib
import re

HELD_OUT = 2000
HELD_OUT_KEY = b"veomni quickstart 1"


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
