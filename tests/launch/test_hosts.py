# SPDX-License-Identifier: Apache-2.0
"""Hybrid and full sharding over two hosts of two ranks each, by TCP."""
import pytest
import torch
from jobs import VEOMNI, Job, check_done, run
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


def test_a_rank_that_dies_on_the_other_host(hosts, job):
    done = hosts("train", job.write("dies", mesh=HSDP), VEOMNI_FAULT="rank=3,seq=40,kind=kill,at=inside")
    assert done.returncode != 0
    assert "rank 3" in done.stderr or "process rank 3" in done.stdout + done.stderr
