"""Softmax attention, forward and backward, without ever holding more of the L x L matrix than a block of rows.

    S = q k^T / sqrt(D),   P = softmax(S),   o = P v                     (Vaswani et al. 2017, arXiv:1706.03762, equation 1)

Backward, from the end to the beginning. A product C = A B changes by dA B + A dB when its factors do, so the gradients of its factors are
(gradient of C) B^T and A^T (gradient of C). For o = P v:

    dP = do v^T,   dv = P^T do

Softmax, row by row (softmax.py): the gradient of S is P (dP - rowsum(dP P)). Its row sums are known without P, since

    rowsum(dP P)_l = sum_m (sum_d do_ld v_md) P_lm = sum_d do_ld (sum_m P_lm v_md) = rowsum(do o)_l

and with the factor 1 / sqrt(D) of S = q k^T / sqrt(D) taken into it:

    dS = P (do v^T - rowsum(do o)) / sqrt(D),   dq = dS k,   dk = dS^T q

P is not kept for this. Saved is o and the log-sum-exp of each row of S, from which P = exp(S - lse) is made again (Dao et al. 2022,
arXiv:2205.14135, section 3.1 and appendix B).

Checked by `tests/ops/test_primitives.py::test_gradients_agree_with_finite_differences` and
`tests/kernels/test_kernels.py::test_against_reference_and_plain_definition`.

Read first: `softmax.py`, `products.py`.
"""
import numpy as np
from numba import get_thread_id, prange
from numpy.lib.stride_tricks import as_strided

from .attention_rows import clear, dot_row, gradient_row, pack_columns, pack_rows, scale_row, softmax_row
from .buffers import empty, scratch, whole
from .jit import jit, readonly
from .products import product, product_add
from .registry import kernel, require
from .tile import tile_columns
from .vector import TILE_ROWS, lanes

BLOCK = 6 * TILE_ROWS                         # rows of S that are worked on at once


def attention_reference(q, k, v):
    """(N,heads,L,D) each (k and v may have another L) -> o like q, lse (N,heads,L)."""
    S = q @ k.swapaxes(-1, -2) * q.dtype.type(q.shape[-1] ** -0.5)        # (N,heads,L,L)
    top = S.max(-1, keepdims=True)
    P = np.exp(S - top)
    total = P.sum(-1, keepdims=True)
    return (P / total) @ v, (top + np.log(total))[..., 0]


def heads_apart(qkv, heads):
    """(N,L,3 C), a token's q, k and v of all heads one after the other -> q, k, v, each (N,heads,L,D): views, nothing is moved."""
    N, L, C3 = qkv.shape
    return qkv.reshape(N, L, 3, heads, C3 // (3 * heads)).transpose(2, 0, 3, 1, 4)


def heads_together(o):
    """(N,heads,L,D) -> (N,L,C), C = heads D."""
    return o.swapaxes(1, 2).reshape(o.shape[0], o.shape[2], -1)


def self_attention_reference(qkv, heads):
    """qkv (N,L,3 C) -> o (N,L,C), lse (N,heads,L)."""
    o, lse = attention_reference(*heads_apart(qkv, heads))
    return heads_together(o), lse


def self_attention_backward_reference(do, qkv, o, lse):
    """do and o (N,L,C) -> dqkv (N,L,3 C)."""
    N, heads, L = lse.shape
    do, o = (array.reshape(N, L, heads, -1).swapaxes(1, 2) for array in (do, o))
    return np.concatenate([heads_together(d) for d in attention_backward_reference(do, *heads_apart(qkv, heads), o, lse)], axis=-1)


def attention_backward_reference(do, q, k, v, o, lse):
    """The gradients of q, k and v."""
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    P = np.exp(q @ k.swapaxes(-1, -2) * scale - lse[..., None])
    dS = P * (do @ v.swapaxes(-1, -2) - (do * o).sum(-1, keepdims=True)) * scale
    return dS @ k, dS.swapaxes(-1, -2) @ q, P.swapaxes(-1, -2) @ do


# What the hardware wants: matrix products on numbers that are near. S and P are L x L for each picture and head: 16 MB in the reference step,
# written to memory, read for the largest of each row, again for the exponentials, again for their sums, again for P v.
#
# How it gets that: a thread takes one picture's head, and of S only BLOCK rows at a time, which stay in the second-level cache from the first
# product through the softmax to the last; nothing of size L x L is ever in memory. All seven products run on the register tile (tile.py). What it
# reads row by row is packed first, in panels of NB columns, filled up with zeros; all else is read and written where it lies, by strides (picture,
# head, token), so that heads need not be moved apart: in `self_attention` q, k and v are three parts of one array.
#
# What it gains, over the reference above on 2 cores, at L = 256: 9.2 x forward, 5.7 x backward; on packed q, k, v 9.2 x and 6.3 x
# (benchmarks/README.md).

@jit
def forward(q, k, v, o, lse, strides, M, D, NB, scale, one, space):
    """o and lse from q, k and v, flat arrays with their strides; space holds the panels and blocks of one picture's head for each thread."""
    N, heads, L = lse.shape
    width, depth = whole(M, NB), whole(D, NB)
    for item in prange(N * heads):                                        # owns a picture's head of o and lse
        n, head = item // heads, item % heads
        q_start, k_start, v_start, o_start = [n * strides[i, 0] + head * strides[i, 1] for i in range(4)]
        room = space[get_thread_id()]
        k_panel, room = room[:width * D], room[width * D:]
        v_panel, room = room[:depth * M], room[depth * M:]
        S, room = room[:BLOCK * width], room[BLOCK * width:]
        out, room = room[:BLOCK * depth], room[BLOCK * depth:]
        top, total = room[:BLOCK], room[BLOCK:]
        pack_columns(k, k_start, strides[1, 2], M, D, NB, scale, k_panel)
        pack_rows(v, v_start, strides[2, 2], M, D, NB, one, v_panel)
        for first in range(0, L, BLOCK):
            count = min(BLOCK, L - first)
            product(q, q_start + first * strides[0, 2], strides[0, 2], 1, count, D, k_panel, width, NB, S)
            for r in range(count):
                for j in range(M, width):
                    S[r * width + j] = -np.inf
                softmax_row(S, r * width, width, top, r, total)
            product(S, 0, width, 1, count, M, v_panel, depth, NB, out)
            for r in range(count):
                lse[n, head, first + r] = top[r] + np.log(total[r])
                total[r] = 1 / total[r]
                scale_row(out, r * depth, o, o_start + (first + r) * strides[3, 2], D, total[r:])


@jit
def backward(do, q, k, v, o, lse, dq, dk, dv, strides, M, D, NB, scale, one, space):
    """dq, dk and dv; strides are those of q, k, v, o, do, dq, dk, dv in this order."""
    N, heads, L = lse.shape
    width, depth, keys = whole(M, NB), whole(D, NB), whole(M, TILE_ROWS)
    for item in prange(N * heads):                                        # owns a picture's head of dq, dk and dv
        n, head = item // heads, item % heads
        q_start, k_start, v_start, o_start, do_start, dq_start, dk_start, dv_start = [
            n * strides[i, 0] + head * strides[i, 1] for i in range(8)]
        q_row, k_row, v_row, o_row, do_row, dq_row, dk_row, dv_row = [strides[i, 2] for i in range(8)]
        room = space[get_thread_id()]
        k_columns, room = room[:width * D], room[width * D:]              # B of q k^T
        v_columns, room = room[:width * D], room[width * D:]              # B of do v^T
        k_rows, room = room[:depth * M], room[depth * M:]                 # B of dS k
        q_block, room = room[:BLOCK * depth], room[BLOCK * depth:]        # B of dS^T q
        do_block, room = room[:BLOCK * depth], room[BLOCK * depth:]       # B of P^T do
        S, room = room[:BLOCK * width + TILE_ROWS], room[BLOCK * width + TILE_ROWS:]
        dP, room = room[:BLOCK * width + TILE_ROWS], room[BLOCK * width + TILE_ROWS:]
        dq_block, room = room[:BLOCK * depth], room[BLOCK * depth:]
        dk_item, room = room[:keys * depth], room[keys * depth:]
        dv_item, room = room[:keys * depth], room[keys * depth:]
        lse_block, delta = room[:BLOCK], room[BLOCK:2 * BLOCK]
        clear(dk_item, 0, keys * depth)
        clear(dv_item, 0, keys * depth)
        pack_columns(k, k_start, k_row, M, D, NB, scale, k_columns)
        pack_columns(v, v_start, v_row, M, D, NB, one, v_columns)
        pack_rows(k, k_start, k_row, M, D, NB, scale, k_rows)
        for first in range(0, L, BLOCK):
            count = min(BLOCK, L - first)
            q_first, do_first = q_start + first * q_row, do_start + first * do_row
            pack_rows(q, q_first, q_row, count, D, NB, scale, q_block)
            pack_rows(do, do_first, do_row, count, D, NB, one, do_block)
            product(q, q_first, q_row, 1, count, D, k_columns, width, NB, S)
            product(do, do_first, do_row, 1, count, D, v_columns, width, NB, dP)
            for r in range(count):
                lse_block[r] = lse[n, head, first + r]
                dot_row(do, do_first + r * do_row, o, o_start + (first + r) * o_row, D, delta, r)
                gradient_row(S, dP, r * width, width, lse_block, delta, r)
            product(dP, 0, width, 1, count, M, k_rows, depth, NB, dq_block)
            product_add(dP, 0, 1, width, M, count, q_block, depth, NB, dk_item)
            product_add(S, 0, 1, width, M, count, do_block, depth, NB, dv_item)
            for r in range(count):
                scale_row(dq_block, r * depth, dq, dq_start + (first + r) * dq_row, D, one)
        for j in range(M):
            scale_row(dk_item, j * depth, dk, dk_start + j * dk_row, D, one)
            scale_row(dv_item, j * depth, dv, dv_start + j * dv_row, D, one)


# Calls from Python, on arrays (N,heads,L,D) whose last axis is contiguous; the others have any strides.

def memory_of(array, writable=False) -> np.ndarray:
    """The stretch of memory from the array's first number to its last, as one axis."""
    reach = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides)) // array.itemsize + 1
    return as_strided(array, (reach if array.size else 0,), (array.itemsize,), writeable=writable)


def readable(array) -> np.ndarray:
    """The array, or a copy where its last axis is not contiguous."""
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


def setting(q, k, arrays):
    """Strides of the arrays in numbers, sizes of an attention call (M, D, NB), the scale and 1 as arrays, and a thread's working space."""
    NB, M, D = tile_columns(lanes(q.dtype)), k.shape[2], q.shape[3]
    width, depth = M + NB, D + NB
    space = scratch("attention", 6 * width * depth + BLOCK * (2 * width + 3 * depth + 8), q.dtype)
    strides = np.array([array.strides[:3] for array in arrays], np.int64) // q.itemsize
    scale, one = (readonly(np.array([number], q.dtype)) for number in (D ** -0.5, 1))
    return readonly(strides), M, D, NB, scale, one, space


def run_forward(q, k, v, o, lse):
    """Writes o and lse."""
    q, k, v = (readable(array) for array in (q, k, v))
    forward(*(memory_of(array) for array in (q, k, v)), memory_of(o, writable=True), lse, *setting(q, k, (q, k, v, o)))


def run_backward(do, q, k, v, o, lse, dq, dk, dv):
    """Writes dq, dk and dv."""
    do, q, k, v, o = (readable(array) for array in (do, q, k, v, o))
    backward(*(memory_of(array) for array in (do, q, k, v, o)), readonly(lse), *(memory_of(array, writable=True) for array in (dq, dk, dv)),
             *setting(q, k, (q, k, v, o, do, dq, dk, dv)))


@kernel(attention_reference)
def attention(q, k, v):
    N, heads, L, D = q.shape
    fits = k.ndim == 4 and k.shape == v.shape == (N, heads, k.shape[2], D) and k.shape[2] > 0
    require("attention", fits, "q (N,heads,L,D), k and v (N,heads,M,D) with M > 0", q, k, v)
    o, lse = empty(q.shape, q.dtype), empty(q.shape[:3], q.dtype)
    run_forward(q, k, v, o, lse)
    return o, lse


@kernel(attention_backward_reference)
def attention_backward(do, q, k, v, o, lse):
    N, heads, L, D = q.shape
    fits = do.shape == o.shape == q.shape and lse.shape == (N, heads, L) and k.ndim == 4 and k.shape == v.shape == (N, heads, k.shape[2], D)
    require("attention_backward", fits, "do, q and o (N,heads,L,D), k and v (N,heads,M,D), lse (N,heads,L)", do, q, k, v, o, lse)
    dq, dk, dv = (empty(array.shape, array.dtype) for array in (q, k, v))
    run_backward(do, q, k, v, o, lse, dq, dk, dv)
    return dq, dk, dv


@kernel(self_attention_reference)
def self_attention(qkv, heads):
    N, L, C3 = qkv.shape
    require("self_attention", C3 % (3 * heads) == 0, f"qkv (N,L,3 C), C a multiple of {heads} heads", qkv)
    qkv, o, lse = np.ascontiguousarray(qkv), empty((N, L, C3 // 3), qkv.dtype), empty((N, heads, L), qkv.dtype)
    run_forward(*heads_apart(qkv, heads), o.reshape(N, L, heads, -1).swapaxes(1, 2), lse)
    return o, lse


@kernel(self_attention_backward_reference)
def self_attention_backward(do, qkv, o, lse):
    N, heads, L = lse.shape
    fits = do.shape == o.shape == (N, L, o.shape[-1]) and qkv.shape == (N, L, 3 * o.shape[-1]) and o.shape[-1] % heads == 0
    require("self_attention_backward", fits, "do and o (N,L,C), qkv (N,L,3 C), lse (N,heads,L), C a multiple of heads", do, qkv, o, lse)
    do, qkv, dqkv = np.ascontiguousarray(do), np.ascontiguousarray(qkv), empty(qkv.shape, qkv.dtype)
    do, o = (array.reshape(N, L, heads, -1).swapaxes(1, 2) for array in (do, o))
    run_backward(do, *heads_apart(qkv, heads), o, lse, *heads_apart(dqkv, heads))
    return dqkv
