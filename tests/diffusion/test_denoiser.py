"""From a network to a denoiser: what the network is given, and what comes out."""
import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.diffusion import TARGETS, Schedule, denoiser, from_x0_eps, linear, q_sample

X0, EPS = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 2))


class Oracle:
    """A network that answers `answer`, through a parameter of dtype `dtype`, and remembers what it was asked."""
    def __init__(self, answer, dtype=np.float64):
        self.answer, self.scale = answer, Tensor(np.ones((), dtype), requires_grad=True)

    def parameters(self):
        return [self.scale]

    def __call__(self, x, t, y=None):
        self.asked = (x, t, y)
        self.out = ops.mul(self.scale, self.answer.astype(self.scale.dtype))
        return self.out


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [199, 12.5, np.array([0.0, 100.25, 199.0])])
def test_a_perfect_network_gives_x0_back(target, t):
    schedule = linear(200, beta_end=0.05)
    x_t = q_sample(schedule, X0, t, EPS)
    model = Oracle(from_x0_eps(target, X0, EPS, *schedule.at(t)))
    x0 = denoiser(model, schedule, target)(x_t, t)
    np.testing.assert_allclose(x0, X0, rtol=0, atol=1e-12)  # a few ulp over alpha, at least 0.08 here
    asked_x, asked_t, asked_y = model.asked
    np.testing.assert_array_equal(asked_x, x_t)
    np.testing.assert_allclose(asked_t, np.full(3, 5) * t)  # 1000 t / T
    assert asked_y is None


@pytest.mark.parametrize("of_model, of_x", [(np.float32, np.float64), (np.float64, np.float32), (np.float32, np.float32)])
def test_network_runs_in_its_own_dtype_and_x0_comes_in_that_of_x(of_model, of_x):
    model = Oracle(EPS, of_model)
    x0 = denoiser(model, linear(), "v")(X0.astype(of_x), 500.0)
    assert x0.dtype == of_x
    assert model.asked[0].dtype == model.asked[1].dtype == of_model


def test_no_graph_and_labels():
    model, y = Oracle(EPS), np.array([3, 1, 2])
    denoiser(model, linear(), "eps", y)(X0, 10.0)
    assert model.asked[2] is y
    assert not model.out.requires_grad


def test_eps_where_nothing_is_left_of_the_picture():
    schedule = Schedule([0.9, 0.0], [0.5, 1.0])
    with pytest.raises(ValueError, match="use target 'v'"):
        denoiser(Oracle(EPS), schedule, "eps")(X0, 1.0)
