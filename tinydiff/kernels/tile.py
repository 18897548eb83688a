"""The register tile: the small matrix product that every convolution, attention and linear layer here is made of.

    C[M, 2 vectors] (+)= A[M, K] B[K, 2 vectors]

C stays in 2 M registers while k runs: each step loads two vectors of B, copies one number of A into all lanes for each of the M rows, and does
2 M multiply-adds. A load is then used M or 2 times, so the arithmetic units never wait for memory: this loop runs at the speed that the
processor can multiply. M is `TILE_ROWS`: more would need more registers, for the sums or for the rows' addresses, than there are.

What it gains: with M = 1, each multiply-add would wait for a load of its own. How the loop is laid out counts as much: with 16 steps between two
jumps LLVM loaded all their numbers first, and they overflowed the registers; with 2 it went from 75 to 115 GFLOP/s a core on a Zen 4, of
118 that the core can do (benchmarks/README.md).

Read first: `vector.py`.
"""
from .vector import TILE_ROWS, choose, emitter
from .vector_functions import fma

TILE_VECTORS = 2
OUTER_ROWS = 8 if TILE_ROWS == 8 else 4     # rows of the tiles of weight gradients: neighbouring channels, whole within a vector


def tile_columns(lanes):
    """Columns of the tile: NB in the shape letters of the panels."""
    return TILE_VECTORS * lanes


def panel_parts(code, count):
    """Codes for a panel's vectors, of which only the first `count` numbers are there."""
    return [code.first(count - v * code.lanes) for v in range(TILE_VECTORS)]


def tile_step(a, b, c, codes=None):
    """One k: c[r][v] + a[r] b[v], c being a flat list of the rows' vectors. `a` gives row r's number, `b` points at B's row, whose vectors may have
    codes of their own (`panel_parts`)."""
    vectors = [(b + v * b.code.lanes).on(code).load() for v, code in enumerate(codes or [b.code] * TILE_VECTORS)]
    result = []
    for r in range(len(c) // TILE_VECTORS):
        number = a(r).splat()
        result += [fma(number, vectors[v], c[r * TILE_VECTORS + v]) for v in range(TILE_VECTORS)]
    return result


def tile_load(c, stride, rows):
    return [(c + r * stride + v * c.code.lanes).load() for r in range(rows) for v in range(TILE_VECTORS)]


def tile_store(values, c, stride):
    for i, value in enumerate(values):
        (c + (i // TILE_VECTORS) * stride + (i % TILE_VECTORS) * c.code.lanes).store(value)


def make_tile_product(rows, accumulate):
    """C (+)= A B with A[r, k] at a + r a_row + k a_step, B a panel of K rows of NB numbers, C's rows c_row apart.

    A has only `count` rows: what lies beyond is not read, and C's rows there are of no meaning.
    """
    @emitter
    def tile_product(code, a, a_start, a_row, a_step, count, b, b_start, c, c_start, c_row, K):
        NB = tile_columns(code.lanes)
        a, b, c = a + a_start, b + b_start, c + c_start
        a_rows = [choose(count.above(r), a + r * a_row, a) for r in range(rows)]

        def step(k, values):
            return tile_step(lambda r: a_rows[r] + k * a_step, b + k * NB, values)

        start = tile_load(c, c_row, rows) if accumulate else code.zeros(rows * TILE_VECTORS)
        tile_store(code.loop(K, step, start), c, c_row)
    return tile_product


tile_product, tile_product_add = make_tile_product(TILE_ROWS, accumulate=False), make_tile_product(TILE_ROWS, accumulate=True)
