"""Matrix products, and the table look-up that is one with a one-hot matrix.

Read first: `elementwise.py`.
"""
import math

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_shape
from tinydiff.ops.elementwise import unbroadcast


@primitive
def matmul(a, b):
    """a (..., M, K) @ b (..., K, P) -> (..., M, P); the leading axes broadcast. da = dy b^T, db = a^T dy."""
    for name, x in (("a", a), ("b", b)):
        expect("matmul", name, x, "... rows columns")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: a has {a.shape[-1]} columns, b has {b.shape[-2]} rows (a {a.shape}, b {b.shape})")
    try:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(f"matmul: leading axes do not broadcast together (a {a.shape}, b {b.shape})") from None

    def batched(a, b):
        if not lead:
            return kernels.matmul(a, b)
        a, b = (np.broadcast_to(x, lead + x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (a, b))     # (product of lead, M, K)
        y = kernels.matmul(a, b)
        return y.reshape(lead + y.shape[1:])

    def backward(dy):
        return (lambda: unbroadcast(batched(dy, b.swapaxes(-1, -2)), a.shape),
                lambda: unbroadcast(batched(a.swapaxes(-1, -2), dy), b.shape))
    return batched(a, b), backward


@primitive
def linear(x, w, b=None):
    """x (..., C) @ w (C, F) + b (F,) -> (..., F). dx = dy w^T, dw = x^T dy, db = dy; dw and db summed over x's leading axes."""
    expect("linear", "w", w, "C F")
    expect("linear", "x", x, "... C")
    C, F = w.shape
    if x.shape[-1] != C:
        raise ValueError(f"linear: x has {x.shape[-1]} channels, w expects {C} (x {x.shape}, w {w.shape})")
    if b is not None:
        expect_shape("linear", "b", b, (F,), "for w's output channels")
    rows = x.reshape(math.prod(x.shape[:-1]), C)         # (..., C) -> (M, C)
    y = kernels.matmul(rows, w)
    if b is not None:
        y += b

    def backward(dy):
        dy = dy.reshape(len(rows), F)                    # (..., F) -> (M, F)
        return lambda: kernels.matmul(dy, w.T).reshape(x.shape), lambda: kernels.matmul(rows.T, dy), lambda: dy.sum(axis=0)
    return y.reshape(x.shape[:-1] + (F,)), backward


@primitive
def embedding(w, ids):
    """Row ids[i] of the table w (rows, D), for each i: ids, integers of any shape (...) -> (..., D). dw: dy added up by row."""
    expect("embedding", "w", w, "rows D")
    ids, shape = np.asarray(ids), w.shape
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids must be integers, got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= shape[0]):
        raise ValueError(f"embedding: ids run from {ids.min()} to {ids.max()}, the table has rows 0 to {shape[0] - 1} (w {shape})")

    def backward(dy):
        dw = np.zeros(shape, dy.dtype)
        np.add.at(dw, ids, dy)
        return (dw,)
    return w[ids], backward
