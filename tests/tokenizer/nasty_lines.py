# SPDX-License-Identifier: Apache-2.0
"""Texts that tokenizers disagree on: made here, so that they need no download."""
import random
import unicodedata

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

NASTY = [
    "", " ", "  ", "\t", "\r", "\n", "\r\n", "\n\n\n", " \n ", "\r\r", "a\rb", "a\r\nb\r\n", "\ta\tb\t", "a \n b", "  a  b  ",
    "\0", "a\0b", "\0\0\0", "\x01\x02\x7f", "\u0085a\u0085", "\u2028\u2029", "a\u00a0b", "a\u3000b", "a\u180eb \u180e",
    "\ufeffa", "\u200b\u200c\u200d", "\u00ad", "\u202eabc",
    "I'm you're he'll we've they'd it's I'M YOU'RE HE'LL", "'s't're've'm'll'd", "\u2019s", "'\u017f", "'S 'T 'RE",
    "e\u0301 \u00e9 E\u0301\u0323 \u1eb9\u0301", "\u0301", "a\u0301\u0301\u0301", "\u1100\u1161\u11a8 \uac01", "\u212b \u2126 \ufb01",
    "\u0958 \u0915\u093c", "\u05d1\u05b0\u05bc", "\u0e01\u0e34\u0e48", "\u0f71\u0f72", "\ud7a3",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1fa\U0001f1f3",
    "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001d400\U0001d7d8", "\U0010ffff", "\ue000",
    "1234567890", "3.14159e-10", "\u0661\u0662\u0663", "\u216f\u00bd\u00b2", "1,000,000.00", "0x1F600",
    "foo_bar __init__ a->b; c::d() // e", "!!!???...", "#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "\u3002\u3001\u300c\u300d", "---\n***\n",
    "https://example.org/a?b=c&d=%20#e", "{\"a\": [1, 2.5, null]}", "<html>\n\t<body class='x'>\n</html>",
    "x" * 3000, "ab" * 2000, "\u4e2d" * 1500, " " * 3000, "\n" * 1000, "\U0001f600" * 300, "a " * 1500, "1" * 500, "e\u0301" * 500,
    "Donaudampfschifffahrtsgesellschaftskapit\u00e4nsm\u00fctze " * 20,
    "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "a<|im_end|>b", "<|im_end|><|im_end|>",
    " <|im_start|> ", "<|im_start|", "<<|im_start|>>", "<|im_<|im_end|>end|>", "<|IM_START|>", "e<|im_end|>\u0301",
    "[MASK] a [MASK]b  [MASK]  c", "word words sword word.", "\u00e9word word\u00e9 _word word_ \u200dword", "<tag> <tag><tags>",
    "cafe\u0301X caf\u00e9X",
]

# Blocks with what stands in them since Unicode 3.2, so that all libraries' tables agree.
BLOCKS = {
    "latin": (0x21, 0x24F), "ipa_combining": (0x250, 0x36F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x4FF),
    "armenian": (0x531, 0x58A), "hebrew": (0x591, 0x5F4), "arabic": (0x60C, 0x6FE), "devanagari": (0x901, 0x970),
    "bengali": (0x981, 0x9FA), "tamil": (0xB82, 0xBF2), "telugu": (0xC01, 0xC6F), "thai": (0xE01, 0xE5B),
    "tibetan": (0xF00, 0xFCF), "georgian": (0x10A0, 0x10FB), "jamo": (0x1100, 0x11F9), "ethiopic": (0x1200, 0x137C),
    "khmer": (0x1780, 0x17E9), "mongolian": (0x1800, 0x18A9), "greek_extended": (0x1F00, 0x1FFE),
    "punctuation": (0x2000, 0x206F), "symbols": (0x2070, 0x27BE), "kana": (0x3001, 0x30FE), "cjk": (0x4E00, 0x9FA5),
    "hangul": (0xAC00, 0xD7A3), "forms": (0xF900, 0xFFE6), "math": (0x1D400, 0x1D7FF),
}


def random_lines(per_block, seed=1):
    """Random words of each block, mixed with spaces, digits and punctuation."""
    rng = random.Random(seed)
    old = unicodedata.ucd_3_2_0
    lines = []
    for low, high in BLOCKS.values():
        letters = [chr(c) for c in range(low, high + 1) if old.category(chr(c)) not in ("Cn", "Cs", "Co")]
        for _ in range(per_block):
            words = []
            for _ in range(rng.randint(1, 8)):
                words.append("".join(rng.choice(letters) for _ in range(rng.randint(1, 7))))
                words.append(rng.choice([" ", " ", " ", "", "  ", "\t", "\n", " \n", ". ", ", ", "-", " 42 ", "'s ", "\u3000"]))
            lines.append("".join(words))
    return lines
