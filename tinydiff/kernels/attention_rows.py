"""What attention does with single rows of numbers: softmax and its gradient, scaling and copying, packing into the tile's panels.

Read first: `softmax.py`, `tile.py`.
"""
import numpy as np

from .buffers import whole
from .jit import jit
from .tile import TILE_VECTORS, tile_columns
from .vector import emitter
from .vector_functions import exp, fma, maximum

# Vector code for the rows of S. A row's width is a multiple of NB; what is beyond the last key is filled with -infinity.


@emitter
def softmax_row(code, row, start, width, top, r, total):
    """row <- exp(row - top), with its largest number in top[r] and its new sum in total[r]."""
    row, pairs = row + start, width // tile_columns(code.lanes)

    def at(i, u):
        return row + (i * TILE_VECTORS + u) * code.lanes

    def larger(i, tops):                                    # two vectors at a time: a maximum, or a sum, waits for the one before
        return [maximum(top, at(i, u).load()) for u, top in enumerate(tops)]
    largest = maximum(*code.loop(pairs, larger, [code.constant(-np.inf)] * TILE_VECTORS)).across(maximum)

    def exponential(i, totals):
        values = [exp(at(i, u).load() - largest) for u in range(TILE_VECTORS)]
        for u, value in enumerate(values):
            at(i, u).store(value)
        return [total + value for total, value in zip(totals, values)]

    total_vec = sum(code.loop(pairs, exponential, code.zeros(TILE_VECTORS)), code.constant(0))
    (top + r).on(code.one_lane()).store(largest.first_lane())
    (total + r).on(code.one_lane()).store(total_vec.across(lambda a, b: a + b).first_lane())


@emitter
def gradient_row(code, S, dP, start, width, lse, delta, r):
    """S <- P = exp(S - lse[r]), dP <- dS = P (dP - delta[r])."""
    lse, delta = (lse + r).splat(), (delta + r).splat()

    def chunk(i, _):
        S_place, dP_place = S + start + i * code.lanes, dP + start + i * code.lanes
        P = exp(S_place.load() - lse)
        S_place.store(P)
        dP_place.store(P * (dP_place.load() - delta))
        return []
    code.loop(width // code.lanes, chunk)


@emitter
def dot_row(code, a, a_start, b, b_start, D, result, r):
    """result[r] = the sum of a b over D numbers."""
    a, b, one = a + a_start, b + b_start, code.one_lane()
    whole = D // code.lanes

    def chunk(i, totals):
        return [fma((a + i * code.lanes).load(), (b + i * code.lanes).load(), totals[0])]

    def element(i, totals):
        place = whole * code.lanes + i
        return [fma((a + place).on(one).load(), (b + place).on(one).load(), totals[0])]

    total, = code.loop(whole, chunk, code.zeros(1))
    (result + r).on(code.one_lane()).store(total.across(lambda a, b: a + b).first_lane())
    total, = one.loop(D - whole * code.lanes, element, [(result + r).on(one).load()])
    (result + r).on(one).store(total)


@emitter
def scale_row(code, source, start, target, place, D, scale):
    """target = scale[0] source, D numbers."""
    source, target = source + start, target + place
    code.each(D, lambda code, d: (target + d).on(code).store((source + d).on(code).load() * scale.on(code).splat()))


@emitter
def scale_column(code, source, start, stride, target, place, rows, scale):
    """target = scale[0] source, the source's numbers `stride` apart."""
    one, factor = code.one_lane(), scale.on(code.one_lane()).load()
    one.loop(rows, lambda r, _: (target + place + r).on(one).store((source + start + r * stride).on(one).load() * factor) or [])


@emitter
def clear(code, target, place, n):
    """target = 0, whole vectors."""
    code.loop(n // code.lanes, lambda i, _: (target + place + i * code.lanes).store(code.constant(0)) or [])


# Packing: rows of D numbers, `stride` apart, of which the first begins at `start`.

@jit(parallel=False)
def pack_rows(source, start, stride, rows, D, NB, scale, panel):
    """panel[D/NB][rows][NB] = scale[0] source: B of a product over the rows."""
    clear(panel, 0, whole(D, NB) * rows)
    for first in range(0, D, NB):
        for r in range(rows):
            scale_row(source, start + r * stride + first, panel, (first // NB * rows + r) * NB, min(NB, D - first), scale)


@jit(parallel=False)
def pack_columns(source, start, stride, rows, D, NB, scale, panel):
    """panel[rows/NB][D][NB] = scale[0] source^T: B of a product over D, its columns the rows of the source."""
    clear(panel, 0, whole(rows, NB) * D)
    for first in range(0, rows, NB):
        for d in range(D):
            scale_column(source, start + first * stride + d, stride, panel, (first // NB * D + d) * NB, min(NB, rows - first), scale)
