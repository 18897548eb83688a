"""From a network to a denoiser: what the network is given, and what comes out."""
from types import SimpleNamespace

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.diffusion import TARGETS, Schedule, clip_x0, denoiser, from_x0_eps, karras, linear, q_sample
from tinydiff.diffusion.targets import network_inputs

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
    picture, time = network_inputs(target, x_t, schedule, t)
    np.testing.assert_array_equal(asked_x, picture)
    np.testing.assert_array_equal(asked_t, time)
    assert asked_y is None
    if target != "edm":
        np.testing.assert_array_equal(asked_x, x_t)
        np.testing.assert_allclose(asked_t, np.full(3, 5) * t)  # 1000 t / T


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


def test_clip_x0():
    guess = np.array([[-3.0, -0.5, 0.25, 2.0]], np.float32)
    clipped = clip_x0(lambda x, t: guess)(guess, 0.0)
    assert clipped.dtype == np.float32
    np.testing.assert_array_equal(clipped, [[-1, -0.5, 0.25, 1]])
    np.testing.assert_array_equal(clip_x0(lambda x, t: guess, 0, 0.5)(guess, 0.0), [[0, 0, 0.25, 0.5]])


V = np.random.default_rng(1).uniform(-1, 1, X0.shape)


class Learned(Oracle):
    """A network of learned variance: answers EPS and v, and counts how often it is asked."""
    config = SimpleNamespace(in_channels=2, out_channels=4)
    asked_times = 0

    def __init__(self, v=V, dtype=np.float64):
        super().__init__(np.concatenate([EPS, np.broadcast_to(v, EPS.shape)], axis=-1), dtype)

    def __call__(self, x, t, y=None):
        self.asked_times += 1
        return super().__call__(x, t, y)


def test_learned_variance_leaves_the_guess_alone():
    schedule = linear(200, beta_end=0.05)
    x_t = q_sample(schedule, X0, 50.0, EPS)
    np.testing.assert_array_equal(denoiser(Learned(), schedule, "eps")(x_t, 50.0), denoiser(Oracle(EPS), schedule, "eps")(x_t, 50.0))
    assert not hasattr(denoiser(Oracle(EPS), schedule, "eps"), "log_variance")


def log_variance(v, schedule, t, s):
    return denoiser(Learned(v), schedule, "v").log_variance(X0, t, s)


def test_log_variance_lies_between_those_of_the_respaced_steps():
    """Nichol and Dhariwal's SpacedDiffusion: betas made again from the alpha_bar of the times that are left, here 19, 39, ..., 999."""
    schedule = linear()
    times = np.arange(19, 1000, 20)
    alpha_bar = schedule.alpha_bar[times]
    before = np.append(1.0, alpha_bar[:-1])
    beta = 1 - alpha_bar / before
    beta_tilde = beta * (1 - before) / (1 - alpha_bar)
    beta_tilde[0] = beta_tilde[1]  # as their code has it, where 0 has no logarithm
    for i in (0, 1, 2, 30, 49):
        t, s = float(times[i]), float(times[i - 1]) if i else -1.0
        for v, expected in ((-1.0, beta_tilde[i]), (1.0, beta[i]), (0.5, beta[i] ** 0.75 * beta_tilde[i] ** 0.25)):
            np.testing.assert_allclose(log_variance(v, schedule, t, s), np.full(X0.shape, np.log(expected)), rtol=1e-9)


def test_log_variance_of_other_schedules_and_ends():
    """Karras: x_t is x_s and noise of variance sigma_t^2 - sigma_s^2; seen from both ends, the variances' inverses add."""
    schedule = karras(100)
    var_t, var_s = schedule.sigma[60] ** 2, schedule.sigma[40] ** 2
    between = 1 / (1 / var_s + 1 / (var_t - var_s))
    np.testing.assert_allclose(log_variance(-1.0, schedule, 60, 40), np.log(between), rtol=1e-9)
    np.testing.assert_allclose(log_variance(1.0, schedule, 60, 40), np.log(var_t - var_s), rtol=1e-9)
    zero = Schedule([0.9, 0.6, 0.0], np.sqrt([0.19, 0.64, 1.0]))
    np.testing.assert_allclose(log_variance(1.0, zero, 2, 0), 0, atol=1e-12)  # of x_0 nothing is left: all that is added has variance 1
    np.testing.assert_allclose(log_variance(-1.0, zero, 2, 0), np.log(0.19), rtol=1e-12)
    np.testing.assert_allclose(log_variance(-1.0, zero, 2, -1), 0, atol=1e-12)  # one step for all: no step before it
    np.testing.assert_allclose(log_variance(-1.0, zero, 1, -1), np.log(0.64), rtol=1e-12)  # lent by the step from 2 to 1
    each = log_variance(0.0, schedule, np.array([60.0, 3.0, 99.0]), np.array([40.0, -1.0, 0.5]))
    for i, (t, s) in enumerate(((60, 40), (3, -1), (99, 0.5))):
        np.testing.assert_allclose(each[i], log_variance(0.0, schedule, t, s)[i], rtol=1e-12)
    for s in (60, 61.5):
        with pytest.raises(ValueError, match="a step goes down, from t to s < t"):
            log_variance(0.0, schedule, 60, s)


@pytest.mark.parametrize("of_model, of_x", [(np.float32, np.float64), (np.float64, np.float32)])
def test_log_variance_is_like_x(of_model, of_x):
    value = denoiser(Learned(dtype=of_model), linear(), "v").log_variance(X0.astype(of_x), 500.0, 480.0)
    assert value.dtype == of_x and value.shape == X0.shape


def test_one_evaluation_serves_the_guess_and_the_variance():
    model, x = Learned(), X0.copy()
    denoise = denoiser(model, linear(), "v")
    denoise(x, 500.0)
    first = denoise.log_variance(x, 500.0, 480.0)
    denoise.log_variance(x, 500.0, 250.0)
    assert model.asked_times == 1
    denoise.log_variance(x, 499.0, 480.0)  # another time
    assert model.asked_times == 2
    np.testing.assert_array_equal(denoise.log_variance(x, 500.0, 480.0), first)
    assert model.asked_times == 3
    x += 1  # other pictures in the same array
    denoise.log_variance(x, 500.0, 480.0)
    assert model.asked_times == 4
