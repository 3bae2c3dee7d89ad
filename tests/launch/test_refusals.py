# SPDX-License-Identifier: Apache-2.0
"""The user's mistakes, on two ranks: one line by rank 0, exit code 2, nothing written, before any memory is taken."""
import os
import subprocess

import pytest
from jobs import CONFIG, VEOMNI, Job, environment, launcher, run
from reference import make_batch, make_qwen3
from safetensors.torch import save_file

# Two thousand billion parameters: whoever takes memory for them is killed, and refuses nothing.
NO_MEMORY_HOLDS = {"foundation": {"config": dict(
    model_type="qwen3", vocab_size=1000000, hidden_size=65536, intermediate_size=262144, num_hidden_layers=30,
    num_attention_heads=512, num_key_value_heads=512, head_dim=128, tie_word_embeddings=False)}}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("refusals"))


def check_refused(done, *words):
    lines = [line for line in done.stderr.splitlines() if line.startswith("veomni")]
    assert done.returncode == 2, f"{done.returncode}\n{done.stderr}"
    assert len(lines) == 1 and all(word in lines[0] for word in words), done.stderr


REFUSED = {
    "a mesh too large": (["--mesh.dp_shard=3"], ["dp_shard", "3", "2"]),
    "a mesh too small": (["--mesh.dp_shard=1"], ["dp_shard", "1", "2"]),
    "a mesh of two axes": (["--mesh.dp_replicate=2", "--mesh.dp_shard=2"], ["4", "2"]),
    "replicas that do not divide": (["--mesh.dp_replicate=3"], ["dp_replicate=3", "2"]),
    "no replica": (["--mesh.dp_replicate=0"], ["dp_replicate"]),
    "a size below none": (["--mesh.dp_shard=-1"], ["dp_shard"]),
    "sequence parallelism": (["--mesh.sp=2"], ["mesh.sp=2"]),
    "a size past all counting": (["--mesh.dp_replicate=65536", "--mesh.dp_shard=65536"], ["65536", "2"]),
    "a pattern that matches nothing": (["--parallel.modules={'nowhere.*': {strategy: replicate}}"], ["nowhere", "matches nothing"]),
    "a layer too many": (["--parallel.modules={foundation.layers.30: {strategy: ddp}}"], ["foundation.layers.30", "matches nothing"]),
    "a pattern of nothing": (["--parallel.modules={'': {strategy: ddp}}"], ["parallel.modules"]),
    "a part of a unit": (["--parallel.modules={foundation.layers.0.mlp: {strategy: ddp}}"], ["foundation.layers.0.mlp", "whole"]),
    "an unknown strategy": (["--parallel.default.strategy=zero3"], ["strategy", "zero3", "fsdp2"]),
    "a module's unknown strategy": (["--parallel.modules={foundation.layers.0: {strategy: fsdp3}}"], ["fsdp3", "fsdp2"]),
    "a module's mesh": (["--parallel.modules={foundation.layers.0: {mesh: {dp_replicate: 3}}}"], ["foundation.layers.0", "3", "2"]),
    "no replica of a module": (["--parallel.modules={foundation.layers.0: {mesh: {dp_replicate: 0}}}"], ["dp_replicate"]),
    "recompute of nothing": (["--parallel.default.recompute=[nowhere]"], ["recompute", "nowhere"]),
    "recompute and not": (["--parallel.default.recompute=[none, layer]"], ["recompute", "none"]),
    "ranks as threads": (["--comm.backend=local"], ["local"]),
}


@pytest.mark.parametrize("how", ["veomni", "mpirun"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake(job, how, case):
    flags, words = REFUSED[case]
    name = f"{how}-{case}".replace(" ", "-").replace("'", "")
    check_refused(run(*launcher(how, 2), "train", job.write(name, model=NO_MEMORY_HOLDS), *flags, timeout=30), *words)
    assert not (job.folder / name).exists()


@pytest.mark.parametrize("how", ["veomni", "mpirun"])
@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2"}, {"RANK": "0", "MASTER_ADDR": "127.0.0.1"},
                                       {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}], ids=str)
def test_half_of_torchruns_variables_under_a_launcher(job, how, variables):
    missing = next(name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in variables)
    check_refused(run(*launcher(how, 2), "train", job.write(f"half-{how}"), **variables), "torchrun", missing, *variables)
    assert not (job.folder / f"half-{how}").exists()


def test_half_of_torchruns_variables(job):
    done = subprocess.run([VEOMNI, "train", str(job.write("half"))], capture_output=True, text=True, env=environment(WORLD_SIZE="2"))
    check_refused(done, "WORLD_SIZE", "RANK")
    quiet = subprocess.run([VEOMNI, "train", str(job.write("half"))], capture_output=True, text=True, env=environment(RANK="1"))
    assert quiet.returncode == 2 and quiet.stderr == ""


def test_ranks_with_different_recipes(job):
    name, variables = "differ", dict(VEOMNI_WORLD_SIZE="2", VEOMNI_JOB=f"differ-{os.getpid()}")
    ranks = [subprocess.Popen([VEOMNI, "train", str(job.write(name)), f"--train.seed={rank}"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=environment(VEOMNI_RANK=str(rank), **variables))
             for rank in range(2)]
    said = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert "rank 1 runs another job than rank 0" in said[0] and said[1] == ""
    assert not (job.folder / name).exists()


def test_ranks_that_spread_a_model_differently(tmp_path):
    folder = tmp_path / "model"
    make_qwen3(9, **CONFIG).save_pretrained(folder)
    save_file(make_batch(4, CONFIG["vocab_size"], [9, 1, 14]), folder / "in.safetensors")
    ranks = [subprocess.Popen([VEOMNI, "forward", str(folder), str(folder / "in.safetensors"), str(tmp_path / "out.safetensors"),
                               f"--parallel.default.strategy={strategy}"], stderr=subprocess.PIPE, text=True,
                              env=environment(VEOMNI_RANK=str(rank), VEOMNI_WORLD_SIZE="2", VEOMNI_JOB=f"spread-{os.getpid()}"))
             for rank, strategy in enumerate(["fsdp2", "ddp"])]
    said = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert "rank 1 runs another job than rank 0" in said[0]


def test_launch_refuses_what_does_not_run_on_ranks():
    for words in (["launch", "-n", "2"], ["launch", "-n", "2", "generate", "x"], ["launch", "-n", "0", "train", "x"], ["launch", "train", "x"]):
        done = run(VEOMNI, *words)
        assert done.returncode == 2, done.stderr
