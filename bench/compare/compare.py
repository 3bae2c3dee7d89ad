# SPDX-License-Identifier: Apache-2.0
"""Trains the same dense model here and with plain PyTorch FSDP2 + transformers, interleaved, and prints one table.

    .venv/bin/python bench/compare/compare.py [--rounds 5] [--steps 8] [--ranks 1]

First the two must agree: from the same weights and tokens, the same loss. Then each round runs every variant once, in
an order that turns round. The peer is taken compiled and not; the better one counts. With --ranks N both run FSDP2 on N
processes (here over shared memory, there over Gloo), each with its share of the cores and a batch of its own. Results go to
out/bench/compare.md and out/bench/compare.json, with ranks to compare_N_ranks.md and .json.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

from safetensors import safe_open

import watch
from peer import LENGTH, ROWS

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# Without these, glibc returns large temporaries to the kernel after every step and faults them in again.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
OURS = "veomni"
# Steps before measuring starts; compilation is over after the second step.
WARMUP = {OURS: 2, "pytorch": 2, "pytorch compiled": 3}
LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3}
RECIPE = """# Written by bench/compare/compare.py.
model: {{foundation: {{path: {out}/model}}}}
data:
  tokenizer: {out}/tokenizer.json
  sources: [{{name: random, path: {out}/tokens.txt, format: text_lines}}]
  template: plain
  append_eos: false
  shuffle: false
  on_bad_record: fail
mesh: {{dp_shard: {ranks}}}
parallel: {{default: {{strategy: fsdp2, recompute: none, param_dtype: bfloat16}}}}
optim: {{name: adamw, lr: 1.0e-3, betas: [0.9, 0.95], weight_decay: 0.1, clip: 1.0, schedule: constant}}
train: {{steps: {steps}, micro_batch_tokens: {tokens}, accumulation: 1, seed: 1}}
checkpoint: {{every: 0}}
output: {out}/veomni
"""


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def commit():
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    return (head.stdout.strip() or "unknown") + (" (with changes)" if changed.stdout.strip() else "")


def check_losses(args, out, env):
    """The loss of the first batch by `veomni forward`; in fp32 it must be the peer's."""
    subprocess.run([sys.executable, HERE / "peer.py", "prepare", out], env=dict(os.environ, **env), check=True)
    reference = json.loads((out / "reference.json").read_text())
    losses = {}
    for dtype in LOSS_TOLERANCE:
        result = out / f"forward_{dtype}.safetensors"
        subprocess.run([args.veomni, "forward", out / "model", out / "first.safetensors", result, "--dtype", dtype],
                       env=dict(os.environ, **env), check=True, stdout=subprocess.DEVNULL)
        with safe_open(result, framework="pt") as tensors:
            losses[dtype] = tensors.get_tensor("loss").item()
    check_close("float32", losses["float32"], reference["loss_fp32"])
    return reference, losses


def check_close(dtype, ours, theirs):
    error = abs(ours - theirs) / abs(theirs)
    if not error <= LOSS_TOLERANCE[dtype]:
        sys.exit(f"compare.py: {dtype} losses differ from the same weights: {ours} here, {theirs} in PyTorch "
                 f"(relative {error:.1e}, allowed {LOSS_TOLERANCE[dtype]:.0e}); no speed is worth measuring")


def launch(ranks):
    return ["launch", "-n", str(ranks)] if ranks > 1 else []


def torchrun(ranks):
    return [sys.executable, *(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else [])]


def run_variant(name, args, out, env):
    steps = WARMUP[name] + args.steps
    log = out / f"{name.replace(' ', '_')}.log"
    if name == OURS:
        recipe = out / "recipe.yaml"
        recipe.write_text(RECIPE.format(out=out, tokens=ROWS * LENGTH, steps=steps, ranks=args.ranks))
        subprocess.run(["rm", "-rf", out / "veomni"], check=True)
        command, metrics = [args.veomni, *launch(args.ranks), "train", recipe], out / "veomni" / "metrics.jsonl"
    else:
        metrics = out / f"{name.replace(' ', '_')}.jsonl"
        command = [*torchrun(args.ranks), HERE / "peer.py", "train", out, "--steps", str(steps), "--out", metrics,
                   "--compile", "layer" if "compiled" in name else "no"]
    return watch.summary(watch.run(command, metrics, env, log, args.limit_s), WARMUP[name])


def spread(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


def tabulate(runs, ratios, best, context):
    lines = ["| | tokens/s | step ms | peak RSS MiB | start to first step s | quiet runs |", "|---|---|---|---|---|---|"]
    for name, rounds in runs.items():
        column = lambda key: [one[key] for one in rounds]
        lines.append(f"| {name} | {spread(column('tokens_per_second'))} | {spread(column('step_ms'))} | "
                     f"{max(column('peak_rss_mib')):,.0f} | {spread(column('first_step_s'), 1)} | "
                     f"{sum(column('quiet'))}/{len(rounds)} |")
    lines += ["", f"Ratio of tokens/s, {OURS} / {best} (the better peer), round by round: **{spread(ratios, 2)}**.", ""]
    lines += [f"- {key}: {value}" for key, value in context.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Compare training speed with PyTorch FSDP2 + transformers.")
    parser.add_argument("--veomni", type=pathlib.Path, default=ROOT / "build/release/bin/veomni")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=1, help="processes of FSDP2, on both sides")
    parser.add_argument("--steps", type=int, default=8, help="measured steps a run")
    parser.add_argument("--limit-s", type=int, default=300, help="time limit of one run")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/bench")
    args = parser.parse_args()
    if not args.veomni.exists():
        sys.exit(f"compare.py: {args.veomni} does not exist; run `make build`")
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, len(os.sched_getaffinity(0)) // args.ranks))
    env = dict(MALLOC, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", threads), TOKENIZERS_PARALLELISM="false",
               HF_HUB_OFFLINE="1")

    reference, losses = check_losses(args, out, env)
    runs = {name: [] for name in WARMUP}
    for number in range(args.rounds):
        order = list(runs)[number % len(runs):] + list(runs)[:number % len(runs)]
        for name in order:
            result = run_variant(name, args, out, env)
            runs[name].append(result)
            print(f"round {number + 1}/{args.rounds} {name}: {result['tokens_per_second']:,.0f} tokens/s, "
                  f"{result['step_ms']:,.0f} ms a step{'' if result['quiet'] else ' (disturbed)'}", flush=True)
    # With several ranks the first step's loss is over other batches than the first alone.
    for ours in [runs[OURS][0]["first_loss"], *([losses["bfloat16"]] if args.ranks == 1 else [])]:
        check_close("bfloat16", ours, runs["pytorch"][0]["first_loss"])

    rate = {name: statistics.median(one["tokens_per_second"] for one in rounds) for name, rounds in runs.items()}
    best = max((name for name in runs if name != OURS), key=rate.get)
    ratios = [ours["tokens_per_second"] / theirs["tokens_per_second"] for ours, theirs in zip(runs[OURS], runs[best])]
    context = {
        "model": f"Qwen3, {reference['parameters'] / 1e6:.2f} M parameters, {ROWS} x {LENGTH} tokens a step and rank, bf16, "
                 "fp32 master, AdamW, clip 1",
        "first loss": f"fp32 {losses['float32']:.6f} here, {reference['loss_fp32']:.6f} in PyTorch; "
                      f"bf16 {runs[OURS][0]['first_loss']:.5f} here, {runs['pytorch'][0]['first_loss']:.5f} in PyTorch",
        "command": f"`{' '.join(['bench/compare/compare.py', *sys.argv[1:]])}`",
        "commit": commit(), "machine": machine(),
        "settings": f"{args.ranks} x {env['OMP_NUM_THREADS']} threads, malloc tuned on both sides, {args.rounds} rounds of "
                    f"{args.steps} measured steps, interleaved",
        "peer": f"torch {reference['torch']}, transformers {reference['transformers']}, FSDP2 (Gloo); "
                "compiled = torch.compile of every layer",
    }
    table = tabulate(runs, ratios, best, context)
    name = "compare" if args.ranks == 1 else f"compare_{args.ranks}_ranks"
    (out / f"{name}.md").write_text(table)
    (out / f"{name}.json").write_text(json.dumps(
        {"runs": runs, "best_peer": best, "ratios": ratios, "ratio": statistics.median(ratios), **context}, indent=1))
    print("\n" + table)


if __name__ == "__main__":
    main()
