"""What ops compute, where a gradient check can't tell: a right gradient of the wrong function passes it."""
import math

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor

RNG = np.random.default_rng(0)
X = np.array([-1e4, -800.0, -20.0, -1.5, -1e-3, 0.0, 1e-3, 0.5, 2.0, 20.0, 800.0, 1e4])


@pytest.mark.parametrize("op, definition", [
    (ops.sigmoid, lambda x: math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x))),
    (ops.silu, lambda x: x * (math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x)))),
    (ops.relu, lambda x: x if x > 0 else 0.0),
    (ops.tanh, math.tanh),
    (ops.gelu, lambda x: x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_ordinary_and_extreme_values(op, definition, dtype):
    x = Tensor(X.astype(dtype), requires_grad=True)
    y = op(x)           # warnings are errors here: nothing may overflow
    expected = [definition(float(v)) for v in x.data]
    # A few roundings of the dtype; a value below its smallest normal number may be 0.
    np.testing.assert_allclose(y.data, expected, rtol=20 * np.finfo(dtype).eps, atol=1e-6 * np.finfo(dtype).eps)
    y.backward(np.ones(X.shape))
    assert np.isfinite(x.grad).all()


def test_gelu_is_close_to_the_exact_one():
    x = np.linspace(-4, 4, 81)
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    assert np.abs(ops.gelu(x).data - exact).max() < 5e-4      # the approximation's own error


def test_softmax_of_large_numbers():
    y = ops.softmax(np.array([[1e4, 1e4 - 1, -1e4], [0.0, 0.0, 0.0]]))
    a = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(y.data, [[a, 1 - a, 0], [1 / 3] * 3], rtol=1e-14)


def test_max_shares_the_gradient_between_ties():
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]], requires_grad=True)
    y = ops.max(x, axis=1)
    np.testing.assert_array_equal(y.data, [3.0, 2.0])
    y.backward(np.array([1.0, 5.0]))
    np.testing.assert_array_equal(x.grad, [[0, 0.5, 0.5], [5, 0, 0]])


def test_kinks_and_corners():
    x = Tensor([-1.0, 0.0, 1.0], requires_grad=True)
    ops.relu(x).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, [0, 0, 1])
    a, b = Tensor([0.0, 0.0, -2.0], requires_grad=True), np.array([0.0, 1.0, 3.0])
    (a**b).backward(np.ones(3))
    np.testing.assert_array_equal(a.grad, [0, 1, 12])
    b = Tensor([2.0], requires_grad=True)
    (0.0**b).backward()
    np.testing.assert_array_equal(b.grad, [0])


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (-1, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_reductions_are_numpys(name, axis, keepdims):
    x = RNG.standard_normal((2, 3, 4))
    np.testing.assert_allclose(getattr(ops, name)(x, axis, keepdims).data, getattr(np, name)(x, axis=axis, keepdims=keepdims), rtol=1e-13)


def test_shape_ops_are_numpys():
    x = RNG.standard_normal((2, 3, 4))
    for y, expected in [
        (ops.reshape(x, (4, -1)), x.reshape(4, 6)), (ops.transpose(x), x.transpose()), (ops.transpose(x, (1, -1, 0)), x.transpose(1, 2, 0)),
        (ops.concat([x, x[:1]], axis=0), np.concatenate([x, x[:1]])),
        (ops.pad(x, ((1, 0), (0, 2), (0, 0))), np.pad(x, ((1, 0), (0, 2), (0, 0)))),
        (ops.getitem(x, (slice(None), [0, 0, 2])), x[:, [0, 0, 2]]), (ops.matmul(x, x[0].T), x @ x[0].T),
        (ops.matmul(x[:, None], x.transpose(0, 2, 1)), x[:, None] @ x.transpose(0, 2, 1)),
        (ops.linear(x, np.ones((4, 2)), np.arange(2.0)), x @ np.ones((4, 2)) + np.arange(2)),
        (ops.embedding(x[0], [[2, 0]]), x[0][[[2, 0]]]),
        (ops.mse(x, x + 2), 4.0),
    ]:
        np.testing.assert_allclose(y.data, expected, rtol=1e-13)


@pytest.mark.parametrize("parts, lengths", [(3, [2, 2, 2]), ([1, 0, 5], [1, 0, 5])])
def test_split_is_the_inverse_of_concat(parts, lengths):
    x = Tensor(RNG.standard_normal((2, 6, 3)), requires_grad=True)
    pieces = ops.split(x, parts, axis=1)
    assert [piece.shape for piece in pieces] == [(2, n, 3) for n in lengths]
    y = ops.concat(pieces, axis=1)
    np.testing.assert_array_equal(y.data, x.data)
    dy = RNG.standard_normal(x.shape)
    y.backward(dy)
    np.testing.assert_array_equal(x.grad, dy)


def test_resampling():
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    up = ops.upsample_nearest(x, 3)
    assert up.shape == (1, 6, 6, 2)
    for i in range(6):
        for j in range(6):
            np.testing.assert_array_equal(up.data[0, i, j], x[0, i // 3, j // 3])
    np.testing.assert_allclose(ops.avg_pool(up, 3).data, x, rtol=1e-15)
    np.testing.assert_array_equal(ops.avg_pool(x, 2).data, x.mean(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_depth_to_space_is_the_inverse_of_space_to_depth(factor):
    x = Tensor(RNG.standard_normal((2, 6, 12, 5)), requires_grad=True)
    deep = ops.space_to_depth(x, factor)
    assert deep.shape == (2, 6 // factor, 12 // factor, 5 * factor ** 2)
    np.testing.assert_array_equal(deep.data[1, 1, 2], x.data[1, factor:2 * factor, 2 * factor:3 * factor].ravel())      # one patch, by rows
    y = ops.depth_to_space(deep, factor)
    np.testing.assert_array_equal(y.data, x.data)
    dy = RNG.standard_normal(x.shape)
    y.backward(dy)
    np.testing.assert_array_equal(x.grad, dy)


def test_dropout_drops_p_of_the_entries_and_keeps_the_mean():
    n, p = 100_000, 0.3
    y = ops.dropout(np.ones(n), p, np.random.default_rng(5)).data
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    # The number dropped has standard deviation sqrt(n p (1 - p)) = 145; 5 of them.
    assert abs((y == 0).sum() - n * p) < 5 * math.sqrt(n * p * (1 - p))
    same = ops.dropout(np.ones(n, np.float32), p, np.random.default_rng(5)).data
    np.testing.assert_array_equal(same == 0, y == 0)


def test_group_norm_gives_each_group_mean_0_and_variance_1():
    x = RNG.standard_normal((2, 5, 7, 6)) * 3 + 1
    y = ops.group_norm(x, np.ones(6), np.zeros(6), groups=2, eps=0.0).data.reshape(2, 35, 2, 3)
    np.testing.assert_allclose(y.mean(axis=(1, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axis=(1, 3)), 1, rtol=1e-13)


def test_attention_over_equal_keys_is_the_mean_of_the_values():
    v = RNG.standard_normal((1, 2, 5, 3))
    o = ops.attention(RNG.standard_normal((1, 2, 4, 3)), np.ones((1, 2, 5, 3)), v).data
    np.testing.assert_allclose(o, np.broadcast_to(v.mean(axis=2, keepdims=True), o.shape), rtol=1e-12)
