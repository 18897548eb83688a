"""gradcheck passes right gradients, and finds wrong ones: each case here is a fault that someone could make."""
import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import PRIMITIVES, primitive
from tinydiff.gradcheck import GradientError, gradcheck

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 5))


@pytest.fixture(autouse=True)
def registry_as_it_was():
    before = dict(PRIMITIVES)
    yield
    PRIMITIVES.clear()
    PRIMITIVES.update(before)


def op(y, *gradients):
    """An op of two arrays with the value y(a, b) and the gradients g(a, b, dy)."""
    def made_up(a, b):
        return y(a, b), lambda dy: tuple(g(a, b, dy) for g in gradients)
    return primitive(made_up)


def test_right_gradients_pass_with_a_small_error():
    product = op(lambda a, b: a * b, lambda a, b, dy: dy * b, lambda a, b, dy: dy * a)
    assert 0 <= gradcheck(product, [X, X + 1], RNG) < 1e-9
    assert gradcheck(lambda a, b: ops.exp(a) * ops.tanh(b), [X, X + 1]) < 1e-8


@pytest.mark.parametrize("fault, gradients", [
    ("wrong sign", (lambda a, b, dy: dy * b, lambda a, b, dy: -dy * a)),
    ("swapped", (lambda a, b, dy: dy * a, lambda a, b, dy: dy * b)),
    ("factor", (lambda a, b, dy: dy * b, lambda a, b, dy: 1.001 * dy * a)),
    ("dy forgotten", (lambda a, b, dy: dy * b, lambda a, b, dy: 1.0 * a)),
    ("missing", (lambda a, b, dy: dy * b, lambda a, b, dy: None)),
    ("NaN", (lambda a, b, dy: dy * b, lambda a, b, dy: dy * a * np.nan)),
])
def test_wrong_gradients_are_found(fault, gradients):
    with pytest.raises(GradientError, match="input [01] "):
        gradcheck(op(lambda a, b: a * b, *gradients), [X, X + 1])


def test_a_missing_term_is_found():
    # y = a (a b): the gradient of a without its second term
    square = op(lambda a, b: a * a * b, lambda a, b, dy: dy * a * b, lambda a, b, dy: dy * a * a)
    with pytest.raises(GradientError, match=r"input 0 \(3, 5\)"):
        gradcheck(square, [X, X + 1])


def test_the_error_names_the_entry_and_both_values():
    def one_wrong(a, b, dy):
        da = dy * b
        da[1, 3] += 7.0
        return da
    with pytest.raises(GradientError) as caught:
        gradcheck(op(lambda a, b: 0 * a + b, lambda a, b, dy: one_wrong(a, 0 * b, dy), lambda a, b, dy: dy), [X, X])
    assert "input 0 (3, 5), entry (1, 3): the gradient is 7, finite differences give 0 " in str(caught.value)


def test_a_zero_softmax_gradient_is_found():
    """Its outputs sum to 1, so that with a cotangent of ones the true gradient is zero, too, and this op would pass."""
    def softmax_without_gradient(x):
        y, _ = PRIMITIVES["softmax"].__wrapped__(x)
        return y, lambda dy: (np.zeros_like(x),)
    faulty = primitive(softmax_without_gradient)
    assert gradcheck(lambda x: ops.sum(faulty(x)), [X]) < 1e-6      # a cotangent of ones
    with pytest.raises(GradientError):
        gradcheck(faulty, [X])


def test_inputs_are_read_only():
    def writes(a):
        a += 1
        return a, lambda dy: (dy,)
    with pytest.raises(ValueError, match="read-only"):
        gradcheck(primitive(writes), [X.copy()])


def test_empty_and_single_inputs():
    gradcheck(lambda a, b: ops.sum(a) * b, [np.zeros((0, 3)), np.array(2.0)])
    with pytest.raises(GradientError, match=r"input 0 \(\), entry \(\)"):
        gradcheck(op(lambda a, b: a * b, lambda a, b, dy: 2 * dy * b, lambda a, b, dy: dy * a), [np.array(1.0), np.array(2.0)])


def test_only_float64_can_be_checked():
    with pytest.raises(TypeError, match="gradcheck: input 1 is float32"):
        gradcheck(ops.add, [X, X.astype(np.float32)])
