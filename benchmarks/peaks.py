"""What this machine can do at most, measured: multiply-adds per second from registers and first-level cache, bytes per second from memory.

The first is the register tile of our own kernels on panels that never leave the cache; the second the best of a copy and a triad
(y = a + 3 b; McCalpin 1995) over arrays four times as large as the last-level cache. A kernel can't be faster than both let it: the roofline
(Williams, Waterman and Patterson 2009). Kernels whose arrays stay in a cache, as the smallest of a network do, can pass the second.
"""
import time

import numpy as np
from numba import prange

from tinydiff.kernels.jit import jit
from tinydiff.kernels.tile import TILE_VECTORS, tile_columns, tile_step, tile_store
from tinydiff.kernels.vector import TILE_ROWS, emitter, lanes

from machine import THREADS, l3_bytes

DEPTH = 64              # columns of A and rows of B: 3 KB and, with 16 lanes, 8 KB
SECONDS = 0.5           # to measure each for
CACHES = 4              # arrays are so many times as large as the last-level cache


@emitter
def product_again_and_again(code, a, b, c, slot, rounds):
    """C = the sum of `rounds` times A B, A (DEPTH, TILE_ROWS) and B (DEPTH, NB), C staying in registers."""
    NB = tile_columns(code.lanes)

    def step(k, values):
        return tile_step(lambda r: a + k * TILE_ROWS + r, b + k * NB, values)
    values = code.loop(rounds, lambda _, values: code.loop(DEPTH, step, values), code.zeros(TILE_ROWS * TILE_VECTORS))
    tile_store(values, c + slot * (TILE_ROWS * NB), NB)


@jit
def products(a, b, c, rounds):
    for slot in prange(c.shape[0]):                 # owns c[slot]
        product_again_and_again(a, b, c, slot, rounds)


@jit
def copy(a, b, scale, y):
    for i in prange(y.size):                        # owns y[i]
        y[i] = a[i]


@jit
def triad(a, b, scale, y):
    for i in prange(y.size):                        # owns y[i]
        y[i] = a[i] + scale * b[i]


def fastest(run, seconds=SECONDS) -> float:
    """The least time of a call, of as many as fit into `seconds`; the first, which compiles, isn't counted."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def peak_gflops(dtype=np.float32, seconds=SECONDS) -> float:
    """Billions of operations a second, a multiply-add counting as two, of all threads together."""
    NB, rounds = tile_columns(lanes(dtype)), 2000
    a, b, c = np.ones((DEPTH, TILE_ROWS), dtype), np.ones((DEPTH, NB), dtype), np.empty((THREADS, TILE_ROWS, NB), dtype)
    return 2 * THREADS * rounds * DEPTH * TILE_ROWS * NB / fastest(lambda: products(a, b, c, rounds), seconds) / 1e9


def bandwidth(seconds=SECONDS, caches=CACHES) -> float:
    """GB a second between memory and all threads together; bytes read and bytes written both count."""
    size = caches * l3_bytes() // 4
    a, b, y = np.ones(size, np.float32), np.ones(size, np.float32), np.empty(size, np.float32)
    return max(arrays * y.nbytes / fastest(lambda: kernel(a, b, np.float32(3), y), seconds) / 1e9 for kernel, arrays in ((copy, 2), (triad, 3)))
