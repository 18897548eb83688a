"""3x3 convolution of stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 multiplications where the definition has 144.

In one dimension, 4 outputs of a 3-tap filter, y = A^T [(G w) * (B^T x)], take 6 multiplications instead of 12 (winograd_transforms.py derives
the three matrices). Nested in two dimensions: tiles of 6x6 inputs give 4x4 outputs, with 36 products. With C channels in and F out, the "product" at
each of the 36 points is a matrix product (tiles x C) (C x F), the register tile's work. The reference is conv2d_reference (convolution.py).
Source: Lavin and Gray 2015, arXiv:1509.09308, sections 4.1 and 4.3.

What the hardware wants: a block of tiles is transformed, multiplied and transformed back while it stays in the second-level cache, so that
main memory sees each input and each output once. The panels are laid out so that the tile's inner strides are constants:

    V[36][C/lanes][T][lanes]   transformed inputs of a block of T tiles
    U[36][F/NB][C][NB]         transformed weights, NB = 2 lanes
    M[36][F/NB][T][NB]         their products

After each of the 36 panels there is room for one vector more: at distances of powers of two, all would meet in the same few cache lines.

A tile at the picture's edge reads zeros through a redirected address and writes what hangs over into a dustbin: no padded copies. The input
gradient is the same convolution with the filter turned by 180 degrees; the weight gradient is the adjoint: dU = V^T dM, dw = G^T dU G.

What it gains: a quarter of the multiplications, less what the transforms cost. The nine 3x3 shapes of the reference step run at 496 to 849 GFLOP/s
of the definition's operations, on a machine that can do 352 (benchmarks/README.md).

Read first: `tile.py`, `winograd_transforms.py`.
"""
import numba
import numpy as np
from numba import get_thread_id, prange

from .buffers import empty, scratch, whole, with_channels
from .jit import jit, readonly
from .tile import OUTER_ROWS, TILE_VECTORS, tile_columns, tile_load, tile_step, tile_store
from .vector import CACHE_LINE, TILE_ROWS, choose, emitter, lanes
from .winograd_transforms import (SKIPPED, transform_doubled_input, transform_doubled_input_edge, transform_doubled_output, transform_gradient,
                                  transform_gradient_edge, transform_input, transform_input_edge, transform_output, transform_output_edge,
                                  transform_paired_output, transform_weight, two_dimensional, weight_adjoint)


@emitter
def panel_product(code, v, v_start, T, u, u_start, m, m_start, C):
    """M[rows, NB] = V[rows, C] U[C, NB] on the panels above: V's channels come in chunks of one vector, T tiles apart."""
    v, u, m, NB = v + v_start, u + u_start, m + m_start, tile_columns(code.lanes)

    def chunk(i, values):
        def step(c, values):
            return tile_step(lambda r: v + i * T * code.lanes + c + r * code.lanes, u + (i * code.lanes + c) * NB, values)
        return code.loop(code.lanes, step, values, unroll=2)

    tile_store(code.loop(C // code.lanes, chunk, code.zeros(TILE_ROWS * TILE_VECTORS)), m, NB)


@emitter
def panel_product_transposed(code, v, v_start, m, m_start, du, du_start, F, T, fresh, zeros):
    """dU[rows, NB] += V[T, rows]^T M[T, NB]; fresh: dU = that."""
    v, m, du, NB, rows = v + v_start, m + m_start, du + du_start, tile_columns(code.lanes), min(code.lanes, OUTER_ROWS)

    def step(t, values):
        return tile_step(lambda r: v + t * code.lanes + r, m + t * NB, values)

    start = tile_load(choose(fresh.above(0), zeros, du), F - F * fresh, rows)
    tile_store(code.loop(T, step, start), du, F)


@jit(parallel=False)
def gather_tile(x, tile, rows, columns, padding, doubled, VL, V, slot, T, panel, zeros):
    """Transform the inputs of output tile number `tile` into V[:, :, slot]; doubled: x is read as if upsampled by 2."""
    N, H, W, C = x.shape
    step, size = (2, 4) if doubled else (4, 6)
    n, h, w = tile // (rows * columns), tile // columns % rows * step - padding, tile % columns * step - padding
    start = ((n * H + h) * W + w) * C
    interior = h >= 0 and w >= 0 and h + size <= H and w + size <= W
    for c in range(0, C, VL):
        inside = interior and c + VL <= C
        if doubled and inside:
            transform_doubled_input(x, start + c, W * C, C, V, c * T + slot * VL, 6 * panel, panel, zeros, 0, 0, 0, 0, 0, 0, zeros, 0,
                                    zeros, 0, 0, 0)
        elif doubled:
            transform_doubled_input_edge(x, start + c, W * C, C, V, c * T + slot * VL, 6 * panel, panel, zeros, 0, -h, H - h, -w, W - w, C - c,
                                         zeros, 0, zeros, 0, 0, 0)
        elif inside:
            transform_input(x, start + c, W * C, C, V, c * T + slot * VL, 6 * panel, panel, zeros, 0, 0, 0, 0, 0, 0, zeros, 0, zeros, 0, 0, 0)
        else:
            transform_input_edge(x, start + c, W * C, C, V, c * T + slot * VL, 6 * panel, panel, zeros, 0, -h, H - h, -w, W - w, C - c,
                                 zeros, 0, zeros, 0, 0, 0)


@emitter
def fetch(code, array, start, numbers):
    """Fetch so many numbers, from `start` on, into the cache. What lies beyond an array's end is asked for in vain, without harm."""
    line = CACHE_LINE // code.itemsize
    code.loop((numbers + (line - 1)) // line, lambda i, _: (array + start + i * line).fetch() or [])


@jit(parallel=False)
def fetch_tiles(array, tile, count, rows, columns, margin, part):
    """The 36th part number `part` of: fetch the 4x4 pixels, `margin` down and to the right of their corners, of `count` tiles from `tile` on."""
    N, H, W, C = array.shape
    for k in range(part * count * 4 // 36, (part + 1) * count * 4 // 36):
        t = tile + k // 4
        n, h, w = t // (rows * columns), t // columns % rows * 4 + margin + k % 4, t % columns * 4 + margin
        fetch(array, ((n * H + h) * W + w) * C, 4 * C)


@jit(parallel=False)
def skipped(p):
    """Whether product number p of the 36 is one with an entry that is 0 after upsampling."""
    return p // 6 == SKIPPED or p % 6 == SKIPPED


@jit
def forward(x, u, bias, bias_step, residual, add, y, padding, doubled, paired, groups, T, VL, space, zeros):
    """y = the convolution of x with the transformed weights u, plus bias[n * bias_step + f], plus the residual if `add`; zeros there if not.

    doubled: of x as if upsampled by 2. paired: the result is summed over 2 x 2 pixels. groups: parts that the output channels are worked on in.
    """
    N, H, W, _ = x.shape
    _, OH, OW, F = y.shape
    step = 2 if paired else 4                                                   # a tile's pixels of y, a side
    rows, columns, NB = (OH + step - 1) // step, (OW + step - 1) // step, 2 * VL
    C, panels = whole(x.shape[3], VL), whole(F, NB) // NB                       # of V: whole vectors; of M: whole panels
    tiles, v_panel, m_panel, u_panel = N * rows * columns, T * C + VL, T * panels * NB + VL, u.shape[1]    # + VL: not in the same cache lines
    blocks = (tiles + T - 1) // T
    for item in prange(groups * blocks):                                        # owns a group of channels of y in a block of tiles
        group, block = item // blocks, item % blocks
        f_start, f_end = group * panels // groups * NB, (group + 1) * panels // groups * NB
        V = space[get_thread_id()]
        M, dustbin = V[36 * v_panel:], V[36 * (v_panel + m_panel):]
        first = block * T
        count = min(T, tiles - first)
        for slot in range(count):
            gather_tile(x, first + slot, rows, columns, padding, doubled, VL, V, slot, T, v_panel, zeros)
        for p in range(36):
            if (doubled or paired) and skipped(p):
                continue
            if not (doubled or paired):
                fetch_tiles(x, first + T, T, rows, columns, 2 - padding, p)
            for f in range(f_start, f_end, NB):
                for slot in range(0, count, TILE_ROWS):
                    panel_product(V, p * v_panel + slot * VL, T, u, p * u_panel + f * C, M, p * m_panel + f * T + slot * NB, C)
        for slot in range(count):
            tile = first + slot
            n, h, w = tile // (rows * columns), tile // columns % rows * step, tile % columns * step
            for f in range(f_start, min(f_end, F), VL):
                interior = h + 4 <= OH and w + 4 <= OW and f + VL <= F
                m, target, b = f // NB * T * NB + slot * NB + f % NB, ((n * OH + h) * OW + w) * F + f, n * bias_step + f
                r, r_row, r_column = (target, OW * F, F) if add else (0, 0, 0)          # without residual the same zeros, again and again
                if doubled:
                    transform_doubled_output(M, m, 6 * m_panel, m_panel, y, target, OW * F, F, dustbin, 0, 0, OH - h, 0, OW - w, F - f, bias, b,
                                             residual, r, r_row, r_column)
                elif paired:
                    transform_paired_output(M, m, 6 * m_panel, m_panel, y, target, OW * F, F, dustbin, 0, 0, OH - h, 0, OW - w, F - f, bias, b,
                                            residual, r, r_row, r_column)
                elif interior:
                    transform_output(M, m, 6 * m_panel, m_panel, y, target, OW * F, F, dustbin, 0, 0, 0, 0, 0, 0, bias, b,
                                     residual, r, r_row, r_column)
                else:
                    transform_output_edge(M, m, 6 * m_panel, m_panel, y, target, OW * F, F, dustbin, 0, 0, OH - h, 0, OW - w, F - f, bias, b,
                                          residual, r, r_row, r_column)


@jit
def weight_gradient_slices(x, dy, du, padding, doubled, T, VL, space, zeros):
    """du[s] = the transformed weight gradient of slice s of the tiles: a fixed number of slices, whatever the number of threads.

    doubled: x is read as if upsampled by 2.
    """
    N, H, W, _ = x.shape
    _, OH, OW, F = dy.shape
    rows, columns, NB, S, panel = (OH + 3) // 4, (OW + 3) // 4, 2 * VL, du.shape[0], du.shape[2]
    C, F_whole = whole(x.shape[3], VL), whole(F, NB)                                # of V and du: whole vectors; of M and du: whole panels
    tiles, v_panel, m_panel = N * rows * columns, T * C + VL, T * F_whole + VL
    blocks, c_rows = (tiles + T - 1) // T, min(VL, OUTER_ROWS)
    for s in prange(S):                                                         # a slice owns du[s]
        V = space[get_thread_id()]
        M = V[36 * v_panel:]
        for block in range(s * blocks // S, (s + 1) * blocks // S):
            first, fresh = block * T, int(block == s * blocks // S)
            count = min(T, tiles - first)
            for slot in range(count):
                tile = first + slot
                gather_tile(x, tile, rows, columns, padding, doubled, VL, V, slot, T, v_panel, zeros)
                n, h, w = tile // (rows * columns), tile // columns % rows * 4, tile % columns * 4
                for f in range(0, F_whole, VL):
                    interior = h + 4 <= OH and w + 4 <= OW and f + VL <= F
                    source, m = ((n * OH + h) * OW + w) * F + f, f // NB * T * NB + slot * NB + f % NB
                    if interior:
                        transform_gradient(dy, source, OW * F, F, M, m, 6 * m_panel, m_panel, zeros, 0, 0, 0, 0, 0, 0, zeros, 0, zeros, 0, 0, 0)
                    else:
                        transform_gradient_edge(dy, source, OW * F, F, M, m, 6 * m_panel, m_panel, zeros, 0, 0, OH - h, 0, OW - w, F - f,
                                                zeros, 0, zeros, 0, 0, 0)
            for p in range(36):
                if doubled and skipped(p):
                    continue                                                    # du is 0 there
                if not doubled:
                    fetch_tiles(x, first + T, T, rows, columns, 2 - padding, p)
                fetch_tiles(dy, first + T, T, rows, columns, 0, p)
                for f in range(0, F_whole, NB):
                    for c in range(0, C, c_rows):
                        panel_product_transposed(V, p * v_panel + c // VL * T * VL + c % VL, M, p * m_panel + f * T,
                                                 du, (s * 36 + p) * panel + c * F_whole + f, F_whole, count, fresh, zeros)


@emitter
def transform_sum_back(code, du, start, panel, slices, dw, place, stride):
    """dw = G^T (sum of the slices, in their order) G, for one vector of channels."""
    def add(s, totals):
        return [total + (du + start + (s * 36 + p) * panel).load() for p, total in enumerate(totals)]

    total = code.loop(slices, add, code.zeros(36))
    grid = two_dimensional(weight_adjoint, [total[6 * i:6 * i + 6] for i in range(6)])
    for i, row in enumerate(grid):
        for j, vec in enumerate(row):
            (dw + place + (3 * i + j) * stride).store(vec)


@jit
def weight_gradient_sum(du, dw, VL):
    """dw = G^T (sum of the slices) G."""
    S, _, panel = du.shape
    C, F = dw.shape[2:]
    for c in prange(C):                                                         # owns dw[:, :, c]
        for f in range(0, F, VL):
            transform_sum_back(du, c * F + f, panel, S, dw, c * F + f, C * F)


@jit
def transform_weights(w, u, VL, zeros):
    """u[36][F/NB][C][NB] = G w G^T."""
    KH, KW, C, F = w.shape
    panel, NB = u.shape[1], 2 * VL
    for part in prange(C // VL * (F // NB)):                                    # owns VL channels' rows of a panel, at each point
        first, f_panel = part % (C // VL) * VL, part // (C // VL)
        for c in range(first, first + VL):
            for f in range(f_panel * NB, (f_panel + 1) * NB, VL):
                transform_weight(w, c * F + f, 3 * C * F, C * F, u, (f_panel * C + c) * NB + f % NB, 6 * panel, panel,
                                 zeros, 0, 0, 0, 0, 0, 0, zeros, 0, zeros, 0, 0, 0)


# Calls from Python.

def tiles_in_block(OH, OW, rows):
    """Tiles that are transformed together: few, so that their panels stay in cache; more where pictures are small and channels are many."""
    return rows * max(1, (16 if OH * OW > 64 else 32) // rows)


def channel_groups(blocks, panels):
    """Parts that the output channels are worked on in. More than one where there are no more blocks than threads: a thread that takes some of the
    channels needs their transformed weights only, which it has just made and still has in its cache. No bit of the result depends on it."""
    return max(1, min(panels, 2 * numba.get_num_threads() // max(blocks, 1)))


def winograd(x, w, bias, padding, residual, doubled=False, paired=False) -> np.ndarray:
    """(N,H,W,C) x (3,3,C,F) -> (N,H+2p-2,W+2p-2,F); bias None, (F,) or (N,F); residual like the result, or None.

    doubled: (N,2H,2W,F), of x upsampled by 2. paired: (N,H/2,W/2,F), the sums over 2 x 2 pixels. With these, padding is 1.
    """
    (N, H, W, C), F, VL = x.shape, w.shape[3], lanes(x.dtype)
    C_whole, F_whole = whole(C, VL), whole(F, 2 * VL)               # the weights are filled up with zeros, pictures are not
    OH, OW = (2 * n if doubled else n // 2 if paired else n + 2 * padding - 2 for n in (H, W))
    y = empty((N, OH, OW, F), x.dtype)
    T, size = tiles_in_block(OH, OW, TILE_ROWS), 2 if paired else 4
    groups = channel_groups(-(-N * -(-OH // size) * -(-OW // size) // T), F_whole // (2 * VL))
    zeros = np.zeros(VL, x.dtype)
    u = empty((36, C_whole * F_whole + VL), x.dtype)
    w = with_channels(with_channels(w, F_whole).reshape(3, 3, C * F_whole), C_whole * F_whole).reshape(3, 3, C_whole, F_whole)
    transform_weights(readonly(w), u, VL, readonly(zeros))
    bias = np.zeros(F_whole, x.dtype) if bias is None else with_channels(bias, F_whole)
    space = scratch("winograd", 36 * (T * (C_whole + F_whole) + 2 * VL) + VL, x.dtype)
    add, more = residual is not None, np.zeros((1, 1, 1, VL), x.dtype) if residual is None else residual
    forward(readonly(x), u, readonly(bias).reshape(-1), F_whole if bias.ndim == 2 else 0, readonly(more), add, y, padding, doubled, paired,
            groups, T, VL, space, readonly(zeros))
    return y


def winograd_dw(x, dy, padding, doubled=False) -> np.ndarray:
    """(N,H,W,C), (N,OH,OW,F) -> (3,3,C,F); doubled: of x upsampled by 2."""
    C, F, VL = x.shape[3], dy.shape[3], lanes(x.dtype)
    C_whole, F_whole = whole(C, VL), whole(F, 2 * VL)
    tiles = len(dy) * -(-dy.shape[1] // 4) * -(-dy.shape[2] // 4)
    T = 32 if dy.shape[1] * dy.shape[2] <= 64 <= tiles else 16
    blocks, size = -(-tiles // T), C_whole * F_whole
    slices = min(blocks, next((s for s in (16, 8, 4) if s * 36 * size <= 2 ** 21), 2))      # at most 8 MB in float32, or two of them
    du, dw = empty((slices, 36, size + VL), x.dtype), empty((3, 3, C_whole, F_whole), x.dtype)      # + VL: as in `forward`
    if doubled:
        grid = du.reshape(slices, 6, 6, du.shape[2])
        grid[:, SKIPPED], grid[:, :, SKIPPED] = 0, 0
    space = scratch("winograd", 36 * (T * (C_whole + F_whole) + 2 * VL) + VL, x.dtype)
    weight_gradient_slices(readonly(x), readonly(dy), du, padding, doubled, T, VL, space, readonly(np.zeros(2 * VL, x.dtype)))
    weight_gradient_sum(du, dw, VL)
    return dw[:, :, :C, :F]
