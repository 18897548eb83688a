"""Softmax over the last axis, forward and backward.

    y_i = e^{x_i} / sum_k e^{x_k}

Backward: let x change by small amounts d_i. Since log y_i = x_i - log sum_k e^{x_k}, and the logarithm of the sum changes by sum_k y_k d_k,

    y_i changes by  y_i (d_i - sum_k y_k d_k)

and the loss, by the chain rule, by the sum over i of dy_i times that. Sorted by what multiplies d_i (in the second term i and k change names):

    sum_i d_i  y_i (dy_i - sum_k dy_k y_k),     so   dx_i = y_i (dy_i - sum_k dy_k y_k)

Checked by `tests/ops/test_primitives.py::test_gradients_agree_with_finite_differences` and
`tests/kernels/test_kernels.py::test_against_reference_and_plain_definition`.

Read first: `elementwise.py`.
"""
import numpy as np
from numba import prange

from .buffers import empty
from .jit import PIECE, jit, readonly
from .registry import kernel, require
from .vector import emitter
from .vector_functions import exp, maximum


def softmax_reference(x):
    """x (...,n) -> e^x / sum(e^x) over the last axis."""
    y = np.exp(x - x.max(axis=-1, keepdims=True))                         # at most 1: nothing overflows
    return y / y.sum(axis=-1, keepdims=True)


def softmax_backward_reference(dy, y):
    """dx = y (dy - sum(dy y)), with y the result."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


# What the hardware wants: to read each number from memory once. A softmax needs three passes (the largest number, the sum of the exponentials, the
# division), and over a large array each of NumPy's goes out to memory again, with a temporary array besides.
#
# How it gets that: row by row. The first pass brings a row into the first-level cache (32 KB, a few cycles away), and the other two find it there.
# Sums run in all lanes at once, and the lanes are added up at the end; a row's last few numbers, too few for a vector, go one by one.
#
# What it gains, over the reference above on 2 cores: 14.3 x forward, 6.7 x backward, for rows of 256 (benchmarks/README.md).

def reduce_row(code, n, term, combine, start):
    """Emit the combination of term(code, i) over a row's n elements: whole vectors, then the rest. A vector of one lane."""
    one, whole = code.one_lane(), n // code.lanes
    total, = code.loop(whole, lambda k, t: [combine(t[0], term(code, k * code.lanes))], [code.constant(start)])
    first = total.across(combine).first_lane()
    total, = one.loop(n - whole * code.lanes, lambda k, t: [combine(t[0], term(one, whole * code.lanes + k))], [first])
    return total


def add(a, b):
    return a + b


@emitter
def softmax_rows(code, y, x, start, rows, n):
    def row(r, _):
        source, target = x + start + r * n, y + start + r * n
        top = reduce_row(code, n, lambda code, i: (source + i).on(code).load(), maximum, -np.inf)

        def exponential(code, i):
            value = exp((source + i).on(code).load() - top.to(code))
            (target + i).on(code).store(value)
            return value
        inverse = 1 / reduce_row(code, n, exponential, add, 0)
        code.each(n, lambda code, i: (target + i).on(code).store((target + i).on(code).load() * inverse.to(code)))
        return []
    code.loop(rows, row)


@emitter
def softmax_backward_rows(code, dx, dy, y, start, rows, n):
    def row(r, _):
        place = start + r * n
        of_row = lambda array, code, i: (array + place + i).on(code)
        total = reduce_row(code, n, lambda code, i: of_row(dy, code, i).load() * of_row(y, code, i).load(), add, 0)
        code.each(n, lambda code, i: of_row(dx, code, i).store(
            of_row(y, code, i).load() * (of_row(dy, code, i).load() - total.to(code))))
        return []
    code.loop(rows, row)


@jit
def softmax_pieces(y, x, n):
    per_piece = max(1, PIECE // n)
    rows = x.size // n
    for piece in prange((rows + per_piece - 1) // per_piece):             # a piece owns its rows of y
        softmax_rows(y, x, piece * per_piece * n, min(per_piece, rows - piece * per_piece), n)


@jit
def softmax_backward_pieces(dx, dy, y, n):
    per_piece = max(1, PIECE // n)
    rows = y.size // n
    for piece in prange((rows + per_piece - 1) // per_piece):             # a piece owns its rows of dx
        softmax_backward_rows(dx, dy, y, piece * per_piece * n, min(per_piece, rows - piece * per_piece), n)


@kernel(softmax_reference)
def softmax(x):
    require("softmax", x.ndim > 0, "x (...,n)", x)
    y = empty(x.shape, x.dtype)
    if x.size:
        softmax_pieces(y.reshape(-1), readonly(x).reshape(-1), x.shape[-1])
    return y


@kernel(softmax_backward_reference)
def softmax_backward(dy, y):
    require("softmax_backward", dy.shape == y.shape, "dy and y of one shape", dy, y)
    dx = empty(y.shape, y.dtype)
    if y.size:
        softmax_backward_pieces(dx.reshape(-1), readonly(dy).reshape(-1), readonly(y).reshape(-1), y.shape[-1])
    return dx
