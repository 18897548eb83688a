"""Convolution in bfloat16, on the matrix unit of amx.py: 3x3 and 1x1 filters of stride 1. The references are those of `convolution.py`, with
rounded inputs; sums are in float32, where the unit takes numbers below 2^-126 for 0. Winograd's transform isn't used: it would magnify the rounding.

A band of rows of a picture is rounded into the cache, in a frame of zeros, and its pixels are counted through, the frame's too. Tap (i, j) of the
filter reads, for pixel q, pixel q + i width + j of the frame: 16 pixels on end are a tile, for every tap. What comes out for the frame's last K - 1
columns is thrown away. The sum is over channels. The weight gradient sums over pixels: there x lies turned, a row for each channel, so that tap
(i, j) begins i width + j numbers further on, and dy in pairs of pixels, with zeros in the frame.

What it gains: the reference training step takes 0.87 of its time, step by step (benchmarks/README.md, "bfloat16"): the products hardly count any
more, but pictures are read and written as before. Work is shared out by bands: there are no more threads at it than bands.

Read first: `amx.py`, `convolution.py`.
"""
import numpy as np
from numba import get_thread_id, prange

from .amx import (BLOCK, CONFIGURATION, NUMBERS, TILE, begin, clear_sums, end, frame, move_sums, multiply, pairs, round_pairs, round_pixels,
                  round_turned, store_words)
from .buffers import empty, scratch, whole, with_channels
from .direct import sum_slices
from .jit import jit, readonly
from .vector import choose, emitter

BAND = 16                               # rows of a picture that are worked on together; even
STRETCH = 1024                          # pixels over which a weight gradient is summed up in the tiles, or the next whole band


# Forward, and so the input gradient.

@emitter
def round_filter_rows(code, w, low, high, F, panels, zeros, filters, line, panel):
    """Line number `line` of each panel of the filters, which have `panel` numbers: the rows of w that begin at low and high, in pairs; zeros for
    one that begins nowhere, at -1."""
    rows = [choose((start + 1).above(0), w + start, zeros) for start in (low, high)]

    def channels(i, _):
        for v in range(2):
            part = code.first(F - i * BLOCK - v * TILE)
            low_row, high_row = ((row + i * BLOCK + v * TILE).on(part).load() for row in rows)
            store_words(filters + i * panel + line * (2 * BLOCK) + v * NUMBERS, pairs(low_row, high_row))
        return []
    code.loop(panels, channels)


@jit
def round_filters(w, filters, zeros):
    """filters (F/32,K,K,C/2,32,2): w (K,K,C,F) in panels of 32 output channels, filled up with zeros, channel c beside c + 16."""
    K, _, C, F = w.shape
    panels, _, _, half, _, _ = filters.shape
    for part in prange(K * K * half):                                               # owns a line of each panel
        tap, c = part // half, part % half // TILE * NUMBERS + part % TILE
        start = (tap * C + c) * F
        low, high = start if c < C else -1, start + TILE * F if c + TILE < C else -1
        round_filter_rows(w, low, high, F, panels, zeros, filters, part, K * K * half * BLOCK * 2)


@emitter
def block_product(code, rounded, first, width, K, C_whole, filters, start, sums):
    """sums (32,32) = the outputs for 32 pixels from `first` on, and a panel of 32 channels (K K C_whole / 2 rows of 32 pairs)."""
    clear_sums(code)

    def row(i, _):
        def tap(j, _):
            pixel, panel = rounded + (first + i * width + j) * C_whole, filters + start + (i * K + j) * C_whole * BLOCK

            def channels(k, _):
                multiply(code, pixel + k * NUMBERS, C_whole, panel + k * (TILE * BLOCK * 2), BLOCK * 2)
                return []
            return code.loop(C_whole // NUMBERS, channels)
        return code.loop(K, tap)
    code.loop(K, row)
    move_sums(code, "tilestored64", sums, BLOCK)


@emitter
def finish(code, sums, p, y, target, left, bias, b, residual, add, again, zeros):
    """y[target:] = row p of the sums + bias + residual, if there is one; again: row p + what is there. So many channels are left."""
    more = choose(again.above(0), y + target, choose(add.above(0), residual + target, zeros))
    bias = choose(again.above(0), zeros, bias + b)
    for v in range(0, BLOCK, TILE):
        part = code.first(left - v)
        (y + target + v).on(part).store((sums + p * BLOCK + v).load() + (bias + v).load() + (more + v).on(part).load())


@jit
def forward(x, filters, bias, bias_step, residual, add, y, padding, doubled, paired, space, sums, tables, zeros, configuration):
    """y = the convolution of x with the rounded filters, as in `winograd.forward`."""
    N, H, W, C = x.shape
    _, OH, OW, F = y.shape
    panels, K, _, half, _, _ = filters.shape
    C_whole, width, bands = 2 * half, (OW << paired) + K - 1, ((OH << paired) + BAND - 1) // BAND
    for item in prange(N * bands):                                              # owns a band of a picture of y
        table, rounded, block = tables[get_thread_id()], space[get_thread_id()], sums[get_thread_id()]
        n, row = item // bands, item % bands * BAND
        rows = min(BAND, (OH << paired) - row)
        pixels = whole(rows * width, BLOCK)
        inputs = pixels + (K - 1) * (width + 1)
        frame(table, inputs, n, row - padding, -padding, BAND + K - 1, width, H, W, C, doubled)
        round_pixels(x, table, inputs, C, C_whole, zeros, rounded)
        begin(configuration, zeros)
        for panel in range(panels):
            f, a, b = panel * BLOCK, 0, 0                                       # (a, b): the next pixel of the frame, from the band's first row on
            for first in range(0, pixels, BLOCK):
                block_product(rounded, first, width, K, C_whole, filters, panel * K * K * C_whole * BLOCK, block)
                for p in range(BLOCK):
                    if a < rows and b <= width - K:                             # of a sum over 2 x 2 pixels, all but the first come `again`
                        target = ((n * OH + ((row + a) >> paired)) * OW + (b >> paired)) * F + f
                        finish(block, p, y, target, F - f, bias, n * bias_step + f, residual, add, (a | b) & paired, zeros)
                    b += 1
                    if b == width:
                        a, b = a + 1, 0
        end(zeros)


# The weight gradient.

@emitter
def outer(code, turned, t_start, t_row, t_stretch, rounded, r_start, F_whole, r_stretch, stretches, steps, dw, dw_start, fresh):
    """dw (32 of C,32 of F) += the sum over pixels, `steps` times 32 in each stretch, of x^T dy; fresh: dw = that."""
    dw = dw + dw_start
    code.either(fresh.above(0), lambda: clear_sums(code), lambda: move_sums(code, "tileloadd64", dw, F_whole))

    def stretch(s, _):
        def pixels(k, _):
            multiply(code, turned + t_start + s * t_stretch + k * NUMBERS, t_row,
                     rounded + r_start + s * r_stretch + k * (TILE * 2) * F_whole, F_whole * 2)
            return []
        return code.loop(steps, pixels)
    code.loop(stretches, stretch)
    move_sums(code, "tilestored64", dw, F_whole)


@jit
def weight_gradient_slices(x, dy, slices, parts, padding, doubled, most, turned_row, space, rounded_space, tables, zeros, configuration):
    """slices[s] = the weight gradient of slice s of the bands: a fixed number of slices, whatever the number of threads.

    parts: of the channels of x, that are worked on apart. most: bands that are summed up at once.
    """
    N, H, W, C = x.shape
    _, OH, OW, F = dy.shape
    S, K, _, C_whole, F_whole = slices.shape
    width, in_picture = OW + K - 1, (OH + BAND - 1) // BAND
    bands, pixels = N * in_picture, whole(min(OH, BAND) * width, NUMBERS)
    inputs = whole(pixels + (K - 1) * (width + 1), NUMBERS)
    for item in prange(S * parts):                                              # owns a part of the channels of slices[s]
        s, part = item // parts, item % parts
        c_start, c_end = part * (C_whole // BLOCK) // parts * BLOCK, (part + 1) * (C_whole // BLOCK) // parts * BLOCK
        table, turned, rounded = tables[get_thread_id()], space[get_thread_id()], rounded_space[get_thread_id()]
        first, last = s * bands // S, (s + 1) * bands // S
        for start in range(first, last, most):
            stretches, fresh = min(most, last - start), int(start == first)
            for k in range(stretches):
                n, row = (start + k) // in_picture, (start + k) % in_picture * BAND
                frame(table, inputs, n, row - padding, -padding, BAND + K - 1, width, H, W, C, doubled)
                round_turned(x, table, inputs, c_start, c_end - c_start, C, zeros, turned[k * C_whole * turned_row:], turned_row)
                frame(table, pixels, n, row, 0, BAND, width, OH, OW, F, 0)
                round_pairs(dy, table, pixels, F, F_whole, zeros, rounded[k * pixels * F_whole:])
            begin(configuration, zeros)
            for tap in range(K * K):
                offset = tap // K * width + tap % K
                for c in range(c_start, c_end, BLOCK):
                    for f in range(0, F_whole, BLOCK):
                        outer(turned, (c - c_start) * turned_row + offset, turned_row, C_whole * turned_row, rounded, f * 2, F_whole,
                              pixels * F_whole, stretches, pixels // NUMBERS, slices, ((s * K * K + tap) * C_whole + c) * F_whole + f, fresh)
            end(zeros)


# Calls from Python.

def amx(x, w, bias, padding, residual, doubled=False, paired=False) -> np.ndarray:
    """As `winograd`, with filters of 3x3 or 1x1: (N,H,W,C) x (K,K,C,F) -> (N,H+2p-K+1,W+2p-K+1,F); bias None, (F,) or (N,F); residual like the
    result, or None."""
    (N, H, W, C), (K, _, _, F) = x.shape, w.shape
    C_whole, F_whole = whole(C, NUMBERS), whole(F, BLOCK)
    OH, OW = (2 * n if doubled else n // 2 if paired else n + 2 * padding - K + 1 for n in (H, W))
    y, zeros = empty((N, OH, OW, F), x.dtype), np.zeros(max(C_whole, F_whole), x.dtype)
    filters = empty((F_whole // BLOCK, K, K, C_whole // 2, BLOCK, 2), np.uint16)
    round_filters(readonly(w), filters, readonly(zeros))
    width = OW * (2 if paired else 1) + K - 1
    inputs = whole(BAND * width, BLOCK) + (K - 1) * (width + 1)
    bias = zeros[:F_whole] if bias is None else with_channels(bias, F_whole)
    forward(readonly(x), filters, readonly(bias).reshape(-1), F_whole if bias.ndim == 2 else 0, readonly(y if residual is None else residual),
            int(residual is not None), y, padding, int(doubled), int(paired), scratch("amx", inputs * C_whole, np.uint16),
            scratch("amx sums", BLOCK * BLOCK, x.dtype), scratch("table", inputs + width, np.int64), readonly(zeros), CONFIGURATION)
    return y


def amx_dw(x, dy, padding, doubled=False, K=3) -> np.ndarray:
    """As `winograd_dw`: (N,H,W,C), (N,OH,OW,F) -> (K,K,C,F)."""
    C, (N, OH, OW, F) = x.shape[3], dy.shape
    C_whole, F_whole, width = whole(C, BLOCK), whole(F, BLOCK), OW + K - 1
    pixels, bands = whole(min(OH, BAND) * width, NUMBERS), N * -(-OH // BAND)
    inputs = whole(pixels + (K - 1) * (width + 1), NUMBERS)
    if bands == 0:
        return np.zeros((K, K, C, F), x.dtype)
    count = min(bands, next((s for s in (16, 8, 4, 2) if s * K * K * C * F <= x.size), 1))      # to sum them up takes no longer than to read x
    parts = min(C_whole // BLOCK, 16 // count)
    most = min(-(-STRETCH // pixels), -(-bands // count))
    row = inputs + NUMBERS if inputs % 256 == 0 else inputs          # rows that lie a power of two apart would meet in the same cache lines
    slices = empty((count, K, K, C_whole, F_whole), x.dtype)
    weight_gradient_slices(readonly(x), readonly(dy), slices, parts, padding, int(doubled), most, row,
                           scratch("amx", most * C_whole * row, np.uint16), scratch("amx pairs", most * pixels * F_whole, np.uint16),
                           scratch("table", inputs + width, np.int64), readonly(np.zeros(max(C_whole, F_whole), x.dtype)), CONFIGURATION)
    dw = slices[0] if count == 1 else empty(slices.shape[1:], x.dtype)
    if count > 1:
        sum_slices(slices.reshape(count, -1), dw.reshape(-1))
    return dw[:, :, :C, :F]
