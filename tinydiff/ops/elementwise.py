"""Arithmetic with broadcasting, and functions of one number applied to every entry.

In arithmetic an argument may be a number; it takes the other's dtype and gets no gradient. Gradients of two-argument ops are lambdas: the
engine calls only those that are needed, so multiplying by a constant costs no gradient of the constant.

Broadcasting uses one number of an argument in many places of the result, as if it had been copied there. Each copy gets a gradient, and the number
itself their sum: `unbroadcast`.

Read first: `checks.py`.
"""
import math

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect


def unbroadcast(dy, shape):
    """dy summed over the axes along which an argument of this shape was repeated to fit the other."""
    added = dy.ndim - len(shape)                                             # axes in front that the argument doesn't have
    repeated = (*range(added), *(added + i for i, n in enumerate(shape) if n == 1 and dy.shape[added + i] != 1))
    return dy.sum(axis=repeated).reshape(shape) if repeated else dy


def shapes_of(op, a, b):
    """The shapes of a and b; ValueError where they do not broadcast together."""
    a_shape, b_shape = getattr(a, "shape", ()), getattr(b, "shape", ())      # of a number: ()
    if a_shape != b_shape:
        try:
            np.broadcast_shapes(a_shape, b_shape)
        except ValueError:
            raise ValueError(f"{op}: shapes {a_shape} and {b_shape} do not broadcast together") from None
    return a_shape, b_shape


@primitive
def add(a, b):
    """a + b, (...) and (...) -> (...). da = dy, db = dy."""
    a_shape, b_shape = shapes_of("add", a, b)       # so that the closure names no array

    def backward(dy):
        return lambda: unbroadcast(dy, a_shape), lambda: unbroadcast(dy, b_shape)
    # The kernel adds arrays of one shape and dtype.
    alike = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a_shape == b_shape and a.dtype == b.dtype
    return kernels.add(a, b) if alike else a + b, backward


@primitive
def sub(a, b):
    """a - b, (...) and (...) -> (...). da = dy, db = -dy."""
    a_shape, b_shape = shapes_of("sub", a, b)

    def backward(dy):
        return lambda: unbroadcast(dy, a_shape), lambda: -unbroadcast(dy, b_shape)
    return a - b, backward


@primitive
def mul(a, b):
    """a * b, (...) and (...) -> (...). da = dy b, db = dy a."""
    a_shape, b_shape = shapes_of("mul", a, b)

    def backward(dy):
        return lambda: unbroadcast(dy * b, a_shape), lambda: unbroadcast(dy * a, b_shape)
    return a * b, backward


@primitive
def div(a, b):
    """a / b, (...) and (...) -> (...). da = dy / b, db = -dy a / b^2."""
    a_shape, b_shape = shapes_of("div", a, b)

    def backward(dy):
        return lambda: unbroadcast(dy / b, a_shape), lambda: unbroadcast(-dy * a / b / b, b_shape)
    return a / b, backward


@primitive
def neg(x):
    """-x, (...) -> (...). dx = -dy."""
    def backward(dy):
        return (-dy,)
    return -x, backward


@primitive
def pow(a, b):
    """a ^ b, (...) and (...) -> (...). da = dy b a^(b-1), and 0 where b = 0; db = dy a^b log a, and 0 where a = 0.

    The gradient of b needs a >= 0 (NaN otherwise).
    """
    a_shape, b_shape = shapes_of("pow", a, b)
    dtype = np.result_type(a, b)
    a, b = np.asarray(a, dtype), np.asarray(b, dtype)

    def backward(dy):
        def da():
            return unbroadcast(dy * b * a ** np.where(b == 0, 1, b - 1), a_shape)

        def db():
            return unbroadcast(dy * a ** b * np.log(np.where(a == 0, 1, a)), b_shape)
        return da, db
    return a ** b, backward


@primitive
def exp(x):
    """e^x, (...) -> (...). dx = dy y."""
    y = np.exp(x)

    def backward(dy):
        return (dy * y,)
    return y, backward


@primitive
def log(x):
    """Natural logarithm, (...) -> (...). dx = dy / x."""
    def backward(dy):
        return (dy / x,)
    return np.log(x), backward


@primitive
def sqrt(x):
    """Square root, (...) -> (...). dx = dy / (2 y)."""
    y = np.sqrt(x)

    def backward(dy):
        return (dy / (2 * y),)
    return y, backward


@primitive
def tanh(x):
    """Hyperbolic tangent, (...) -> (...). dx = dy (1 - y^2)."""
    y = np.tanh(x)

    def backward(dy):
        return (dy * (1 - y * y),)
    return y, backward


@primitive
def sigmoid(x):
    """y = 1 / (1 + e^-x), (...) -> (...). dx = dy y (1 - y)."""
    e = np.exp(-np.abs(x))              # at most 1, so nothing overflows: y is 1 / (1 + e) for x >= 0 and e / (1 + e) below
    y = np.where(x >= 0, 1, e) / (1 + e)

    def backward(dy):
        return (dy * y * (1 - y),)
    return y, backward


@primitive
def silu(x):
    """x s, (...) -> (...), with s = 1 / (1 + e^-x) (Elfwing et al., 2017, arXiv 1702.03118). dx = dy s (1 + x (1 - s))."""
    expect("silu", "x", x, "...")

    def backward(dy):
        return (kernels.silu_backward(dy, x),)
    return kernels.silu(x), backward


@primitive
def relu(x):
    """max(x, 0), (...) -> (...). dx = dy where x > 0, else 0 (at 0 too)."""
    def backward(dy):
        return (dy * (x > 0),)
    return np.maximum(x, 0), backward


@primitive
def gelu(x):
    """x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of Hendrycks and Gimpel (2016, arXiv 1606.08415, section 2).

    (...) -> (...). dx = dy (1 + tanh u + x (1 - tanh^2 u) du/dx) / 2, with du/dx = sqrt(2/pi) (1 + 3 * 0.044715 x^2).
    """
    scale, cubic = math.sqrt(2 / math.pi), 0.044715

    def curve():                        # computed again in backward: x alone is kept
        return np.tanh(scale * (x + cubic * x * x * x))

    def backward(dy):
        tanh_u = curve()
        du_dx = scale * (1 + 3 * cubic * x * x)
        return (dy * 0.5 * (1 + tanh_u + x * (1 - tanh_u * tanh_u) * du_dx),)
    return x * 0.5 * (1 + curve()), backward
