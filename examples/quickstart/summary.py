# SPDX-License-Identifier: Apache-2.0
"""Prints what the quickstart reached on held-out data, and fails where a number misses its limit.

    summary.py --out out/quickstart [--seconds PHASE N ...]     the table
    summary.py --compare A.json B.json                          fails unless both tables are the same, exactly
"""
import argparse
import json
import pathlib
import sys

# Of the bits that a unigram model over the same tokens needs.
GLOSS_SHARE = 0.75
# Of the judge's agreement with the prompts of real pictures that went through the picture tokenizer.
GENERATION_SHARE = 0.8
MOST_TFLOP = 40
MOST_SECONDS = 600


def read_json(path):
    if not path.exists():
        sys.exit(f"summary.py: {path} is missing: the step that writes it did not finish")
    return json.loads(path.read_text(encoding="utf-8"))


def training_tflop(out):
    """Model FLOPs of both phases, forward and backward, from every step's line."""
    total = 0
    for phase in ("vq", "omni"):
        path = out / phase / "metrics.jsonl"
        if not path.exists():
            sys.exit(f"summary.py: {path} is missing: `veomni train` writes it")
        total += sum(json.loads(line)["model_tflop"] for line in path.read_text().splitlines())
    return total


class Row:
    """A number and the limit it must keep; a number that is not there keeps none."""

    def __init__(self, label, value, sign=None, limit=None, note="", form=".4f"):
        self.label, self.value, self.sign, self.limit, self.note, self.form = label, value, sign, limit, note, form

    def holds(self):
        if self.sign is None:
            return True
        if self.value is None or self.limit is None:
            return False
        return self.value >= self.limit if self.sign == ">=" else self.value <= self.limit

    def text(self):
        shown = "none" if self.value is None else format(self.value, self.form)
        limit = "" if self.sign is None else \
            f"{self.sign} {'none' if self.limit is None else format(self.limit, self.form)}"
        mark = "" if self.holds() else "MISSED  "
        return f"{self.label:<42}{shown:>10}  {limit:<11}{mark}{self.note}".rstrip()


def share(table, key, of):
    return None if table.get(key) is None else of * table[key]


def rows(table, tflop, seconds):
    """The held-out table; limits stand where the quickstart promises something."""
    def number(key, *limit, **more):
        return Row(key, table.get(key), *limit, **more)

    return [
        number("image_accuracy", ">=", 0.84, note="a label for an official test picture"),
        number("image_linear_probe", note="logistic regression on pixels"),
        number("image_chance"),
        number("audio_accuracy", ">=", 0.95, note="language and speaker of prompts not heard in training"),
        number("audio_linear_probe", note="logistic regression on the log-spectrum"),
        number("audio_chance"),
        number("gloss_bits_per_byte", "<=", share(table, "gloss_unigram_bits_per_byte", GLOSS_SHARE),
               note=f"at most {GLOSS_SHARE} x unigram"),
        number("gloss_unigram_bits_per_byte", note="same tokens, by their frequency"),
        number("judge_accuracy", ">=", 0.89, note="of the judge of the next rows, on real test pictures"),
        number("generation_agreement_of_reconstructions", ">=", 0.78, note="real pictures through the picture tokenizer"),
        number("generation_agreement", ">=", share(table, "generation_agreement_of_reconstructions", GENERATION_SHARE),
               note=f"drawn pictures; at least {GENERATION_SHARE} x reconstructions"),
        number("generation_agreement_relative"),
        number("generation_diversity", ">=", 0.8, note="distance within a label, over reconstructions'"),
        number("guided_agreement", note="drawn with classifier-free guidance"),
        number("guided_diversity"),
        number("generation_unusable", form="d", note="pictures missing or blank; counted as wrong"),
        Row("training TFLOP, both phases", tflop, "<=", MOST_TFLOP, form=".2f"),
        Row("wall clock, s", seconds, "<=", MOST_SECONDS, form=".0f"),
    ]


def compare(first, second):
    """The measures in which two tables differ, as lines."""
    missing = object()
    a, b = read_json(first), read_json(second)
    keys = list(a) + [key for key in b if key not in a]
    return [f"{key}: {a.get(key, 'none')} in {first}, {b.get(key, 'none')} in {second}"
            for key in keys if a.get(key, missing) != b.get(key, missing)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="the quickstart's output, which holds vq/ and omni/")
    parser.add_argument("--seconds", nargs="*", default=[], help="pairs: a phase's name and its seconds")
    parser.add_argument("--compare", type=pathlib.Path, nargs=2, metavar=("A.json", "B.json"))
    args = parser.parse_args()
    if (args.out is None) == (args.compare is None) or len(args.seconds) % 2:
        parser.error("give either --out, with pairs after --seconds, or --compare")

    if args.compare:
        different = compare(*args.compare)
        if different:
            sys.exit("summary.py: the reloaded model gives another table: " + "; ".join(different))
        print("reloaded in a new process: the same table, exactly")
        return

    phases = {name: float(text) for name, text in zip(args.seconds[::2], args.seconds[1::2])}
    table = rows(read_json(args.out / "omni" / "eval.json"), training_tflop(args.out), sum(phases.values()))
    print(f"{'held-out data':<42}{'reached':>10}  limit")
    for row in table:
        print(row.text())
    print("seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in phases.items()))
    print(f"curves, samples and pictures: {args.out}/omni/report.html; for transformers: {args.out}/omni/hf/")
    missed = [row.label for row in table if not row.holds()]
    if missed:
        sys.exit(f"summary.py: missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
