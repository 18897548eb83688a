"""Are the gradients right? They are compared with finite differences, in float64.

For y = fn(x) take a fixed random array u of y's shape (a cotangent: how much each number of y is to count). L(x) = sum(u y) is then one number, and
has the gradient g that `y.backward(u)` should give. Along a direction d, a central difference measures it from forward passes alone:

    (L(x + eps d) - L(x - eps d)) / (2 eps) = sum(g d) + O(eps^2)

A random u matters: were u all ones, a softmax whose gradient is always zero would pass, since its outputs sum to 1 whatever x is. One
random direction for each input finds a fault anywhere in it (as in HIPS Autograd's test_util); only then is it halved, again and again, to
find where.

Read first: `autograd.py`.
"""
from typing import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tinydiff.autograd import Tensor, no_grad


class GradientError(AssertionError):
    """A gradient that finite differences contradict."""


def gradcheck(fn: Callable[..., Tensor], inputs: Sequence[ArrayLike], rng: np.random.Generator | None = None, eps: float = 1e-5, rtol: float = 1e-6,
              atol: float = 1e-8) -> float:
    """Compare the gradients of fn with central differences along a random direction of each input; return the worst relative error.

    fn: takes Tensors, returns one Tensor; the same each time it is called (so a generator that it draws from must be made inside).
    inputs: float64 arrays (TypeError otherwise), away from kinks; fn sees them read-only. rng: a NumPy Generator; of seed 0 if left out.
    Raises GradientError, naming the input, the entry and both values, unless
        |measured - sum(g d)| <= rtol |g| + atol,   with |g| the length of the gradient and d of length 1;
    the relative error returned is the left side over (|g| + atol / rtol), so that a gradient of zero does not divide by zero.

    At eps = 1e-5 the formula is off by about eps^2 = 1e-10 of the third derivative, and rounding by about 1e-16 / eps = 1e-11 of L.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    arrays = [np.asarray(x) for x in inputs]
    for i, x in enumerate(arrays):
        if x.dtype != np.float64:
            raise TypeError(f"gradcheck: input {i} is {x.dtype}; finite differences need float64")
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    y = fn(*tensors)
    u = np.asarray(rng.standard_normal(y.shape))
    y.backward(u)

    def errors(i, d):
        """Along direction d of input i: measured - expected, and both."""
        def L(step):
            with no_grad():
                return np.sum(u * fn(*(Tensor(x.data + step * d) if j == i else x for j, x in enumerate(tensors))).data)
        measured = (L(eps) - L(-eps)) / (2 * eps)
        return abs(measured - np.sum(gradients[i] * d)), measured

    gradients = [np.zeros_like(t.data) if t.grad is None else t.grad for t in tensors]
    worst = 0.0
    for i, g in enumerate(gradients):
        d = np.asarray(rng.standard_normal(g.shape))
        d /= np.linalg.norm(d) if d.size else 1
        error = errors(i, d)[0] / (np.linalg.norm(g) + atol / rtol)
        if not error <= rtol:           # NaN fails too
            entry = _locate(lambda part: errors(i, part)[0], d)
            at = np.zeros_like(d)
            at[entry] = 1
            measured = errors(i, at)[1]
            raise GradientError(f"gradcheck: input {i} {g.shape}, entry {entry}: the gradient is {g[entry]:.9g}, finite differences give "
                                f"{measured:.9g} (relative error {error:.1e} along a random direction, {rtol:.0e} allowed)")
        worst = max(worst, error)
    return float(worst)


def _locate(error, d):
    """The entry that makes a direction fail: keep the half of d's entries with the larger error, until one is left."""
    entries = np.arange(d.size)
    while len(entries) > 1:
        halves = np.array_split(entries, 2)
        parts = [np.where(np.isin(np.arange(d.size), half).reshape(d.shape), d, 0) for half in halves]
        found = [error(part) for part in parts]
        # Not found[0] >= found[1]: a NaN must win.
        entries = halves[0] if not found[0] < found[1] else halves[1]
    return tuple(int(n) for n in np.unravel_index(entries[0], d.shape))
