# SPDX-License-Identifier: Apache-2.0
"""Prints what the quickstart reached, and fails unless the reloaded model repeats the table exactly."""
import argparse
import json
import pathlib
import sys

# The model must need at most this share of the bits that a unigram model over the same tokens needs.
RATIO_LIMIT = 0.72


def read_json(path):
    if not path.exists():
        sys.exit(f"summary.py: {path} is missing: the step that writes it did not finish")
    return json.loads(path.read_text())


def matmul_parameters(config):
    """Parameters that every token is multiplied with; a tied embedding counts once, as the head."""
    width, head = config["hidden_size"], config["head_dim"]
    attention = width * head * 2 * (config["num_attention_heads"] + config["num_key_value_heads"])
    feed_forward = 3 * width * config["intermediate_size"]
    return config["num_hidden_layers"] * (attention + feed_forward) + width * config["vocab_size"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", nargs="*", default=[], help="pairs: a part's name and its seconds")
    args = parser.parse_args()

    table = read_json(args.out / "eval.json")
    again = read_json(args.out / "eval_reloaded.json")
    steps = [json.loads(line) for line in (args.out / "metrics.jsonl").read_text().splitlines()]
    tokens = steps[-1]["tokens"]   # counted from the start of the run
    tflop = 6 * matmul_parameters(read_json(args.out / "hf" / "config.json")) * tokens / 1e12

    model, unigram = table["gloss_bits_per_byte"], table["gloss_unigram_bits_per_byte"]
    ratio = model / unigram
    print("held-out synsets            bits per byte")
    print(f"  unigram, same tokens      {unigram:.4f}")
    print(f"  this model                {model:.4f}")
    print(f"  ratio                     {ratio:.4f}  (at most {RATIO_LIMIT})")
    print(f"training                    {tflop:.1f} TFLOP (6 x parameters x {tokens:,} tokens, {len(steps)} steps)")
    for name, seconds in zip(args.seconds[::2], args.seconds[1::2]):
        print(f"{name + ' took':<28}{seconds} s")
    print(f"curves and samples          {args.out}/report.html")
    print(f"for transformers            {args.out}/hf/")

    wrong = [f"{key}: {table.get(key)} in training, {again.get(key)} reloaded"
             for key in sorted(set(table) | set(again)) if table.get(key) != again.get(key)]
    if wrong:
        sys.exit("summary.py: the reloaded model gives another table: " + "; ".join(wrong))
    print("reloaded in a new process   the same table, exactly")
    if ratio > RATIO_LIMIT:
        sys.exit(f"summary.py: the ratio {ratio:.4f} is above {RATIO_LIMIT}")


if __name__ == "__main__":
    main()
