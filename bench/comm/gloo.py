# SPDX-License-Identifier: Apache-2.0
"""The rows of torch.distributed's Gloo for comm_bench's table, measured as there: python gloo.py RANKS."""
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

MIB = 1 << 20


def last_level_cache():
    size = os.sysconf("SC_LEVEL3_CACHE_SIZE") if "SC_LEVEL3_CACHE_SIZE" in os.sysconf_names else 0
    return size or 32 * MIB


def time_of(body):
    """Seconds of the slowest rank."""
    dist.barrier()
    begin = time.perf_counter()
    body()
    took = torch.tensor([time.perf_counter() - begin], dtype=torch.float64)
    dist.all_reduce(took, op=dist.ReduceOp.MAX)
    return took.item()


def compare(rank, size, mib, dtype):
    numel = mib * MIB // dtype.itemsize // size * size
    # As in comm_bench.cpp: a turn touches twice the last-level cache.
    count = 2 * last_level_cache() // (mib * MIB * (size + 1) // size) + 2
    new = lambda n, value: torch.full((n,), value, dtype=dtype)
    ring = [(new(numel // size, 1), new(numel, 1), new(numel, 0), new(numel // size, 0)) for _ in range(count)]
    contestants = {
        "memcpy": lambda small, large, out, out_small: out.copy_(large),
        "all_gather": lambda small, large, out, out_small: dist.all_gather_into_tensor(out, small),
        "reduce_scatter": lambda small, large, out, out_small: dist.reduce_scatter_tensor(out_small, large),
        "all_to_all": lambda small, large, out, out_small: dist.all_to_all_single(out, large),
    }
    times = {(name, warm): [] for name in contestants for warm in (False, True)}
    rounds, calls = (5, 2) if mib >= 64 else (7, 4)
    place = 0
    for call in contestants.values():
        call(*ring[0])
    for _ in range(rounds):
        for name, call in contestants.items():
            for _ in range(calls):
                buffers = ring[place % count]
                place += 1
                times[name, False].append(time_of(lambda: call(*buffers)))
            call(*ring[0])
            for _ in range(calls):
                times[name, True].append(time_of(lambda: call(*ring[0])))
    if rank != 0:
        return
    limit = {}
    for name in contestants:
        seconds = [statistics.median(times[name, warm]) for warm in (False, True)]
        moved = mib * MIB * (1 + 1 / size if name == "reduce_scatter" else 2)
        speed = [moved / s for s in seconds]
        if name == "memcpy":
            limit = speed
        who = "limit, torch" if name == "memcpy" else "Gloo"
        kind = {"float32": "Float", "bfloat16": "BFloat16"}[str(dtype)[6:]]
        print(f"| {name:14} | {mib:3} MiB | {kind:8} | {size} | {who:10} | {seconds[0] * 1e3:8.3f} ms | {speed[0] / 1e9:6.2f} GB/s | "
              f"{speed[0] / limit[0]:4.2f} | {seconds[1] * 1e3:8.3f} ms | {speed[1] / limit[1]:4.2f} |", flush=True)


def rows(rank, size):
    cores = sorted(os.sched_getaffinity(0))
    if size <= len(cores):
        os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    for mib in (1, 16, 64):
        for dtype in (torch.float32, torch.bfloat16):
            compare(rank, size, mib, dtype)
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29871")
    mp.spawn(rows, args=(int(sys.argv[1]),), nprocs=int(sys.argv[1]))
