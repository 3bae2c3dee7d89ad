# SPDX-License-Identifier: Apache-2.0
"""Ranks as processes: the same numbers as threads and as one rank, and how a job ends when a rank fails."""
import os
import re
import signal
import subprocess
import time

import pytest
import torch
from compare import gradient_errors, relative_error
from jobs import CONFIG, VEOMNI, Job, check_done, check_nothing_runs, environment, launcher, run
from reference import make_batch, make_qwen3, run_reference
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("launch"))


@pytest.mark.parametrize("how", ["veomni", "mpirun"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_train_what_threads_train(job, how, ranks):
    local, name = f"local{ranks}", f"{how}{ranks}"
    check_done(run(VEOMNI, "train", job.write(local), "--comm.backend=local", f"--mesh.dp_shard={ranks}"))
    check_done(run(*launcher(how, ranks), "train", job.write(name)))
    assert job.losses(name) == job.losses(local)
    ours, theirs = job.weights(name), job.weights(local)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not (job.folder / name / "flight").exists()


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """A model, a batch and what transformers makes of them."""
    folder = tmp_path_factory.mktemp("gradients")
    model = make_qwen3(9, **CONFIG)
    model.save_pretrained(folder)
    batch = make_batch(4, CONFIG["vocab_size"], [9, 1, 14, 5, 7])
    save_file(batch, folder / "in.safetensors")
    return folder, run_reference(model, batch, "sdpa")


@pytest.mark.parametrize("how", ["veomni", "mpirun"])
@pytest.mark.parametrize("ranks, flags", [
    *((ranks, f"--parallel.default.strategy={strategy}") for strategy in ("fsdp2", "fsdp1", "ddp", "replicate") for ranks in (2, 3, 4)),
    (4, "--parallel.default.strategy=hsdp --mesh.dp_replicate=2"), (4, "--parallel.default.strategy=fsdp1 --mesh.dp_replicate=2"),
    (3, "--parallel.default.recompute=layer")], ids=lambda value: str(value).replace("--parallel.default.", "").replace("--mesh.", ""))
def test_forward_on_processes_equals_transformers(tmp_path, gradients, how, ranks, flags):
    folder, want = gradients
    check_done(run(*launcher(how, ranks), "forward", folder, folder / "in.safetensors", tmp_path / "out.safetensors", "--grads",
                   *flags.split()))
    out = load_file(tmp_path / "out.safetensors")
    assert relative_error(out["loss"], want["loss"]) <= 1e-5
    grads = {name[len("grad."):]: tensor for name, tensor in out.items() if name.startswith("grad.")}
    assert grads.keys() == want["gradients"].keys()
    assert max(gradient_errors(grads, want["gradients"]).values()) <= 1e-5


def test_torchruns_variables_on_one_host(job):
    recipe = job.write("torchrun")
    ranks = [subprocess.Popen([VEOMNI, "train", str(recipe)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2",
                                              MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", TORCHELASTIC_RUN_ID=str(os.getpid())))
             for rank in range(2)]
    for rank in ranks:
        out, err = rank.communicate(timeout=120)
        assert rank.returncode == 0, err
    assert len(job.losses("torchrun")) == job.recipe["train"]["steps"]


# Faults. A job that fails ends on every rank, soon, with a code that says so.

RANKS = 3
REPEATS = int(os.environ.get("VEOMNI_FAULT_REPEATS", "5"))


def check_failed(done, began, output, within=20):
    assert done.returncode != 0
    assert time.monotonic() - began < within
    check_nothing_runs(output, within=5)
    assert not [name for name in os.listdir("/dev/shm") if "veomni" in name or str(os.getpid()) in name]


def flight(job, name, rank):
    """(operation, module) of each of a rank's last collectives, oldest first; and the file."""
    text = (job.folder / name / "flight" / f"rank_{rank}.txt").read_text()
    calls = [line.split() for line in text.splitlines() if re.match(r" *[0-9]+ ", line)]
    return [(words[3], next((w for w in words if w.startswith("foundation.")), "-")) for words in calls], text


@pytest.fixture(scope="module")
def step_calls(job):
    """How a rank's collectives follow each other: sequence numbers of two steps' first calls, and the calls between."""
    done = run(*launcher("veomni", RANKS), "train", job.write("calls"), "--comm.timeout_s=2", VEOMNI_FAULT="rank=1,seq=58,kind=hang")
    assert done.returncode != 0
    calls, _ = flight(job, "calls", 0)
    calls = [call for call in calls if call[0] != "split"]
    # A step begins with the count of its labels, before the root unit's gather.
    begins = [i for i in range(1, len(calls)) if calls[i][0] == "all_gather" and calls[i - 1][0] == "all_reduce"]
    assert len(begins) >= 3 and begins[-1] - begins[-2] == begins[-2] - begins[-3]
    return begins, calls


def sequence_of(step_calls, step, operation, module, last=False):
    begins, calls = step_calls
    length = begins[1] - begins[0]
    found = [i for i in range(length) if calls[begins[0] + i] == (operation, module)]
    return begins[0] + step * length + found[-1 if last else 0]


PLACES = {"forward": ("all_gather", "foundation.layers.1", "before"), "backward": ("reduce_scatter", "foundation.layers.0", "before"),
          "inside a collective": ("reduce_scatter", "foundation.layers.1", "inside")}


@pytest.mark.parametrize("repeat", range(REPEATS))
@pytest.mark.parametrize("how", ["veomni", "mpirun"])
@pytest.mark.parametrize("place", PLACES)
def test_a_rank_that_is_killed(job, step_calls, how, place, repeat):
    name, victim = f"kill-{how}-{place}-{repeat}".replace(" ", "-"), (repeat + 1) % RANKS
    operation, module, at = PLACES[place]
    sequence = sequence_of(step_calls, 1 + repeat % 3, operation, module)
    began = time.monotonic()
    done = run(*launcher(how, RANKS), "train", job.write(name), VEOMNI_FAULT=f"rank={victim},seq={sequence},kind=kill,at={at}")
    check_failed(done, began, job.folder / name)
    if how == "veomni":
        assert re.search(rf"rank {victim} \(process [0-9]+\) was killed by signal 9", done.stderr), done.stderr
        assert done.returncode == 128 + signal.SIGKILL
        if victim != 0:
            assert re.search(rf"rank {victim} \(process [0-9]+\) has died", done.stderr), done.stderr
    else:
        assert re.search(rf"rank {victim} ", done.stderr + done.stdout), done.stderr
    for rank in set(range(RANKS)) - {victim}:
        calls, _ = flight(job, name, rank)
        assert (operation, module) in calls[-4:]
    assert not (job.folder / name / "flight" / f"rank_{victim}.txt").exists()


def test_a_rank_that_hangs(job, step_calls):
    sequence = sequence_of(step_calls, 1, "all_gather", "foundation.layers.1")
    began = time.monotonic()
    done = run(*launcher("veomni", RANKS), "train", job.write("hang"), "--comm.timeout_s=2", VEOMNI_FAULT=f"rank=1,seq={sequence},kind=hang")
    check_failed(done, began, job.folder / "hang")
    said = next(line for line in done.stderr.splitlines() if "timed out" in line)
    assert re.search(r"\[rank [0-9]/3\] all_gather .* #[0-9]+ on 'dp_shard'.* of foundation\.layers\.1 timed out after 2000 ms; "
                     r"ranks that had not arrived: 1", said), said
    assert "failed" in flight(job, "hang", 0)[1]


def test_a_collective_that_is_left_out(job, step_calls):
    """What the rank calls next is not what the others call."""
    sequence = sequence_of(step_calls, 1, "reduce_scatter", "foundation.layers.0")
    began = time.monotonic()
    done = run(*launcher("veomni", RANKS), "train", job.write("skip"), "--comm.timeout_s=2", VEOMNI_FAULT=f"rank=1,seq={sequence},kind=skip")
    check_failed(done, began, job.folder / "skip")
    assert re.search(r"ranks disagree on call #[0-9]+ of 'dp_shard'", done.stderr) and "reduce_scatter" in done.stderr, done.stderr


def test_a_killed_launcher_leaves_nothing(job):
    recipe = job.write("orphans", train={**job.recipe["train"], "steps": 100000})
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in launcher("veomni", 2)] + ["train", str(recipe)], env=environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (job.folder / "orphans" / "metrics.jsonl").exists():
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    process.kill()
    process.wait()
    check_nothing_runs(job.folder / "orphans", within=10)


def test_a_restart_goes_on_from_the_newest_checkpoint(job, step_calls):
    sections = dict(checkpoint={"every": 2, "keep": 2})
    check_done(run(*launcher("veomni", RANKS), "train", job.write("whole", **sections)))
    # The second attempt makes fewer calls than this in all: it begins after step 4.
    sequence = sequence_of(step_calls, 5, "reduce_scatter", "foundation.layers.0")
    done = run(VEOMNI, "launch", "-n", RANKS, "--max-restarts", "1", "train", job.write("restarts", **sections),
               VEOMNI_FAULT=f"rank=1,seq={sequence},kind=kill")
    check_done(done)
    assert "restart 1 of 1" in done.stderr and "resumed from" in done.stderr, done.stderr
    assert job.losses("restarts") == job.losses("whole")
    ours, theirs = job.weights("restarts"), job.weights("whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
