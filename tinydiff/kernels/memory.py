"""Kernels that add or move without computing: a sum of two arrays, channels put together and taken apart, pixels repeated and summed.

Read first: `elementwise.py`, `buffers.py`.
"""
import numpy as np
from numba import prange

from .buffers import empty
from .jit import PIECE, jit, readonly
from .registry import kernel, require
from .vector import emitter

# What the hardware wants: nothing but bandwidth. A number is read, perhaps added, and written; what can be lost is time with memory.
#
# How it gets that: all threads share the work (NumPy uses one), whole vectors are moved, and the results lie in memory from the pool, where a fresh
# array would cost a page fault for every 4 KB (buffers.py).
#
# What it gains, over the references on 2 cores: add 1.9 x, concat_channels 2.1 x, upsample 4.0 x, pool_sum 5.6 x (benchmarks/README.md).
# split_channels is slower than its reference, which only makes views: it copies, so that the large array can go. The largest gain is not to call
# them: in the U-Net sums and concatenations happen inside other kernels.


def add_reference(a, b):
    """a + b, of one shape."""
    return a + b


@emitter
def add_piece(code, a, b, y, start, n):
    code.each(n, lambda code, i: (y + start + i).on(code).store((a + start + i).on(code).load() + (b + start + i).on(code).load()))


@jit
def add_all(a, b, y):
    for piece in prange((y.size + PIECE - 1) // PIECE):                   # a piece owns its elements of y
        add_piece(a, b, y, piece * PIECE, min(PIECE, y.size - piece * PIECE))


@kernel(add_reference)
def add(a, b):
    require("add", a.shape == b.shape, "a and b of one shape", a, b)
    if a.size < PIECE:
        return add_reference(a, b)
    y = empty(a.shape, a.dtype)
    add_all(readonly(a).reshape(-1), readonly(b).reshape(-1), y.reshape(-1))
    return y


@emitter
def copy_row(code, source, first, target, start, n):
    code.each(n, lambda code, i: (target + start + i).on(code).store((source + first + i).on(code).load()))


@jit
def copy_columns(source, first, target, start, count):
    """target[:, start:start + count] = source[:, first:first + count]."""
    rows = source.shape[0]
    per_piece = max(1, PIECE // count)
    for piece in prange((rows + per_piece - 1) // per_piece):             # a piece owns its rows of the target
        for r in range(piece * per_piece, min((piece + 1) * per_piece, rows)):
            copy_row(source, r * source.shape[1] + first, target, r * target.shape[1] + start, count)


def concat_channels_reference(arrays):
    """[(...,C1), (...,C2), ...] -> (...,C1+C2+...)."""
    return np.concatenate(arrays, axis=-1)


@kernel(concat_channels_reference)
def concat_channels(arrays):
    fits = min(array.ndim for array in arrays) > 0 and len({array.shape[:-1] for array in arrays}) == 1
    require("concat_channels", fits, "arrays that differ in their last axis only", *arrays)
    sizes = [array.shape[-1] for array in arrays]
    y, start = empty((*arrays[0].shape[:-1], sum(sizes)), arrays[0].dtype), 0
    for array, size in zip(arrays, sizes):
        copy_columns(readonly(array).reshape(-1, size), 0, y.reshape(-1, sum(sizes)), start, size)
        start += size
    return y


def split_channels_reference(x, sizes):
    """(...,C1+C2+...) -> [(...,C1), (...,C2), ...]: concat_channels turned back, which is its gradient."""
    return np.split(x, np.cumsum(sizes)[:-1], axis=-1)


@kernel(split_channels_reference)
def split_channels(x, sizes):
    require("split_channels", x.ndim > 0 and sum(sizes) == x.shape[-1] and min(sizes) >= 0, f"x with {sum(sizes)} channels, for parts of {sizes}", x)
    parts, first = [empty((*x.shape[:-1], size), x.dtype) for size in sizes], 0
    for part, size in zip(parts, sizes):
        copy_columns(readonly(x).reshape(-1, sum(sizes)), first, part.reshape(-1, size), 0, size)
        first += size
    return parts


def upsample_reference(x, factor):
    """(N,H,W,C) -> (N,H factor,W factor,C), each pixel repeated."""
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


@jit
def upsample_rows(x, y, factor):
    N, H, W, C = x.shape
    for row in prange(N * H * factor):                                    # owns a row of pixels of y
        n, h = row // (H * factor), row % (H * factor)
        for w in range(W):
            for i in range(factor):
                copy_row(x, ((n * H + h // factor) * W + w) * C, y, ((n * H * factor + h) * W * factor + w * factor + i) * C, C)


@kernel(upsample_reference)
def upsample(x, factor):
    N, H, W, C = x.shape
    y = empty((N, H * factor, W * factor, C), x.dtype)
    upsample_rows(readonly(x), y, factor)
    return y


def pool_sum_reference(x, factor):
    """(N,H,W,C) -> (N,H/factor,W/factor,C): sums over factor x factor pixels, the gradient of upsample."""
    N, H, W, C = x.shape
    return x.reshape(N, H // factor, factor, W // factor, factor, C).sum(axis=(2, 4))


@emitter
def sum_square(code, x, start, row, factor, C, y, place):
    """y = the sum of a square of factor x factor pixels of C numbers, whose rows lie `row` apart."""
    def column(code, c):
        def below(i, totals):
            return code.loop(factor, lambda j, totals: [totals[0] + (x + start + i * row + j * C + c).on(code).load()], totals)
        total, = code.loop(factor, below, code.zeros(1))
        (y + place + c).on(code).store(total)
    code.each(C, column)


@jit
def pool_rows(x, y, factor):
    N, H, W, C = y.shape
    for row in prange(N * H):                                             # owns a row of pixels of y
        n, h = row // H, row % H
        for w in range(W):
            sum_square(x, ((n * H + h) * factor * W + w) * factor * C, W * factor * C, factor, C, y, ((n * H + h) * W + w) * C)


@kernel(pool_sum_reference)
def pool_sum(x, factor):
    N, H, W, C = x.shape
    require("pool_sum", H % factor == W % factor == 0, f"x (N,H,W,C) with H and W multiples of {factor}", x)
    y = empty((N, H // factor, W // factor, C), x.dtype)
    pool_rows(readonly(x), y, factor)
    return y
