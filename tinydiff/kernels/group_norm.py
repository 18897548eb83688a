"""GroupNorm, alone or followed by SiLU, forward and backward (Wu and He 2018, arXiv:1803.08494).

    y = act(xhat weight + bias),   xhat = (x - mean) rstd,   mean and rstd over the pixels and channels of a group, for each picture.

Backward: let dz be the gradient before act. z = xhat weight + bias, so dbias = sum of dz, dweight = sum of dz xhat, and dxhat = dz weight. From
xhat to x, within one group, < > being the mean over it: let x change by small amounts d. Then

    mean changes by   <d>
    variance by       <2 (x - mean) (d - <d>)> = 2 <(x - mean) d> = (2 / rstd) <xhat d>             since <x - mean> = 0
    rstd by           -1/2 rstd^3 times that   = -rstd^2 <xhat d>                                   rstd = (variance + eps)^{-1/2}
    xhat by           (d - <d>) rstd + (x - mean) (-rstd^2 <xhat d>) = rstd (d - <d> - xhat <xhat d>)

The loss changes by the sum over the group of dxhat times the last line. In it, sum dxhat <d> = sum <dxhat> d, and
sum dxhat xhat <xhat d> = sum <dxhat xhat> xhat d; what then multiplies d is

    dx = rstd (dxhat - <dxhat> - xhat <dxhat xhat>)

Checked by `tests/ops/test_primitives.py::test_gradients_agree_with_finite_differences` and
`tests/kernels/test_kernels.py::test_against_reference_and_plain_definition`.

x may be several arrays, whose channels then count as lying one after the other: what a U-Net's skip connections bring together is read where it
is, never copied into one array. And a gradient that x has already from elsewhere is added while dx is written.

Read first: `elementwise.py`.
"""
import numpy as np
from numba import prange

from .buffers import address, empty
from .elementwise import silu_backward_reference, silu_reference
from .jit import jit, readonly
from .registry import kernel, require
from .vector import emitter

STRIP = 64                               # pixels of a strip: with 64 channels, 16 KB of x
UNROLL = 4                               # pixels in flight at once, each with sums of its own: an add waits four cycles for the last one


def group_norm_reference(xs, weight, bias, groups, eps=1e-5, act=None):
    """xs [(N,...,C1), (N,...,C2), ...], weight and bias (C,) -> y (N,...,C), mean (N,G), rstd (N,G). act None or "silu"."""
    x = np.concatenate(xs, axis=-1)
    N, C = x.shape[0], x.shape[-1]
    g = x.reshape(N, -1, groups, C // groups)                             # (N,P,G,C/G)
    mean = g.mean((1, 3), dtype=np.float64)
    rstd = 1 / np.sqrt(g.var((1, 3), dtype=np.float64) + eps)
    xhat = ((g - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)
    z = xhat * weight + bias
    y = silu_reference(z) if act == "silu" else z
    return y.astype(x.dtype), mean.astype(x.dtype), rstd.astype(x.dtype)


def group_norm_backward_reference(dy, xs, weight, bias, mean, rstd, act=None, so_far=None):
    """dy (N,...,C), xs, weight and bias (C,), mean and rstd (N,G) of the forward pass -> [dx1, dx2, ...], dweight, dbias.

    so_far: for each of xs an array like it that is added to its gradient, or None; None for none at all.
    """
    x = np.concatenate(xs, axis=-1)
    N, C, groups = x.shape[0], x.shape[-1], mean.shape[1]
    r = rstd[:, None, :, None].astype(np.float64)
    xhat = (x.reshape(N, -1, groups, C // groups) - mean[:, None, :, None].astype(np.float64)) * r      # (N,P,G,C/G)
    flat, dz = xhat.reshape(N, -1, C), dy.reshape(N, -1, C).astype(np.float64)                          # (N,P,C)
    if act == "silu":
        dz = silu_backward_reference(dz, flat * weight + bias)
    dxhat = (dz * weight).reshape(xhat.shape)
    dx = r * (dxhat - dxhat.mean((1, 3), keepdims=True) - xhat * (dxhat * xhat).mean((1, 3), keepdims=True))
    dxs = np.split(dx.reshape(x.shape).astype(x.dtype), np.cumsum([part.shape[-1] for part in xs])[:-1], axis=-1)
    dxs = [d if more is None else d + more for d, more in zip(dxs, so_far or [None] * len(xs))]
    return dxs, (dz * flat).sum((0, 1)).astype(x.dtype), dz.sum((0, 1)).astype(x.dtype)


# What the hardware wants: little traffic with memory. There are some ten operations a number, which a core does in less time than memory takes to
# bring it. Each operation of the reference goes over memory again.
#
# How it gets that: a picture is read twice forward (statistics, then output) and twice backward (dz and its sums, then dx), one vector of channels
# at a time down a strip of pixels that stays in the first-level cache. That is possible because per channel all of it is linear,
# y = act(a x + b) and dx = a dz + b x + c, with a, b, c from the group's sums. Saved for backward are x, mean and rstd; SiLU is computed again, in
# registers. UNROLL pixels are in flight at once.
#
# What it gains, over the reference above on 2 cores, with SiLU at 64 pixels: 110.9 x forward, 108.6 x backward (the reference computes in float64);
# without, at 16 pixels, 50.7 x and 29.9 x (benchmarks/README.md).


# The passes. Each formula takes what a pixel has of a channel's vector in the arrays of the pass, then the channel's numbers, and gives what to
# write and what to add to the sums.

def statistics_formula(x, shift):
    v = x - shift                                                         # near zero: the sum of squares does not cancel
    return None, [v, v * v]


def make_output_formula(act):
    def output_formula(x, a, b):
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


def dx_add_formula(x, dz, so_far, a, b, c):
    return a * dz + b * x + c + so_far, []


X, DX, SO_FAR, CHANNELS, FIRST = range(5)                                 # columns of the table of parts: three addresses, its channels, the first
WHOLE = -1                                                                # stands for y or dy, which has all channels


def make_pass(formula, inputs, output, n_numbers, n_sums):
    """Emitter of one pass over `pixels` pixels of a part, from pixel `start` on: output = formula(inputs, numbers), sums += its second result.

    inputs and output are columns of the table, or WHOLE. The part's channels are the whole's from `first` on; C is how many there are.
    """
    @emitter
    def run(code, whole, table, row, numbers, sums, first, C, start, pixels):
        channels = (table + row + CHANNELS).integer()

        def at(name, k, c):
            if name == WHOLE:
                return (whole + (start + k) * C + first + c).on(code)
            return (code.address((table + row + name).integer()) + (start + k) * channels + c)

        def column(code, c):
            channel = [(numbers + j * C + first + c).on(code).load() for j in range(n_numbers)]

            def pixel(k, totals):
                value, more = formula(*(at(name, k, c).on(code).load() for name in inputs), *channel)
                if value is not None:
                    at(output, k, c).on(code).store(value)
                return [total + term for total, term in zip(totals, more)]

            def several(k, totals):
                parts = [totals[u * n_sums:(u + 1) * n_sums] for u in range(UNROLL)]
                return [total for u in range(UNROLL) for total in pixel(k * UNROLL + u, parts[u])]

            rounds = pixels // UNROLL
            totals = code.loop(rounds, several, code.zeros(n_sums * UNROLL))
            totals = [sum(totals[j + n_sums:: n_sums], totals[j]) for j in range(n_sums)]
            totals = code.loop(pixels - rounds * UNROLL, lambda k, totals: pixel(rounds * UNROLL + k, totals), totals)
            for j, total in enumerate(totals):
                place = (sums + j * C + first + c).on(code)
                place.store(place.load() + total)
        code.each(channels, column)
    return run


statistics_pass = make_pass(statistics_formula, [X], None, 1, 2)
output_pass, output_silu_pass = (make_pass(make_output_formula(act), [X], WHOLE, 2, 0) for act in (False, True))
dz_pass, dz_silu_pass = (make_pass(make_dz_formula(act), [X, WHOLE], DX, 3, 2) for act in (False, True))
dx_pass, dx_add_pass = make_pass(dx_formula, [X, DX], DX, 3, 0), make_pass(dx_add_formula, [X, DX, SO_FAR], DX, 3, 0)


@jit
def forward(table, weight, bias, y, mean, rstd, eps, silu):
    """y, mean and rstd from the parts in the table."""
    N, P, C = y.shape
    G, parts, columns = mean.shape[1], table.shape[0], table.shape[1]
    for n in prange(N):                                                   # owns picture n of y, mean and rstd
        numbers, strip, sums = np.zeros((2, C), y.dtype), np.zeros((2, C), y.dtype), np.zeros((2, C))
        for i in range(parts):
            first_pixel(table, i * columns, numbers, table[i, FIRST], n * P)    # the shift
        for p in range(0, P, STRIP):
            strip[:] = 0
            for i in range(parts):
                statistics_pass(y, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))
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
            for i in range(parts):
                if silu:
                    output_silu_pass(y, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))
                else:
                    output_pass(y, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))


@emitter
def first_pixel(code, table, row, numbers, first, start):
    """numbers[first...] = the part's channels at pixel `start`."""
    channels = (table + row + CHANNELS).integer()
    x = code.address((table + row + X).integer()) + start * channels
    code.each(channels, lambda code, c: (numbers + first + c).on(code).store((x + c).on(code).load()))


@jit
def backward(table, dy, weight, bias, mean, rstd, dweights, dbiases, dweight, dbias, silu):
    """The parts' dx, which hold dz between the two passes; dweights and dbiases (N,C) are each picture's own, dweight and dbias (C,) their sums."""
    N, P, C = dy.shape
    G, parts, columns = mean.shape[1], table.shape[0], table.shape[1]
    for n in prange(N):                                                   # owns picture n of every dx, dweights and dbiases
        numbers, strip, sums = np.zeros((3, C), dy.dtype), np.zeros((2, C), dy.dtype), np.zeros((2, C))
        for c in range(C):
            m, r = np.float64(mean[n, c // (C // G)]), np.float64(rstd[n, c // (C // G)])
            numbers[0, c], numbers[1, c], numbers[2, c] = r * weight[c], bias[c] - m * r * weight[c], m
        for p in range(0, P, STRIP):
            strip[:] = 0
            for i in range(parts):
                if silu:
                    dz_silu_pass(dy, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))
                else:
                    dz_pass(dy, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))
            for c in range(C):
                sums[0, c] += strip[0, c]
                sums[1, c] += strip[1, c]
        for g in range(G):
            first, end, size = g * (C // G), (g + 1) * (C // G), P * (C // G)
            m, r, dxhat, dxhat_xhat = np.float64(mean[n, g]), np.float64(rstd[n, g]), 0.0, 0.0
            for c in range(first, end):
                dbiases[n, c], dweights[n, c] = sums[0, c], sums[1, c] * r
                dxhat += weight[c] * sums[0, c] / size
                dxhat_xhat += weight[c] * sums[1, c] * r / size
            for c in range(first, end):
                numbers[0, c], numbers[1, c], numbers[2, c] = r * weight[c], -r * r * dxhat_xhat, r * (r * m * dxhat_xhat - dxhat)
        for p in range(0, P, STRIP):
            for i in range(parts):
                if table[i, SO_FAR] != 0:
                    dx_add_pass(dy, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))
                else:
                    dx_pass(dy, table, i * columns, numbers, strip, table[i, FIRST], C, n * P + p, min(STRIP, P - p))
    for c in range(C):
        dw, db = 0.0, 0.0
        for n in range(N):
            dw += dweights[n, c]
            db += dbiases[n, c]
        dweight[c], dbias[c] = dw, db


def parts_table(xs, dxs, so_far):
    """The table of the parts. The arrays must live as long as it is used."""
    rows, first = [], 0
    for part in zip(xs, dxs, so_far):
        channels = part[0].shape[-1]
        rows.append([*(0 if array is None else address(array) for array in part), channels, first])
        first += channels
    return readonly(np.array(rows, np.int64))


@kernel(group_norm_reference)
def group_norm(xs, weight, bias, groups, eps=1e-5, act=None):
    xs = [np.ascontiguousarray(x) for x in xs]
    shape, dtype = (*xs[0].shape[:-1], sum(x.shape[-1] for x in xs)), xs[0].dtype
    C, fits = shape[-1], all(x.shape[:-1] == shape[:-1] for x in xs) and shape[-1] % groups == 0
    require("group_norm", fits and weight.shape == bias.shape == (C,), f"xs (N,...,Ci), C in all, in {groups} groups, weight and bias (C,)",
            *xs, weight, bias)
    y, mean, rstd = empty(shape, dtype), np.empty((shape[0], groups), dtype), np.empty((shape[0], groups), dtype)
    nothing = [None] * len(xs)
    forward(parts_table(xs, nothing, nothing), readonly(weight), readonly(bias), y.reshape(shape[0], -1, shape[-1]), mean, rstd, eps,
            act == "silu")
    return y, mean, rstd


@kernel(group_norm_backward_reference)
def group_norm_backward(dy, xs, weight, bias, mean, rstd, act=None, so_far=None):
    xs = [np.ascontiguousarray(x) for x in xs]
    so_far = [None if more is None else np.ascontiguousarray(more) for more in so_far or [None] * len(xs)]
    N, C = dy.shape[0], dy.shape[-1]
    fits = all(x.shape[:-1] == dy.shape[:-1] for x in xs) and sum(x.shape[-1] for x in xs) == C and weight.shape == bias.shape == (C,)
    fits = fits and mean.ndim == 2 and mean.shape == rstd.shape == (N, mean.shape[1]) and C % mean.shape[1] == 0
    fits = fits and len(so_far) == len(xs) and all(more is None or more.shape == x.shape for more, x in zip(so_far, xs))
    require("group_norm_backward", fits, "dy (N,...,C), xs (N,...,Ci), C in all, weight and bias (C,), mean and rstd (N,groups), so_far like xs",
            dy, *xs, weight, bias, mean, rstd, *so_far)
    dxs, dweights, dbiases = [empty(x.shape, x.dtype) for x in xs], np.empty((N, C)), np.empty((N, C))
    dweight, dbias = np.empty(C, dy.dtype), np.empty(C, dy.dtype)
    backward(parts_table(xs, dxs, so_far), readonly(dy).reshape(N, -1, C), readonly(weight), readonly(bias), readonly(mean), readonly(rstd),
             dweights, dbiases, dweight, dbias, act == "silu")
    return dxs, dweight, dbias
