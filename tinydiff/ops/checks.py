"""What ops ask of their arguments before any kernel runs. Messages name the op, the argument, and what it got.

Read first: `__init__.py`.
"""
import numpy as np


def expect(op, name, array, axes):
    """Raise TypeError unless array is float32 or float64, ValueError unless it has the axes named: "N H W C"; "... C" for one or more."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{op}: {name} must be a float32 or float64 array or Tensor, got {kind}")
    names = axes.split()
    fits = array.ndim >= len(names) - 1 if "..." in names else array.ndim == len(names)
    if not fits:
        raise ValueError(f"{op}: {name} must have shape ({', '.join(names)}), got {array.shape}")


def expect_shape(op, name, array, shape, why):
    """Raise ValueError unless array, a float32 or float64 one, has just this shape; why says where the shape comes from."""
    expect(op, name, array, " ".join(map(str, shape)))
    if array.shape != tuple(shape):
        raise ValueError(f"{op}: {name} must have shape {tuple(shape)} {why}, got {array.shape}")


def expect_parts(op, name, x, axes):
    """x as a list of arrays that differ in their last axis, the channels, only: itself, or the one array that it is. Raises as expect does."""
    parts = x if isinstance(x, (list, tuple)) else [x]
    for part in parts:
        expect(op, name, part, axes)
    if not parts or any(part.shape[:-1] != parts[0].shape[:-1] for part in parts):
        raise ValueError(f"{op}: the parts of {name} must be one or more and differ in their channels only, got "
                         f"{', '.join(str(part.shape) for part in parts) or 'none'}")
    return list(parts)


def expect_int(op, name, value, least):
    """Raise TypeError unless value is an int, ValueError where it is less than least."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{op}: {name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{op}: {name} must be {least} or more, got {value}")


def positive_axis(op, axis, shape):
    """axis counted from the front; ValueError where shape has no such axis."""
    expect_int(op, "axis", axis, -len(shape))
    if axis >= len(shape):
        raise ValueError(f"{op}: axis {axis} does not exist in shape {shape}")
    return axis % len(shape)
