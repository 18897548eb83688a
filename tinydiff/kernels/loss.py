"""The squared error of two arrays, with a weight for each picture, and its gradient: the loss, in one pass over memory each way.

Read first: `elementwise.py`.
"""
import numpy as np
from numba import prange

from .buffers import empty
from .jit import PIECE, jit, readonly
from .registry import kernel, require
from .vector import emitter


def squared_error_reference(a, b, weight=None):
    """The sum of w (a - b)^2 over all elements, a and b of one shape (N,...); weight: (N,), or None for 1."""
    return float(np.sum(along_first(weight, a) * np.square(a - b, dtype=np.float64)))


def scaled_difference_reference(a, b, scale, weight=None):
    """scale w (a - b), weight as in squared_error; scale is a number."""
    return a.dtype.type(scale) * along_first(weight, a) * (a - b)


def along_first(weight, a):
    """(N,) shaped to multiply a (N,...)."""
    return a.dtype.type(1) if weight is None else weight.reshape(-1, *[1] * (a.ndim - 1))


# What the hardware wants: each array read once, and additions that need not wait for each other. A sum in one register is a chain: each addition
# waits some four cycles for the last.
#
# How it gets that: differences, squares and sums happen in registers, with no array between them, and four vectors of sums are kept at once. Each
# piece of the arrays has a sum of its own; these are added in their order, so that the result has the same bits on any number of threads.
#
# What it gains, over the references above on 2 cores: squared_error 12.3 x; scaled_difference 0.6 x, a launch for 0.1 ms of work
# (benchmarks/README.md).

@emitter
def squared_error_piece(code, sums, i, a, b, start, n):
    """sums[i] = the sum of (a - b)^2 over n elements from `start` on."""
    a, b, several = a + start, b + start, 4
    one, whole = code.one_lane(), n // (several * code.lanes)

    def chunk(k, totals):
        differences = [(a + (k * several + u) * code.lanes).load() - (b + (k * several + u) * code.lanes).load() for u in range(several)]
        return [total + d * d for total, d in zip(totals, differences)]

    def element(k, totals):
        place = whole * (several * code.lanes) + k
        d = (a + place).on(one).load() - (b + place).on(one).load()
        return [totals[0] + d * d]

    total = sum(code.loop(whole, chunk, code.zeros(several)), code.constant(0)).across(lambda a, b: a + b)
    total, = one.loop(n - whole * (several * code.lanes), element, [total.first_lane()])
    (sums + i).on(one).store(total)


@jit
def squared_error_pieces(sums, a, b, weight):
    """sums (rows, pieces) of the pieces of the rows of a and b, times the row's weight."""
    (rows, pieces), n = sums.shape, a.shape[1]
    for i in prange(rows * pieces):                                       # owns sums[row, piece]
        row, piece = i // pieces, i % pieces
        squared_error_piece(sums, i, a, b, row * n + piece * PIECE, min(PIECE, n - piece * PIECE))
        sums[row, piece] *= weight[row]


@emitter
def scaled_difference_piece(code, y, a, b, scale, row, start, n):
    """y = scale[row] (a - b) for n elements from `start` on."""
    def body(code, i):
        place = start + i
        (y + place).on(code).store(((a + place).on(code).load() - (b + place).on(code).load()) * (scale + row).on(code).splat())
    code.each(n, body)


@jit
def scaled_difference_pieces(y, a, b, scale):
    rows, n = y.shape
    pieces = (n + PIECE - 1) // PIECE
    for i in prange(rows * pieces):                                       # a piece owns its elements of y
        row, piece = i // pieces, i % pieces
        scaled_difference_piece(y, a, b, scale, row, row * n + piece * PIECE, min(PIECE, n - piece * PIECE))


def weighted_rows(name, a, b, weight):
    """a and b as rows with a weight each, and the weights: as many rows as weights, or one of weight 1."""
    fits = a.shape == b.shape and (weight is None or weight.shape == a.shape[:1] != ())
    require(name, fits, "a and b of one shape (N,...), weight (N,)", a, b, weight)
    weight = np.ones(1, a.dtype) if weight is None else weight
    shape = len(weight), a.size // max(1, len(weight))
    return readonly(a).reshape(shape), readonly(b).reshape(shape), weight


@kernel(squared_error_reference)
def squared_error(a, b, weight=None):
    a, b, weight = weighted_rows("squared_error", a, b, weight)
    sums = np.empty((len(a), -(-a.shape[1] // PIECE)), a.dtype)
    squared_error_pieces(sums, a, b, readonly(weight))
    return float(sums.sum(dtype=np.float64))


@kernel(scaled_difference_reference)
def scaled_difference(a, b, scale, weight=None):
    y = empty(a.shape, a.dtype)
    a, b, weight = weighted_rows("scaled_difference", a, b, weight)
    scaled_difference_pieces(y.reshape(a.shape), a, b, readonly(weight * a.dtype.type(scale)))
    return y
