"""Softmax attention, forward and backward, without ever holding more of the L x L matrix than a block of rows.

    S = q k^T / sqrt(D),   P = softmax(S),   o = P v                     (Vaswani et al. 2017, arXiv:1706.03762, equation 1)

Saved is o and the log-sum-exp of each row of S, from which P = exp(S - lse) is made again in backward (Dao et al. 2022, arXiv:2205.14135):

    dv = P^T do,   dS = P (do v^T - rowsum(do o)) / sqrt(D),   dq = dS k,   dk = dS^T q.

All six products run on the register tile. What the tile reads row by row is packed first, in panels of NB columns, filled up with zeros.
"""
import numpy as np
from numba import get_thread_id, prange

from .buffers import empty, scratch
from .jit import jit, readonly
from .registry import kernel
from .tile import ROWS, tile_columns, tile_product, tile_product_add
from .vector import emitter, exp, lanes, maximum

BLOCK = 6 * ROWS                         # rows of S that are worked on at once


def attention_reference(q, k, v):
    """(N,heads,L,D) each (k and v may have another L) -> o like q, lse (N,heads,L)."""
    S = q @ k.swapaxes(-1, -2) * q.dtype.type(q.shape[-1] ** -0.5)        # (N,heads,L,L)
    top = S.max(-1, keepdims=True)
    P = np.exp(S - top)
    total = P.sum(-1, keepdims=True)
    return (P / total) @ v, (top + np.log(total))[..., 0]


def attention_backward_reference(do, q, k, v, o, lse):
    """The gradients of q, k and v."""
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    P = np.exp(q @ k.swapaxes(-1, -2) * scale - lse[..., None])
    dS = P * (do @ v.swapaxes(-1, -2) - (do * o).sum(-1, keepdims=True)) * scale
    return dS @ k, dS.swapaxes(-1, -2) @ q, P.swapaxes(-1, -2) @ do


# Vector code for the rows of S. A row's width is a multiple of NB; what is beyond the last key is filled with -infinity.

@emitter
def softmax_row(code, row, start, width, top, r, total):
    """row <- exp(row - top), with its largest number in top[r] and its new sum in total[r]."""
    row, chunks = row + start, width // code.lanes
    largest, = code.loop(chunks, lambda i, t: [maximum(t[0], (row + i * code.lanes).load())], [code.constant(-np.inf)])
    largest = largest.across(maximum)

    def exponential(i, totals):
        place = row + i * code.lanes
        value = exp(place.load() - largest)
        place.store(value)
        return [totals[0] + value]

    total_vec, = code.loop(chunks, exponential, code.zeros(1))
    (top + r).store_first(largest)
    (total + r).store_first(total_vec.across(lambda a, b: a + b))


@emitter
def gradient_row(code, S, dP, start, width, lse, delta, r, scale):
    """S <- P = exp(S - lse[r]), dP <- dS = P (dP - delta[r]) scale."""
    lse, delta, scale = (lse + r).splat(), (delta + r).splat(), scale.splat()

    def chunk(i, _):
        S_place, dP_place = S + start + i * code.lanes, dP + start + i * code.lanes
        P = exp(S_place.load() - lse)
        S_place.store(P)
        dP_place.store(P * (dP_place.load() - delta) * scale)
        return []
    code.loop(width // code.lanes, chunk)


# Packing: source holds rows of D numbers, from `start` on.

@jit(parallel=False)
def pack_rows(source, start, rows, D, NB, panel):
    """panel[D/NB][rows][NB]: B of a product over the rows."""
    for d in range((D + NB - 1) // NB * NB):
        for r in range(rows):
            panel[(d // NB * rows + r) * NB + d % NB] = source[start + r * D + d] if d < D else 0


@jit(parallel=False)
def pack_columns(source, start, rows, D, NB, panel):
    """panel[rows/NB][D][NB]: B of a product over D, its columns the rows of the source."""
    for r in range((rows + NB - 1) // NB * NB):
        for d in range(D):
            panel[(r // NB * D + d) * NB + r % NB] = source[start + r * D + d] if r < rows else 0


@jit(parallel=False)
def product(a, a_row, a_step, rows, K, panel, columns, NB, c):
    """c[rows, columns] = A B: c has rows of `columns` numbers, and room for rows up to a whole tile."""
    for f in range(0, columns, NB):
        for r in range(0, rows, ROWS):
            tile_product(a, r * a_row, a_row, a_step, panel, f * K, c, r * columns + f, columns, K)


@jit(parallel=False)
def product_add(a, a_row, a_step, rows, K, panel, columns, NB, c):
    """c[rows, columns] += A B."""
    for f in range(0, columns, NB):
        for r in range(0, rows, ROWS):
            tile_product_add(a, r * a_row, a_row, a_step, panel, f * K, c, r * columns + f, columns, K)


@jit(parallel=False)
def whole(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@jit
def forward(q, k, v, o, lse, NB, scale, space):
    """Flat arrays of `items` = N heads, L rows of D; space holds the panels and blocks of one item for each thread."""
    items, L, D = q.shape
    M = k.shape[1]
    width, depth = whole(M, NB), whole(D, NB)
    qf, kf, vf = q.reshape(-1), k.reshape(-1), v.reshape(-1)
    for item in prange(items):                                            # owns item of o and lse
        room = space[get_thread_id()]
        k_panel, room = room[:width * D], room[width * D:]
        v_panel, room = room[:depth * M], room[depth * M:]
        rows, room = room[:BLOCK * D], room[BLOCK * D:]
        S, room = room[:BLOCK * width], room[BLOCK * width:]
        out, room = room[:BLOCK * depth], room[BLOCK * depth:]
        top, total = room[:BLOCK], room[BLOCK:]
        pack_columns(kf, item * M * D, M, D, NB, k_panel)
        pack_rows(vf, item * M * D, M, D, NB, v_panel)
        for first in range(0, L, BLOCK):
            count = min(BLOCK, L - first)
            for i in range(BLOCK * D):
                rows[i] = qf[(item * L + first) * D + i] * scale if i < count * D else 0
            product(rows, D, 1, count, D, k_panel, width, NB, S)
            for r in range(count):
                for j in range(M, width):
                    S[r * width + j] = -np.inf
                softmax_row(S, r * width, width, top, r, total)
            product(S, width, 1, count, M, v_panel, depth, NB, out)
            for r in range(count):
                for d in range(D):
                    o[item, first + r, d] = out[r * depth + d] / total[r]
                lse[item, first + r] = top[r] + np.log(total[r])


@jit
def backward(do, q, k, v, o, lse, dq, dk, dv, NB, scale, space):
    items, L, D = q.shape
    M = k.shape[1]
    width, depth, keys = whole(M, NB), whole(D, NB), whole(M, ROWS)
    dof, qf, kf, vf = do.reshape(-1), q.reshape(-1), k.reshape(-1), v.reshape(-1)
    for item in prange(items):                                            # owns item of dq, dk and dv
        room = space[get_thread_id()]
        k_columns, room = room[:width * D], room[width * D:]              # B of q k^T
        v_columns, room = room[:width * D], room[width * D:]              # B of do v^T
        k_rows, room = room[:depth * M], room[depth * M:]                 # B of dS k
        q_block, room = room[:BLOCK * depth], room[BLOCK * depth:]        # B of dS^T q
        do_block, room = room[:BLOCK * depth], room[BLOCK * depth:]       # B of P^T do
        q_padded, room = room[:BLOCK * D], room[BLOCK * D:]
        do_padded, room = room[:BLOCK * D], room[BLOCK * D:]
        S, room = room[:BLOCK * width + ROWS], room[BLOCK * width + ROWS:]
        dP, room = room[:BLOCK * width + ROWS], room[BLOCK * width + ROWS:]
        dq_block, room = room[:BLOCK * depth], room[BLOCK * depth:]
        dk_item, room = room[:keys * depth], room[keys * depth:]
        dv_item, room = room[:keys * depth], room[keys * depth:]
        lse_block, delta, one_scale = room[:BLOCK], room[BLOCK:2 * BLOCK], room[2 * BLOCK:]
        one_scale[0] = scale
        dk_item[:] = 0
        dv_item[:] = 0
        pack_columns(kf, item * M * D, M, D, NB, k_columns)
        pack_columns(vf, item * M * D, M, D, NB, v_columns)
        pack_rows(kf, item * M * D, M, D, NB, k_rows)
        for first in range(0, L, BLOCK):
            count = min(BLOCK, L - first)
            start = (item * L + first) * D
            for i in range(BLOCK * D):
                q_padded[i] = qf[start + i] * scale if i < count * D else 0
                do_padded[i] = dof[start + i] if i < count * D else 0
            pack_rows(qf, start, count, D, NB, q_block)
            pack_rows(dof, start, count, D, NB, do_block)
            product(q_padded, D, 1, count, D, k_columns, width, NB, S)
            product(do_padded, D, 1, count, D, v_columns, width, NB, dP)
            for r in range(count):
                lse_block[r], delta[r] = lse[item, first + r], 0
                for d in range(D):
                    delta[r] += do[item, first + r, d] * o[item, first + r, d]
                gradient_row(S, dP, r * width, width, lse_block, delta, r, one_scale)
            product(dP, width, 1, count, M, k_rows, depth, NB, dq_block)
            product_add(dP, 1, width, M, count, q_block, depth, NB, dk_item)
            product_add(S, 1, width, M, count, do_block, depth, NB, dv_item)
            for r in range(count):
                for d in range(D):
                    dq[item, first + r, d] = dq_block[r * depth + d]
        for j in range(M):
            for d in range(D):
                dk[item, j, d], dv[item, j, d] = dk_item[j * depth + d], dv_item[j * depth + d]


def setting(q, k):
    """Sizes of an attention call: NB, the scale, and a thread's working space."""
    NB, L, D = tile_columns(lanes(q.dtype)), k.shape[2], q.shape[3]
    width, depth = L + NB, D + NB
    space = scratch("attention", 6 * width * depth + BLOCK * (2 * width + 3 * depth + 2 * D + 8), q.dtype)
    return NB, q.dtype.type(D ** -0.5), space


def items(array):
    """(N,heads,L,D) -> (N heads,L,D), read-only."""
    return readonly(array).reshape(-1, *array.shape[2:])


@kernel(attention_reference)
def attention(q, k, v):
    o, lse = empty(q.shape, q.dtype), empty(q.shape[:3], q.dtype)
    forward(items(q), items(k), items(v), o.reshape(-1, *q.shape[2:]), lse.reshape(-1, q.shape[2]), *setting(q, k))
    return o, lse


@kernel(attention_backward_reference)
def attention_backward(do, q, k, v, o, lse):
    dq, dk, dv = (empty(array.shape, array.dtype) for array in (q, k, v))
    backward(*(items(array) for array in (do, q, k, v, o, lse)), *(array.reshape(-1, *array.shape[2:]) for array in (dq, dk, dv)),
             *setting(q, k))
    return dq, dk, dv
