# SPDX-License-Identifier: Apache-2.0
"""Every op forward and backward: time, rate, share of what this machine can do, and ATen beside it.

    .venv/bin/python bench/kernels/run.py [--filter REGEX] [--repetitions 3] [--min-time 0.1]

The machine's limits are measured in the same run: multiply-adds from registers to registers in each dtype, and a triad through
memory. A pass cannot take less than flops / peak, nor than bytes / triad where its data is not in a cache; "share" is the larger of
the two over the time it took, so it may pass 100 % where caches help. Repetitions of all ops are interleaved at random. Results
go to out/bench/kernels.md and kernels.json.
"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
from collections import defaultdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "compare"))
import arguments  # noqa: E402
from report import commit, machine  # noqa: E402
from trainers import MALLOC  # noqa: E402

# The line by which attention is judged: bf16, causal, as in bench/compare.
ATTENTION = ("attention", "2 x 1024, 8/4 heads of 64, causal", "bf16")
WANTED = {"forward": 5.0, "backward": 3.5}


def measure(args):
    command = [args.program, f"--benchmark_filter={args.filter}|^limit", "--benchmark_format=json",
               f"--benchmark_repetitions={args.repetitions}", "--benchmark_enable_random_interleaving=true",
               f"--benchmark_min_time={args.min_time}"]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ, **MALLOC))
    return [row for row in json.loads(done.stdout)["benchmarks"] if row["run_type"] == "iteration"]


def collect(rows):
    """(limits by name: (rate, instruction), passes by (op, shape, dtype, pass): {ours, aten: ms, flops, bytes})."""
    limits, passes = {}, defaultdict(lambda: {"ours": [], "aten": []})
    for row in rows:
        fields = re.sub(r"(/iterations:\d+)?/manual_time$", "", row["run_name"]).split("|")
        if fields[0] == "limit":
            best = max(limits.get(fields[1], (0, ""))[0], row["rate"])
            limits[fields[1]] = (best, row["label"])
            continue
        entry = passes[tuple(fields[:4])]
        entry[fields[4]].append(row["real_time"])
        entry.update(flops=row["flops"], bytes=row["bytes"])
    for entry in passes.values():
        for who in ("ours", "aten"):
            entry[who] = statistics.median(entry[who])
    return limits, passes


def line(key, entry, limits):
    op, shape, dtype, name = key
    seconds = entry["ours"] / 1000
    share = max(entry["flops"] / limits[dtype][0], entry["bytes"] / limits["memory"][0]) / seconds
    rate = f"{entry['flops'] / seconds / 1e9:,.0f} GFLOP/s" if entry["flops"] else f"{entry['bytes'] / seconds / 1e9:.1f} GB/s"
    entry.update(share=share, ratio=entry["aten"] / entry["ours"])
    return (f"| {op} | {shape} | {dtype} | {name} | {entry['ours']:.3f} | {rate} | {share:.0%} | {entry['aten']:.3f} | "
            f"{entry['ratio']:.2f} |")


def verdict(passes):
    """How the attention line stands to what is asked of it."""
    for name, wanted in WANTED.items():
        entry = passes.get((*ATTENTION, name))
        if entry:
            yield (f"- attention {name}, bf16, 2 x 1024, 8 query and 4 key/value heads of 64: **{entry['ratio']:.2f} x** ATen's flash "
                   f"attention (wanted: {wanted})")


def main():
    parser = arguments.Parser(prog="run.py", description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/bin/kernels_bench")
    parser.add_argument("--filter", default=".", help="ops whose op|shape|dtype|pass|who matches")
    parser.add_argument("--repetitions", type=arguments.at_least(1), default=3)
    parser.add_argument("--min-time", type=arguments.at_least(0.001, float), default=0.1, help="seconds of one repetition, at least")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/bench")
    args = parser.parse_args()
    arguments.program(parser, "--program", args.program, "run `make bench-kernels`")
    listed = subprocess.run([args.program, f"--benchmark_filter={args.filter}", "--benchmark_list_tests"], capture_output=True, text=True)
    if "|" not in listed.stdout or "egex" in listed.stderr:
        parser.error(f"--filter: nothing matches '{args.filter}'; all: {args.program} --benchmark_list_tests")
    args.out = arguments.output_folder(parser, args.out)
    limits, passes = collect(measure(args))
    names = {"fp32": "GFLOP/s in fp32", "bf16": "GFLOP/s in bf16", "memory": "GB/s"}
    lines = ["# Kernels", "", "| limit of this machine | | |", "|---|---|---|"]
    lines += [f"| {names[name]} | {limits[name][0] / 1e9:,.0f} | {limits[name][1]} |" for name in names]
    lines += ["", "| op | shape | dtype | pass | ms | rate | share of the limit | ATen ms | ATen / ours |",
              "|---|---|---|---|---|---|---|---|---|"]
    lines += [line(key, entry, limits) for key, entry in sorted(passes.items(), key=lambda item: (item[0][2], item[0][0], item[0][1],
                                                                                                 item[0][3] == "backward"))]
    lines += ["", *verdict(passes), f"- {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads, median of {args.repetitions} "
              "repetitions interleaved at random, malloc tuned", f"- command: `{' '.join(['bench/kernels/run.py', *sys.argv[1:]])}`",
              f"- commit: {commit()}", f"- machine: {machine()}"]
    text = "\n".join(lines) + "\n"
    (args.out / "kernels.md").write_text(text)
    (args.out / "kernels.json").write_text(json.dumps(
        {"limits": limits, "passes": [dict(zip(("op", "shape", "dtype", "pass"), key)) | entry for key, entry in passes.items()],
         "commit": commit(), "machine": machine()}, indent=1))
    print(text)


if __name__ == "__main__":
    main()
