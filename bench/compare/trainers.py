# SPDX-License-Identifier: Apache-2.0
"""How each trainer of the comparison is started, and what a run of it gives."""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import watch
from cases import TOKENS

HERE = pathlib.Path(__file__).resolve().parent
# Without these, glibc returns large temporaries to the kernel after every step and faults them in again.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
# The trainer's libraries alone: what no program on top of them can avoid.
IMPORTS = "import torch, transformers; from transformers import AutoModelForCausalLM; import torch.distributed.fsdp"


def our_recipe(case, folder, output, steps, ranks):
    model = {"dense": {"foundation": {"path": f"{folder}/model"}}, "packed": {"foundation": {"path": f"{folder}/model"}},
             "pictures": {"path": f"{folder}/model"},
             "sound": {"foundation": {"path": f"{folder}/model"}, "encoders": {"audio": {"path": f"{folder}/audio"}}}}[case.kind]
    texts = case.kind in ("dense", "packed")
    source = {"name": "random", "path": f"{folder}/{'tokens.txt' if texts else 'records.jsonl'}",
              "format": "text_lines" if texts else "jsonl"}
    return {"model": model,
            "data": {"tokenizer": f"{folder}/tokenizer.json", "sources": [source], "template": "plain", "append_eos": False,
                     "shuffle": False, "open_bins": 1, "on_bad_record": "fail"},
            "mesh": {"dp_shard": ranks},
            "parallel": {"default": {"strategy": "fsdp2", "recompute": "none", "param_dtype": case.dtype}},
            "optim": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1, "decay_norms": True, "clip": 1.0,
                      "schedule": "constant"},
            "train": {"steps": steps, "micro_batch_tokens": TOKENS, "accumulation": 1, "seed": 1},
            "checkpoint": {"every": 0}, "output": str(output)}


class Trainers:
    """@param args  veomni (our program), veomni_peer, torchtitan (checkouts or None), peer_python, limit_s"""

    def __init__(self, args, out):
        self.args, self.out = args, out
        # For this comparison alone: what an interrupted one left half written would stop the next.
        self.compiled = out / "compiled"
        shutil.rmtree(self.compiled, ignore_errors=True)

    def threads(self, case):
        return int(os.environ.get("OMP_NUM_THREADS", max(1, len(os.sched_getaffinity(0)) // case.ranks)))

    def environment(self, case):
        return dict(MALLOC, OMP_NUM_THREADS=str(self.threads(case)), TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1",
                    TORCHINDUCTOR_CACHE_DIR=str(self.compiled))

    def folder(self, case):
        return self.out / case.kind

    def prepare(self, case):
        subprocess.run([sys.executable, HERE / "peer.py", "prepare", self.folder(case), "--kind", case.kind],
                       env=dict(os.environ, **self.environment(case)), check=True)
        return json.loads((self.folder(case) / "reference.json").read_text())

    def write_recipe(self, case, steps, ranks, name="veomni"):
        output = self.out / "runs" / name
        subprocess.run(["rm", "-rf", output], check=True)
        recipe = self.out / "runs" / f"{name}.yaml"
        recipe.parent.mkdir(exist_ok=True)
        recipe.write_text(json.dumps(our_recipe(case, self.folder(case), output, steps, ranks), indent=1))   # JSON is YAML
        return recipe, output / "metrics.jsonl"

    def command(self, case, variant, steps):
        """(command, file of metrics)"""
        if variant.trainer == "ours":
            recipe, metrics = self.write_recipe(case, steps, case.ranks)
            launch = ["launch", "-n", str(case.ranks)] if case.ranks > 1 else []
            return [self.args.veomni, *launch, "train", recipe], metrics
        metrics = self.out / "runs" / f"{variant.trainer}.jsonl"
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.ranks)] if case.ranks > 1 else []
        common = ["--kind", case.kind, "--dtype", case.dtype, "--steps", str(steps), "--out", metrics, *variant.arguments]
        if variant.trainer == "pytorch":
            return [sys.executable, *torchrun, HERE / "peer.py", "train", self.folder(case), *common], metrics
        checkout = {"veomni": self.args.veomni_peer, "torchtitan": self.args.torchtitan}[variant.trainer]
        return [self.args.peer_python, *torchrun, HERE / f"peer_{variant.trainer}.py", self.folder(case), "--checkout", checkout,
                *common], metrics

    def run(self, case, variant, steps, warmup=None):
        """Numbers of one run, as watch.summary gives them."""
        warmup = variant.warmup if warmup is None else warmup
        if variant.trainer == "jobs":
            return self.run_jobs(case, steps + warmup, warmup)
        command, metrics = self.command(case, variant, steps + warmup)
        log = self.out / "runs" / f"{variant.name.replace(' ', '_')}.log"
        return watch.summary(watch.run(command, metrics, self.environment(case), log, self.args.limit_s), warmup)

    def run_jobs(self, case, steps, warmup):
        """As many trainings of one rank as the case has ranks, side by side, each bound to its share of the cores as launched
        ranks are; their tokens added."""
        cores, each = sorted(os.sched_getaffinity(0)), self.threads(case)
        words, files = [], []
        for job in range(case.ranks):
            recipe, metrics = self.write_recipe(case, steps, 1, f"job_{job}")
            share = ",".join(map(str, cores[job * each:(job + 1) * each])) or ",".join(map(str, cores))
            words.append(f"taskset -c {share} '{self.args.veomni}' train '{recipe}' & jobs+=($!)")
            files.append(metrics)
        script = "\n".join(["set -e", "jobs=()", *words, 'for job in "${jobs[@]}"; do wait "$job"; done'])
        seen = watch.run(["bash", "-c", script], files[0], self.environment(case), self.out / "runs" / "jobs.log", self.args.limit_s)
        result = watch.summary(seen, warmup)
        for metrics in files[1:]:
            rows = [json.loads(line) for line in metrics.read_text().splitlines()][warmup:]
            result["tokens_per_second"] += statistics.median(1000 * TOKENS / row["step_ms"] for row in rows)
        return result

    def library_seconds(self, case, repeats=3):
        """Seconds that loading libraries takes at least, by trainer."""
        commands = {"ours": [self.args.veomni, "--version"], "pytorch": [sys.executable, "-c", IMPORTS]}
        result = {}
        for name, command in commands.items():
            taken = []
            for _ in range(repeats):
                begin = time.monotonic()
                subprocess.run(command, env=dict(os.environ, **self.environment(case)), check=True, stdout=subprocess.DEVNULL)
                taken.append(time.monotonic() - begin)
            result[name] = min(taken)      # with the files in memory
        return result
