# SPDX-License-Identifier: Apache-2.0
"""Jobs of several processes, for the tests beside this file."""
import json
import os
import pathlib
import random
import subprocess
import time

from reference import byte_tokenizer, make_qwen3, read_metrics
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
VEOMNI = os.environ.get("VEOMNI_BIN", str(ROOT / "build/release/bin/veomni"))
CONFIG = dict(vocab_size=256, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


def environment(**variables):
    clean = {name: value for name, value in os.environ.items()
             if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    return {**clean, "OMP_NUM_THREADS": "1", **variables}


def run(*command, timeout=120, **variables):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                          env=environment(**variables))


def launcher(name, ranks):
    return {"veomni": [VEOMNI, "launch", "-n", ranks], "mpirun": [*MPIRUN, "-n", ranks, VEOMNI]}[name]


def left_running(output):
    """Processes whose command line names the run's directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(output) in line and "veomni" in line:
                found.append(line)
    return found


def check_nothing_runs(output, within):
    deadline = time.monotonic() + within
    while left_running(output) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left_running(output)


def process_of_rank(output, rank):
    """The process that is this rank of the run under mpirun."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.path.basename(os.readlink(entry / "exe")) == "veomni" \
                    and str(output) in (entry / "cmdline").read_text() \
                    and f"OMPI_COMM_WORLD_RANK={rank}\0" in (entry / "environ").read_text():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no process is rank {rank} of {output}")


class Job:
    def __init__(self, folder, steps=6, **sections):
        self.folder = folder
        make_qwen3(7, **CONFIG).save_pretrained(folder / "model")
        byte_tokenizer(folder)
        rng = random.Random(1)
        lines = ["".join(rng.choice("abcdefghij klmnop") for _ in range(rng.randint(20, 60))) for _ in range(200)]
        (folder / "texts.txt").write_text("\n".join(lines) + "\n")
        self.recipe = {
            "model": {"foundation": {"path": str(folder / "model")}},
            "data": {"tokenizer": str(folder / "tokenizer.json"), "template": "plain",
                     "sources": [{"name": "texts", "path": str(folder / "texts.txt")}]},
            "parallel": {"default": {"param_dtype": "float32"}},
            "optim": {"name": "adamw", "lr": 1e-3, "schedule": "constant"},
            "train": {"steps": steps, "micro_batch_tokens": 128, "accumulation": 1, "seed": 3}, **sections}

    def write(self, name, **sections):
        recipe = {**self.recipe, **sections, "output": str(self.folder / name)}
        (self.folder / f"{name}.yaml").write_text(json.dumps(recipe))
        return self.folder / f"{name}.yaml"

    def losses(self, name):
        return [row["loss"] for row in read_metrics(self.folder / name)]

    def weights(self, name):
        return load_file(self.folder / name / "hf" / "model.safetensors")


def check_done(done):
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
