# SPDX-License-Identifier: Apache-2.0
"""How much of the communication hides behind computation when two hosts share a slow cable.

    .venv/bin/python bench/overlap/overlap.py [--steps 12] [--share 0.6]

One rank each on two network namespaces (root and iproute2 are needed), FSDP2, the cable limited so that communication
without prefetch takes --share of the computing time. Prints a table; fails unless prefetch leaves at most half of the
communication exposed, with equal losses. Results go to out/bench/overlap.md.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "launch"), str(ROOT / "bench" / "compare")]
from peer_data import byte_tokenizer  # noqa: E402
from report import commit, machine  # noqa: E402
from two_hosts import TwoHosts  # noqa: E402

TOKENS, WARMUP, MOST_EXPOSED = 2048, 2, 0.5
SHAPE = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", vocab_size=2048, hidden_size=512, num_hidden_layers=8,
             num_attention_heads=8, num_key_value_heads=4, head_dim=64, intermediate_size=1536, rms_norm_eps=1e-6,
             rope_theta=10000.0, max_position_embeddings=2048, tie_word_embeddings=True, initializer_range=0.02)


def write_recipe(out, name, steps, ranks, prefetch):
    recipe = {
        "model": {"foundation": {"config": SHAPE}},
        "data": {"tokenizer": str(out / "tokenizer.json"), "template": "plain", "append_eos": False, "shuffle": False,
                 "sources": [{"name": "random", "path": str(out / "tokens.txt"), "format": "text_lines"}]},
        "mesh": {"dp_shard": ranks}, "parallel": {"default": {"param_dtype": "bfloat16", "prefetch": prefetch}},
        "optim": {"lr": 1e-3, "schedule": "constant"}, "checkpoint": {"every": 0},
        "train": {"steps": steps, "micro_batch_tokens": TOKENS, "seed": 1}, "output": str(out / name)}
    (out / f"{name}.yaml").write_text(json.dumps(recipe))
    return out / f"{name}.yaml"


def write_data(out):
    byte_tokenizer().save(str(out / "tokenizer.json"))
    draw = random.Random(1)
    (out / "tokens.txt").write_text("".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=TOKENS)) + "\n" for _ in range(256)))


def run(command, out, name):
    subprocess.run(["rm", "-rf", out / name], check=True)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600,
                          env=dict(os.environ, OMP_NUM_THREADS="1"))
    if done.returncode != 0:
        sys.exit(f"overlap.py: `{' '.join(map(str, command))}` ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    rows = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(row["step_ms"] for row in rows[WARMUP:]), [row["loss"] for row in rows]


def compute_beside(args, out):
    """The step of a rank that talks to nobody, while another does the same: both share the machine's memory."""
    recipes = {name: write_recipe(out, name, args.steps, 1, True) for name in ("alone", "beside")}
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(run, [args.veomni, "train", recipe], out, name) for name, recipe in recipes.items()]
        return statistics.mean(job.result()[0] for job in jobs)


def step_bytes(parameters):
    """What a rank of two sends a step: half of the bf16 parameters twice (forward and backward), half of the fp32 gradients."""
    return parameters / 2 * (2 + 2 + 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--veomni", type=pathlib.Path, default=ROOT / "build/release/bin/veomni")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--share", type=float, default=0.6, help="communication without prefetch, over computing time")
    args = parser.parse_args()
    out = ROOT / "out/bench/overlap"
    out.mkdir(parents=True, exist_ok=True)
    write_data(out)
    hidden, inner, layers = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_hidden_layers"]
    parameters = layers * (hidden * 64 * (2 * 8 + 2 * 4) + 3 * hidden * inner) + SHAPE["vocab_size"] * hidden
    compute_ms = compute_beside(args, out)
    mbit = step_bytes(parameters) * 8 / 1e6 / (args.share * compute_ms / 1000)
    with TwoHosts() as hosts:
        hosts.limit(mbit)
        command = [*hosts.mpirun(1, ["OMP_NUM_THREADS"]), args.veomni, "train"]
        results = {name: run([*command, write_recipe(out, name, args.steps, 2, name == "prefetch")], out, name)
                   for name in ("no_prefetch", "prefetch")}
    exposed = {name: step_ms - compute_ms for name, (step_ms, _) in results.items()}
    ratio = exposed["prefetch"] / exposed["no_prefetch"]
    share = exposed["no_prefetch"] / compute_ms
    lines = ["| | step ms | exposed communication ms |", "|---|---|---|", f"| computing alone | {compute_ms:,.0f} | |"]
    lines += [f"| {name.replace('_', ' ')} | {results[name][0]:,.0f} | {exposed[name]:,.0f} |" for name in results]
    lines += ["", f"Exposed with prefetch / without: **{ratio:.2f}** (at most {MOST_EXPOSED}). Without prefetch communication takes "
              f"{share:.2f} x the computing time; cable {mbit:,.0f} Mbit/s; {parameters / 1e6:.1f} M parameters, {TOKENS} tokens a rank.", "",
              f"- command: `{' '.join(['bench/overlap/overlap.py', *sys.argv[1:]])}`", f"- commit: {commit()}", f"- machine: {machine()}"]
    text = "\n".join(lines) + "\n"
    (ROOT / "out/bench/overlap.md").write_text(text)
    print(text)
    if results["prefetch"][1] != results["no_prefetch"][1]:
        sys.exit("overlap.py: the losses differ")
    if not 0.5 <= share <= 1.1:
        sys.exit(f"overlap.py: communication took {share:.2f} x the computing time, not 0.5 to 1; set --share")
    if ratio > MOST_EXPOSED:
        sys.exit(f"overlap.py: {ratio:.2f} of the communication stays exposed, more than {MOST_EXPOSED}")


if __name__ == "__main__":
    main()
