# SPDX-License-Identifier: Apache-2.0
"""Trains the same models here and with PyTorch, interleaved, and prints tables: speed, memory, start-up, equal losses.

    .venv/bin/python bench/compare/compare.py [--case NAME[,NAME...]] [--peers NAME[,NAME...]] [--rounds 5] [--steps 8]
        [--veomni-peer DIR] [--torchtitan DIR] [--peer-python FILE]

First both sides must agree: from the same weights and data the same first loss, and loss curves that part no further than
rounding makes the peer's own part. Then each round runs every variant once, in an order that turns round. Results go to
out/bench/compare.md, compare.html and compare.json, each case's numbers to out/bench/compare/CASE.json; report.py joins such
files of several runs.
"""
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys

import arguments
import peer_data
import report
from cases import CASES, LENGTH, OURS, ROWS, TWO_JOBS, Case, attention_flops, linears, matrix_flops, usual_cases
from trainers import MALLOC, Trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of a loss, relative. bf16 keeps 8 bits; a mean over 2,048 tokens averages most of their rounding away.
LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3}


def check_close(what, dtype, ours, theirs):
    error = abs(ours - theirs) / abs(theirs)
    if not error <= LOSS_TOLERANCE[dtype]:
        sys.exit(f"compare.py: {what}: {dtype} losses differ from the same weights: {ours} here, {theirs} in PyTorch "
                 f"(relative {error:.1e}, allowed {LOSS_TOLERANCE[dtype]:.0e}); no speed is worth measuring")


def difference(a, b):
    """|a - b|₂ / |b|₂ of two loss curves."""
    return math.dist(a, b) / math.hypot(*b)


def check_curves(trainers, case, steps):
    """Losses of `steps` steps here and in two of the peer's ways to compute the same. Ours may differ from the first by the
    tolerance, or by 3 times what the second does: AdamW turns the last bit of a gradient's sign into a whole step."""
    if not case.curves or not steps:
        return None
    names = [OURS, *case.curves]
    losses = {name: trainers.run(case, case.variant(name), steps, warmup=0)["losses"] for name in names}
    ours, own = (difference(losses[name], losses[case.curves[0]]) for name in (OURS, case.curves[1]))
    allowed = max(LOSS_TOLERANCE[case.dtype], 3 * own)
    print(f"{case.name}: loss curves over {steps} steps differ by {ours:.1e} (allowed {allowed:.1e}: the peer's own two ways "
          f"differ by {own:.1e})", flush=True)
    if not ours <= allowed:
        sys.exit(f"compare.py: {case.name}: the loss curves part: {ours:.1e}, allowed {allowed:.1e}; see "
                 f"{trainers.out}/runs")
    return {"steps": steps, "losses": losses, "difference": ours, "own_difference": own, "allowed": allowed}


def first_losses(trainers, case, reference):
    """The first batch's loss in float32 on one rank, ours against the peer's."""
    single = Case(case.name, case.title, case.kind, dtype="float32")
    ours = trainers.run(single, single.variant(OURS), 1, warmup=0)["first_loss"]
    check_close(case.name, "float32", ours, reference["loss_fp32"])
    return {"float32": ours, "float32_peer": reference["loss_fp32"]}


def isolated_rate(args, trainers, case):
    """GFLOP/s of the case's own matrix products by themselves, ours and ATen's."""
    lines = "".join(f"{m} {n} {k} {times}\n" for m, n, k, times in linears(case.kind))
    done = subprocess.run([args.gemm_rate, case.dtype], input=lines, text=True, capture_output=True, check=True,
                          env=dict(os.environ, **trainers.environment(case)))
    return json.loads(done.stdout)


def checkouts(args):
    return {"veomni": args.veomni_peer, "torchtitan": args.torchtitan}


def measure(args, trainers, case):
    """Every variant once a round, and the products by themselves."""
    variants = case.chosen(args.peers, checkouts(args))
    runs, isolated = {variant.name: [] for variant in variants}, []
    for number in range(args.rounds):
        turn = number % len(variants)
        for variant in variants[turn:] + variants[:turn]:
            result = trainers.run(case, variant, args.steps)
            runs[variant.name].append(result)
            print(f"{case.name} round {number + 1}/{args.rounds} {variant.name}: {result['tokens_per_second']:,.0f} tokens/s, "
                  f"{result['step_ms']:,.0f} ms a step{'' if result['quiet'] else ' (disturbed: all steps used)'}", flush=True)
        if args.gemm_rate.exists():
            isolated.append(isolated_rate(args, trainers, case))
            print(f"{case.name} round {number + 1}/{args.rounds} products by themselves: {isolated[-1]['ours_gflops']:,.0f} GFLOP/s "
                  f"with our kernels, {isolated[-1]['aten_gflops']:,.0f} with ATen's", flush=True)
    for variant in variants:
        # VeOmni and TorchTitan draw weights and tokens of their own; a job beside another has one rank's batches.
        if variant.trainer == "pytorch":
            check_close(case.name, case.dtype, runs[OURS][0]["first_loss"], runs[variant.name][0]["first_loss"])
    return variants, runs, isolated


def ratios_of(variants, runs):
    """tokens/s of ours over every other variant's, round by round."""
    rate = {name: [one["tokens_per_second"] for one in rounds] for name, rounds in runs.items()}
    return {variant.name: [ours / theirs for ours, theirs in zip(rate[OURS], rate[variant.name])]
            for variant in variants if variant.name != OURS}


def run_case(args, trainers, case):
    reference = trainers.prepare(case)
    losses = first_losses(trainers, case, reference)
    curves = check_curves(trainers, case, args.curve_steps)
    libraries = trainers.library_seconds(case)
    variants, runs, isolated = measure(args, trainers, case)
    ratios = ratios_of(variants, runs)
    rivals = {v.name: statistics.median(ratios[v.name]) for v in variants if v.rival and v.name != OURS}
    lengths = [length for lengths in peer_data.packed_lengths() for length in lengths] if case.kind == "packed" else [LENGTH] * ROWS
    batches = len(peer_data.packed_lengths()) if case.kind == "packed" else 1
    losses[case.dtype] = runs[OURS][0]["first_loss"]
    return {
        "case": case.name, "title": case.title, "dtype": case.dtype, "ranks": case.ranks, "threads": trainers.threads(case),
        "settings": {variant.name: variant.settings for variant in variants}, "runs": runs, "ratios": ratios,
        "trainers": {variant.name: variant.trainer for variant in variants}, "best_peer": min(rivals, key=rivals.get),
        "losses": losses, "curves": curves, "libraries_s": libraries, "isolated": isolated,
        "flops": {"matrix": matrix_flops(case.kind), "attention": attention_flops(case.kind, lengths) / batches},
        "parameters": reference["parameters"], "versions": {key: reference[key] for key in ("torch", "transformers")},
        "two_jobs": TWO_JOBS in runs, "rounds": args.rounds, "steps": args.steps, "malloc": MALLOC,
        "command": " ".join(["bench/compare/compare.py", *sys.argv[1:]]), "commit": report.commit(), "machine": report.machine()}


def parse_arguments():
    peers = list(dict.fromkeys(v.key for case in CASES.values() for v in case.all_variants() if v.trainer != "ours"))
    positive, path = arguments.at_least(1), pathlib.Path
    parser = arguments.Parser(prog="compare.py", description="Compare training with PyTorch.",
                              epilog=f"Cases: {', '.join(CASES)}. Peers: {', '.join(peers)}")
    parser.add_argument("--case", default=",".join(usual_cases()), help="names with commas between; default here: %(default)s")
    parser.add_argument("--peers", help="whom to measure beside our program, with commas between; default: all of a case")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--steps", type=positive, default=8, help="measured steps a run")
    parser.add_argument("--curve-steps", type=arguments.at_least(0), default=50, help="steps of the loss curves; 0: not compared")
    parser.add_argument("--veomni", type=path, default=ROOT / "build/release/bin/veomni", help="our program")
    parser.add_argument("--gemm-rate", type=path, default=ROOT / "build/release/bin/gemm_rate")
    parser.add_argument("--veomni-peer", type=path, help="a checkout of VeOmni")
    parser.add_argument("--torchtitan", type=path, help="a checkout of TorchTitan")
    parser.add_argument("--peer-python", type=path, default=path(sys.executable),
                        help="a Python that has what those two import (requirements-peers.txt)")
    parser.add_argument("--limit-s", type=positive, default=600, help="time limit of one run")
    parser.add_argument("--out", type=path, default=ROOT / "out/bench")
    args = parser.parse_args()
    args.case = arguments.names(parser, "--case", args.case, list(CASES))
    args.peers = args.peers and arguments.names(parser, "--peers", args.peers, peers)
    arguments.program(parser, "--veomni", args.veomni, "run `make build`")
    arguments.program(parser, "--peer-python", args.peer_python, "name a Python")
    for option, checkout in (("--veomni-peer", args.veomni_peer), ("--torchtitan", args.torchtitan)):
        if checkout and not checkout.is_dir():
            parser.error(f"{option}: no directory {checkout}")
    for name in args.case:
        if not any(variant.rival for variant in CASES[name].chosen(args.peers, checkouts(args))[1:]):
            parser.error(f"--peers: none of {', '.join(args.peers)} is a peer of {name} here; it has: " + ", ".join(
                v.key for v in CASES[name].chosen(None, checkouts(args))[1:] if v.rival))
    args.out = arguments.output_folder(parser, args.out)
    return args


def main():
    args = parse_arguments()
    if not args.gemm_rate.exists():
        print(f"compare.py: {args.gemm_rate} is not built (`make bench` does): no rate of isolated products", flush=True)
    out = args.out
    (out / "compare").mkdir(parents=True, exist_ok=True)
    trainers, results = Trainers(args, out / "compare"), []
    for name in args.case:
        results.append(run_case(args, trainers, CASES[name]))
        (out / "compare" / f"{name}.json").write_text(json.dumps(results[-1], indent=1))
    print("\n" + report.write(results, out))


if __name__ == "__main__":
    main()
