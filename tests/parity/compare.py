# SPDX-License-Identifier: Apache-2.0
"""The one measure of how far two tensors are apart: the Python twin of veomni::ops::relative_error."""
import math

import torch


def relative_error(a, b, all_norm=0.0, all_numel=0):
    """|a - b| / max(|b|, 1e-3 sqrt(n / N) |g|) in float64, b the reference; infinity for NaN, and where b is an exact
    zero and a is not."""
    assert a.shape == b.shape, f"{tuple(a.shape)} against {tuple(b.shape)}"
    if b.numel() == 0:
        return 0.0
    a, b = a.detach().double(), b.detach().double()
    difference, norm = (a - b).norm().item(), b.norm().item()
    if math.isnan(difference):
        return math.inf
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    floor = 1e-3 * math.sqrt(b.numel() / all_numel) * all_norm if all_numel else 0.0
    return difference / max(norm, floor)


def gradient_errors(got, want):
    """The error of each of a dict of gradients, with all of `want` as the floor's g."""
    all_norm = math.sqrt(sum(g.double().pow(2).sum().item() for g in want.values()))
    all_numel = sum(g.numel() for g in want.values())
    return {name: relative_error(got[name], g, all_norm, all_numel) for name, g in want.items()}
