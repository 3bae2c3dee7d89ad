# SPDX-License-Identifier: Apache-2.0
"""Runs one trainer and watches it from outside: when each step ended, and what else used the machine meanwhile."""
import json
import os
import pathlib
import statistics
import subprocess
import time

# A step is quiet when programs other than the trainer took at most this share of the machine's CPU time.
QUIET = 0.04
POLL_S = 0.02


def machine_cpu_s():
    """(busy, all) CPU seconds of the machine since boot; steal counts as busy."""
    fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def tree_cpu_s(pid):
    """CPU seconds of a process and its descendants, ended ones included."""
    parents, used = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(entry.name)] = int(fields[1])
        used[int(entry.name)] = sum(int(x) for x in fields[11:15])
    members, todo = set(), {pid}
    while todo:
        members |= todo
        todo = {p for p, parent in parents.items() if parent in todo} - members
    return sum(used.get(p, 0) for p in members) / os.sysconf("SC_CLK_TCK")


def page_faults(pid):
    """Page faults of a process that needed no disk, since it began."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7])
    except (FileNotFoundError, ProcessLookupError):
        return None


class Watch:
    """Steps of one run, with the foreign share and the page faults of each."""

    def __init__(self, pid, metrics):
        self.pid, self.metrics = pid, metrics
        self.begin, self.first_step_s, self.rows, self.foreign = time.monotonic(), None, [], []
        self.faults = []   # since the start of the process, when each step had ended
        self.mark = None

    def poll(self):
        lines = self.metrics.read_text().split("\n")[:-1] if self.metrics.exists() else []
        if len(lines) == len(self.rows):
            return
        if self.first_step_s is None:
            self.first_step_s = time.monotonic() - self.begin
        busy, total = machine_cpu_s()
        own = tree_cpu_s(self.pid)
        share = None
        if self.mark:
            share = max(0.0, (busy - self.mark[0]) - (own - self.mark[2])) / max(1e-9, total - self.mark[1])
        self.mark = (busy, total, own)
        for line in lines[len(self.rows):]:
            self.rows.append(json.loads(line))
            self.foreign.append(share)
            self.faults.append(page_faults(self.pid))


def run(command, metrics, env, log, limit_s):
    """Runs `command`, which writes a JSON line a step to `metrics`. Returns its Watch."""
    metrics.unlink(missing_ok=True)
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=dict(os.environ, **env))
        watch = Watch(process.pid, metrics)
        while process.poll() is None:
            watch.poll()
            if time.monotonic() - watch.begin > limit_s:
                process.kill()
                process.wait()
                raise RuntimeError(f"{command[0]} took more than {limit_s} s; see {log}")
            time.sleep(POLL_S)
    watch.poll()
    if process.returncode != 0 or not watch.rows:
        tail = "\n".join(pathlib.Path(log).read_text().splitlines()[-15:])
        raise RuntimeError(f"`{' '.join(map(str, command))}` ended with code {process.returncode}:\n{tail}")
    return watch


def summary(watch, warmup):
    """Numbers of one run over its quiet steps, or over all measured ones where fewer than 4 were quiet."""
    counts = [row["tokens"] for row in watch.rows]   # since the start of the run
    for row, before, after in zip(watch.rows, [0, *counts], counts):
        row["tokens"] = after - before
    measured = list(zip(watch.rows, watch.foreign))[warmup:]
    quiet = [row for row, share in measured if share is not None and share <= QUIET]
    rows = quiet if len(quiet) >= min(4, len(measured)) else [row for row, _ in measured]
    step_ms = [row["step_ms"] for row in rows]
    rate = [1000 * row["tokens"] / row["step_ms"] for row in rows]
    return {"tokens_per_second": statistics.median(rate), "step_ms": statistics.median(step_ms),
            "step_ms_all": [row["step_ms"] for row, _ in measured], "foreign": [share for _, share in measured],
            "quiet": rows is quiet or len(quiet) == len(measured), "peak_rss_mib": max(row["peak_rss_mib"] for row in watch.rows),
            "first_step_s": watch.first_step_s, "first_loss": watch.rows[0]["loss"]}
