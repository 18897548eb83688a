"""The convolution: at each pixel the same small filter lies on its neighbourhood, and what meets is multiplied and added up.

So each number of x and of w is met in many places, and its gradient is the sum of what those places ask of it. The three kernels (forward, input
gradient, weight gradient) and the derivation, step by step, are in kernels/convolution.py; examples/03_convolution.py does it in plain loops.

Read first: `linear.py`.
"""
import itertools
from functools import partial

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_int, expect_parts, expect_shape


@primitive
def conv2d(x, w, bias=None, stride=1, padding=0, residual=None):
    """x (N, H, W, C), w (KH, KW, C, F) -> (N, H', W', F), with H' = (H + 2 padding - KH) // stride + 1.

    bias: None, (F,), or (N, F), one for each picture. residual: None, or (N, H', W', F), added to the result in the same pass over memory.
    x may be a list of Tensors that differ in their channels only: they are convolved as if concatenated, without being copied.

    y[i, j] = sum over kernel positions of x[stride i + kh - padding, ...] w[kh, kw].
    dx: each dy[i, j] w^T added back to the pixels that it came from; dw: x^T dy at each kernel position; dbias = dy summed over pixels;
    dresidual = dy. (Derived in `kernels/convolution.py`.)
    """
    xs = expect_parts("conv2d", "x", x, "N H W C")
    check_conv2d(xs, w, bias, stride, padding, residual)
    bias_ndim, has_residual = 0 if bias is None else bias.ndim, residual is not None
    size, kernel_size = xs[0].shape[1:3], w.shape[:2]
    ends = list(itertools.accumulate(part.shape[3] for part in xs))
    ws = [w[:, :, end - part.shape[3]:end] for part, end in zip(xs, ends)]      # what each part of the channels meets

    y = residual
    for part, part_w in zip(xs, ws):
        y = kernels.conv2d(part, part_w, bias, stride, padding, y)      # adds to what the parts before it gave
        bias = None                                         # which is once in y, with the first of them

    def backward(dy, so_far):
        def dx(i):                                          # and the gradient that part i has already: see `primitive`
            return kernels.conv2d_dx(dy, ws[i], size, stride, padding, so_far.pop(i, None))

        def dw():
            dws = [kernels.conv2d_dw(part, dy, kernel_size, stride, padding) for part in xs]
            return dws[0] if len(dws) == 1 else np.concatenate(dws, axis=2)

        def dbias():
            per_picture = kernels.pixel_sum(dy)             # (N, H', W', F) -> (N, F)
            return per_picture if bias_ndim == 2 else per_picture.sum(axis=0)
        return *(partial(dx, i) for i in range(len(xs))), dw, dbias if bias_ndim else None, None, None, dy if has_residual else None
    return y, backward


@primitive
def upsample_conv2d(x, w, bias=None):
    """conv2d(upsample_nearest(x, 2), w, bias, padding=1) for w (3, 3, C, F): x (N, H, W, C) -> (N, 2 H, 2 W, F), the large x never made."""
    expect("upsample_conv2d", "x", x, "N H W C")
    expect("upsample_conv2d", "w", w, "3 3 C F")
    N, H, W, C = x.shape
    expect_shape("upsample_conv2d", "w", w, (3, 3, C, w.shape[3]), f"for x {x.shape}")
    if bias is not None:
        expect_shape("upsample_conv2d", "bias", bias, (w.shape[3],), f"for w {w.shape}")

    def backward(dy, so_far):
        return (lambda: kernels.upsample_conv2d_dx(dy, w, so_far.pop(0, None)),
                lambda: kernels.upsample_conv2d_dw(x, dy),
                lambda: kernels.pixel_sum(dy).sum(axis=0))
    return kernels.upsample_conv2d(x, w, bias), backward


def check_conv2d(xs, w, bias, stride, padding, residual):
    """Raise a TypeError or ValueError that says which arguments do not fit together."""
    expect("conv2d", "w", w, "KH KW C F")
    expect_int("conv2d", "stride", stride, 1)
    expect_int("conv2d", "padding", padding, 0)
    N, H, W, _ = xs[0].shape
    C, (KH, KW, w_channels, F) = sum(part.shape[3] for part in xs), w.shape
    shapes = f"(x {', '.join(str(part.shape) for part in xs)}, w {w.shape})"
    if C != w_channels:
        raise ValueError(f"conv2d: x has {C} channels, w expects {w_channels} {shapes}")
    if H + 2 * padding < KH or W + 2 * padding < KW:
        raise ValueError(f"conv2d: the kernel is larger than the picture with padding {padding} {shapes}")
    if bias is not None:
        expect("conv2d", "bias", bias, "F" if getattr(bias, "ndim", 1) != 2 else "N F")
        if bias.shape not in ((F,), (N, F)):
            raise ValueError(f"conv2d: bias must have shape ({F},) or ({N}, {F}), got {bias.shape} {shapes}")
    if residual is not None:
        OH, OW = ((n + 2 * padding - k) // stride + 1 for n, k in ((H, KH), (W, KW)))
        expect_shape("conv2d", "residual", residual, (N, OH, OW, F), f"as the result {shapes}")
