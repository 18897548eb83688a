"""Muon's update: each matrix of weights moves by an orthogonal matrix, the nearest one to its gradient's running mean.

    m <- momentum m + (1 - momentum) g,   u = momentum m + (1 - momentum) g
    W <- W - lr (Y + weight_decay W),     Y = U V^T  where  u = U S V^T

A gradient has a few strong directions and many weak ones; U V^T has them all at one strength, so that a step learns about all of them. The
singular values are not computed: an odd polynomial p(s) = a s + b s^3 + c s^5 that is applied again and again brings every s in (0, 1] near to 1,
and a polynomial in the singular values of X is made of products: p(X) = X (a + b G + c G^2), G = X^T X. (A Newton-Schulz iteration: Jordan et al.
2024, "Muon: An optimizer for hidden layers in neural networks", whose coefficients these are.)

X is tall, G small. So X is used twice only: to make G, and for Y = X Q, with Q = B_1 B_2 ... the product of all factors B = a + b G + c G^2. What
X <- X B does to G is G <- B G B = G B B, since B is made of G and commutes with it.

Read first: `optimizer.py`, `products.py`.
"""
import numba
import numpy as np
from numba import get_thread_id, prange

from .attention_rows import pack_rows
from .buffers import address, scratch, whole
from .jit import jit, readonly
from .optimizer import check_groups
from .products import product, symmetric_product
from .registry import kernel
from .tile import tile_columns
from .vector import TILE_ROWS, emitter, lanes

COEFFICIENTS = 3.4445, -4.7750, 2.0315      # a, b, c: five times p brings singular values from 0.002 to 1 to within 0.69 to 1.2
ITERATIONS = 5
NEVER_ZERO = 1e-7                           # what a length is at least taken to be


def orthogonal_reference(u):
    """u (R,C), or of more axes, the last of them C -> about U V^T, of the same shape, where u = U S V^T."""
    a, b, c = COEFFICIENTS
    X = u.reshape(-1, u.shape[-1])
    if len(X) < u.shape[-1]:                                # on its side
        return orthogonal_reference(X.T).T.reshape(u.shape)
    X = X / (np.sqrt(np.sum(X * X)) + u.dtype.type(NEVER_ZERO))
    one = Q = np.eye(u.shape[-1], dtype=u.dtype)
    G = X.T @ X
    for _ in range(ITERATIONS):
        B = a * one + b * G + c * (G @ G)
        G, Q = G @ B @ B, Q @ B
    return (X @ Q).reshape(u.shape)


def muon_step_reference(params, grads, ms, emas, lr, momentum, weight_decay, grad_scale, ema_decay):
    """One step of Muon, and one of the moving averages, in place on the lists of arrays params (each (...,C): a matrix of rows of C numbers),
    ms and emas (None: no averages). Gradients are multiplied by `grad_scale` first (clipping); ema <- ema + (1 - ema_decay) (p - ema).

    Y is made 0.2 sqrt(max(R,C)) as large: its numbers are then of the size 0.2, as those of Adam's steps are, and one learning rate serves both
    (Liu et al. 2025, arXiv:2502.16982, section 2.2).
    """
    for p, g, m, ema in zip(params, grads, ms, emas or [None] * len(params)):
        m[...] = momentum * m + (1 - momentum) * grad_scale * g
        Y = orthogonal_reference(momentum * m + (1 - momentum) * grad_scale * g)
        p[...] = p - lr * (size_as_adam(p.shape) * Y + weight_decay * p)
        if ema is not None:
            ema[...] = ema + (1 - ema_decay) * (p - ema)


def size_as_adam(shape):
    """0.2 sqrt(max(R,C))."""
    return 0.2 * np.sqrt(max(np.prod(shape[:-1], dtype=int), shape[-1]))


# What the hardware wants: large matrix products, and those of one matrix near to each other. The reference's are small, 60 matrices of 30 to
# 130 columns, each by itself shared out among the threads, and what lies between them goes to memory and back.
#
# How it gets that: a thread takes a whole matrix, from its gradient to its moving average, in a working space that stays in the second-level
# cache; all products run on the register tile. Matrices are dealt to the threads by size, the largest first.
#
# What it gains, over the reference above on 2 cores, for the matrices of the reference network: 4.2 x (25 ms, of 106).

@emitter
def load_step(code, numbers, table, row, X, X_row):
    """m of the table's row moves towards its gradient; X[R rows, X_row apart] = u."""
    grad, m = (code.address((table + row + i).integer()) for i in (1, 2))
    R, C = ((table + row + i).integer() for i in (4, 5))

    def matrix_row(r, _):
        def body(code, i):
            momentum, scale = ((numbers + j).on(code).splat() for j in (1, 3))
            g = (grad + r * C + i).on(code).load() * scale * (1 - momentum)
            mean = momentum * (m + r * C + i).on(code).load() + g
            (m + r * C + i).on(code).store(mean)
            (X + r * X_row + i).on(code).store(momentum * mean + g)
        code.each(C, body)
        return []
    code.loop(R, matrix_row)


@emitter
def store_step(code, numbers, table, row, Y, Y_row, size):
    """p of the table's row moves by -lr (size[0] Y[R rows, Y_row apart] + weight_decay p), its moving average towards it."""
    p, ema = (code.address((table + row + i).integer()) for i in (0, 3))
    R, C = ((table + row + i).integer() for i in (4, 5))

    def matrix_row(r, _):
        def body(code, i):
            lr, weight_decay, blend = ((numbers + j).on(code).splat() for j in (0, 2, 4))
            old, average = (p + r * C + i).on(code).load(), (ema + r * C + i).on(code)
            new = old - lr * (size.on(code).splat() * (Y + r * Y_row + i).on(code).load() + weight_decay * old)
            (p + r * C + i).on(code).store(new)
            average.store(average.load() + blend * (new - average.load()))
        code.each(C, body)
        return []
    code.loop(R, matrix_row)


@jit(parallel=False)
def orthogonal(X, R, C, NB, rounds, coefficients, one, Y, space):
    """Y[R, C] = about U V^T, where X[R, C] = U S V^T has length 1, C being whole panels. Y has room for whole tiles; space: 5 such C x C.

    All C x C matrices are polynomials of X^T X, so that each, and each product of two, is symmetric.
    """
    room = (C + TILE_ROWS) * C
    G, Q, B, T, panels = space[:room], space[room:2 * room], space[2 * room:3 * room], space[3 * room:4 * room], space[4 * room:5 * room]
    a, b, c = coefficients
    pack_rows(X, 0, C, R, C, NB, one, Y)                    # Y's room serves for X's panels first
    symmetric_product(X, 1, C, R, Y, C, NB, G)              # G = X^T X
    for k in range(rounds):
        pack_rows(G, 0, C, C, C, NB, one, panels)
        symmetric_product(G, C, 1, C, panels, C, NB, B)     # G^2
        for i in range(C * C):
            B[i] = b * G[i] + c * B[i]
        for i in range(C):
            B[i * C + i] += a
        pack_rows(B, 0, C, C, C, NB, one, panels)
        if k == 0:
            Q[:C * C] = B[:C * C]
        else:
            symmetric_product(Q, C, 1, C, panels, C, NB, T)     # Q B
            Q[:C * C] = T[:C * C]
        if k < rounds - 1:
            symmetric_product(G, C, 1, C, panels, C, NB, T)
            symmetric_product(T, C, 1, C, panels, C, NB, G)     # G B B
    pack_rows(Q, 0, C, C, C, NB, one, panels)
    product(X, 0, C, 1, R, C, panels, C, NB, Y)             # X Q


@jit
def muon_matrices(numbers, table, bounds, NB, rounds, coefficients, least, one, space):
    for share in prange(len(bounds) - 1):                                 # owns p, m and ema of its matrices
        for row in range(bounds[share], bounds[share + 1]):
            R, C = table[row, 4], table[row, 5]
            tall, width = max(R, C), whole(min(R, C), NB)
            room, size = space[get_thread_id()], (tall + TILE_ROWS) * width
            X, Y, rest = room[:size], room[size:2 * size], room[2 * size:]
            X[:tall * width] = 0
            if R >= C:
                load_step(numbers, table.reshape(-1), row * table.shape[1], X, width)
            else:                                                         # the matrix lies on its side
                load_step(numbers, table.reshape(-1), row * table.shape[1], Y, C)
                for r in range(R):
                    for c in range(C):
                        X[c * width + r] = Y[r * C + c]
            squares = X[0] * 0
            for i in range(tall * width):
                squares += X[i] * X[i]
            length = np.sqrt(squares) + least
            for i in range(tall * width):
                X[i] /= length
            orthogonal(X, tall, width, NB, rounds, coefficients, one, Y, rest)
            scale = rest[:1]
            scale[0] = 0.2 * np.sqrt(tall)
            if R >= C:
                store_step(numbers, table.reshape(-1), row * table.shape[1], Y, width, scale)
            else:
                for r in range(R):
                    for c in range(C):
                        X[r * C + c] = Y[c * width + r]
                store_step(numbers, table.reshape(-1), row * table.shape[1], X, C, scale)


def deal(costs, threads):
    """So many shares of the indices, of about the same cost each: the dearest first, each to the share that costs least so far."""
    shares, totals = [[] for _ in range(threads)], [0] * threads
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = totals.index(min(totals))
        shares[least].append(i)
        totals[least] += costs[i]
    return shares


@kernel(muon_step_reference)
def muon_step(params, grads, ms, emas, lr, momentum, weight_decay, grad_scale, ema_decay):
    if not params:
        return
    groups = list(zip(params, grads, ms, emas or [np.empty_like(p) for p in params], strict=True))
    check_groups("muon_step", groups)
    dtype, sides = params[0].dtype, [(p.size // p.shape[-1], p.shape[-1]) for p in params]
    shares = deal([max(side) * min(side) ** 2 + 10 * min(side) ** 3 for side in sides], numba.get_num_threads())
    rows = [[*(address(array) for array in groups[i]), *sides[i]] for share in shares for i in share]
    NB = tile_columns(lanes(dtype))
    room = max(2 * (max(side) + TILE_ROWS) * whole(min(side), NB) + 5 * (whole(min(side), NB) + TILE_ROWS) * whole(min(side), NB) for side in sides)
    numbers = np.array([lr, momentum, weight_decay, grad_scale, 1 - ema_decay], dtype)
    muon_matrices(readonly(numbers), readonly(np.array(rows, np.int64)), readonly(np.cumsum([0, *map(len, shares)])), NB, ITERATIONS,
                  tuple(dtype.type(number) for number in COEFFICIENTS), dtype.type(NEVER_ZERO), readonly(np.ones(1, dtype)),
                  scratch("muon", room, dtype))
