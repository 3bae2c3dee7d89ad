# SPDX-License-Identifier: Apache-2.0
"""The peer of the comparison: plain PyTorch FSDP2 + transformers with an fp32 master, on one process or, started by torchrun,
on several over Gloo.

    peer.py prepare DIR --kind KIND      writes weights, tokenizer, data and reference.json (the first batch's loss) there
    peer.py train DIR --kind KIND --dtype bfloat16|float32 --attention sdpa|eager|per-document [--compile] --steps N --out FILE

`train` writes one JSON line a step, with keys of the program's metrics.jsonl.
"""
import argparse
import json
import os
import pathlib
import time

import torch
import transformers

import peer_data
import peer_documents
import peer_model


def attention_name(name, compiled):
    if name == "per-document":
        from transformers.masking_utils import AttentionMaskInterface
        transformers.AttentionInterface.register(name, peer_documents.in_graph if compiled else peer_documents.plain)
        AttentionMaskInterface.register(name, lambda *args, **kwargs: None)
    return name


def peak_rss_mib():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def prepare(args):
    args.dir.mkdir(parents=True, exist_ok=True)
    peer_data.write(args.dir, args.kind)
    peer_model.create(args.dir, args.kind)
    model = peer_model.load(args.dir, args.kind, "sdpa")
    with torch.no_grad():
        loss = model(**peer_model.Batches(args.dir, args.kind)(0)).loss.item()
    parameters = sum(p.numel() for p in model.parameters())
    (args.dir / "reference.json").write_text(json.dumps(
        {"loss_fp32": loss, "parameters": parameters, "torch": torch.__version__, "transformers": transformers.__version__}))


def layers_of(model):
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or []}
    return [module for module in model.modules() if type(module).__name__ in names]


def shard(model, dtype, compile_layers):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32) if dtype != torch.float32 else MixedPrecisionPolicy()
    for layer in layers_of(model):
        if compile_layers:
            layer.compile()
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def join_ranks():
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29611")
    rank, ranks = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    return rank, ranks


def train(args):
    rank, ranks = join_ranks()
    model = peer_model.load(args.dir, args.kind, attention_name(args.attention, args.compile)).train()
    shard(model, getattr(torch, args.dtype), args.compile)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    data, tokens = peer_model.Batches(args.dir, args.kind), 0
    with open(args.out if rank == 0 else os.devnull, "w") as out:
        for step in range(1, args.steps + 1):
            batch = data((step - 1) * ranks + rank)
            if "position_ids" in batch:
                peer_documents.set_borders(batch["position_ids"])
            begin = time.perf_counter()
            loss = model(**batch, use_cache=False).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            loss = loss.detach()
            torch.distributed.all_reduce(loss)
            tokens += batch["input_ids"].numel() * ranks
            row = {"step": step, "loss": loss.item() / ranks, "grad_norm": float(norm), "tokens": tokens,
                   "step_ms": 1000 * (time.perf_counter() - begin), "peak_rss_mib": peak_rss_mib()}
            out.write(json.dumps(row) + "\n")
            out.flush()
    torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["prepare", "train"])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--kind", default="dense")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--compile", action="store_true", help="every layer by torch.compile")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    prepare(args) if args.what == "prepare" else train(args)


if __name__ == "__main__":
    main()
