"""Moving entries about without changing them. Each backward moves dy back the way the entries came; no closure here keeps the input.

Read first: `elementwise.py`.
"""
import numpy as np

from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_int, positive_axis


@primitive
def reshape(x, shape):
    """(...) -> the same entries, in order, as shape (a tuple; one -1 in it stands for what is left). dx = dy, in x's shape."""
    x_shape = x.shape
    try:
        y = x.reshape(shape)
    except ValueError:
        raise ValueError(f"reshape: {x.size} entries of shape {x_shape} do not fill {shape}") from None

    def backward(dy):
        return (dy.reshape(x_shape),)
    return y, backward


@primitive
def transpose(x, axes=None):
    """(...) -> (...): axis i of the result is axis axes[i] of x; None reverses them all. dx = dy, by the inverse permutation."""
    axes = tuple(reversed(range(x.ndim))) if axes is None else tuple(positive_axis("transpose", a, x.shape) for a in axes)
    if sorted(axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes {axes} are not each axis of {x.shape} once")

    def backward(dy):
        return (dy.transpose(np.argsort(axes)),)
    return x.transpose(axes), backward


@primitive
def concat(xs, axis=-1):
    """A list of Tensors (...), one after the other along axis -> (...); their other axes agree. Each gets its own part of dy."""
    if not isinstance(xs, (list, tuple)) or len(xs) == 0:
        raise TypeError(f"concat: xs must be a list of one or more Tensors, got {type(xs).__name__} of length {len(xs)}")
    for x in xs:
        expect("concat", "each item", x, "...")
    axis = positive_axis("concat", axis, xs[0].shape)
    shapes = [x.shape for x in xs]
    if len({(len(shape), shape[:axis], shape[axis + 1:]) for shape in shapes}) > 1:
        raise ValueError(f"concat: shapes {', '.join(map(str, shapes))} differ in more than axis {axis}")
    lengths = [shape[axis] for shape in shapes]
    channels = axis == xs[0].ndim - 1 and min(lengths) > 0          # what the U-Net's skips are; has kernels of its own

    def backward(dy):
        return kernels.split_channels(dy, lengths) if channels else np.split(dy, np.cumsum(lengths)[:-1], axis=axis)
    return kernels.concat_channels(xs) if channels else np.concatenate(xs, axis=axis), backward


def split(x, parts, axis=-1):
    """x (...) cut along axis into a list of Tensors: parts is how many equal ones, or their lengths. Made of getitem."""
    axis = positive_axis("split", axis, x.shape)
    length = x.shape[axis]
    if isinstance(parts, int):
        expect_int("split", "parts", parts, 1)
        parts = [length // parts] * parts
    if sum(parts) != length:
        raise ValueError(f"split: axis {axis} of {x.shape} does not divide into lengths {list(parts)}")
    ends = np.cumsum(parts).tolist()
    return [getitem(x, (slice(None),) * axis + (slice(end - n, end),)) for n, end in zip(parts, ends)]


@primitive
def pad(x, widths):
    """Zeros around x, (...) -> (...): widths is one (before, after) for each axis. dx = the middle of dy."""
    if len(widths) != x.ndim or any(len(pair) != 2 or pair[0] < 0 or pair[1] < 0 for pair in widths):
        raise ValueError(f"pad: widths must be one (before, after) of 0 or more for each axis of {x.shape}, got {widths}")
    middle = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
    y = np.zeros([before + n + after for (before, after), n in zip(widths, x.shape)], x.dtype)
    y[middle] = x

    def backward(dy):
        return (dy[middle],)
    return y, backward


@primitive
def getitem(x, index):
    """x[index], with NumPy's meaning: (...) -> (...). dx = dy at the entries that were taken, added up where one was taken twice, and 0 elsewhere."""
    shape = x.shape
    parts = index if isinstance(index, tuple) else (index,)
    once = all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)
    try:
        y = x[index]
    except IndexError as error:
        raise IndexError(f"getitem: {error} (x {shape})") from None

    def backward(dy):
        dx = np.zeros(shape, dy.dtype)
        if once:
            dx[index] = dy
        else:                           # index arrays may name an entry several times
            np.add.at(dx, index, dy)
        return (dx,)
    return y, backward
