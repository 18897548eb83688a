"""Softmax over the last axis, forward and backward: each row is read once from memory and stays in the first-level cache for its passes."""
import numpy as np
from numba import prange

from .buffers import empty
from .jit import PIECE, jit, readonly
from .registry import kernel
from .vector import emitter, exp, maximum


def softmax_reference(x):
    """x (...,n) -> e^x / sum(e^x) over the last axis."""
    y = np.exp(x - x.max(axis=-1, keepdims=True))                         # at most 1: nothing overflows
    return y / y.sum(axis=-1, keepdims=True)


def softmax_backward_reference(dy, y):
    """dx = y (dy - sum(dy y)), with y the result."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


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
    y = empty(x.shape, x.dtype)
    if x.size:
        softmax_pieces(y.reshape(-1), readonly(x).reshape(-1), x.shape[-1])
    return y


@kernel(softmax_backward_reference)
def softmax_backward(dy, y):
    dx = empty(y.shape, y.dtype)
    if y.size:
        softmax_backward_pieces(dx.reshape(-1), readonly(dy).reshape(-1), readonly(y).reshape(-1), y.shape[-1])
    return dx
