"""Matrix products on the register tile, in place of BLAS: the same bits on any number of threads, and no foreign threads beside ours.

Read first: `convolution.py`, `attention_rows.py`.
"""
import numpy as np

from .attention_rows import pack_columns, pack_rows
from .buffers import scratch, whole
from .convolution import conv2d
from .jit import jit, readonly
from .registry import kernel, require
from .tile import tile_columns, tile_product, tile_product_add
from .vector import TILE_ROWS, lanes


def matmul_reference(a, b):
    """(M,K) x (K,N) -> (M,N), or (B,M,K) x (B,K,N) -> (B,M,N)."""
    return np.matmul(a, b)


# What the hardware wants: what it wants of a convolution; of a small product, not to wake a second thread for it.
#
# How it gets that: a large product is a 1x1 convolution of M pictures one pixel wide, and takes its kernel. A small one is done by the thread that
# asks, on the same tile.
#
# What it gains: no time. NumPy's BLAS is good at products, and in the U-Net these have 16 rows, where the call costs more than the work (0.1 x the
# reference's speed, benchmarks/README.md). But BLAS brings threads of its own, which wait for work on the cores that ours compute on, and adds in an
# order that depends on their number.

SMALL = 1 << 19                         # multiply-adds: 10 us of one thread


# One thread's products, on flat arrays: A[r, k] is a[a_start + r a_row + k a_step], B lies in panels (attention_rows.py packs them), and c has rows
# of `columns` numbers, and room for rows up to a whole tile.

@jit(parallel=False)
def product(a, a_start, a_row, a_step, rows, K, panel, columns, NB, c):
    """c[rows, columns] = A B."""
    for f in range(0, columns, NB):
        for r in range(0, rows, TILE_ROWS):
            tile_product(a, a_start + r * a_row, a_row, a_step, rows - r, panel, f * K, c, r * columns + f, columns, K)


@jit(parallel=False)
def product_add(a, a_start, a_row, a_step, rows, K, panel, columns, NB, c):
    """c[rows, columns] += A B."""
    for f in range(0, columns, NB):
        for r in range(0, rows, TILE_ROWS):
            tile_product_add(a, a_start + r * a_row, a_row, a_step, rows - r, panel, f * K, c, r * columns + f, columns, K)


@jit(parallel=False)
def symmetric_product(a, a_row, a_step, K, panel, columns, NB, c):
    """c[columns, columns] = A B where that is symmetric: only the panels' tiles down to the diagonal are computed."""
    for f in range(0, columns, NB):
        for r in range(0, f + NB, TILE_ROWS):
            tile_product(a, r * a_row, a_row, a_step, columns - r, panel, f * K, c, r * columns + f, columns, K)
    for r in range(columns):
        for f in range(r):
            c[r * columns + f] = c[f * columns + r]


@jit(parallel=False)
def small_product(a, a_row, a_step, b, b_row, b_step, M, K, N, NB, one, panel, c):
    """c = A B, B[k, j] being b[k b_row + j b_step]."""
    if b_step == 1:
        pack_rows(b, 0, b_row, K, N, NB, one, panel)
    else:
        pack_columns(b, 0, b_step, N, K, NB, one, panel)
    product(a, 0, a_row, a_step, M, K, panel, whole(N, NB), NB, c)


def flat(matrix):
    """The matrix as one axis, and how far apart there two rows and two columns are: a transposed one isn't copied."""
    if matrix.T.flags.c_contiguous and not matrix.flags.c_contiguous:
        return readonly(matrix.T).reshape(-1), 1, matrix.shape[0]
    return readonly(matrix).reshape(-1), matrix.shape[1], 1


@kernel(matmul_reference)
def matmul(a, b):
    fits = a.ndim == b.ndim in (2, 3) and a.shape[-1] == b.shape[-2] and a.shape[:-2] == b.shape[:-2]
    require("matmul", fits, "(M,K) and (K,N), or (B,M,K) and (B,K,N)", a, b)
    if a.ndim == 3 and len(a) == 0:
        return np.zeros((0, a.shape[1], b.shape[2]), a.dtype)
    if a.ndim == 3:
        return np.stack([matmul(one, other) for one, other in zip(a, b)])
    (M, K), N, NB = a.shape, b.shape[1], tile_columns(lanes(a.dtype))
    if M * K * N > SMALL:
        return conv2d(a.reshape(M, 1, 1, K), b.reshape(1, 1, K, N)).reshape(M, N)
    width = whole(N, NB)
    c, one = np.empty((whole(M, TILE_ROWS), width), a.dtype), readonly(np.ones(1, a.dtype))
    small_product(*flat(a), *flat(b), M, K, N, NB, one, scratch("matmul", K * width, a.dtype)[0], c.reshape(-1))
    return np.ascontiguousarray(c[:M, :N])
