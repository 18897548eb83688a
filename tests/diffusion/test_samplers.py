"""What all samplers share, on Gaussian data, where the best possible denoiser has a closed form: no network, no training, exact answers.

Beside this file: test_samplers_order (how fast the errors fall), _distribution (moments), _equal (which are the same), _by_hand (numbers).

Data N(MU, S^2) for each pixel: given x_t, the mean of x_0 is MU + alpha S^2 / (alpha^2 S^2 + sigma^2) (x_t - alpha MU).
"""
from math import sqrt

import numpy as np
import pytest

from tests.diffusion.mixture import flow, karras, last
from tinydiff.diffusion import SAMPLERS, Schedule, cosine, ddim, ddpm, dpmpp_2m_sde, dpmpp_2s, euler_ancestral, heun, initial_noise, linear, timesteps

MU, S = 0.3, 0.5
VE = Schedule(np.ones(40), np.geomspace(0.01, 20, 40))
TWICE = ("heun", "dpmpp_2s")           # ask the denoiser twice a step
# Each sampler as it is, and with each noise that it can add.
VARIANTS = [*((sampler, {}) for sampler in SAMPLERS.values()), (ddpm, {"variance": "fixed_large"}), (ddim, {"eta": 0.5}), (ddim, {"eta": 1.0}),
            (euler_ancestral, {"eta": 1.5}), (heun, {"s_churn": 5.0}), (dpmpp_2m_sde, {"eta": 0.5}), (dpmpp_2s, {"eta": 1.0})]


def name_of(value):
    return getattr(value, "__name__", None) or "".join(f"{name} {number}" for name, number in value.items())


def ideal(schedule):
    def denoise(x, t):
        alpha, sigma = schedule.at(t)
        return MU + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * MU)
    return denoise


def start(schedule, n=2, size=4, dtype=np.float64):
    return initial_noise(schedule, (n, size, size, 3), seed=5, dtype=dtype)


def test_ddim_converges_to_the_probability_flow_at_first_order():
    """Along the flow x_t = alpha_t MU + sqrt(alpha_t^2 S^2 + sigma_t^2) z with z fixed, so the clean end MU + S z is known exactly."""
    schedule = cosine()
    x_T = start(schedule)
    alpha, sigma = schedule.at(999)
    exact = MU + S * (x_T - alpha * MU) / sqrt(alpha**2 * S**2 + sigma**2)
    errors = [np.abs(last(ddim(ideal(schedule), schedule, x_T, steps)).x - exact).max() for steps in (10, 20, 40, 80)]
    ratios = np.divide(errors[:-1], errors[1:])
    # Error c/n + d/n^2: twice the steps halve it, up to the second term, which itself halves each time. A wrong limit would give 1.
    assert np.all(np.abs(ratios - 2) < [0.4, 0.2, 0.1]), (errors, ratios)


VE_80 = Schedule(np.ones(80), np.geomspace(0.01, 20, 80))


@pytest.mark.parametrize("schedule, bias", [(linear(), 0.016), (cosine(), 0.009), (VE_80, 0.092)], ids=["linear", "cosine", "VE"])
def test_ddpm_gives_the_data_its_mean_and_variance(schedule, bias):
    """A guess of x_0 is a mean, so each step leaves out what x_0 varies about it: the samples' variance is low by `bias`, which is O(1/T).

    (x stays Gaussian, so its variance can be followed by hand: low by 1.55 % linear, 0.80 % cosine; 17.2 %, 9.07 %, 1.92 % for the
    variance-exploding one with 40, 80, 400 steps. The mean is off by less than 0.1 %, as x_T leaves out alpha_T MU.)
    """
    x = last(ddpm(ideal(schedule), schedule, start(schedule, size=64))).x
    assert abs(x.mean() / MU - 1) < 4 * S / MU / sqrt(x.size) + 0.001
    deviation = x.var() / S**2 - 1
    assert -4 * sqrt(2 / x.size) - bias < deviation < 4 * sqrt(2 / x.size)


@pytest.mark.parametrize("schedule", [cosine(50), VE, flow(50)], ids=["cosine", "variance exploding", "straight lines"])
@pytest.mark.parametrize("sampler, own", [one for one in VARIANTS if "variance" not in one[1]], ids=name_of)
def test_every_step_has_the_noise_of_its_time(sampler, own, schedule):
    """If the guess is x_0 itself, each x_t is exactly N(alpha_t x_0, sigma_t^2): DDIM is built on it, and all keep to it, with any noise."""
    x0 = np.full((2, 64, 64, 3), MU)
    alpha, sigma = schedule.at(schedule.T - 1)
    for step in sampler(lambda x, t: x0, schedule, alpha * x0 + start(schedule, size=64), steps=9, **own):
        alpha, sigma = schedule.at(step.t)
        assert abs((step.x - alpha * x0).std() - sigma) <= 4 * sigma * sqrt(0.5 / x0.size) + 1e-14


@pytest.mark.parametrize("schedule", [linear(50, 1e-3, 0.3), cosine(50), VE], ids=["linear", "cosine", "variance exploding"])
@pytest.mark.parametrize("steps", [None, 12])
def test_ddim_with_eta_1_is_ddpm(schedule, steps):
    """The two are written differently, but are one algorithm, also with fewer steps and where alpha^2 + sigma^2 is not 1."""
    x_T = start(schedule)
    ancestral = ddpm(ideal(schedule), schedule, x_T, steps, seed=3)
    for a, b in zip(ancestral, ddim(ideal(schedule), schedule, x_T, steps, seed=3, eta=1.0), strict=True):
        assert a.t == b.t
        np.testing.assert_allclose(a.x, b.x, rtol=0, atol=1e-12 * schedule.sigma[-1])  # rounding only: a few ulp a step, not amplified


def test_posterior_is_bayes_rule():
    """One DDPM step against q(x_s|x_0) q(x_t|x_s) multiplied out on a fine grid of x_s, where alpha^2 + sigma^2 is not 1."""
    schedule = Schedule([0.9, 0.5], [0.4, 1.5])
    x_t, guess = 1.3, -0.2
    alpha_ts = 0.5 / 0.9
    grid = np.linspace(-8, 8, 200_001)
    log_p = -(grid - 0.9 * guess) ** 2 / (2 * 0.4**2) - (x_t - alpha_ts * grid) ** 2 / (2 * (1.5**2 - alpha_ts**2 * 0.4**2))
    p = np.exp(log_p - log_p.max())
    mean = np.sum(p * grid) / p.sum()
    variance = np.sum(p * (grid - mean) ** 2) / p.sum()
    n = 100_000
    x = next(ddpm(lambda x, t: np.full_like(x, guess), schedule, np.full((1, n), x_t))).x
    assert abs(x.mean() - mean) < 4 * sqrt(variance / n)
    assert abs(x.var() / variance - 1) < 4 * sqrt(2 / n)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [None, 1, 7, 40])
def test_steps_end_clean(name, steps):
    """Every time is asked for once, in order, ending at the schedule's own; the last step goes from there to t = -1: no noise is left.

    Samplers that ask twice a step, ask once more in all but the last.
    """
    asked = []

    def denoise(x, t):
        asked.append(t)
        return ideal(VE)(x, t)
    walk = list(SAMPLERS[name](denoise, VE, start(VE), steps))
    times = timesteps(VE, steps or 40).tolist()
    assert len(asked) == (2 * len(times) - 1 if name in TWICE else len(times))
    assert asked[::2 if name in TWICE else 1] == times
    assert [step.t for step in walk] == times[1:] + [-1]
    # Rounding: Euler's step takes sigma_t eps out of an x that holds it, 20 * 4 at most where a single step starts at sigma 20.
    np.testing.assert_allclose(walk[-1].x, walk[-1].x0, rtol=0, atol=4e-14 if steps == 1 else 1e-15)
    if steps in (None, 40):
        assert times[-2:] == [1, 0]  # the pairs (1, 0), (0, clean): stopping at 0 would leave sigma[0] of noise


def test_ddpm_last_step_draws_no_noise():
    """The variance of the posterior is 0 at the clean end, so two seeds that share x at t = 0 share the picture."""
    schedule = linear(30)
    x = start(schedule)
    for own in ({"seed": 1}, {"seed": 2}):
        np.testing.assert_allclose(last(ddpm(ideal(schedule), schedule, x, [0.0], **own)).x, ideal(schedule)(x, 0), rtol=0, atol=1e-15)
    one, two = (next(ddpm(ideal(schedule), schedule, x, [1.0, 0.0], **own)).x for own in ({"seed": 1}, {"seed": 2}))
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sampler, own", VARIANTS, ids=name_of)
def test_pictures_do_not_depend_on_the_chunk(sampler, own, dtype):
    schedule = cosine(20)
    shape = (5, 4, 4, 3)
    whole = last(sampler(ideal(schedule), schedule, initial_noise(schedule, shape, 9, dtype=dtype), seed=9, **own)).x
    assert whole.dtype == dtype
    parts = []
    for first, n in ((0, 2), (2, 3)):
        x_T = initial_noise(schedule, (n, *shape[1:]), 9, first, dtype)
        parts.append(last(sampler(ideal(schedule), schedule, x_T, seed=9, first=first, **own)).x)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole[:, 0, 0, 0])) == 5


def test_seed_and_eta():
    schedule = cosine(20)
    x_T = start(schedule)
    ends = {(eta, seed): last(ddim(ideal(schedule), schedule, x_T, 5, seed, eta=eta)).x for eta in (0, 0.5) for seed in (1, 2)}
    np.testing.assert_array_equal(ends[0, 1], ends[0, 2])
    assert np.abs(ends[0.5, 1] - ends[0.5, 2]).max() > 0.01
    np.testing.assert_array_equal(ends[0.5, 1], last(ddim(ideal(schedule), schedule, x_T, 5, 1, eta=0.5)).x)


def test_eta_scales_the_fresh_noise():
    """Equation 16: with eta, the part drawn afresh in one step has eta times DDPM's standard deviation, measured over equal pictures."""
    x = np.ones((1, 10_000))
    posterior = VE.sigma[-2] * sqrt(1 - (VE.sigma[-2] / VE.sigma[-1]) ** 2)
    for eta in (0.25, 0.5, 1.0):
        spread = next(ddim(ideal(VE), VE, x, eta=eta)).x.std()
        assert abs(spread / (eta * posterior) - 1) < 4 * sqrt(0.5 / x.size)


def test_noise_differs_between_steps():
    """With a denoiser that always says 0, DDPM's x is its noise alone: two steps' noises must not be the same draw."""
    one, two, *_ = (step.x for step in ddpm(lambda x, t: 0 * x, VE, np.zeros((1, 64, 64, 1))))
    keep = (VE.sigma[-3] / VE.sigma[-2]) ** 2  # the second step's mean is keep * x, its noise the rest
    assert abs(np.corrcoef((two - keep * one).ravel(), one.ravel())[0, 1]) < 4 / 64  # 4 standard errors of 64 x 64 pixels


@pytest.mark.parametrize("sampler", SAMPLERS.values())
def test_x_T_is_left_alone_and_steps_can_be_kept(sampler):
    schedule = cosine(10)
    x_T = start(schedule)
    x_T.setflags(write=False)
    walk = list(sampler(ideal(schedule), schedule, x_T))
    for a, b in zip(walk, sampler(ideal(schedule), schedule, x_T), strict=True):
        np.testing.assert_array_equal(a.x, b.x)


ZERO_SNR = Schedule([0.9, 0.5, 0.0], [sqrt(0.19), sqrt(0.75), 1.0])


@pytest.mark.parametrize("schedule", [ZERO_SNR, flow(50), karras(50), linear(50, 1e-3, 0.3), Schedule([0.9], [0.4]), Schedule([0.0], [1.0])],
                         ids=["zero terminal SNR", "straight lines", "karras", "linear", "T = 1", "T = 1, noise alone"])
@pytest.mark.parametrize("sampler, own", VARIANTS, ids=name_of)
def test_any_schedule_in_any_number_of_steps(sampler, own, schedule):
    """float32 stays, nothing is NaN and nothing warns (a warning is an error here), also at alpha_T = 0, in one step, and after given times.

    The end is near the data (but of fixed_large with sigma up to 80, whose long steps leave too much noise).
    """
    x_T = start(schedule, dtype=np.float32)
    for steps in {1, min(2, schedule.T), None}:
        for step in sampler(ideal(schedule), schedule, x_T, steps, **own):
            assert step.x.dtype == step.x0.dtype == np.float32 and np.isfinite(step.x).all()
        assert step.t == -1
        assert np.abs(step.x).max() < MU + 6 * S or own == {"variance": "fixed_large"} and schedule.sigma[-1] == 80
    T = schedule.T - 1
    assert [step.t for step in sampler(ideal(schedule), schedule, x_T, [T, 0.25] if T else [0.0], **own)] == ([0.25, -1] if T else [-1])


@pytest.mark.parametrize("sampler", SAMPLERS.values())
@pytest.mark.parametrize("steps, message", [
    (41, "from 1 to the schedule's T = 40"), (0, "from 1"), ([], "fall"), ([3.0, 3.0], "fall"), ([40.0, 3.0], "at most T-1 = 39"),
    ([5.0, -1.0], "at least 0"),
])
def test_bad_steps(sampler, steps, message):
    with pytest.raises(ValueError, match=message):
        next(sampler(ideal(VE), VE, start(VE), steps))


@pytest.mark.parametrize("sampler, own, message", [
    *((ddim, {"eta": eta}, f"ddim: eta is {eta}, but must be from 0 .* to 1") for eta in (-0.1, 1.1, np.nan)),
    *((sampler, {"eta": eta}, f"{sampler.__name__}: eta is {eta}, but must be a number from 0")
      for sampler in (euler_ancestral, dpmpp_2m_sde, dpmpp_2s) for eta in (-0.1, np.inf, np.nan)),
    *((heun, {name: -1.0}, f"heun: {name} is -1.0, but must be a number from 0") for name in ("s_churn", "s_tmin", "s_tmax", "s_noise")),
    (heun, {"s_churn": np.nan}, "s_churn is nan"),
    (ddpm, {"variance": "large"}, "ddpm: unknown variance 'large'; choose one of fixed_small, fixed_large, learned"),
    (ddpm, {"variance": "learned"}, "ddpm: variance 'learned' needs a denoiser with log_variance"),
])
def test_bad_arguments(sampler, own, message):
    with pytest.raises(ValueError, match=message):
        next(sampler(ideal(VE), VE, start(VE), **own))


def test_initial_noise():
    x = initial_noise(VE, (2, 64, 64, 3))
    assert x.dtype == np.float32
    assert abs(x.std() / 20 - 1) < 4 * sqrt(0.5 / x.size)  # standard error of a standard deviation: sd / sqrt(2 n)
    np.testing.assert_array_equal(initial_noise(VE, (1, 64, 64, 3), first=1)[0], x[1])
    assert initial_noise(VE, (0, 4, 4, 3)).shape == (0, 4, 4, 3)
