# SPDX-License-Identifier: Apache-2.0
"""The rows of torch.distributed's Gloo for comm_bench's table: python gloo.py RANKS."""
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def median(body, repetitions):
    times = []
    for i in range(-2, repetitions):
        dist.barrier()
        begin = time.perf_counter()
        body()
        took = torch.tensor([time.perf_counter() - begin], dtype=torch.float64)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        if i >= 0:
            times.append(took.item())
    return statistics.median(times)


def rows(rank, size):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    for mib in (1, 16, 64):
        for dtype in (torch.float32, torch.bfloat16):
            repetitions = 5 if mib >= 64 else 11
            numel = (mib << 20) // dtype.itemsize // size * size
            small, large, other = torch.ones(numel // size, dtype=dtype), torch.ones(numel, dtype=dtype), torch.zeros(numel, dtype=dtype)
            for name, body in {
                "all_gather": lambda: dist.all_gather_into_tensor(large, small),
                "reduce_scatter": lambda: dist.reduce_scatter_tensor(small, large),
                "all_to_all": lambda: dist.all_to_all_single(other, large),
            }.items():
                try:
                    seconds = median(body, repetitions)
                except (RuntimeError, NotImplementedError) as error:
                    if rank == 0:
                        print(f"| {name:14} | {mib:3} MiB | {str(dtype)[6:]:8} | {size} | Gloo       | not to be had: {str(error).splitlines()[0][:60]}")
                    continue
                bytes_moved = (mib << 20) * (1 + 1 / size if name == "reduce_scatter" else 2)
                if rank == 0:
                    print(f"| {name:14} | {mib:3} MiB | {str(dtype)[6:]:8} | {size} | Gloo       | {seconds * 1e3:8.3f} ms | {bytes_moved / seconds / 1e9:6.2f} GB/s |", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29871")
    mp.spawn(rows, args=(int(sys.argv[1]),), nprocs=int(sys.argv[1]))
