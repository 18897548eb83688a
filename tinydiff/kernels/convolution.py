"""2-D convolution on channels-last arrays: forward, input gradient, weight gradient.

An output pixel is made from the input pixels that the filter's taps (i, j) lie on, s being the stride and p the padding:

    y[n,h,w] = sum over i, j of x[n, h s + i - p, w s + j - p] w[i,j] + bias               (C) (C,F) -> (F) each; x is 0 outside

Both gradients come from asking where a number of x, or of w, appears in this sum. If y = ... + a b + ..., a gets dy b and b gets dy a, and what
appears in several sums adds up what it gets from each.

dw: w[i,j] appears in every output pixel, each time beside another input pixel:

    dw[i,j] = sum over n, h, w of x[n, h s + i - p, w s + j - p]^T dy[n,h,w]               (C,1) (1,F) -> (C,F) each
    dbias   = sum over n, h, w of dy[n,h,w]

dx: x[n,a,b] appears in y[n,h,w] beside w[i,j] just where a = h s + i - p and b = w s + j - p. So

    dx[n,a,b] = sum over i, j of dy[n, (a + p - i) / s, (b + p - j) / s] w[i,j]^T          where both are whole, and pixels of dy

With stride 1, count the taps from the other end, i' = KH - 1 - i: then a + p - i = a + i' - (KH - 1 - p), and this is again a convolution, of dy
with the filter turned by 180 degrees, its C and F exchanged, and padding KH - 1 - p. So the fast forward kernel serves for dx too.

Checked by `tests/ops/test_primitives.py::test_gradients_agree_with_finite_differences` and
`tests/kernels/test_kernels.py::test_against_reference_and_plain_definition`.

Read first: `tile.py`.
"""
import math

import numpy as np
from numba import prange

from .amx import wanted
from .amx_convolution import amx, amx_dw
from .buffers import empty, whole, with_channels
from .direct import direct, direct_dw, direct_dx
from .jit import jit, readonly
from .registry import kernel, require
from .tile import OUTER_ROWS
from .vector import emitter
from .winograd import winograd, winograd_dw


def out_size(size, kernel_size, stride, padding):
    """Pixels that a convolution gives along one axis."""
    return (size + 2 * padding - kernel_size) // stride + 1


def shifted(xp, i, j, stride, OH, OW):
    """The pixels of the padded picture that meet tap (i, j) of the filter, one for each output pixel: (N,OH,OW,C)."""
    return xp[:, i:i + stride * (OH - 1) + 1:stride, j:j + stride * (OW - 1) + 1:stride]


def conv2d_reference(x, w, bias=None, stride=1, padding=0, residual=None):
    """x (N,H,W,C), w (KH,KW,C,F), bias None, (F,) or (N,F) -> y (N,OH,OW,F), OH = (H + 2 padding - KH) // stride + 1.

    residual: None, or an array like y that is added to it.
    y[n,h,w,f] = bias[f] + sum_ijc x[n, h s + i - p, w s + j - p, c] w[i,j,c,f]: a matrix product for each tap of the filter.
    """
    N, H, W, C = x.shape
    KH, KW, C, F = w.shape
    OH, OW = out_size(H, KH, stride, padding), out_size(W, KW, stride, padding)
    xp = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = sum(shifted(xp, i, j, stride, OH, OW) @ w[i, j] for i in range(KH) for j in range(KW))
    y = y if bias is None else y + bias.reshape(-1, 1, 1, F)
    return y if residual is None else y + residual


def conv2d_dx_reference(dy, w, size, stride=1, padding=0, so_far=None):
    """dy (N,OH,OW,F), w (KH,KW,C,F), size (H,W) of x, so_far None or an array like x that is added -> dx (N,H,W,C).

    Each output pixel sends dy w^T back to the input pixels that it was made from.
    """
    N, OH, OW, F = dy.shape
    KH, KW, C, F = w.shape
    H, W = size
    dxp = np.zeros((N, H + 2 * padding, W + 2 * padding, C), dy.dtype)
    for i in range(KH):
        for j in range(KW):
            shifted(dxp, i, j, stride, OH, OW)[...] += dy @ w[i, j].T
    dx = dxp[:, padding:padding + H, padding:padding + W]
    return dx if so_far is None else dx + so_far


def conv2d_dw_reference(x, dy, kernel_size, stride=1, padding=0):
    """x (N,H,W,C), dy (N,OH,OW,F), kernel_size (KH,KW) -> dw (KH,KW,C,F).

    dw[i,j] = x_ij^T dy, with x_ij the input pixels that met tap (i, j), one row a pixel.
    """
    N, OH, OW, F = dy.shape
    KH, KW = kernel_size
    xp = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    taps = [[np.tensordot(shifted(xp, i, j, stride, OH, OW), dy, ([0, 1, 2], [0, 1, 2])) for j in range(KW)] for i in range(KH)]
    return np.array(taps)


def pixel_sum_reference(dy):
    """(N,H,W,F) -> (N,F): the gradient of a bias that was added to every pixel."""
    return dy.sum((1, 2))


def upsample_conv2d_reference(x, w, bias=None):
    """x (N,H,W,C), w (3,3,C,F), bias None or (F,) -> (N,2H,2W,F): each pixel twice both ways, then conv2d with padding 1."""
    return conv2d_reference(x.repeat(2, axis=1).repeat(2, axis=2), w, bias, 1, 1)


def upsample_conv2d_dx_reference(dy, w, so_far=None):
    """dy (N,2H,2W,F), w (3,3,C,F), so_far None or like x -> dx (N,H,W,C): conv2d_dx, summed over the four copies of each pixel."""
    N, H2, W2, F = dy.shape
    dx = conv2d_dx_reference(dy, w, (H2, W2), 1, 1).reshape(N, H2 // 2, 2, W2 // 2, 2, w.shape[2]).sum((2, 4))
    return dx if so_far is None else dx + so_far


def upsample_conv2d_dw_reference(x, dy):
    """x (N,H,W,C), dy (N,2H,2W,F) -> dw (3,3,C,F)."""
    return conv2d_dw_reference(x.repeat(2, axis=1).repeat(2, axis=2), dy, (3, 3), 1, 1)


# What the hardware wants: to multiply vectors in every cycle, and so to have the numbers at hand: in registers, or in the caches next to them.
# The reference makes a matrix product for each tap, and so reads the picture and writes the sums nine times for a 3x3 filter.
#
# How it gets that: an output pixel's sum over all taps stays in registers until it is complete, and is then written once (tile.py, direct.py). A
# 3x3 filter of stride 1 needs only a quarter of the multiplications besides (winograd.py). Where channels are not whole vectors, the last one is read
# and written in part (`Code.first`). Those of a picture are too few for that: there the pixels that a row of the filter reads, neighbours in memory,
# are taken as the channels of one.
#
# What it gains, over the references above on 2 cores: 3x3 at 64 pixels and 32 channels 8.9 x forward, 13.2 x for dx, 38.9 x for dw; stride 2 4.3 x,
# 6.3 x and 29.6 x; 1x1 5.2 x, 4.5 x and 3.0 x; after upsampling 16.9 x, 24.7 x and 61.7 x (benchmarks/README.md).
#
# Which kernel serves which shape is decided here, and nowhere else.

THIN = 4                                # channels, as a picture has: a vector of them would be mostly empty
SMALL = 16                              # pixels of a picture: in a block of the matrix unit it would be mostly frame
TURNED = 16                             # columns of a matrix turned together: each read is of one cache line, used whole


def by_amx(x, kernel_size, stride=1) -> bool:
    """3x3 and 1x1 filters of stride 1 go to the processor's matrix unit where bfloat16 is wanted. x: what they read, (N,H,W,C)."""
    _, H, W, C = x.shape
    return wanted() and x.dtype == np.float32 and tuple(kernel_size) in ((1, 1), (3, 3)) and stride == 1 and C > THIN and H * W >= SMALL


def by_winograd(kernel_size, stride, C) -> bool:
    """Else 3x3 filters of stride 1 go to Winograd's transform, unless what they read is thin; all others are gathered."""
    return tuple(kernel_size) == (3, 3) and stride == 1 and C > THIN


def by_rows(kernel_size, C) -> bool:
    """Of what is thin, a filter's row is gathered whole: a (KH,KW) filter of C channels is a (KH,1) filter of KW C channels of `framed(x)`."""
    return kernel_size[1] > 1 and C <= THIN


@kernel(conv2d_reference)
def conv2d(x, w, bias=None, stride=1, padding=0, residual=None):
    (N, H, W, _), (KH, KW, C, F) = x.shape, w.shape
    size = out_size(H, KH, stride, padding), out_size(W, KW, stride, padding)
    fits = x.shape[3] == C and min(size) > 0 and (bias is None or bias.shape in ((F,), (N, F)))
    fits = fits and (residual is None or residual.shape == (N, *size, F))
    require("conv2d", fits, "x (N,H,W,C), w (KH,KW,C,F) no larger than x with its padding, bias (F,) or (N,F), residual like the result", x, w, bias,
            residual)
    if by_amx(x, (KH, KW), stride):
        return amx(x, w, bias, padding, residual)
    if by_winograd((KH, KW), stride, C):
        return winograd(x, w, bias, padding, residual)
    if by_rows((KH, KW), C):
        return direct(framed(x, padding), w.reshape(KH, 1, KW * C, F), bias, size, stride, 0, residual)
    return direct(x, w, bias, size, stride, padding, residual)


@kernel(conv2d_dx_reference)
def conv2d_dx(dy, w, size, stride=1, padding=0, so_far=None):
    KH, KW, C, F = w.shape
    made = (len(dy), out_size(size[0], KH, stride, padding), out_size(size[1], KW, stride, padding), F)
    fits = dy.shape == made and (so_far is None or so_far.shape == (len(dy), *size, C))
    require("conv2d_dx", fits, f"dy {made}, w (KH,KW,C,F), so_far (N,{size[0]},{size[1]},C)", dy, w, so_far)
    if (KH, KW) == (3, 3) and stride == 1 or by_amx(dy, (KH, KW), stride):
        turned = empty((KH, KW, F, C), w.dtype)
        turn(readonly(w), turned)
        return conv2d(dy, turned, padding=KH - 1 - padding, residual=so_far)
    return direct_dx(dy, w, size, stride, padding, so_far)


@kernel(conv2d_dw_reference)
def conv2d_dw(x, dy, kernel_size, stride=1, padding=0):
    (N, H, W, C), (KH, KW), F = x.shape, kernel_size, dy.shape[-1]
    made = N, out_size(H, KH, stride, padding), out_size(W, KW, stride, padding), F
    require("conv2d_dw", dy.shape == made, f"x (N,H,W,C), dy {made}", x, dy)
    if by_rows(kernel_size, C):
        return direct_dw(framed(x, padding), dy, (KH, 1), stride, 0, whole(KW * C, OUTER_ROWS))[:, 0, :KW * C].reshape(KH, KW, C, F)
    if KH * KW > 1 and F <= THIN and stride == 1 and KH == KW > padding:               # the other way round: dy is what filters of x meet
        turned = conv2d_dw(dy, x, kernel_size, 1, KH - 1 - padding)                     # (KH,KW,F,C)
        if not np.isfinite(dy).all():                                                   # then the padding's zeros, left out here, make NaN of it
            turned = turned + np.where(np.isfinite(dy).all((0, 1, 2)), 0, np.nan).astype(dy.dtype)[:, None]
        return turned[::-1, ::-1].swapaxes(2, 3)
    if by_amx(x, kernel_size, stride):
        return amx_dw(x, dy, padding, K=KH)
    if by_winograd(kernel_size, stride, C):
        return winograd_dw(x, dy, padding)
    rows = whole(C, OUTER_ROWS)
    return direct_dw(with_channels(x, rows), dy, kernel_size, stride, padding, rows)[:, :, :C]


@kernel(upsample_conv2d_reference)
def upsample_conv2d(x, w, bias=None):
    F = w.shape[-1]
    fits = x.ndim == 4 and w.shape == (3, 3, x.shape[3], F) and (bias is None or bias.shape == (F,))
    require("upsample_conv2d", fits, "x (N,H,W,C), w (3,3,C,F), bias (F,)", x, w, bias)
    return (amx if by_amx(x, (3, 3)) else winograd)(x, w, bias, 1, None, doubled=True)


@kernel(upsample_conv2d_dx_reference)
def upsample_conv2d_dx(dy, w, so_far=None):
    KH, KW, C, F = w.shape
    N, H2, W2, _ = dy.shape
    fits = (KH, KW, F) == (3, 3, dy.shape[3]) and H2 % 2 == W2 % 2 == 0 and (so_far is None or so_far.shape == (N, H2 // 2, W2 // 2, C))
    require("upsample_conv2d_dx", fits, "dy (N,2H,2W,F), w (3,3,C,F), so_far (N,H,W,C)", dy, w, so_far)
    turned = empty((KH, KW, F, C), w.dtype)
    turn(readonly(w), turned)
    return (amx if by_amx(dy, (3, 3)) else winograd)(dy, turned, None, 1, so_far, paired=True)


@kernel(upsample_conv2d_dw_reference)
def upsample_conv2d_dw(x, dy):
    N, H, W, _ = x.shape
    require("upsample_conv2d_dw", dy.shape == (N, 2 * H, 2 * W, dy.shape[-1]), "x (N,H,W,C), dy (N,2H,2W,F)", x, dy)
    return (amx_dw if by_amx(x, (3, 3)) else winograd_dw)(x, dy, 1, doubled=True)


@jit
def turn(w, turned):
    """turned (KH,KW,F,C): the filter w (KH,KW,C,F) turned by 180 degrees, its input channels now the output channels."""
    KH, KW, C, F = w.shape
    parts = (F + TURNED - 1) // TURNED
    for part in prange(KH * KW * parts):                                                # owns TURNED rows of turned's tap (KH-1-i, KW-1-j)
        i, j, first = part // parts // KW, part // parts % KW, part % parts * TURNED
        for c in range(C):
            for f in range(first, min(first + TURNED, F)):
                turned[KH - 1 - i, KW - 1 - j, f, c] = w[i, j, c, f]


def framed(x, padding) -> np.ndarray:
    """(N,H,W,C) -> (N,H + 2 padding,W + 2 padding,C): the picture in a frame of zeros, or cut where the padding is negative. A few numbers beyond
    its end may be read too."""
    N, H, W, C = x.shape
    shape = N, H + 2 * padding, W + 2 * padding, C
    size = math.prod(shape)
    memory = empty((size + OUTER_ROWS,), x.dtype)
    memory[:] = 0
    frame = memory[:size].reshape(shape)
    first, cut = max(padding, 0), max(-padding, 0)
    frame[:, first:first + H - 2 * cut, first:first + W - 2 * cut] = x[:, cut:H - cut, cut:W - cut]
    return frame


@emitter
def pixel_sum_rows(code, dy, start, P, F, sums, place):
    """sums[place:place + F] = the sum of P rows of F numbers. Several are in flight at once, since an add waits for the one before."""
    several = 8

    def column(code, f):
        def rows(k, totals):
            return [total + (dy + start + (k * several + u) * F + f).on(code).load() for u, total in enumerate(totals)]
        totals = code.loop(P // several, rows, code.zeros(several))
        rest = P // several * several
        total, = code.loop(P - rest, lambda k, t: [t[0] + (dy + start + (rest + k) * F + f).on(code).load()], [sum(totals[1:], totals[0])])
        (sums + place + f).on(code).store(total)
    code.each(F, column)


@jit
def pixel_sums(dy, sums):
    """sums (N,F) = dy (N,P,F) summed over its pixels."""
    N, P, F = dy.shape
    for n in prange(N):                                                                 # owns sums[n]
        pixel_sum_rows(dy, n * P * F, P, F, sums, n * F)


@kernel(pixel_sum_reference)
def pixel_sum(dy):
    N, H, W, F = dy.shape
    sums = np.empty((N, F), dy.dtype)
    pixel_sums(readonly(dy).reshape(N, H * W, F), sums)
    return sums
