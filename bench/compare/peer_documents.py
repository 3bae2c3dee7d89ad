# SPDX-License-Identifier: Apache-2.0
"""Attention over packed documents that transformers lacks without flash-attn: one causal call a document instead of a mask over
all of them. Once as plain calls, and once as an operator that a compiled layer holds without a break in its graph."""
import torch

from cases import DOCUMENT, TOKENS

# Where each document of the batch begins, then its end, repeated: of one size, so that no number of documents compiles anew.
BORDERS = torch.zeros(TOKENS // DOCUMENT[0] + 2, dtype=torch.int64)


def set_borders(position_ids):
    """Of a row [1, T] whose positions begin at 0 with each document."""
    starts = (position_ids[0] == 0).nonzero().flatten()
    BORDERS.fill_(position_ids.shape[1])
    BORDERS[:len(starts)] = starts


def spans(borders):
    ends = borders.tolist()
    return [(begin, end) for begin, end in zip(ends[:-1], ends[1:]) if end > begin]


def plain(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, **ignored):
    parts = [torch.nn.functional.scaled_dot_product_attention(
        query[:, :, begin:end], key[:, :, begin:end], value[:, :, begin:end], is_causal=True, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1]) for begin, end in spans(BORDERS)]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


@torch.library.custom_op("peer::attend", mutates_args=())
def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, borders: torch.Tensor,
           scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """[1, H, T, K] each -> [1, T, H, K] and the logarithms of the sums [1, H, T], by the kernel that SDPA calls."""
    out = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
    sums = query.new_empty(query.shape[:3], dtype=torch.float32)
    for begin, end in spans(borders):
        part, sum_of_part = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[:, :, begin:end], key[:, :, begin:end], value[:, :, begin:end], is_causal=True, scale=scale)
        out[:, begin:end] = part.transpose(1, 2)
        sums[:, :, begin:end] = sum_of_part
    return out, sums


@attend.register_fake
def _(query, key, value, borders, scale):
    batch, heads, tokens, width = query.shape
    return query.new_empty(batch, tokens, heads, width), query.new_empty((batch, heads, tokens), dtype=torch.float32)


@torch.library.custom_op("peer::attend_backward", mutates_args=())
def attend_backward(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor,
                    sums: torch.Tensor, borders: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad, out = grad.transpose(1, 2), out.transpose(1, 2)
    grads = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value))
    for begin, end in spans(borders):
        parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *(x[:, :, begin:end] for x in (grad, query, key, value, out, sums)), 0.0, True, scale=scale)
        for whole, part in zip(grads, parts):
            whole[:, :, begin:end] = part
    return grads


@attend_backward.register_fake
def _(grad, query, key, value, out, sums, borders, scale):
    return tuple(x.new_empty(x.shape) for x in (query, key, value))


def save(ctx, inputs, output):
    query, key, value, borders, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, *output, borders)
    ctx.mark_non_differentiable(output[1])


def backward(ctx, grad, ignored):
    query, key, value, out, sums, borders = ctx.saved_tensors
    return *attend_backward(grad, query, key, value, out, sums, borders, ctx.scale), None, None


attend.register_autograd(backward, setup_context=save)


def in_graph(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, **ignored):
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return attend(query, key, value, BORDERS, scaling)[0], None
