# SPDX-License-Identifier: Apache-2.0
"""Runs one trainer and watches it from outside: when each step ended, what else used the machine meanwhile, memory of every
rank, page faults."""
import json
import mmap
import os
import pathlib
import statistics
import subprocess
import time

# A step is quiet when programs other than the trainer took at most this share of the machine's CPU time.
QUIET = 0.04
POLL_S = 0.02
# Of memory, touched and freed before each run; more than any trainer of the cases takes.
TOUCH = 5 << 30
# Processes that a trainer starts beside its ranks.
HELPERS = ("compile_worker", "resource_tracker")


def machine_cpu_s():
    """(busy, all) CPU seconds of the machine since boot; steal counts as busy."""
    fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def tree(pid):
    """A process and its descendants: (their ids, those without children, CPU seconds with ended children's, page faults that
    needed no disk)."""
    parents, used, faults = {}, {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(entry.name)] = int(fields[1])
        used[int(entry.name)] = sum(int(x) for x in fields[11:15])
        faults[int(entry.name)] = int(fields[7])
    members, todo = set(), {pid}
    while todo:
        members |= todo
        todo = {p for p, parent in parents.items() if parent in todo} - members
    leaves = members - {parents[p] for p in members if p in parents}
    seconds = sum(used.get(p, 0) for p in members) / os.sysconf("SC_CLK_TCK")
    return members, leaves, seconds, sum(faults.get(p, 0) for p in members)


def peak_mib(pid):
    """Peak resident memory of a rank, or None for a helper or a process that ended."""
    try:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if any(helper in command for helper in HELPERS):
        return None
    peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak[0]) / 1024 if peak else None


class Watch:
    """Steps of one run, with the foreign share and the page faults of each."""

    def __init__(self, pid, metrics):
        self.pid, self.metrics = pid, metrics
        self.begin, self.first_step_s, self.rows, self.foreign = time.monotonic(), None, [], []
        self.faults = []   # of all ranks since the start, when each step had ended
        self.peaks = {}    # MiB by process
        self.mark = None

    def poll(self):
        lines = self.metrics.read_text().split("\n")[:-1] if self.metrics.exists() else []
        if len(lines) == len(self.rows):
            return
        if self.first_step_s is None:
            self.first_step_s = time.monotonic() - self.begin
        busy, total = machine_cpu_s()
        _, leaves, own, faults = tree(self.pid)
        self.peaks.update({p: mib for p in leaves if (mib := peak_mib(p)) is not None})
        share = None
        if self.mark:
            share = max(0.0, (busy - self.mark[0]) - (own - self.mark[2])) / max(1e-9, total - self.mark[1])
        self.mark = (busy, total, own)
        for line in lines[len(self.rows):]:
            self.rows.append(json.loads(line))
            self.foreign.append(share)
            self.faults.append(faults)


def touch_memory():
    """Free memory may have gone back to a hypervisor, which takes long to return it: whoever runs first would pay for all."""
    free = int(pathlib.Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) << 10
    with mmap.mmap(-1, min(TOUCH, free // 2), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, len(pages), mmap.PAGESIZE):
            pages[at] = 1


def run(command, metrics, env, log, limit_s):
    """Runs `command`, which writes a JSON line a step to `metrics`. Returns its Watch."""
    metrics.unlink(missing_ok=True)
    touch_memory()
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=dict(os.environ, **env))
        watch = Watch(process.pid, metrics)
        while process.poll() is None:
            watch.poll()
            if time.monotonic() - watch.begin > limit_s:
                for member in tree(process.pid)[0]:
                    os.kill(member, 9)
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
    faults = [after - before for before, after in zip(watch.faults[warmup - 1:], watch.faults[warmup:])] if warmup else []
    faults = [count for count in faults if count >= 0]      # a job that ended takes its count with it
    # Ranks are the largest processes without children: a launcher's shell and helpers stay far below them.
    peaks = sorted(watch.peaks.values())
    ranks = [round(mib) for mib in peaks if mib > peaks[-1] / 2]
    return {"tokens_per_second": statistics.median(rate), "step_ms": statistics.median(step_ms), "step_ms_used": step_ms,
            "step_ms_all": [row["step_ms"] for row, _ in measured], "foreign": [share for _, share in measured],
            "quiet": rows is quiet or len(quiet) == len(measured), "quiet_steps": len(quiet),
            "faults": statistics.median(faults) if faults else None,
            "peak_rss_mib": max([row["peak_rss_mib"] for row in watch.rows] + ranks), "rank_peaks_mib": ranks,
            "first_step_s": watch.first_step_s, "first_step_ms": watch.rows[0]["step_ms"],
            "first_loss": watch.rows[0]["loss"], "losses": [row["loss"] for row in watch.rows]}
