# SPDX-License-Identifier: Apache-2.0
"""The peer of the comparison: plain PyTorch FSDP2 + transformers, bf16 with an fp32 master, on one process or, started by
torchrun, on several over Gloo.

    peer.py prepare DIR      writes model/, tokenizer.json, tokens.txt, first.safetensors and reference.json there
    peer.py train DIR --compile no|layer --steps N --out FILE

Both sides start from DIR/model and read the same tokens in the same order: tokens.txt holds a random document a line,
and the tokenizer has one entry a byte. `train` writes one JSON line a step, with keys of the program's metrics.jsonl.
"""
import argparse
import json
import os
import pathlib
import random
import string
import time

import tokenizers
import torch
import transformers
from safetensors.torch import save_file

# A dense Qwen3 shape, small enough for two cores and wide enough that matrix products dominate.
SHAPE = dict(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
             intermediate_size=1536, vocab_size=32768, max_position_embeddings=32768, rms_norm_eps=1e-6,
             rope_theta=1000000.0, tie_word_embeddings=False, initializer_range=0.02, attention_bias=False,
             use_sliding_window=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)
ROWS, LENGTH = 2, 1024
BATCHES = 64


def byte_tokenizer():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def documents():
    draw = random.Random(1)
    return ["".join(draw.choices(string.ascii_letters + string.digits, k=LENGTH)) for _ in range(BATCHES * ROWS)]


def batches(folder):
    """Every step's token ids [ROWS, LENGTH], from the files that the other side reads."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [tokenizer.encode(line).ids for line in (folder / "tokens.txt").read_text().splitlines()]
    return torch.tensor(ids).view(BATCHES, ROWS, LENGTH)


def peak_rss_mib():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    model.config.use_cache = False
    return model


def prepare(args):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.Qwen3Config(**SHAPE))
    model.save_pretrained(args.dir / "model")
    byte_tokenizer().save(str(args.dir / "tokenizer.json"))
    (args.dir / "tokens.txt").write_text("".join(line + "\n" for line in documents()))
    ids = batches(args.dir)[0].contiguous()
    save_file({"input_ids": ids, "labels": ids.clone()}, args.dir / "first.safetensors")
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    parameters = sum(p.numel() for p in model.parameters())
    (args.dir / "reference.json").write_text(json.dumps(
        {"loss_fp32": loss, "parameters": parameters, "torch": torch.__version__,
         "transformers": transformers.__version__}))


def shard(model, compile_layers):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        if compile_layers:
            layer.compile()
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def train(args):
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29611")
    rank, ranks = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    model = load(args.dir).train()
    shard(model, args.compile == "layer")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    data = batches(args.dir)
    with open(args.out if rank == 0 else os.devnull, "w") as out:
        for step in range(1, args.steps + 1):
            begin = time.perf_counter()
            ids = data[((step - 1) * ranks + rank) % BATCHES]
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            loss = loss.detach()
            torch.distributed.all_reduce(loss)
            row = {"step": step, "loss": loss.item() / ranks, "grad_norm": float(norm), "tokens": step * ids.numel() * ranks,
                   "step_ms": 1000 * (time.perf_counter() - begin), "peak_rss_mib": peak_rss_mib()}
            out.write(json.dumps(row) + "\n")
            out.flush()
    torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["prepare", "train"])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--compile", choices=["no", "layer"], default="no")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    prepare(args) if args.what == "prepare" else train(args)


if __name__ == "__main__":
    main()
