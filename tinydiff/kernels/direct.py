"""Convolution of any kernel size, stride and padding, straight from the definition: a matrix product whose rows are gathered.

An output pixel is a sum over the filter's taps: y[pixel] = sum over taps of x[the input pixel that tap meets] w[tap]. The register tile takes
TILE_ROWS output pixels at once; a table holds, for each of them and each tap, where its input pixel starts, or OUTSIDE. What is outside the
picture is read from a row of zeros, so nothing is padded and nothing is copied (the idea of Dukhan 2019, arXiv:1907.02129).

The input gradient is the same with the taps turned around: an input pixel was met by those taps for which (h + padding - i) divides by the
stride. So the input's pixels fall into stride x stride classes, each with its own taps, and no product with zero is ever taken. A 1x1
convolution is one tap, and a matrix product a 1x1 convolution of pictures one pixel wide.

What the hardware wants is the register tile's business (tile.py): a long loop that multiplies and adds. The table serves it: the loop only follows
addresses, with no question asked for each pixel about edges. The references are those of `convolution.py`, and what is gained is told there.

Read first: `tile.py`, `convolution.py`.
"""
import math
from functools import lru_cache

import numpy as np
from numba import get_thread_id, prange

from .buffers import empty, scratch, whole, with_channels
from .jit import jit, readonly
from .tile import OUTER_ROWS, TILE_VECTORS, panel_parts, tile_columns, tile_load, tile_step, tile_store
from .vector import TILE_ROWS, choose, emitter, lanes

BLOCK_TILES = 8                         # tiles whose table is made at once
OUTSIDE = -1
CHUNK = 64                              # its pixels taken at once: their inputs and gradients stay in the first-level cache


def gathered(table, entry, base, elsewhere):
    """base + table[entry], or `elsewhere` where the table says OUTSIDE."""
    offset = (table + entry).integer()
    return choose(offset.between(0, 1 << 62), base + offset, elsewhere)


@emitter
def gathered_product(code, x, zeros, table, start, taps, w, w_start, C, bias, residual, add, y, f, F, dustbin):
    """y[rows, f:f + NB] = bias (+ residual) + sum over taps of x[gathered rows] w[tap], as far as y has channels, which are F.

    A tile's table: where the rows go, their biases, then each tap's inputs. The residual lies as y does; where it is not to be added, `add` is 0
    and the vector of zeros is read.
    """
    table, w, NB, v_lanes = table + start, w + w_start, tile_columns(code.lanes), code.lanes

    def tap(i, values):
        rows = [gathered(table, (i + 2) * TILE_ROWS + r, x, zeros) for r in range(TILE_ROWS)]
        return code.loop(C, lambda c, values: tile_step(lambda r: rows[r] + c, w + (i * C + c) * NB, values), values)

    biases = [bias + (table + TILE_ROWS + r).integer() + f for r in range(TILE_ROWS)]
    values = code.loop(taps, tap, [(b + v * v_lanes).load() for b in biases for v in range(TILE_VECTORS)])

    def write(codes):
        for r in range(TILE_ROWS):
            target, more = gathered(table, r, y + f, dustbin), choose(add.above(0), gathered(table, r, residual + f, zeros), zeros)
            for v, code in enumerate(codes):
                (target + v * v_lanes).on(code).store(values[r * TILE_VECTORS + v] + (more + v * v_lanes).on(code).load())

    code.either((F - f).above(NB - 1), lambda: write([code] * TILE_VECTORS), lambda: write(panel_parts(code, F - f)))


@jit(parallel=False)
def position(pixel, H, W):
    """Picture, row and column of pixel number `pixel`."""
    return pixel // (H * W), pixel // W % H, pixel % W


@jit(parallel=False)
def after(n, a, b, H, W):
    """The position after (n, a, b), without a division, which would take as long as a hundred multiply-adds."""
    if b + 1 < W:
        return n, a, b + 1
    return (n, a + 1, 0) if a + 1 < H else (n + 1, 0, 0)


@jit
def gather(x, w, bias, bias_step, residual, add, y, h0, w0, spacing, grid_h, grid_w, stride, taps, space, tables, zeros):
    """y[:, h0 + a spacing, w0 + b spacing] = bias (+ residual there) + sum over taps (dh, dw) of x[:, a stride + dh, b stride + dw] w[tap].

    a < grid_h and b < grid_w. If w has more channels than x, a tap reads on into the next pixels.
    """
    N, H, W, pixel = x.shape
    _, OH, OW, F = y.shape
    panels, n_taps, C, NB = w.shape
    rows, entries = N * grid_h * grid_w, (n_taps + 2) * TILE_ROWS
    for block in prange((rows + TILE_ROWS * BLOCK_TILES - 1) // (TILE_ROWS * BLOCK_TILES)):       # a block owns its rows' outputs
        table, dustbin = tables[get_thread_id()], space[get_thread_id()]
        first = block * TILE_ROWS * BLOCK_TILES
        tiles = min(BLOCK_TILES, (rows - first + TILE_ROWS - 1) // TILE_ROWS)
        n, a, b = position(first, grid_h, grid_w)
        for r in range(tiles * TILE_ROWS):
            entry, inside = r // TILE_ROWS * entries + r % TILE_ROWS, first + r < rows
            table[entry] = ((n * OH + h0 + a * spacing) * OW + w0 + b * spacing) * F if inside else OUTSIDE
            table[entry + TILE_ROWS] = n * bias_step if inside else 0
            for i in range(n_taps):
                h, v = a * stride + taps[i, 0], b * stride + taps[i, 1]
                met = inside and 0 <= h < H and 0 <= v < W
                table[entry + (i + 2) * TILE_ROWS] = ((n * H + h) * W + v) * pixel if met else OUTSIDE
            n, a, b = after(n, a, b, grid_h, grid_w)
        for panel in range(panels):
            for tile in range(tiles):
                gathered_product(x, zeros, table, tile * entries, n_taps, w, panel * n_taps * C * NB, C, bias, residual, add,
                                 y, panel * NB, F, dustbin)


@emitter
def gathered_outer(code, x, zeros, table, pixels, c, dy, first, f, F, dw, dw_start, dw_row, fresh):
    """dw[rows, NB] += sum over pixels of x[gathered pixel, rows]^T dy[pixel, f:f + NB], dy having F channels; fresh: dw = that."""
    dw, dy, codes = dw + dw_start, dy + first * F + f, panel_parts(code, F - f)

    def pixel(k, values):
        here = gathered(table, k, x + c, zeros)
        return tile_step(lambda r: here + r, dy + k * F, values, codes)

    tile_store(code.loop(pixels, pixel, tile_load(choose(fresh.above(0), zeros, dw), dw_row - dw_row * fresh, OUTER_ROWS)), dw, dw_row)


@jit
def gather_weight_slices(x, dy, slices, NB, stride, taps, tables, zeros):
    """slices[s] = the weight gradient of slice s of the output pixels: a fixed number of slices, whatever the number of threads."""
    N, H, W, pixel = x.shape
    _, OH, OW, F = dy.shape
    S, n_taps, C, columns = slices.shape
    pixels = N * OH * OW
    chunks = (pixels + CHUNK - 1) // CHUNK
    for s in prange(S):                                                                 # a slice owns slices[s]
        table = tables[get_thread_id()]
        for chunk in range(s * chunks // S, (s + 1) * chunks // S):
            first, fresh = chunk * CHUNK, int(chunk == s * chunks // S)
            count = min(CHUNK, pixels - first)
            for i in range(n_taps):
                n, a, b = position(first, OH, OW)
                for k in range(count):
                    h, v = a * stride + taps[i, 0], b * stride + taps[i, 1]
                    table[k] = ((n * H + h) * W + v) * pixel if 0 <= h < H and 0 <= v < W else OUTSIDE
                    n, a, b = after(n, a, b, OH, OW)
                for f in range(0, F, NB):
                    for c in range(0, C, OUTER_ROWS):
                        gathered_outer(x, zeros, table, count, c, dy, first, f, F, slices, ((s * n_taps + i) * C + c) * columns + f, columns, fresh)


@jit
def sum_slices(slices, total):
    """total = the slices added in their order."""
    S, size = slices.shape
    for j in prange(size):                                                              # owns total[j]
        value = slices[0, j]
        for s in range(1, S):
            value += slices[s, j]
        total[j] = value


@jit
def pack(w, chosen, panels):
    """panels[F/NB][taps][C][NB] = the chosen taps of w (taps,C,F), as the tile reads them, and zeros where w has no more channels."""
    (count, n_taps, C, NB), F = panels.shape, w.shape[2]
    for part in prange(count * n_taps):                                                 # owns panels[panel, i]
        panel, i = part // n_taps, part % n_taps
        for c in range(C):
            for f in range(NB):
                panels[panel, i, c, f] = w[chosen[i], c, panel * NB + f] if panel * NB + f < F else 0


# Calls from Python.

@lru_cache
def taps(KH, KW, stride, padding, origin=None) -> tuple[np.ndarray, np.ndarray]:
    """(n,), (n,2): which taps, counted row by row, and where each one's input pixel lies, counted from (a stride, b stride) for output pixel (a, b).

    origin: of the input gradient at the pixels origin + stride (a, b), which only some taps have met.
    """
    met = [(i * KW + j, i - padding, j - padding) for i in range(KH) for j in range(KW)] if origin is None else [
        (i * KW + j, (origin[0] + padding - i) // stride, (origin[1] + padding - j) // stride) for i in range(KH) for j in range(KW)
        if (origin[0] + padding - i) % stride == 0 and (origin[1] + padding - j) % stride == 0]
    table = np.array(met, np.int64).reshape(-1, 3)
    return readonly(table[:, 0]), readonly(table[:, 1:])


def run_gather(x, panels, bias, residual, y, steps, origin=(0, 0), spacing=1, stride=1):
    """Launch `gather` for the output pixels origin + spacing (a, b)."""
    _, OH, OW, F = y.shape
    grid_h, grid_w = -(-(OH - origin[0]) // spacing), -(-(OW - origin[1]) // spacing)
    count, _, C, NB = panels.shape
    zeros = np.zeros(max(C, count * NB), x.dtype)
    bias = zeros[:count * NB] if bias is None else with_channels(bias, count * NB)
    gather(readonly(x), readonly(panels), readonly(bias).reshape(-1), count * NB if bias.ndim == 2 else 0,
           readonly(y if residual is None else residual), int(residual is not None), y, *origin, spacing, grid_h, grid_w, stride, steps,
           scratch("dustbin", NB, x.dtype), scratch("table", (len(steps) + 2) * TILE_ROWS * BLOCK_TILES, np.int64), readonly(zeros))


def direct(x, w, bias, size, stride, padding, residual) -> np.ndarray:
    """(N,H,W,C) x (KH,KW,C,F) -> (N,*size,F); bias None, (F,) or (N,F); residual like the result, or None."""
    KH, KW, C, F = w.shape
    chosen, steps = taps(KH, KW, stride, padding)
    NB = tile_columns(lanes(x.dtype))
    panels, y = empty((-(-F // NB), len(steps), C, NB), x.dtype), empty((x.shape[0], *size, F), x.dtype)
    pack(readonly(w).reshape(KH * KW, C, F), chosen, panels)
    run_gather(x, panels, bias, residual, y, steps, stride=stride)
    return y


def direct_dx(dy, w, size, stride, padding, residual) -> np.ndarray:
    """(N,OH,OW,F) x (KH,KW,C,F) -> (N,*size,C); residual like the result, or None."""
    KH, KW, C, F = w.shape
    NB, dx, w = tile_columns(lanes(dy.dtype)), empty((dy.shape[0], *size, C), dy.dtype), readonly(w).reshape(KH * KW, C, F)
    for origin in np.ndindex(min(stride, size[0]), min(stride, size[1])):
        chosen, steps = taps(KH, KW, stride, padding, origin)
        panels = empty((-(-C // NB), len(steps), F, NB), dy.dtype)
        pack(w.swapaxes(1, 2), chosen, panels)
        run_gather(dy, panels, None, residual, dx, steps, origin, spacing=stride)
    return dx


def direct_dw(x, dy, kernel_size, stride, padding, C) -> np.ndarray:
    """(N,H,W,...), (N,OH,OW,F) -> (KH,KW,C,F); C, a multiple of OUTER_ROWS: how many numbers a tap reads, of a pixel of x and perhaps the next."""
    (KH, KW), F, NB = kernel_size, dy.shape[3], tile_columns(lanes(x.dtype))
    _, steps = taps(KH, KW, stride, padding)
    chunks = -(-math.prod(dy.shape[:3]) // CHUNK)
    if chunks == 0:
        return np.zeros((KH, KW, C, F), x.dtype)
    columns = whole(F, NB)
    count = min(chunks, next((s for s in (16, 8, 4) if s * len(steps) * C * columns <= 2 ** 18), 2))        # at most 1 MB in float32, or two
    slices, dw = empty((count, len(steps), C, columns), x.dtype), empty((KH, KW, C, columns), x.dtype)
    gather_weight_slices(readonly(x), readonly(dy), slices, NB, stride, steps, scratch("table", CHUNK, np.int64),
                         readonly(np.zeros(max(C, NB), x.dtype)))
    sum_slices(slices.reshape(count, -1), dw.reshape(-1))
    return dw[..., :F]
