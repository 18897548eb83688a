"""The loss: its value by formula, learned variance, and that it trains."""
import math

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.data import to_model
from tinydiff.diffusion import TARGETS, cosine, flow, from_x0_eps, karras, linear, loss, min_snr_weights, q_sample
from tinydiff.diffusion.losses import decoder_nll, gaussian_kl, vlb_terms
from tinydiff.diffusion.targets import network_inputs
from tinydiff.gradcheck import gradcheck

RNG = np.random.default_rng(0)
X0, EPS, WRONG = RNG.standard_normal((3, 4, 5, 5, 2))
T4 = np.array([3.0, 250.5, 600.0, 998.0])
PICTURES = to_model(RNG.integers(0, 256, (4, 5, 5, 2), dtype=np.uint8)).astype(np.float64)  # 8-bit numbers, as L_0 has it
V = RNG.uniform(-1, 1, (4, 5, 5, 2))


def answering(out):
    """A network that says `out` whatever it is asked."""
    return lambda x, t, y: Tensor(out)


@pytest.mark.parametrize("target", TARGETS)
def test_simple_loss_is_the_mean_squared_error(target):
    schedule = cosine()
    want = from_x0_eps(target, X0, EPS, *schedule.at(T4))
    for weight in (None, "simple", np.ones(4)):
        value = loss(answering(want + WRONG), schedule, target, X0, T4, EPS, weight=weight)
        assert value.shape == () and value.data == pytest.approx(np.mean(WRONG**2), rel=1e-12)
    assert loss(answering(want), schedule, target, X0, T4, EPS).data < 1e-28


def test_network_sees_the_noisy_picture_the_time_and_the_labels():
    schedule, y = linear(500), np.arange(4)

    def model(*seen):
        x_t, t, labels = seen
        np.testing.assert_array_equal(x_t, q_sample(schedule, X0, T4 / 2, EPS))
        np.testing.assert_allclose(t, T4)  # 1000 t / T
        assert labels is y
        return Tensor(x_t)
    loss(model, schedule, "eps", X0, T4 / 2, EPS, y)


def test_a_network_of_target_edm_sees_what_network_inputs_says():
    schedule = karras(1000)

    def model(x, t, y):
        picture, time = network_inputs("edm", q_sample(schedule, X0, T4, EPS), schedule, T4)
        np.testing.assert_array_equal(x, picture)
        np.testing.assert_array_equal(t, time)
        return Tensor(x)
    loss(model, schedule, "edm", X0, T4, EPS)


def test_own_weights_belong_to_pictures():
    want = from_x0_eps("eps", X0, EPS, *cosine().at(T4))
    weight = [0.0, 1.0, 2.0, 5.0]
    value = loss(answering(want + WRONG), cosine(), "eps", X0, T4, EPS, weight=weight)
    assert value.data == pytest.approx(np.mean(weight * np.mean(WRONG**2, axis=(1, 2, 3))), rel=1e-12)


def test_gradient_and_float32():
    """out = p x_t, target eps: d loss / d p = mean(2 w (p x_t - eps) x_t)."""
    x0, eps = X0.astype(np.float32), EPS.astype(np.float32)
    p = Tensor(np.float32(0.3), requires_grad=True)
    value = loss(lambda x, t, y: ops.mul(p, x), cosine(), "eps", x0, T4, eps, weight="min_snr")
    value.backward()
    assert value.dtype == p.grad.dtype == np.float32
    x_t = q_sample(cosine(), X0, T4, EPS)
    w = min_snr_weights(cosine(), "eps", T4)[:, None, None, None]
    assert p.grad == pytest.approx(np.mean(2 * w * (0.3 * x_t - EPS) * x_t), rel=1e-4)  # 200 float32 terms of either sign


def normal_density(x, mean, variance):
    return np.exp(-(x - mean) ** 2 / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_kl_of_two_gaussians_by_integration():
    x = np.linspace(-12, 12, 200_001)
    for mean_q, var_q, mean_p, var_p in ((0.0, 1.0, 0.0, 1.0), (0.3, 0.5, -0.2, 1.5), (0.0, 1.2, 0.4, 0.7)):
        q, p = normal_density(x, mean_q, var_q), normal_density(x, mean_p, var_p)
        integral = np.sum(q * np.log(q / p)) * (x[1] - x[0])
        value = gaussian_kl(np.array(mean_q - mean_p), np.array(math.log(var_q)), Tensor(np.array(math.log(var_p)))).data
        assert value == pytest.approx(integral, rel=1e-9, abs=1e-12)  # the sum of a smooth function that is 0 at both ends: no error but rounding


@pytest.mark.parametrize("mean, std", [(0.1, 0.02), (0.1, 0.5), (-0.97, 0.05), (1.2, 0.3), (0.0, 0.002)])
def test_the_decoder_gives_each_8_bit_number_its_share_of_the_gaussian(mean, std):
    values = np.arange(256) / 127.5 - 1
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    cdf = np.array([0.5 * (1 + math.erf((edge - mean) / (std * math.sqrt(2)))) for edge in edges])
    chance = np.exp(-decoder_nll(values, np.array(mean), Tensor(np.full(256, 2 * math.log(std)))).data)
    assert chance.sum() == pytest.approx(1, abs=256e-12)  # no bin counts less than 1e-12
    np.testing.assert_allclose(chance, np.diff(cdf), rtol=0, atol=4e-4)  # twice the error of the tanh in place of erf
    assert chance[0] == pytest.approx(cdf[1], abs=2e-4) and chance[-1] == pytest.approx(1 - cdf[-2], abs=2e-4)  # the tails are theirs


@pytest.mark.parametrize("schedule", [linear(), cosine(), karras(1000), flow(1000)], ids=["linear", "cosine", "karras", "flow"])
def test_vlb_terms_where_the_guess_is_right(schedule):
    """With x_0 known, the step is q itself for v = -1: KL 0. v = 1 takes beta for its variance, which is wrong by the factor beta/beta_tilde."""
    t = np.array([1.0, 2.0, 500.0, 999.0])
    (_, sigma_t), (_, sigma_s) = schedule.at(t), schedule.at(t - 1)
    ratio = sigma_s**2 / sigma_t**2  # beta_tilde / beta
    for v, expected in ((-1.0, 0 * ratio), (1.0, (-np.log(ratio) + ratio - 1) / 2)):
        terms = vlb_terms(schedule, PICTURES, PICTURES, Tensor(np.full(PICTURES.shape, v)), t).data
        np.testing.assert_allclose(terms, np.broadcast_to(expected[:, None, None, None], terms.shape), rtol=1e-9, atol=1e-12)


def test_vlb_terms_where_the_guess_is_wrong():
    """An error e in x_0 moves the mean by sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) e (Ho et al. 2020, equation 7), and costs
    half of that squared over the variance."""
    schedule = linear()
    t, beta, alpha_bar = 300, linear().betas[300], linear().alpha_bar
    coefficient = math.sqrt(alpha_bar[t - 1]) * beta / (1 - alpha_bar[t])
    beta_tilde = beta * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
    terms = vlb_terms(schedule, PICTURES, PICTURES + WRONG, Tensor(np.full(PICTURES.shape, -1.0)), t).data
    # a term is half of a sum of numbers near 1, -1 among them, with some five roundings of 1.1e-16 (exp's too): 3e-16, whatever is left
    np.testing.assert_allclose(terms, (coefficient * WRONG) ** 2 / (2 * beta_tilde), rtol=1e-9, atol=1e-15)


def test_the_last_step_is_the_decoders():
    """t below 1: the bin of N(x0_hat, variance), the variance half-way between log beta_tilde of index 1 and log beta of index 0 for v = 0."""
    schedule = linear()
    beta, alpha_bar = schedule.betas, schedule.alpha_bar
    log_variance = (math.log(beta[0]) + math.log(beta[1] * (1 - alpha_bar[0]) / (1 - alpha_bar[1]))) / 2
    x0_hat = PICTURES + 0.01 * WRONG
    terms = vlb_terms(schedule, PICTURES, x0_hat, Tensor(np.zeros(PICTURES.shape)), np.array([0.0, 0.0, 0.0, 5.0])).data
    expected = decoder_nll(PICTURES, x0_hat, Tensor(np.full(PICTURES.shape, log_variance))).data
    np.testing.assert_allclose(terms[:3], expected[:3], rtol=1e-9)
    assert np.abs(terms[3] - expected[3]).min() > 1e-3


@pytest.mark.parametrize("target", TARGETS)
def test_hybrid_loss_is_the_simple_one_and_a_thousandth_of_the_bound(target):
    schedule, t = cosine(), np.array([0.5, 3.0, 250.5, 998.0])
    alpha, sigma = schedule.at(t)
    want = from_x0_eps(target, PICTURES, EPS, alpha, sigma)
    value = loss(answering(np.concatenate([want, V], axis=-1)), schedule, target, PICTURES, t, EPS)
    bound = 1000 * vlb_terms(schedule, PICTURES, PICTURES, Tensor(V), t).data.mean()  # the mean over t, T times: the sum
    # to_x0_eps finds x0_hat again up to ulps over alpha, at least 1e-3 here; a squared error on top of a bound of size 1
    assert value.data == pytest.approx(0.001 * bound, rel=1e-6)
    wrong = loss(answering(np.concatenate([want + WRONG, V], axis=-1)), schedule, target, PICTURES, t, EPS)
    assert wrong.data > np.mean(WRONG**2)


def test_hybrid_gradients_by_finite_differences():
    """Of all that v goes through; at t below 1 the guess is near enough for no chance to be below 1e-12."""
    for t in (np.array([0.0, 0.5, 1.0, 700.0]), 30.0):
        gradcheck(lambda v: ops.mean(vlb_terms(linear(), PICTURES, PICTURES + 0.005 * WRONG, v, t)), [V])


def test_the_bound_does_not_teach_the_mean():
    schedule, mean, v = cosine(), Tensor(WRONG, requires_grad=True), Tensor(V, requires_grad=True)
    loss(lambda x, t, y: ops.concat([mean, v]), schedule, "v", PICTURES, T4, EPS).backward()
    alone = Tensor(WRONG, requires_grad=True)
    loss(lambda x, t, y: alone, schedule, "v", PICTURES, T4, EPS).backward()
    np.testing.assert_array_equal(mean.grad, alone.grad)
    assert np.abs(v.grad).min() > 0


def test_hybrid_loss_in_float32():
    v = Tensor(np.zeros((4, 5, 5, 4), np.float32), requires_grad=True)
    value = loss(lambda x, t, y: v, linear(), "eps", PICTURES.astype(np.float32), T4 - 3, EPS.astype(np.float32), weight="min_snr")
    value.backward()
    assert value.dtype == v.grad.dtype == np.float32 and np.isfinite(v.grad).all()


def test_errors():
    model = answering(EPS)
    with pytest.raises(ValueError, match=r"answers \(4, 5, 5, 3\) to pictures \(4, 5, 5, 2\); .* twice as many"):
        loss(answering(np.zeros((4, 5, 5, 3))), cosine(), "eps", X0, T4, EPS)
    with pytest.raises(ValueError, match="unknown weight 'snr'; choose one of simple, min_snr, p2, edm, None"):
        loss(model, cosine(), "eps", X0, T4, EPS, weight="snr")
    with pytest.raises(ValueError, match=r"each of the 4 pictures, got \(3,\)"):
        loss(model, cosine(), "eps", X0, T4, EPS, weight=np.ones(3))
    with pytest.raises(ValueError, match=r"each of the 4 pictures"):
        loss(model, cosine(), "eps", X0, T4[:2], EPS)
    for weight in (None, "min_snr"):
        with pytest.raises(ValueError, match="unknown target 'noise'"):
            loss(model, cosine(), "noise", X0, T4, EPS, weight=weight)
    with pytest.raises(ValueError, match="unknown target 'noise'"):
        min_snr_weights(cosine(), "noise", T4)
