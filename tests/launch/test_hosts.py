# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces with host names of their own, joined by a cable that speaks TCP."""
import shutil
import subprocess

import pytest
import torch
from jobs import VEOMNI, Job, check_done, run

HOSTS = {"veomni-h0": "10.77.0.1", "veomni-h1": "10.77.0.2"}
CABLE = ("veomni-v0", "veomni-v1")
# How mpirun reaches the other host, instead of ssh: mpirun's words are "HOST COMMAND...".
AGENT = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1; shift
case $host in {cases} *) echo "no host $host" >&2; exit 1;; esac
exec ip netns exec "$ns" unshare --uts bash -c 'hostname "$0"; exec bash -c "$1"' "$ns" "$*"
"""


def ip(*words, check=True):
    subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


def take_down():
    for name in HOSTS:
        ip("netns", "del", name, check=False)
    ip("link", "del", CABLE[0], check=False)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Gives a function that runs the program on 2 x 2 ranks."""
    take_down()
    for name in HOSTS:
        ip("netns", "add", name)
    first, second = HOSTS
    ip("link", "add", CABLE[0], "netns", first, "type", "veth", "peer", "name", CABLE[1], "netns", second)
    for (name, address), end in zip(HOSTS.items(), CABLE):
        ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", end, "up")
    agent = tmp_path_factory.mktemp("agent") / "rsh.sh"
    agent.write_text(AGENT.format(cases=" ".join(f"{address}) ns={name};;" for name, address in HOSTS.items())))
    agent.chmod(0o755)
    mpirun = [shutil.which("mpirun"), "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "4", "--host",
              ",".join(f"{address}:2" for address in HOSTS.values()), "--mca", "plm_rsh_agent", agent, "--mca", "btl", "tcp,self",
              "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24",
              "-x", "OMP_NUM_THREADS", "-x", "VEOMNI_FAULT"]

    def start(*words, **variables):
        inside = ["ip", "netns", "exec", first, "unshare", "--uts", "bash", "-c", 'hostname "$0"; exec "$@"', first]
        return run(*inside, *mpirun, VEOMNI, *words, VEOMNI_FAULT=variables.pop("VEOMNI_FAULT", ""), **variables)

    yield start
    take_down()


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
