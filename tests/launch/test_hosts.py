# SPDX-License-Identifier: Apache-2.0
"""Hybrid and full sharding over two hosts of two ranks each, by TCP."""
import os
import re
import signal
import subprocess
import time

import pytest
import torch
from jobs import VEOMNI, Job, check_done, check_nothing_runs, environment, process_of_rank, run
from two_hosts import TwoHosts


@pytest.fixture(scope="module")
def hosts():
    """Gives a function that runs the program on 2 x 2 ranks."""
    with TwoHosts() as two:
        yield lambda *words, **variables: run(*two.mpirun(2, ["OMP_NUM_THREADS", *variables]), VEOMNI, *words, **variables)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("hosts"))


HSDP = {"dp_replicate": 2, "dp_shard": 2}


@pytest.mark.parametrize("mesh", [HSDP, {"dp_shard": 4}], ids=["hsdp", "fsdp2"])
def test_two_hosts_train_what_one_trains(hosts, job, mesh):
    name = "-".join(f"{axis}{size}" for axis, size in mesh.items())
    check_done(run(VEOMNI, "train", job.write(f"one-{name}", mesh=mesh), "--comm.backend=local"))
    check_done(hosts("train", job.write(f"two-{name}", mesh=mesh)))
    ours, theirs = job.losses(f"two-{name}"), job.losses(f"one-{name}")
    assert len(ours) == len(theirs) and all(abs(a - b) <= 1e-5 * abs(b) for a, b in zip(ours, theirs))
    saved, want = job.weights(f"two-{name}"), job.weights(f"one-{name}")
    for key, tensor in want.items():
        assert torch.linalg.vector_norm(saved[key] - tensor) <= 1e-5 * torch.linalg.vector_norm(tensor), key
    again = job.write(f"again-{name}", mesh=mesh)
    check_done(hosts("train", again))
    assert job.losses(f"again-{name}") == ours


def check_named(job, name, victim, returncode, stderr):
    """The other host's survivors were told before the launcher ended them: a call of theirs failed. Rank 0 names the dead
    rank, unless Open MPI held it up (it may have been talking to the dead one); then the launcher names it."""
    assert returncode != 0
    said = [line for line in stderr.splitlines() if line.startswith("veomni: [rank 0/4]")]
    assert all(re.search(rf"rank {victim} \(process [0-9]+\) has died", line) for line in said), stderr
    assert said or f"process rank {victim} " in stderr, stderr
    flights = {rank: (job.folder / name / "flight" / f"rank_{rank}.txt").read_text() for rank in set(range(4)) - {victim}}
    assert "failed:" in flights[0] + flights[1]
    check_nothing_runs(job.folder / name, within=5)


@pytest.mark.parametrize("victim", [2, 3])
@pytest.mark.parametrize("at", ["before", "inside"])
def test_a_rank_that_dies_on_the_other_host(hosts, job, victim, at):
    name = f"dies-{at}-{victim}"
    done = hosts("train", job.write(name, mesh=HSDP), VEOMNI_FAULT=f"rank={victim},seq=40,kind=kill,at={at}")
    check_named(job, name, victim, done.returncode, done.stderr)


def test_a_rank_that_dies_at_any_moment(job):
    recipe = job.write("outside", mesh=HSDP, train={**job.recipe["train"], "steps": 100000})
    with TwoHosts() as two:
        process = subprocess.Popen([*two.mpirun(2, ["OMP_NUM_THREADS"]), VEOMNI, "train", str(recipe)], env=environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (job.folder / "outside" / "metrics.jsonl").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        os.kill(process_of_rank(job.folder / "outside", 3), signal.SIGKILL)
        stderr = process.communicate(timeout=60)[1]
    check_named(job, "outside", 3, process.returncode, stderr)
