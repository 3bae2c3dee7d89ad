# SPDX-License-Identifier: Apache-2.0
"""VeOmni's own TextTrainer on the same shape and text, through veomni_shim.py.

    peer_veomni.py DIR --checkout VEOMNI --kind dense|packed --dtype bfloat16|float32 --steps N --out FILE

DIR is what `peer.py prepare` wrote. Weights are VeOmni's own random ones; each document ends with an end token in place of its
last letter, which VeOmni appends. Writes one JSON line a step.
"""
import argparse
import json
import os
import pathlib
import sys
import time

import torch
import yaml

import veomni_shim
from cases import LENGTH, ROWS, TOKENS
from watch import peak_mib

END = "<|vision_end|>"


def write_assets(args, folder):
    """Configuration, tokenizer and Parquet file as VeOmni reads them."""
    import pyarrow
    import pyarrow.parquet
    from transformers import PreTrainedTokenizerFast
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text((args.dir / "model/config.json").read_text())
    PreTrainedTokenizerFast(tokenizer_file=str(args.dir / "tokenizer.json"), eos_token=END, bos_token=END,
                            pad_token=END).save_pretrained(folder)
    lines = [line[:-1] for line in (args.dir / "tokens.txt").read_text().splitlines()]
    pyarrow.parquet.write_table(pyarrow.table({"text": lines}), folder / "data/train.parquet")


def settings(args, assets, ranks):
    packed = args.kind == "packed"
    rows, length = (1, TOKENS) if packed else (ROWS, LENGTH)
    eager = {f"{name}_implementation": "eager" for name in (
        "moe", "cross_entropy_loss", "rms_norm", "swiglu_mlp", "rotary_pos_emb", "rotary_pos_emb_vision", "load_balancing_loss",
        "rms_norm_gated", "causal_conv1d", "chunk_gated_delta_rule")}
    return {
        "model": {"config_path": str(assets), "tokenizer_path": str(assets),
                  "ops_implementation": dict(eager, attn_implementation="flash_attention_2")},
        "data": {"train_path": str(assets / "data"), "data_type": "plaintext", "text_keys": "text", "max_seq_len": length,
                 "train_size": 10 ** 8, "dataloader": {"num_workers": 0, "prefetch_factor": None, "pin_memory": False}},
        "train": {"micro_batch_size": rows, "global_batch_size": rows * ranks, "dyn_bsz": packed, "max_steps": 500,
                  "num_train_epochs": 1, "init_device": "meta", "gradient_checkpointing": {"enable": False}, "gc_steps": 0, "seed": 1,
                  "torch_compile": {"enable": False},
                  "accelerator": {"fsdp_config": {"fsdp_mode": "fsdp2", "mixed_precision": {"enable": True, "param_dtype": args.dtype}}},
                  "optimizer": {"lr": 1e-3, "max_grad_norm": 1.0, "weight_decay": 0.1},
                  "checkpoint": {"output_dir": str(assets / "out"), "save_epochs": 0, "save_hf_weights": False}}}


def record_steps(trainer, args, ranks):
    """Times train_step, writes a line for each and ends the process after the last."""
    losses, inner, base = [], trainer.train_step, trainer.base
    ended = base.on_step_end

    def on_step_end(loss=None, loss_dict=None, grad_norm=None):
        losses.append(float(loss))
        return ended(loss=loss, loss_dict=loss_dict, grad_norm=grad_norm)

    out = open(args.out if int(os.environ["RANK"]) == 0 else os.devnull, "w")

    def timed(iterator):
        begin = time.perf_counter()
        inner(iterator)
        step_ms, step = 1000 * (time.perf_counter() - begin), len(losses)
        tokens = getattr(base.environ_meter, "consume_tokens", 0) or step * TOKENS * ranks
        out.write(json.dumps({"step": step, "loss": losses[-1], "tokens": tokens, "step_ms": step_ms,
                              "peak_rss_mib": peak_mib(os.getpid())}) + "\n")
        out.flush()
        if step == args.steps:
            torch.distributed.barrier()
            os._exit(0)      # its end would save and evaluate

    base.on_step_end, trainer.train_step = on_step_end, timed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--kind", choices=["dense", "packed"], default="dense")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    for name, value in dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                            MASTER_PORT="29613").items():
        os.environ.setdefault(name, value)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    assets = args.dir.resolve() / "veomni_assets"
    if rank == 0:
        write_assets(args, assets)
        (assets / "ready").write_text("")
    while not (assets / "ready").exists():
        time.sleep(0.1)
    sys.path.insert(0, args.checkout)
    keep = veomni_shim.before_import()
    veomni_shim.after_import()
    from veomni.arguments import parse_args
    from veomni.trainer.text_trainer import TextTrainer, VeOmniArguments
    recipe = assets / f"settings_{rank}.yaml"
    recipe.write_text(yaml.safe_dump(settings(args, assets, ranks)))
    sys.argv = [sys.argv[0], str(recipe)]
    trainer = TextTrainer(parse_args(VeOmniArguments))
    record_steps(trainer, args, ranks)
    trainer.train()
    del keep


if __name__ == "__main__":
    main()
