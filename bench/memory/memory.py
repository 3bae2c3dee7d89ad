# SPDX-License-Identifier: Apache-2.0
"""Page faults and time of a training step by allocator, with malloc as it is and with malloc told to keep its memory.

    .venv/bin/python bench/memory/memory.py [--rounds 3] [--steps 8]

The model and tokens of bench/compare, or with --vary documents of other lengths in each step, so that no two steps ask for the
same sizes. Variants run interleaved. Results go to out/bench/memory.md and memory.json.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import string
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "compare"))

import report  # noqa: E402
import trainers  # noqa: E402
import watch  # noqa: E402
from cases import CASES, LENGTH, SHAPE  # noqa: E402
from peer_data import byte_tokenizer, documents  # noqa: E402

VARIANTS = [("system", "as it is"), ("system", "tuned"), ("caching", "as it is"), ("caching", "tuned")]
WARMUP = 3


def prepare(out, vary):
    """tokens.txt, the tokenizer and recipe.yaml. The model starts from the seed."""
    byte_tokenizer().save(str(out / "tokenizer.json"))
    lines = documents()
    if vary:
        draw = random.Random(2)
        lines = ["".join(draw.choices(string.ascii_letters, k=draw.randint(200, LENGTH))) for _ in range(400)]
    (out / "tokens.txt").write_text("\n".join(lines) + "\n")
    recipe = trainers.our_recipe(CASES["dense_bf16"], out, out / "veomni", 1, 1)
    recipe["model"] = {"foundation": {"config": dict(SHAPE, model_type="qwen3")}}
    (out / "recipe.yaml").write_text(json.dumps(recipe))


def run(args, out, allocator, malloc, env):
    subprocess.run(["rm", "-rf", out / "veomni"], check=True)
    command = [args.veomni, "train", out / "recipe.yaml", f"--memory.allocator={allocator}",
               f"--train.steps={WARMUP + args.steps}"]
    seen = watch.run(command, out / "veomni" / "metrics.jsonl", dict(env, **(trainers.MALLOC if malloc == "tuned" else {})),
                     out / "run.log", args.limit_s)
    result = watch.summary(seen, WARMUP)
    faults = [after - before for before, after in zip(seen.faults[WARMUP - 1:], seen.faults[WARMUP:])
              if None not in (before, after)]
    last = seen.rows[-1]
    return dict(result, faults=statistics.median(faults), losses=[row["loss"] for row in seen.rows],
                **{key: last.get(key) for key in ("memory_live_mib", "memory_peak_mib", "memory_cached_mib")})


def tabulate(runs, context):
    lines = ["| allocator | malloc | step ms | page faults a step | peak RSS MiB | tensors' peak / held MiB | quiet runs |",
             "|---|---|---|---|---|---|---|"]
    for (allocator, malloc), rounds in runs.items():
        column = lambda key: [one[key] for one in rounds]
        held = "" if rounds[0]["memory_peak_mib"] is None else \
            f"{max(column('memory_peak_mib')):,.0f} / {max(column('memory_cached_mib')):,.0f}"
        lines.append(f"| {allocator} | {malloc} | {report.spread(column('step_ms'))} | {report.spread(column('faults'))} | "
                     f"{max(column('peak_rss_mib')):,.0f} | {held} | {sum(column('quiet'))}/{len(rounds)} |")
    lines += ["", *(f"- {key}: {value}" for key, value in context.items())]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Page faults and step time by allocator.")
    parser.add_argument("--veomni", type=pathlib.Path, default=ROOT / "build/release/bin/veomni")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured steps a run")
    parser.add_argument("--vary", action="store_true", help="another number of tokens in each step")
    parser.add_argument("--limit-s", type=int, default=300, help="time limit of one run")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/bench")
    args = parser.parse_args()
    if not args.veomni.exists():
        sys.exit(f"memory.py: {args.veomni} does not exist; run `make build`")
    out = args.out.resolve() / "memory"
    out.mkdir(parents=True, exist_ok=True)
    prepare(out, args.vary)
    env = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))}
    runs = {variant: [] for variant in VARIANTS}
    for number in range(args.rounds):
        turn = number % len(VARIANTS)
        for variant in VARIANTS[turn:] + VARIANTS[:turn]:
            result = run(args, out, *variant, env)
            runs[variant].append(result)
            print(f"round {number + 1}/{args.rounds} {variant[0]}, malloc {variant[1]}: {result['step_ms']:,.0f} ms, "
                  f"{result['faults']:,.0f} faults a step", flush=True)
    losses = [one["losses"] for rounds in runs.values() for one in rounds]
    if any(one != losses[0] for one in losses):
        sys.exit("memory.py: the losses depend on the allocator; something reads memory that it did not write")
    table = tabulate(runs, {
        "command": f"`{' '.join(['bench/memory/memory.py', *sys.argv[1:]])}`", "commit": report.commit(),
        "machine": report.machine(), "losses": "bit-equal in all runs",
        "settings": f"{env['OMP_NUM_THREADS']} threads, {args.rounds} rounds of {args.steps} measured steps after {WARMUP}, "
                    "interleaved; tuned: " + " ".join(f"{k}={v}" for k, v in trainers.MALLOC.items())})
    name = "memory_varied" if args.vary else "memory"
    (out.parent / f"{name}.md").write_text(table)
    (out.parent / f"{name}.json").write_text(json.dumps(
        [dict(allocator=a, malloc=m, rounds=rounds) for (a, m), rounds in runs.items()], indent=1))
    print("\n" + table)


if __name__ == "__main__":
    main()
