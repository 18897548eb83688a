"""GroupNorm, alone or followed by SiLU, forward and backward (Wu and He 2018, arXiv:1803.08494).

    y = act(xhat weight + bias),   xhat = (x - mean) rstd,   mean and rstd over the pixels and channels of a group, for each picture.

Backward, with dz the gradient before act, dxhat = dz weight, and < > the mean over a group:

    dx = rstd (dxhat - <dxhat> - xhat <dxhat xhat>),   dweight = sum of dz xhat,   dbias = sum of dz.

Memory is what this costs, not arithmetic: a picture is read twice forward (statistics, then output) and twice backward (dz and its sums, then
dx), one vector of channels at a time down a strip of pixels that stays in the first-level cache. Saved are x, mean and rstd; SiLU is recomputed.
Per channel all of it is linear: y = act(a x + b), dx = a dz + b x + c, with a, b, c from the group's sums.
"""
import numpy as np
from numba import prange

from .buffers import empty
from .elementwise import silu_backward_reference, silu_reference
from .jit import jit, readonly
from .registry import kernel
from .vector import emitter

STRIP = 64                               # pixels of a strip: with 64 channels, 16 KB of x
UNROLL = 4                               # pixels in flight at once, each with sums of its own: an add waits four cycles for the last one


def group_norm_reference(x, weight, bias, groups, eps=1e-5, act=None):
    """x (N,...,C), weight and bias (C,) -> y like x, mean (N,G), rstd (N,G). act None or "silu"."""
    N, C = x.shape[0], x.shape[-1]
    g = x.reshape(N, -1, groups, C // groups)                             # (N,P,G,C/G)
    mean = g.mean((1, 3), dtype=np.float64)
    rstd = 1 / np.sqrt(g.var((1, 3), dtype=np.float64) + eps)
    xhat = ((g - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)
    z = xhat * weight + bias
    y = silu_reference(z) if act == "silu" else z
    return y.astype(x.dtype), mean.astype(x.dtype), rstd.astype(x.dtype)


def group_norm_backward_reference(dy, x, weight, bias, mean, rstd, act=None):
    """dy and x (N,...,C), weight and bias (C,), mean and rstd (N,G) of the forward pass -> dx, dweight, dbias."""
    N, C, groups = x.shape[0], x.shape[-1], mean.shape[1]
    r = rstd[:, None, :, None].astype(np.float64)
    xhat = (x.reshape(N, -1, groups, C // groups) - mean[:, None, :, None].astype(np.float64)) * r      # (N,P,G,C/G)
    flat, dz = xhat.reshape(N, -1, C), dy.reshape(N, -1, C).astype(np.float64)                          # (N,P,C)
    if act == "silu":
        dz = silu_backward_reference(dz, flat * weight + bias)
    dxhat = (dz * weight).reshape(xhat.shape)
    dx = r * (dxhat - dxhat.mean((1, 3), keepdims=True) - xhat * (dxhat * xhat).mean((1, 3), keepdims=True))
    return dx.reshape(x.shape).astype(x.dtype), (dz * flat).sum((0, 1)).astype(x.dtype), dz.sum((0, 1)).astype(x.dtype)


# The four passes. Each formula takes the vectors of one pixel and gives the vector to write and what to add to the sums.

def statistics_formula(x, dy, shift):
    v = x - shift                                                         # near zero: the sum of squares does not cancel
    return None, [v, v * v]


def make_output_formula(act):
    def output_formula(x, dy, a, b):
        z = x * a + b
        return silu_reference(z) if act else z, []
    return output_formula


def make_dz_formula(act):
    def dz_formula(x, dy, a, b, mean):
        dz = silu_backward_reference(dy, x * a + b) if act else dy
        return dz, [dz, dz * (x - mean)]
    return dz_formula


def dx_formula(x, dz, a, b, c):
    return a * dz + b * x + c, []


def make_pass(formula, n_numbers, n_sums):
    """Emitter of one pass over `pixels` pixels: y = formula(x, dy, numbers of the channel), sums += its second result."""
    @emitter
    def run(code, x, dy, y, numbers, sums, start, C, pixels):
        def column(code, c):
            channel = [(numbers + j * C + c).on(code).load() for j in range(n_numbers)]

            def pixel(k, totals):
                place = start + k * C + c
                value, more = formula((x + place).on(code).load(), (dy + place).on(code).load(), *channel)
                if value is not None:
                    (y + place).on(code).store(value)
                return [total + term for total, term in zip(totals, more)]

            def several(k, totals):
                parts = [totals[u * n_sums:(u + 1) * n_sums] for u in range(UNROLL)]
                return [total for u in range(UNROLL) for total in pixel(k * UNROLL + u, parts[u])]

            rounds = pixels // UNROLL
            totals = code.loop(rounds, several, code.zeros(n_sums * UNROLL))
            totals = [sum(totals[j + n_sums:: n_sums], totals[j]) for j in range(n_sums)]
            totals = code.loop(pixels - rounds * UNROLL, lambda k, totals: pixel(rounds * UNROLL + k, totals), totals)
            for j, total in enumerate(totals):
                place = (sums + j * C + c).on(code)
                place.store(place.load() + total)
        code.each(C, column)
    return run


statistics_pass = make_pass(statistics_formula, 1, 2)
output_pass, output_silu_pass = (make_pass(make_output_formula(act), 2, 0) for act in (False, True))
dz_pass, dz_silu_pass = (make_pass(make_dz_formula(act), 3, 2) for act in (False, True))
dx_pass = make_pass(dx_formula, 3, 0)


@jit
def forward(x, weight, bias, y, mean, rstd, eps, silu):
    N, P, C = x.shape
    G = mean.shape[1]
    for n in prange(N):                                                   # owns picture n of y, mean and rstd
        numbers, strip, sums = np.zeros((2, C), x.dtype), np.zeros((2, C), x.dtype), np.zeros((2, C))
        for c in range(C):
            numbers[0, c] = x[n, 0, c]                                    # the shift: the first pixel
        for p in range(0, P, STRIP):
            strip[:] = 0
            statistics_pass(x, x, y, numbers, strip, (n * P + p) * C, C, min(STRIP, P - p))
            for c in range(C):
                sums[0, c] += strip[0, c]
                sums[1, c] += strip[1, c]
        for g in range(G):
            first, end, size = g * (C // G), (g + 1) * (C // G), P * (C // G)
            mu, variance = 0.0, 0.0
            for c in range(first, end):
                mu += (sums[0, c] + np.float64(numbers[0, c]) * P) / size
            for c in range(first, end):
                m = sums[0, c] / P
                gap = m + np.float64(numbers[0, c]) - mu
                variance += (sums[1, c] / P - m * m + gap * gap) * P / size
            r = 1 / np.sqrt(variance + eps)
            mean[n, g], rstd[n, g] = mu, r
            for c in range(first, end):
                numbers[0, c] = r * weight[c]
                numbers[1, c] = bias[c] - mu * r * weight[c]
        for p in range(0, P, STRIP):
            if silu:
                output_silu_pass(x, x, y, numbers, strip, (n * P + p) * C, C, min(STRIP, P - p))
            else:
                output_pass(x, x, y, numbers, strip, (n * P + p) * C, C, min(STRIP, P - p))


@jit
def backward(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, silu):
    """dx holds dz between the two passes; dweight and dbias (N,C) are each picture's own."""
    N, P, C = x.shape
    G = mean.shape[1]
    for n in prange(N):                                                   # owns picture n of dx, dweight and dbias
        numbers, strip, sums = np.zeros((3, C), x.dtype), np.zeros((2, C), x.dtype), np.zeros((2, C))
        for c in range(C):
            m, r = np.float64(mean[n, c // (C // G)]), np.float64(rstd[n, c // (C // G)])
            numbers[0, c], numbers[1, c], numbers[2, c] = r * weight[c], bias[c] - m * r * weight[c], m
        for p in range(0, P, STRIP):
            strip[:] = 0
            if silu:
                dz_silu_pass(x, dy, dx, numbers, strip, (n * P + p) * C, C, min(STRIP, P - p))
            else:
                dz_pass(x, dy, dx, numbers, strip, (n * P + p) * C, C, min(STRIP, P - p))
            for c in range(C):
                sums[0, c] += strip[0, c]
                sums[1, c] += strip[1, c]
        for g in range(G):
            first, end, size = g * (C // G), (g + 1) * (C // G), P * (C // G)
            m, r, dxhat, dxhat_xhat = np.float64(mean[n, g]), np.float64(rstd[n, g]), 0.0, 0.0
            for c in range(first, end):
                dbias[n, c], dweight[n, c] = sums[0, c], sums[1, c] * r
                dxhat += weight[c] * sums[0, c] / size
                dxhat_xhat += weight[c] * sums[1, c] * r / size
            for c in range(first, end):
                numbers[0, c], numbers[1, c], numbers[2, c] = r * weight[c], -r * r * dxhat_xhat, r * (r * m * dxhat_xhat - dxhat)
        for p in range(0, P, STRIP):
            dx_pass(x, dx, dx, numbers, strip, (n * P + p) * C, C, min(STRIP, P - p))


@kernel(group_norm_reference)
def group_norm(x, weight, bias, groups, eps=1e-5, act=None):
    flat = readonly(x).reshape(x.shape[0], -1, x.shape[-1])               # (N,P,C)
    y, mean, rstd = empty(x.shape, x.dtype), np.empty((len(x), groups), x.dtype), np.empty((len(x), groups), x.dtype)
    forward(flat, readonly(weight), readonly(bias), y.reshape(flat.shape), mean, rstd, eps, act == "silu")
    return y, mean, rstd


@kernel(group_norm_backward_reference)
def group_norm_backward(dy, x, weight, bias, mean, rstd, act=None):
    flat = readonly(x).reshape(x.shape[0], -1, x.shape[-1])               # (N,P,C)
    dx, dweight, dbias = empty(x.shape, x.dtype), np.empty((len(x), x.shape[-1])), np.empty((len(x), x.shape[-1]))
    backward(readonly(dy).reshape(flat.shape), flat, readonly(weight), readonly(bias), readonly(mean), readonly(rstd),
             dx.reshape(flat.shape), dweight, dbias, act == "silu")
    return dx, dweight.sum(0).astype(x.dtype), dbias.sum(0).astype(x.dtype)
