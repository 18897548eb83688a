"""The matrix unit of recent Xeons (AMX): whether it is there, its instructions, and how numbers are laid out for it.

It multiplies bfloat16s, and adds up in float32. A bfloat16 is the upper half of a float32: its range, and 8 of its 24 bits. So a factor that is
rounded to the nearest is wrong by 2^-8 of itself at most. `amx_convolution.py` does convolutions with it, on request only (`bfloat16` below), on
Linux, on processors that have the unit.

What the hardware wants: the unit's registers are eight tiles, of 16 rows of 64 bytes. One instruction multiplies two of them, 16 x 32 by 32 x 16
numbers, and adds the product to a third. One can start every 16 cycles, in which a core's vectors would do a sixteenth of that. A tile is loaded
from rows that lie equally far apart; the second factor's rows hold pairs, numbers 2k and 2k + 1 along the axis that is summed over.

How it gets that: the instructions are LLVM's own intrinsics, which name the tile that they work on. Four tiles of sums, two by two, use each loaded
factor twice, and none waits for the product before. Pairs are made while rounding. Along an axis
whose order is free, because both factors have the same, number c is paired with c + 16: two vectors then make a vector of pairs, and no number
changes its lane.

Read first: `tile.py`.
"""
import ctypes
import platform
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import numpy as np
from llvmlite import ir

from .direct import OUTSIDE
from .jit import jit
from .vector import I32, Ptr, as_int, choose, emitter, host_features

TILE = 16                               # rows of a tile, and its columns of 32 bits
NUMBERS = BLOCK = 2 * TILE               # numbers in a tile's row; rows and columns of what is multiplied at once: two tiles by two
I8 = ir.IntType(8)


# Whether the unit is there, and whether it is wanted.

@cache
def has_bfloat16() -> bool:
    """Whether this processor has the unit, and Linux lets this process use it."""
    if platform.system() != "Linux" or not {"amx-tile", "amx-bf16", "avx512f"} <= host_features():
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18         # the call's number on x86-64; ARCH_REQ_XCOMP_PERM; XFEATURE_XTILEDATA
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


_wanted = ContextVar("bfloat16", default=False)


@contextmanager
def bfloat16(on=True):
    """`with bfloat16():` convolutions of float32 arrays with 3x3 and 1x1 filters of stride 1, and their gradients, round their factors to bfloat16;
    but not where 4 channels or fewer are read, or pictures of fewer than 16 pixels. on: False leaves everything in float32.

    Errors: ValueError where there is no unit for it.
    """
    if on and not has_bfloat16():
        raise ValueError("bfloat16 needs AMX (most Intel Xeons since Sapphire Rapids), Linux 5.16 or later, and NUMBA_CPU_FEATURES not to say "
                         "otherwise; without bfloat16 (train_cats.py --no-bfloat16) the same is done in float32, everywhere")
    token = _wanted.set(on)
    try:
        yield
    finally:
        _wanted.reset(token)


def wanted() -> bool:
    """Whether this is within `with bfloat16()`."""
    return _wanted.get()


# The unit's instructions. Tiles 0 to 3 hold sums, 4 and 5 the first factor, 6 and 7 the second.

CONFIGURATION = np.zeros(64, np.uint8)
CONFIGURATION[0] = 1                                    # the palette: eight tiles
CONFIGURATION[16:32].view(np.uint16)[:] = 4 * TILE      # bytes of each one's rows
CONFIGURATION[48:56] = TILE                             # and how many rows
CONFIGURATION.flags.writeable = False


def instruct(code, name, *operands):
    """Emit an instruction: a Python number is a tile's, a Ptr an address, an Int a number of bytes."""
    def operand(o):
        if isinstance(o, int):
            return I8(o)
        return code.builder.bitcast(o.value, I8.as_pointer()) if isinstance(o, Ptr) else o.value
    code.llvm(f"x86.{name}", ir.VoidType(), *map(operand, operands))


@emitter
def begin(code, configuration, floats):
    """Make the tiles ready, for this thread. floats: any array of them, by which `emitter` tells the type of numbers."""
    instruct(code, "ldtilecfg", configuration)


@emitter
def end(code, floats):
    """Give them back: while they are in use, each change of threads saves their 8 KB."""
    instruct(code, "tilerelease")


def multiply(code, a, a_row, b, b_row):
    """The sums += two tiles from a on, the second 16 rows below, times two tiles from b on, the second beside; rows so many bfloat16s apart."""
    for v in range(2):
        instruct(code, "tileloadd64", 4 + v, a + a_row * (v * TILE), as_int(code, a_row) * 2)
        instruct(code, "tileloadd64", 6 + v, b + v * NUMBERS, as_int(code, b_row) * 2)
    for i in range(4):
        instruct(code, "tdpbf16ps", i, 4 + i // 2, 6 + i % 2)


def move_sums(code, instruction, matrix, row):
    """Load or store the sums, a block of 32 x 32 floats whose rows are so many apart."""
    for i in range(4):
        instruct(code, instruction, i, matrix + as_int(code, row) * (i // 2 * TILE) + i % 2 * TILE, as_int(code, row) * 4)


def clear_sums(code):
    for i in range(4):
        instruct(code, "tilezero", i)


# Rounding, and laying out.

def pairs(low, high):
    """16 words of two bfloat16s: the numbers of two Vecs, each rounded to the nearest, ties to even. NaN stays NaN."""
    b, words = low.code.builder, ir.VectorType(I32, TILE)

    def every(number):
        return ir.Constant(words, [number] * TILE)

    def rounded(vec):                                   # in the upper half; what is in the lower has no meaning
        bits = b.bitcast(vec.value, words)
        nearest = b.add(bits, b.add(b.and_(b.lshr(bits, every(16)), every(1)), every(0x7FFF)))
        return b.select(b.fcmp_unordered("uno", vec.value, vec.value), b.or_(bits, every(0x400000)), nearest)
    return b.or_(b.lshr(rounded(low), every(16)), b.and_(rounded(high), every(0xFFFF0000)))


def transposed(b, rows):
    """16 vectors of 16 words: word j of vector i becomes word i of vector j. For each bit of these numbers, the words of vector i whose j has the
    bit trade places with those of vector i + bit that lack it."""
    for bit in (8, 4, 2, 1):
        above = [j if not j & bit else TILE + j - bit for j in range(TILE)]
        below = [j + bit if not j & bit else TILE + j for j in range(TILE)]
        for i in range(TILE):
            if not i & bit:
                rows[i], rows[i + bit] = (b.shuffle_vector(rows[i], rows[i + bit], ir.Constant(ir.VectorType(I32, TILE), order))
                                          for order in (above, below))
    return rows


def store_words(place, words):
    b = place.code.builder
    b.store(words, b.bitcast(place.value, words.type.as_pointer()), align=4)


@jit(parallel=False)
def frame(table, count, n, row, column, rows, width, H, W, pixel, doubled):
    """table[q] = where in an array (N,H,W,pixel) pixel q of a frame of so many rows, of this width, begins, or OUTSIDE. For `count` pixels or more.

    (row, column): of the frame's first pixel, in picture n. doubled: 1, as if the array were upsampled by 2, or 0.
    """
    for a in range((count + width - 1) // width):
        inside, start = a < rows and 0 <= row + a < H << doubled, (n * H + ((row + a) >> doubled)) * W
        for b in range(width):
            met = inside and 0 <= column + b < W << doubled
            table[a * width + b] = (start + ((column + b) >> doubled)) * pixel if met else OUTSIDE


def pixel_at(table, q, array, zeros):
    offset = (table + q).integer()
    return choose(offset.between(0, 1 << 62), array + offset, zeros)


@emitter
def round_pixels(code, x, table, count, C, C_whole, zeros, rounded):
    """rounded (count,C_whole): pixels of C channels, and zeros beyond."""
    def pixel(q, _):
        here = pixel_at(table, q, x, zeros)

        def channels(k, _):
            low, high = ((here + k * NUMBERS + v * TILE).on(code.first(C - k * NUMBERS - v * TILE)).load() for v in range(2))
            store_words(rounded + q * C_whole + k * NUMBERS, pairs(low, high))
            return []
        return code.loop(C_whole // NUMBERS, channels)
    code.loop(count, pixel)


@emitter
def round_pairs(code, dy, table, count, F, F_whole, zeros, rounded):
    """rounded (count / 2,F_whole,2): pixels of F channels in pairs, and zeros beyond."""
    def pair(k, _):
        here = [pixel_at(table, k * 2 + v, dy, zeros) for v in range(2)]

        def channels(f, _):
            low, high = ((pixel + f * TILE).on(code.first(F - f * TILE)).load() for pixel in here)
            store_words(rounded + (k * F_whole + f * TILE) * 2, pairs(low, high))
            return []
        return code.loop(F_whole // TILE, channels)
    code.loop(count // 2, pair)


@emitter
def round_turned(code, x, table, count, first, channels, C, zeros, turned, row):
    """turned (channels,row): a row for each channel from `first` on, of `count` pixels; rows of zeros beyond C."""
    def pixels(k, _):
        def some(k_channels, _):
            c = first + k_channels * TILE
            part = code.first(C - c)
            vecs = [(pixel_at(table, k * NUMBERS + i, x, zeros) + c).on(part).load() for i in range(NUMBERS)]
            for i, words in enumerate(transposed(code.builder, [pairs(*vecs[2 * i:2 * i + 2]) for i in range(TILE)])):
                store_words(turned + (k_channels * TILE + i) * row + k * NUMBERS, words)
            return []
        return code.loop(channels // TILE, some)
    code.loop(count // NUMBERS, pixels)
