# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces with host names of their own, joined by a cable that speaks TCP. Needs root
and iproute2. Where namespaces are forbidden (unprivileged containers), the ranks only believe that they are on two hosts:
VEOMNI_HOST tells them so, and they talk by TCP to themselves."""
import os
import shutil
import subprocess
import tempfile
import warnings

HOSTS = {"veomni-h0": "10.77.0.1", "veomni-h1": "10.77.0.2"}
CABLE = ("veomni-v0", "veomni-v1")
PROBE = "veomni-probe"
# How mpirun reaches the other host, instead of ssh: mpirun's words are "HOST COMMAND...".
AGENT = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1; shift
case $host in {cases} *) echo "no host $host" >&2; exit 1;; esac
exec ip netns exec "$ns" unshare --uts bash -c 'hostname "$0"; exec bash -c "$1"' "$ns" "$*"
"""
MPI = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "btl", "tcp,self"]
CABLE_ONLY = ["--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24"]
BELIEF = 'export VEOMNI_HOST=host$((OMPI_COMM_WORLD_RANK / $0)); exec "$@"'


def ip(*words, check=True):
    subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


def namespaces_allowed():
    if os.environ.get("VEOMNI_TEST_NO_NAMESPACES"):
        return False
    try:
        ip("netns", "add", PROBE)
        ip("netns", "exec", PROBE, "unshare", "--uts", "true")
        return True
    except subprocess.CalledProcessError:
        return False
    finally:
        ip("netns", "del", PROBE, check=False)


class TwoHosts:
    """A context: the hosts are there within it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.real = namespaces_allowed()
        if not self.real:
            warnings.warn("network namespaces are forbidden here: two hosts are one that believes to be two")
            return self
        self.take_down()
        for name in HOSTS:
            ip("netns", "add", name)
        first, second = HOSTS
        ip("link", "add", CABLE[0], "netns", first, "type", "veth", "peer", "name", CABLE[1], "netns", second)
        for (name, address), end in zip(HOSTS.items(), CABLE):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", end, "up")
        self.agent = f"{self.folder.name}/rsh.sh"
        with open(self.agent, "w") as out:
            out.write(AGENT.format(cases=" ".join(f"{address}) ns={name};;" for name, address in HOSTS.items())))
        subprocess.run(["chmod", "+x", self.agent], check=True)
        return self

    def __exit__(self, *_):
        if self.real:
            self.take_down()
        self.folder.cleanup()

    @staticmethod
    def take_down():
        for name in HOSTS:
            ip("netns", "del", name, check=False)
        ip("link", "del", CABLE[0], check=False)

    def limit(self, mbit):
        """The cable carries at most this much each way."""
        assert self.real, "only a cable between namespaces can be slowed"
        for name, end in zip(HOSTS, CABLE):
            subprocess.run(["tc", "-n", name, "qdisc", "replace", "dev", end, "root", "tbf", "rate", f"{mbit:.0f}mbit",
                            "burst", "256kb", "latency", "200ms"], check=True)

    def mpirun(self, ranks_each, variables=()):
        """The words before a program that runs on so many ranks of each host."""
        passed = [word for name in variables for word in ("-x", name)]
        start = [shutil.which("mpirun"), *MPI, "-n", str(2 * ranks_each), *passed]
        if not self.real:
            return [*start, "bash", "-c", BELIEF, str(ranks_each)]
        first = next(iter(HOSTS))
        inside = ["ip", "netns", "exec", first, "unshare", "--uts", "bash", "-c", 'hostname "$0"; exec "$@"', first]
        where = ",".join(f"{address}:{ranks_each}" for address in HOSTS.values())
        return [*inside, *start, *CABLE_ONLY, "--host", where, "--mca", "plm_rsh_agent", self.agent]
