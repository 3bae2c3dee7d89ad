# SPDX-License-Identifier: Apache-2.0
"""What VeOmni (commit d977449) lacks to train on a CPU, put in its place from outside; no file of it is touched.

| missing on a CPU | put in its place |
|---|---|
| torchvision, which it imports at once and whose wheel is a CUDA build | a schema for the two ops that the import looks up |
| memory statistics of `torch.cpu`, which its meter reads each step | zeros |
| a communication backend | gloo |
| attention that knows documents (flash-attn) | one causal SDPA call a document, in its slot for flash attention |
| FSDP of a single process | `fully_shard` on a mesh of one |
| checks for Triton and GPUs | opened |
"""
import sys
import types

import torch


def attend(query, key, value, attention_mask, query_length, is_causal, dropout=0.0, softmax_scale=None, cu_seq_lens_q=None, **ignored):
    """[B, S, H, K] in and out, a call a document."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    ends = [q.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q[1:].tolist()
    parts = [torch.nn.functional.scaled_dot_product_attention(
        q[:, :, begin:end], k[:, :, begin:end], v[:, :, begin:end], is_causal=is_causal, scale=softmax_scale,
        enable_gqa=q.shape[1] != k.shape[1]) for begin, end in zip([0, *ends[:-1]], ends) if end > begin]
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


class Patched:
    """A module as one file of VeOmni sees it."""

    def __init__(self, module, **changes):
        self.module, self.changes = module, changes

    def __getattr__(self, name):
        return self.changes[name] if name in self.changes else getattr(self.module, name)


def before_import():
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    stand_ins = {name: lambda *args, **kwargs: 0 for name in ("max_memory_allocated", "max_memory_reserved", "memory_allocated",
                                                              "memory_reserved", "empty_cache")}
    stand_ins.update(memory_stats=lambda *args, **kwargs: {"num_alloc_retries": 0}, get_device_name=lambda *args, **kwargs: "cpu",
                     manual_seed=torch.manual_seed)
    for name, function in stand_ins.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)
    # Triton kernels of the expert layers, imported at module level and not called by a dense model.
    for name in ("group_gemm", "moe"):
        full = f"veomni.ops.kernels.moe._kernels.kernel.{name}"
        sys.modules[full] = types.ModuleType(full)
        sys.modules[full].__getattr__ = lambda attribute: None
    return library       # its registrations live as long as it


def after_import():
    import veomni.ops.kernel_registry
    import veomni.ops.kernels.attention.flash as flash
    import veomni.trainer.base as base
    import veomni.utils.device
    from veomni.distributed.parallel_state import ParallelState
    veomni.utils.device.get_dist_comm_backend = base.get_dist_comm_backend = lambda: "gloo"
    veomni.ops.kernel_registry.HardwareRequirement.is_satisfied = lambda self: True
    base.torch = Patched(torch, device=lambda name: torch.device("cpu" if str(name).startswith("cpu") else name))
    flash._flash_attention_forward = attend
    # transformers looks for these names when it loads an implementation; the slot above is what is called.
    unused = types.SimpleNamespace(flash_attn_func=attend, flash_attn_varlen_func=attend)
    flash._load_veomni_local_flash_kernel = lambda implementation: unused
    ParallelState.fsdp_enabled = property(lambda self: True)
