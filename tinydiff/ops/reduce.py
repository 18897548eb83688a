"""Many numbers to fewer: sums, means, maxima, and the squared error. `axis` is an int, a tuple of ints, or None for all of them.

Read first: `elementwise.py`.
"""
import math

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import positive_axis
from tinydiff.ops.elementwise import shapes_of, unbroadcast


def reduced_axes(op, axis, shape):
    """axis as a tuple of axes counted from the front."""
    if axis is None:
        return tuple(range(len(shape)))
    axes = tuple(positive_axis(op, a, shape) for a in (axis if isinstance(axis, tuple) else (axis,)))
    if len(set(axes)) < len(axes):
        raise ValueError(f"{op}: axis {axis} names one axis of {shape} twice")
    return axes


@primitive
def sum(x, axis=None, keepdims=False):
    """Sum over axis: (...) -> (...) without it, or with length 1 there (keepdims). dx = dy, repeated along it."""
    axes, shape = reduced_axes("sum", axis, x.shape), x.shape

    def backward(dy):
        return (np.broadcast_to(dy if keepdims else np.expand_dims(dy, axes), shape),)
    return x.sum(axis=axes, keepdims=keepdims), backward


@primitive
def mean(x, axis=None, keepdims=False):
    """Mean over axis, of n entries: (...) -> (...), as `sum`. dx = dy / n, repeated along it."""
    axes, shape = reduced_axes("mean", axis, x.shape), x.shape
    n = math.prod(shape[a] for a in axes)
    if n == 0:
        raise ValueError(f"mean: no entries to average in shape {shape} over axis {axis}")

    def backward(dy):
        return (np.broadcast_to((dy if keepdims else np.expand_dims(dy, axes)) / n, shape),)
    return x.mean(axis=axes, keepdims=keepdims), backward


@primitive
def max(x, axis=None, keepdims=False):
    """Largest entry along axis: (...) -> (...), as `sum`. dx = dy at that entry, in equal shares where several tie, and 0 elsewhere."""
    axes = reduced_axes("max", axis, x.shape)
    if 0 in (x.shape[a] for a in axes):
        raise ValueError(f"max: no entries in shape {x.shape} over axis {axis}")
    y = x.max(axis=axes, keepdims=True)

    def backward(dy):
        largest = (x == y).astype(x.dtype)
        return (largest / largest.sum(axis=axes, keepdims=True) * dy.reshape(y.shape),)
    return (y if keepdims else y.squeeze(axes)), backward


@primitive
def mse(a, b, weight=None):
    """Mean of w (a - b)^2 over all n entries: (...) and (...) -> one number, (). da = dy 2 w (a - b) / n, db = -da.

    weight: None, or an array with a number w for each entry of the first axis, (N,); no gradient flows to it.
    """
    a_shape, b_shape = shapes_of("mse", a, b)
    shape = np.broadcast_shapes(a_shape, b_shape)
    n = math.prod(shape)
    if n == 0:
        raise ValueError(f"mse: no entries to average in shapes {a_shape} and {b_shape}")
    if weight is not None and weight.shape != shape[:1]:
        raise ValueError(f"mse: weight {weight.shape} must have one number for each entry of the first axis of {shape}")
    dtype = np.result_type(a, b)
    a, b = (np.broadcast_to(np.asarray(x, dtype), shape) for x in (a, b))

    def backward(dy):
        return (lambda: unbroadcast(kernels.scaled_difference(a, b, 2 / n * float(dy), weight), a_shape),
                lambda: unbroadcast(kernels.scaled_difference(b, a, 2 / n * float(dy), weight), b_shape), None)
    return dtype.type(kernels.squared_error(a, b, weight) / n), backward
