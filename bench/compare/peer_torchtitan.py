# SPDX-License-Identifier: Apache-2.0
"""TorchTitan's own Trainer (commit b5bcd76) on the same shape and text, on a CPU; no file of it is touched.

    peer_torchtitan.py DIR --checkout TORCHTITAN --kind dense --dtype bfloat16|float32 --steps N --out FILE

Put in place from outside: the device type, memory statistics of `torch.cpu`, Triton kernels that are imported and not called,
attention (one causal SDPA call a document: its own is for GPUs), a plain SUM in reductions (gloo has no PREMUL_SUM), and a loader
over DIR's text. Weights are TorchTitan's own random ones. Writes one JSON line a step.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
import types

import torch

from cases import LENGTH, ROWS, SHAPE, TOKENS
from watch import peak_mib


class Unused(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def before_import():
    import torch._utils
    torch._utils._get_available_device_type = lambda: "cpu"
    name = "torchtitan.distributed.minimal_async_ep.kernels"
    sys.modules[name] = Unused(name)
    total = types.SimpleNamespace(total_memory=24 << 30, name="cpu")
    for function, value in dict(get_device_name="cpu", get_device_properties=total, reset_peak_memory_stats=None, memory_stats={},
                                empty_cache=None, device_count=1, current_device=0, set_device=None).items():
        setattr(torch.cpu, function, lambda *args, value=value, **kwargs: value)


def attend(self, q_TNH, k_TNH, v_TNH, *, attention_masks, scale=None, out_transform=None, **ignored):
    ends, parts = attention_masks.cu_seq_q.tolist(), []
    for begin, end in zip(ends[:-1], ends[1:]):
        if end > begin:
            q, k, v = (x[begin:end].transpose(0, 1).unsqueeze(0) for x in (q_TNH, k_TNH, v_TNH))
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale,
                                                                   enable_gqa=q.shape[1] != k.shape[1])
            parts.append(out.squeeze(0).transpose(0, 1))
    return torch.cat(parts)


def after_import():
    from torch.distributed.fsdp import FSDPModule
    from torchtitan.models.common import attention
    attention.VarlenAttention.forward = attend
    divide = FSDPModule.set_gradient_divide_factor

    def set_gradient_divide_factor(self, factor):
        divide(self, factor)
        self.set_force_sum_reduction_for_comms(True)

    FSDPModule.set_gradient_divide_factor = set_gradient_divide_factor


class Loader:
    """The rows of DIR's text; a row's last label is left out, as the next token is another row's."""

    def __init__(self, folder, rank, ranks):
        import tokenizers
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = [tokenizer.encode(line).ids for line in (folder / "tokens.txt").read_text().splitlines()]
        self.ids, self.rank, self.ranks = torch.tensor(ids).view(-1, ROWS, LENGTH), rank, ranks

    def __iter__(self):
        positions = torch.arange(LENGTH).repeat(ROWS)
        for step in range(len(self.ids) // self.ranks):
            rows = self.ids[step * self.ranks + self.rank]
            labels = torch.cat([rows[:, 1:], torch.full((ROWS, 1), -100)], 1)
            yield {"input": rows.flatten(), "positions": positions}, labels.flatten()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def close(self):
        pass


def configure(args, loader):
    import torchtitan.models.qwen3 as qwen3
    from torchtitan.components.loss import CrossEntropyLoss
    from torchtitan.components.metrics import MetricsProcessor
    from torchtitan.components.optimizer import default_adamw
    from torchtitan.config import CompileConfig, TrainingConfig
    from torchtitan.models.common import CosSinRoPE, Embedding, Linear
    from torchtitan.models.qwen3.config_registry import qwen3_debugmodel
    from torchtitan.models.qwen3.model import Qwen3Model
    width, words = SHAPE["hidden_size"], SHAPE["vocab_size"]

    def model(**ignored):
        layers = qwen3._build_qwen3_layers(
            hidden_dim=SHAPE["intermediate_size"], n_layers=SHAPE["num_hidden_layers"], dim=width,
            n_heads=SHAPE["num_attention_heads"], n_kv_heads=SHAPE["num_key_value_heads"], head_dim=SHAPE["head_dim"],
            attn_backend="varlen", rope=CosSinRoPE.Config(dim=SHAPE["head_dim"], max_context_length=4096, theta=SHAPE["rope_theta"]))
        return Qwen3Model.Config(
            vocab_size=words, dim=width, norm=qwen3._qwen3_norm(width), layers=layers,
            tok_embeddings=Embedding.Config(num_embeddings=words, embedding_dim=width, param_init=qwen3._EMBEDDING_INIT),
            lm_head=Linear.Config(in_features=width, out_features=words, param_init=qwen3._LINEAR_INIT))

    qwen3.qwen3_configs["bench"] = model
    config = qwen3_debugmodel()
    config.model_spec = qwen3.model_registry("bench", attn_backend="varlen")
    config.loss = CrossEntropyLoss.Config(global_vocab_size=words)
    config.training = TrainingConfig(num_tokens_per_microbatch_per_dp_rank=TOKENS, max_context_length=LENGTH, steps=500,
                                     mixed_precision_param=args.dtype, mixed_precision_reduce="float32", disable_cuda_graphs=True)
    config.metrics = MetricsProcessor.Config(log_freq=1)
    config.optimizer = default_adamw(lr=1e-3)
    config.checkpoint = dataclasses.replace(config.checkpoint, enable=False)
    config.activation_checkpoint = None
    config.compile = CompileConfig(enable=False)
    # spmd_types, the default, does not take FSDP over gloo.
    config.parallelism = dataclasses.replace(config.parallelism, spmd_backend="partial_dtensor")
    config.hf_assets_path = str(args.dir)      # its tokenizer is opened, though the loader below needs none
    config.dump_folder = str(args.dir / "torchtitan_out")
    config.dataloader = types.SimpleNamespace(build=lambda **kwargs: loader, to_dict=dict)
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--kind", choices=["dense"], default="dense")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    for name, value in dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                            MASTER_PORT="29617").items():
        os.environ.setdefault(name, value)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    out, folder = os.path.abspath(args.out), args.dir.resolve()
    args.dir = folder
    checkout = os.path.abspath(args.checkout)
    sys.path.insert(0, checkout)
    os.chdir(checkout)
    before_import()
    config = configure(args, Loader(folder, rank, ranks))
    after_import()
    trainer = config.build()
    losses = []
    trainer.metrics_processor.log = lambda step, average, *rest, **more: losses.append(float(average))
    batches = trainer.batch_generator(trainer.dataloader)
    with open(out if rank == 0 else os.devnull, "w") as lines:
        for step in range(1, args.steps + 1):
            trainer.step += 1
            begin = time.perf_counter()
            trainer.train_step(batches)
            lines.write(json.dumps({"step": step, "loss": losses[-1], "tokens": step * TOKENS * ranks,
                                    "step_ms": 1000 * (time.perf_counter() - begin), "peak_rss_mib": peak_mib(os.getpid())}) + "\n")
            lines.flush()
    torch.distributed.barrier()
    os._exit(0)      # its end would save


if __name__ == "__main__":
    main()
