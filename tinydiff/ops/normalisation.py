"""Group normalisation, with the SiLU that follows it in a U-Net fused in, and softmax.

GroupNorm keeps the numbers in a deep network near mean 0 and variance 1, so that no layer blows up what the one before it gave it. Softmax makes of
any numbers positive ones that sum to 1, the largest becoming the largest: shares, as of attention.

Read first: `reduce.py`.
"""
import numpy as np

from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_int, expect_parts, expect_shape, positive_axis


@primitive
def group_norm(x, weight, bias, groups, eps=1e-5, act=None):
    """x (N, ..., C), weight and bias (C,) -> (N, ..., C) (Wu and He, 2018, arXiv 1803.08494). act: None, or "silu" applied to the result.

    x may be a list of Tensors that differ in their channels only: they are normalised as if concatenated, without being copied.
    Per picture and group of C / groups channels: x_hat = (x - mean) rstd, with rstd = 1 / sqrt(variance + eps); y = weight x_hat + bias.
    With g = weight dy: dx = rstd (g - mean(g) - x_hat mean(g x_hat)); dweight = sum(dy x_hat), dbias = sum(dy) (derived in
    `kernels/group_norm.py`). Only x and the statistics are kept: x_hat is computed again.
    """
    xs = expect_parts("group_norm", "x", x, "N ... C")
    shapes = f"(x {', '.join(str(part.shape) for part in xs)})"
    expect_int("group_norm", "groups", groups, 1)
    C = sum(part.shape[-1] for part in xs)
    if any(part.size == 0 for part in xs):
        raise ValueError(f"group_norm: x is empty: it has no mean {shapes}")
    if C % groups:
        raise ValueError(f"group_norm: {C} channels do not divide into {groups} groups {shapes}")
    expect_shape("group_norm", "weight", weight, (C,), f"for {C} channels {shapes}")
    expect_shape("group_norm", "bias", bias, (C,), f"for {C} channels {shapes}")
    if act not in (None, "silu"):
        raise ValueError(f'group_norm: act must be None or "silu", got {act!r}')
    y, mean, rstd = kernels.group_norm(xs, weight, bias, groups, eps, act)

    def backward(dy, so_far):
        more = [so_far.pop(i, None) for i in range(len(xs))]
        dxs, dweight, dbias = kernels.group_norm_backward(dy, xs, weight, bias, mean, rstd, act, more)
        return *dxs, dweight, dbias
    return y, backward


@primitive
def softmax(x, axis=-1):
    """y = e^x / sum(e^x) along axis: (...) -> (...). dx = y (dy - sum(dy y)) (derived in `kernels/softmax.py`)."""
    expect("softmax", "x", x, "...")
    axis = positive_axis("softmax", axis, x.shape)
    y = kernels.softmax(np.moveaxis(x, axis, -1))       # the axis last, as the kernels want it

    def backward(dy):
        return (np.moveaxis(kernels.softmax_backward(np.moveaxis(dy, axis, -1), y), -1, axis),)
    return np.moveaxis(y, -1, axis), backward
