"""Bits per dimension by the variational bound and by the probability flow, on Gaussian data, where the answer is known."""
import math

import numpy as np
import pytest

from tests.diffusion.gaussian import MU, S, ideal, pictures, true_bits
from tinydiff.diffusion import Schedule, clip_x0, cosine, flow_likelihood, linear, variational_bound
from tinydiff.diffusion.flow_likelihood import log_density
from tinydiff.diffusion.likelihood import byte_chance
from tinydiff.diffusion.samplers.ddpm import VARIANCES
from tinydiff.diffusion.times import time_of_log_snr

IMAGES = pictures(16)
VE = Schedule(np.ones(200), np.geomspace(0.01, 20, 200))
LINE = Schedule(np.linspace(0.99, 0, 200), np.linspace(0.01, 1, 200))      # flow's straight line; alpha = 0 at its end
ONE_TIME = Schedule([0.9], [0.5])
SCHEDULES = {"linear": linear(), "variance exploding": VE, "line": LINE}


def even_times(schedule, steps):
    """Times equally far apart in log SNR, T-1 first."""
    t = time_of_log_snr(schedule, np.linspace(schedule.log_snr[-1], schedule.log_snr[0], steps))
    return np.clip(t, 0, schedule.T - 1)


def standard_error(x):
    return x.std() / math.sqrt(len(x))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 5, 40])
def test_the_bound_is_the_entropy_where_the_variances_are_the_true_ones(name, steps):
    """With true Gaussian steps nothing is lost, in however few steps. sigma_0 is 0.01, 1.3 grey levels: a byte's chance given x_t is nearly
    that of the Gaussian's mass on it. (Rounding to bytes adds 1/12 to their variance of 25.5^2, and 2^-10 of a bit to nothing else.)
    """
    schedule = SCHEDULES[name]
    excess = variational_bound(ideal(schedule), schedule, IMAGES, steps, variance="learned").total - true_bits(IMAGES)
    assert abs(excess.mean()) < 4 * standard_error(excess) + 0.002


def test_the_excess_of_fixed_variances_is_known_and_halves_as_steps_double():
    """Taking v for the true variance V = (1 + r) v of a step costs (r - ln(1 + r)) / 2 nats on average, about r^2/4, and r falls as 1/steps."""
    for variance in ("fixed_small", "fixed_large"):
        measured, known = [], []
        for steps in (40, 80, 160):
            t = even_times(VE, steps)
            fixed, true = (variational_bound(ideal(VE), VE, IMAGES, t, variance=kind) for kind in (variance, "learned"))
            excess = (fixed.terms - true.terms)[:, 1:].sum(axis=1)              # of the steps; the decoder's is below. One noise for both.
            sigma_t, sigma_s = VE.at(t[:-1])[1], VE.at(t[1:])[1]
            small, large = (1 - (sigma_s / sigma_t) ** 2) * sigma_s**2, sigma_t**2 - sigma_s**2
            true_variance = (S**2 + sigma_s**2) * large / (S**2 + sigma_t**2)
            r = true_variance / (small if variance == "fixed_small" else large) - 1
            known.append(((r - np.log1p(r)) / 2).sum() / math.log(2))
            measured.append(excess.mean())
            assert abs(excess.mean() - known[-1]) < 4 * standard_error(excess)
        assert np.all(np.abs(np.divide(known[:-1], known[1:]) - 2) < 0.2), known
        assert np.all(np.abs(np.divide(measured[:-1], measured[1:]) - 2) < 0.3), measured


@pytest.mark.parametrize("variance", VARIANCES[:2])
def test_each_term_is_improved_diffusions(variance):
    """Against the DDPM papers' own formulas in beta and alpha_bar, t by t, with their noise taken from what the denoiser was asked."""
    schedule, images = linear(12, 0.01, 0.3), pictures(2, 4)
    betas = np.linspace(0.01, 0.3, 12)
    alpha_bar = np.cumprod(1 - betas)
    before = np.append(1.0, alpha_bar[:-1])
    posterior = betas * (1 - before) / (1 - alpha_bar)
    log_posterior = np.log(np.append(posterior[1], posterior[1:]))
    log_model = log_posterior if variance == "fixed_small" else np.log(np.append(posterior[1], betas[1:]))
    coef_0, coef_t = betas * np.sqrt(before) / (1 - alpha_bar), (1 - before) * np.sqrt(1 - betas) / (1 - alpha_bar)
    x_0, asked = images / 127.5 - 1, {}

    def denoise(x, t):
        asked[int(t)] = x
        return np.clip(0.9 * x, -1, 1)

    def cdf(z):
        return 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    bound = variational_bound(denoise, schedule, images, variance=variance)
    for t in range(12):
        x_t = asked[t]
        true, mean = (coef_0[t] * x + coef_t[t] * x_t for x in (x_0, denoise(x_t, t)))
        if t:
            term = 0.5 * (log_model[t] - log_posterior[t] + np.exp(log_posterior[t] - log_model[t]) - 1
                          + (true - mean) ** 2 * np.exp(-log_model[t]))
        else:
            deviation = np.exp(log_model[0] / 2)
            above, below = cdf((x_0 - mean + 1 / 255) / deviation), cdf((x_0 - mean - 1 / 255) / deviation)
            term = -np.log(np.where(x_0 < -0.999, above, np.where(x_0 > 0.999, 1 - below, above - below)))
        # Their cdf is a fit, within 2e-4, where a byte's chance is about 0.01; the KLs are the same numbers.
        np.testing.assert_allclose(bound.terms[:, t], term.mean((1, 2, 3)) / math.log(2), rtol=1e-10 if t else 0.02)
    prior = 0.5 * (-1 - np.log(1 - alpha_bar[-1]) + 1 - alpha_bar[-1] + alpha_bar[-1] * x_0**2)
    # Theirs starts from N(0, 1), ours from N(0, sigma_T^2): a second-order difference in alpha_bar_T.
    np.testing.assert_allclose(bound.prior, prior.mean((1, 2, 3)) / math.log(2), atol=alpha_bar[-1] ** 2)
    np.testing.assert_allclose(bound.prior, (alpha_bar[-1] / (1 - alpha_bar[-1]) * x_0**2 / 2).mean((1, 2, 3)) / math.log(2), rtol=1e-12)
    np.testing.assert_allclose(bound.total, bound.prior + bound.terms.sum(1), rtol=1e-13)
    np.testing.assert_array_equal(bound.t, np.arange(12))


def test_the_chances_of_all_bytes_are_one_in_all_and_exact_far_out():
    levels = np.arange(256) / 127.5 - 1
    for mean, deviation in ((0.0, 0.3), (-0.98, 0.02), (1.2, 0.5), (0.3, 0.001)):
        assert byte_chance(levels, mean, deviation).sum() == pytest.approx(1, rel=1e-12)
    # Symmetric about the mean, down to chances that 1 - cdf could not hold: 30 standard deviations out, about 1e-200.
    np.testing.assert_allclose(byte_chance(levels, 0.0, 0.03), byte_chance(levels, 0.0, 0.03)[::-1], rtol=1e-9)
    assert 0 < byte_chance(np.array([200 / 127.5 - 1]), 0.0, 0.019)[0] < 1e-190


def test_a_byte_that_the_decoder_rules_out_costs_forty_bits():
    bound = variational_bound(lambda x, t: np.ones_like(x), linear(), np.zeros((1, 2, 2, 1), np.uint8), [10.0, 0.0])
    assert bound.terms[0, 0] == pytest.approx(-math.log2(1e-12))


def test_the_decoder_of_the_last_step_has_a_variance():
    """Its posterior has none: log 0 or a division by it would give NaN or infinity. The step before lends its own."""
    for steps in (None, 2):
        assert np.isfinite(variational_bound(ideal(VE), VE, IMAGES[:1, :2, :2], steps).total).all()


@pytest.mark.parametrize("name", ["cosine", "noisy start", *SCHEDULES])
def test_the_flow_converges_to_the_density_at_second_order(name):
    """The trace is exact here, so what is left is Heun's error, c h^2: a quarter with twice the steps. And the mean that alpha_T leaves in
    x_T where alpha_T isn't 0, alpha_T / sigma_T MU times the sum of the pixels' z in nats; what it leaves in the variance is smaller still.
    """
    schedule = (SCHEDULES | {"cosine": cosine(), "noisy start": Schedule(np.ones(200), np.geomspace(0.1, 2000, 200))})[name]
    x = pictures(2, 8) / 127.5 - 1
    variance = S**2 + (schedule.sigma[0] / schedule.alpha[0]) ** 2               # of the pictures at t = 0, over alpha_0
    exact = (-(x - MU) ** 2 / (2 * variance) - math.log(2 * math.pi * variance) / 2).sum((1, 2, 3))
    errors = [np.abs(log_density(ideal(schedule), schedule, x, steps) - exact).max() for steps in (20, 40, 80)]
    alpha_T, sigma_T = schedule.at(schedule.T - 1 if schedule.alpha[-1] > 0 else schedule.T - 2)
    left = alpha_T / sigma_T * MU * np.abs(((x - MU) / S).sum((1, 2, 3))).max()
    ratios = np.divide(errors[:-1], errors[1:])
    assert np.all(np.abs(ratios - 4) < [1.6, 0.8 + 4 * left / errors[-1]]), (errors, ratios)


def test_bytes_by_the_flow_cost_their_entropy_and_both_ways_agree():
    """80 steps are within 0.002 bits. Spreading a byte over its width costs less than its variance over the data's, (1/12) / 25.5^2 / ln 4."""
    schedule, truth = linear(), true_bits(IMAGES)
    flow = flow_likelihood(ideal(schedule), schedule, IMAGES, 80)
    bound = variational_bound(ideal(schedule), schedule, IMAGES, 40, variance="learned").total
    assert abs((flow - truth).mean()) < 4 * standard_error(flow - truth) + 0.002
    assert abs((flow - bound).mean()) < 4 * standard_error(flow - bound) + 0.004
    # The entropy itself, of N(MU, S^2) in units of a grey level, which the bits of the pictures are a sample of.
    entropy = math.log2(S * 127.5 * math.sqrt(2 * math.pi * math.e))
    assert abs(flow.mean() - entropy) < 4 * standard_error(flow) + 0.002


def test_bytes_are_spread_evenly_over_their_width():
    asked = []

    def denoise(x, t):
        asked.append(x)
        return ideal(VE)(x, t)
    denoise.vjp = ideal(VE).vjp
    flow_likelihood(denoise, VE, IMAGES, 1)
    place = (asked[0] + 1) * 127.5 - IMAGES                                      # alpha_0 is 1
    counts, _ = np.histogram(place, 8, (-0.5, 0.5))
    assert np.abs(place).max() < 0.5 + 1e-9 and np.abs(counts - IMAGES.size / 8).max() < 4 * math.sqrt(IMAGES.size / 8)


def test_the_estimate_of_the_trace_is_right_on_average():
    """Pixels that go together, so that the derivative is no multiple of the identity and one probe is off."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 4)) / 4
    covariance = root @ root.T + 0.01 * np.eye(4)

    def jacobian(t):
        alpha, sigma = cosine().at(t)
        return alpha * covariance @ np.linalg.inv(alpha**2 * covariance + sigma**2 * np.eye(4))

    def denoise(x, t):
        return (x.reshape(-1, 4) @ jacobian(t).T).reshape(x.shape)
    denoise.vjp = lambda x, t, u: (u.reshape(-1, 4) @ jacobian(t)).reshape(u.shape)
    x = np.broadcast_to(rng.standard_normal((2, 2, 1)) / 4, (400, 2, 2, 1))      # one picture, 400 probes
    density = log_density(denoise, cosine(), x, 80)
    y = x[0].ravel()
    exact = -y @ np.linalg.solve(covariance, y) / 2 - np.linalg.slogdet(2 * math.pi * covariance)[1] / 2
    assert density.std() > 0.05
    assert abs(density.mean() - exact) < 4 * standard_error(density) + 0.02      # 80 steps, and sigma_0^2 beside covariances of 0.01


@pytest.mark.parametrize("bits", [lambda *a, **k: variational_bound(*a, **k).total, flow_likelihood], ids=["bound", "flow"])
def test_chunks_seeds_and_that_images_stay_as_they_are(bits):
    images, schedule = pictures(5, 4), linear(20, 1e-3, 0.3)
    images.setflags(write=False)
    whole = bits(ideal(schedule), schedule, images, 6, seed=3)
    np.testing.assert_array_equal(np.concatenate([bits(ideal(schedule), schedule, images[:2], 6, seed=3),
                                                  bits(ideal(schedule), schedule, images[2:], 6, seed=3, first=2)]), whole)
    assert np.abs(whole - bits(ideal(schedule), schedule, images, 6, seed=4)).min() > 0


@pytest.mark.parametrize("bits", [variational_bound, flow_likelihood])
def test_bad_pictures(bits):
    with pytest.raises(TypeError, match="must be uint8, not float64"):
        bits(ideal(VE), VE, IMAGES / 127.5 - 1)
    with pytest.raises(ValueError, match=r"\(N,H,W,C\) with at least one picture, got \(32, 32, 3\)"):
        bits(ideal(VE), VE, IMAGES[0])


def test_what_cannot_be_computed():
    plain = clip_x0(lambda x, t: x)
    with pytest.raises(ValueError, match="unknown variance 'small'; choose one of fixed_small"):
        variational_bound(plain, VE, IMAGES, variance="small")
    with pytest.raises(ValueError, match="'learned' needs a denoiser with log_variance"):
        variational_bound(plain, VE, IMAGES, variance="learned")
    for steps, schedule in ((1, VE), (None, ONE_TIME)):
        with pytest.raises(ValueError, match="at least 2 steps"):
            variational_bound(plain, schedule, IMAGES, steps)
    with pytest.raises(ValueError, match="needs a denoiser with vjp.*unclipped"):
        flow_likelihood(plain, VE, IMAGES)
    with pytest.raises(ValueError, match="steps is 0"):
        flow_likelihood(ideal(VE), VE, IMAGES, 0)
    for schedule in (ONE_TIME, Schedule([0.9, 0.0], [0.5, 1.0])):
        with pytest.raises(ValueError, match="the schedule is too short"):
            flow_likelihood(ideal(schedule), schedule, IMAGES)
