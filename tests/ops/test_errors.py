"""Mistakes in calling an op: the message names the op, the fact and the shapes, and no kernel has run."""
import numpy as np
import pytest

from tinydiff import kernels, ops
from tinydiff.autograd import Tensor


def z(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X, W = z(2, 8, 8, 3), z(3, 3, 3, 16)

CASES = [
    (lambda: z(2, 3) + z(4), ValueError, "add: shapes (2, 3) and (4,) do not broadcast together"),
    (lambda: z(2) * z(2, dtype=np.float64), TypeError, "mul: arguments of float32 and float64"),
    (lambda: ops.mse(z(2, 3), z(4)), ValueError, "mse: shapes (2, 3) and (4,)"),
    (lambda: ops.mse(z(0), z(0)), ValueError, "mse: no entries"),
    (lambda: ops.sum(z(2, 3), axis=2), ValueError, "sum: axis 2 does not exist in shape (2, 3)"),
    (lambda: ops.sum(z(2, 3), axis=-3), ValueError, "sum: axis must be -2 or more, got -3"),
    (lambda: ops.sum(z(2, 3), axis=(0, -2)), ValueError, "sum: axis (0, -2) names one axis of (2, 3) twice"),
    (lambda: ops.mean(z(0, 3), axis=0), ValueError, "mean: no entries"),
    (lambda: ops.max(z(0, 3)), ValueError, "max: no entries"),
    (lambda: ops.softmax(z(2, 3), axis=1.0), TypeError, "softmax: axis must be an int, got 1.0"),
    (lambda: ops.softmax(z()), ValueError, "softmax: axis"),
    (lambda: ops.reshape(z(2, 3), (4, -1)), ValueError, "reshape: 6 entries of shape (2, 3) do not fill (4, -1)"),
    (lambda: ops.transpose(z(2, 3), (0, 0)), ValueError, "transpose: axes (0, 0) are not each axis of (2, 3) once"),
    (lambda: ops.concat([z(2, 3), z(3, 3)], axis=1), ValueError, "concat: shapes (2, 3), (3, 3) differ in more than axis 1"),
    (lambda: ops.concat([z(2, 3), z(2)]), ValueError, "concat: shapes (2, 3), (2,) differ"),
    (lambda: ops.concat([]), TypeError, "concat: xs must be a list of one or more Tensors, got list of length 0"),
    (lambda: ops.concat(z(2, 3)), TypeError, "concat: xs must be a list of one or more Tensors, got ndarray of length 2"),
    (lambda: ops.split(z(2, 7), 2), ValueError, "split: axis 1 of (2, 7) does not divide into lengths [3, 3]"),
    (lambda: ops.split(z(2, 7), [3, 5]), ValueError, "split: axis 1 of (2, 7) does not divide into lengths [3, 5]"),
    (lambda: ops.space_to_depth(z(2, 6, 5, 1)), ValueError, "space_to_depth: height and width must divide by 2, got x (2, 6, 5, 1)"),
    (lambda: ops.depth_to_space(z(2, 6, 6, 6)), ValueError, "depth_to_space: the channels must divide by 2^2, got x (2, 6, 6, 6)"),
    (lambda: ops.split(z(2, 7), 0), ValueError, "split: parts must be 1 or more, got 0"),
    (lambda: ops.pad(z(2, 3), ((1, 1),)), ValueError, "pad: widths must be one (before, after) of 0 or more for each axis of (2, 3)"),
    (lambda: ops.pad(z(2), ((-1, 0),)), ValueError, "pad: widths"),
    (lambda: z(2, 3)[5], IndexError, "getitem: index 5 is out of bounds for axis 0 with size 2 (x (2, 3))"),
    (lambda: z(2, 3) @ z(2, 3), ValueError, "matmul: a has 3 columns, b has 2 rows (a (2, 3), b (2, 3))"),
    (lambda: z(2, 3) @ z(3), ValueError, "matmul: b must have shape (..., rows, columns), got (3,)"),
    (lambda: z(2, 4, 3) @ z(3, 3, 4), ValueError, "matmul: leading axes do not broadcast together (a (2, 4, 3), b (3, 3, 4))"),
    (lambda: ops.linear(z(2, 3), z(4, 5)), ValueError, "linear: x has 3 channels, w expects 4 (x (2, 3), w (4, 5))"),
    (lambda: ops.linear(z(2, 4), z(4, 5), z(4)), ValueError, "linear: b must have shape (5,) for w's output channels, got (4,)"),
    (lambda: ops.linear(np.zeros((2, 4), int), z(4, 5)), TypeError, "linear: x must be a float32 or float64 array or Tensor, got int64"),
    (lambda: ops.embedding(z(5, 4), [0, 5]), ValueError, "embedding: ids run from 0 to 5, the table has rows 0 to 4"),
    (lambda: ops.embedding(z(5, 4), [-1]), ValueError, "embedding: ids run from -1 to -1"),
    (lambda: ops.embedding(z(5, 4), np.zeros(2, np.float32)), TypeError, "embedding: ids must be integers, got float32"),
    (lambda: ops.dropout(z(2), 1.0, np.random.default_rng(0)), ValueError, "dropout: p must be at least 0 and less than 1, got 1.0"),
    (lambda: ops.dropout(z(2), 0.5, 0), TypeError, "dropout: rng must be a numpy.random.Generator, or a list of them, got int"),
    (lambda: ops.conv2d(X, z(3, 3, 4, 16)), ValueError, "conv2d: x has 3 channels, w expects 4 (x (2, 8, 8, 3), w (3, 3, 4, 16))"),
    (lambda: ops.conv2d(z(8, 8, 3), W), ValueError, "conv2d: x must have shape (N, H, W, C), got (8, 8, 3)"),
    (lambda: ops.conv2d(X, z(3, 3, 16)), ValueError, "conv2d: w must have shape (KH, KW, C, F), got (3, 3, 16)"),
    (lambda: ops.conv2d(X, W, stride=0), ValueError, "conv2d: stride must be 1 or more, got 0"),
    (lambda: ops.conv2d(X, W, stride=1.0), TypeError, "conv2d: stride must be an int, got 1.0"),
    (lambda: ops.conv2d(X, W, padding=-1), ValueError, "conv2d: padding must be 0 or more, got -1"),
    (lambda: ops.conv2d(z(2, 2, 2, 3), W), ValueError, "conv2d: the kernel is larger than the picture with padding 0"),
    (lambda: ops.conv2d(X, W, z(3)), ValueError, "conv2d: bias must have shape (16,) or (2, 16), got (3,)"),
    (lambda: ops.conv2d(X, W, z(3, 16)), ValueError, "conv2d: bias must have shape (16,) or (2, 16), got (3, 16)"),
    (lambda: ops.conv2d(X, W, 1.0), TypeError, "conv2d: bias must be a float32 or float64 array or Tensor, got float"),
    (lambda: ops.conv2d([X, z(2, 8, 7, 1)], W), ValueError, "conv2d: the parts of x must be one or more and differ in their channels only"),
    (lambda: ops.conv2d(X, W, residual=z(2, 8, 8, 16)), ValueError, "conv2d: residual must have shape (2, 6, 6, 16) as the result"),
    (lambda: ops.conv2d(X, z(3, 3, 3, 16, dtype=np.float64)), TypeError, "conv2d: arguments of float32 and float64"),
    (lambda: ops.conv2d(np.zeros((2, 8, 8, 3), int), W), TypeError, "conv2d: x must be a float32 or float64 array or Tensor, got int"),
    (lambda: ops.group_norm(z(2, 4, 6), z(6), z(6), 4), ValueError, "group_norm: 6 channels do not divide into 4 groups (x (2, 4, 6))"),
    (lambda: ops.group_norm(z(2, 4, 6), z(5), z(6), 3), ValueError, "group_norm: weight must have shape (6,) for 6 channels (x (2, 4, 6)), got (5,)"),
    (lambda: ops.group_norm(z(2, 4, 6), z(6), z(1), 3), ValueError, "group_norm: bias must have shape (6,) for 6 channels (x (2, 4, 6)), got (1,)"),
    (lambda: ops.group_norm(z(2, 4, 6), z(6), z(6), 0), ValueError, "group_norm: groups must be 1 or more, got 0"),
    (lambda: ops.group_norm(z(2, 4, 6), z(6), z(6), 3, act="relu"), ValueError, "group_norm: act must be None or \"silu\", got 'relu'"),
    (lambda: ops.attention(z(1, 2, 4), z(1, 2, 4), z(1, 2, 4)), ValueError, "attention: q must have shape (N, heads, L, D), got (1, 2, 4)"),
    (lambda: ops.attention(z(1, 2, 5, 4), z(1, 2, 6, 4), z(1, 2, 7, 4)), ValueError, "attention: k and v must have one shape"),
    (lambda: ops.self_attention(z(1, 5, 20), 2), ValueError, "self_attention: the last axis must be q, k and v of 2 heads, a multiple of 6"),
    (lambda: ops.attention(z(1, 2, 5, 4), z(1, 2, 6, 3), z(1, 2, 6, 3)), ValueError, "attention: q and k must agree in all but"),
    (lambda: ops.avg_pool(z(1, 4, 5, 2)), ValueError, "avg_pool: height and width must divide by 2, got x (1, 4, 5, 2)"),
    (lambda: ops.upsample_nearest(z(4, 4, 2)), ValueError, "upsample_nearest: x must have shape (N, H, W, C), got (4, 4, 2)"),
    (lambda: ops.upsample_nearest(X, 0), ValueError, "upsample_nearest: factor must be 1 or more, got 0"),
]


@pytest.mark.parametrize("call, error, message", CASES, ids=[message[:60] for _, _, message in CASES])
def test_mistakes_are_named_before_any_kernel_runs(call, error, message, monkeypatch):
    for name in kernels.KERNELS:
        monkeypatch.setattr(kernels, name, lambda *args, **kwargs: pytest.fail("a kernel ran"))
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
