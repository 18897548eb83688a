"""Elementwise kernels: formulas written once, in plain arithmetic, that serve on NumPy arrays and as vector code.

Read first: `registry.py`.
"""
from numba import prange

from .buffers import empty
from .jit import PIECE, jit, readonly
from .registry import kernel, require
from .vector import emitter
from .vector_functions import exp


def silu_reference(x):
    """x sigmoid(x)."""
    return x / (1 + exp(-x))


def silu_backward_reference(dy, x):
    """dy s (1 + x (1 - s)) with s = sigmoid(x)."""
    s = 1 / (1 + exp(-x))
    return dy * s * (1 + x * (1 - s))


# What the hardware wants: to be handed a whole vector of numbers (16 float32 with AVX-512) and to do all that is to be done with it before the
# next. NumPy goes over memory once for each operation of the formula, and puts what lies between them into arrays of their own.
#
# How it gets that: the reference itself is the kernel. Called with Vecs instead of arrays, its + and / emit instructions (vector.py), so that x is
# loaded once, the whole formula runs in registers, and y is stored once. Each thread takes pieces of PIECE numbers in turn.
#
# What it gains: where it counts, in GroupNorm's passes, which contain these formulas: see `group_norm.py`. By itself only the time embedding's
# 16 rows go through it, and there the call costs more than the work (0.5 x the speed of the reference).

@emitter
def silu_piece(code, y, x, start, n):
    def body(code, i):
        (y + start + i).on(code).store(silu_reference((x + start + i).on(code).load()))
    code.each(n, body)


@emitter
def silu_backward_piece(code, dx, dy, x, start, n):
    def body(code, i):
        (dx + start + i).on(code).store(silu_backward_reference((dy + start + i).on(code).load(), (x + start + i).on(code).load()))
    code.each(n, body)


@jit
def silu_all(y, x):
    for piece in prange((x.size + PIECE - 1) // PIECE):                   # a piece owns its elements of y
        silu_piece(y, x, piece * PIECE, min(PIECE, x.size - piece * PIECE))


@jit
def silu_backward_all(dx, dy, x):
    for piece in prange((x.size + PIECE - 1) // PIECE):                   # a piece owns its elements of dx
        silu_backward_piece(dx, dy, x, piece * PIECE, min(PIECE, x.size - piece * PIECE))


@kernel(silu_reference)
def silu(x):
    y = empty(x.shape, x.dtype)
    silu_all(y.reshape(-1), readonly(x).reshape(-1))
    return y


@kernel(silu_backward_reference)
def silu_backward(dy, x):
    require("silu_backward", dy.shape == x.shape, "dy and x of one shape", dy, x)
    dx = empty(x.shape, x.dtype)
    silu_backward_all(dx.reshape(-1), readonly(dy).reshape(-1), readonly(x).reshape(-1))
    return dx
