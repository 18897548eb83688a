"""A step or two of each sampler with numbers worked out by hand from the papers, or from k-diffusion's definitions where it made them.

The denoisers here say what they are told to, whatever x is, so that a step is a sum of few terms. Most schedules have alpha = 1 and sigmas that
are powers of 2: lambda = -ln sigma then grows by ln 2.
"""
from math import log, sqrt

import numpy as np
import pytest

from tinydiff.diffusion import Schedule, ddpm, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, euler, euler_ancestral, heun, unipc
from tinydiff.diffusion.samplers.common import noise

TWOS = Schedule(np.ones(6), [0.5, 1, 2, 4, 8, 16])                # sigma = 2^(t-1)
VP = Schedule([0.8, 0.6], [0.6, 0.8])                             # lambda = ln(4/3), ln(3/4): h = ln(16/9), e^-h = 9/16
SHAPE = (1, 3, 3, 1)
Z = noise(SHAPE, np.float64, 0, 1)                                # what is drawn for the first step
START = np.full(SHAPE, 8.0)


def saying(*guesses):
    """A denoiser with these guesses, in this order; denoise.asked are the times, denoise.x the first pixels."""
    answers = iter(guesses)

    def denoise(x, t):
        denoise.asked.append(t)
        denoise.x.append(x[0, 0, 0, 0])
        return np.full_like(x, next(answers))
    denoise.asked, denoise.x = [], []
    return denoise


def take(steps, n):
    return [step.x for step, _ in zip(steps, range(n))]


def near(x, value):
    np.testing.assert_allclose(x, np.broadcast_to(value, SHAPE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variance, deviation", [("fixed_small", sqrt(1 / 6)), ("fixed_large", sqrt(1 / 2)), ("learned", 0.25)])
def test_ddpm(variance, deviation):
    """alpha_bar 0.4 after 0.8: beta = 1 - 0.4 / 0.8 = 1/2, beta tilde = (1 - 0.8) / (1 - 0.4) / 2 = 1/6 (Ho et al. 2020, equation 7)."""
    schedule = Schedule(np.sqrt([0.8, 0.4]), np.sqrt([0.2, 0.6]))
    denoise = saying(2.0, 1.0)
    denoise.log_variance = lambda x, t, s: np.full_like(x, log(0.25**2))
    one, two = take(ddpm(denoise, schedule, START, variance=variance), 2)
    near(one, sqrt(0.8) * 0.5 / 0.6 * 2 + sqrt(0.5) * 0.2 / 0.6 * 8 + deviation * Z)
    near(two, 1.0)                                                # the last mean is the guess


def test_learned_variance_is_asked_for_each_step_but_the_last():
    """In x's dtype, with x_t, t and s; a variance of its own for each pixel."""
    asked = []
    deviations = np.linspace(0, 2, 9).reshape(SHAPE)

    def log_variance(x, t, s):
        asked.append((t, s, x[0, 0, 0, 0]))
        with np.errstate(divide="ignore"):
            return np.log(deviations.astype(x.dtype) ** 2)        # -inf: no noise at all
    denoise = saying(0.0, 0.0, 0.0)
    denoise.log_variance = log_variance
    x, *_ = take(ddpm(denoise, TWOS, START.astype(np.float32), [3.0, 2.0, 1.0], variance="learned"), 3)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, 8 * 4 / 16 + deviations * Z, rtol=1e-6)   # alpha = 1: the mean is x sigma_s^2 / sigma_t^2
    assert asked == [(3, 2, 8.0), (2, 1, x[0, 0, 0, 0])]
    again = saying(0.0, 0.0, 0.0)
    again.log_variance = log_variance
    default, *_ = take(ddpm(again, TWOS, START.astype(np.float32), [3.0, 2.0, 1.0]), 3)
    np.testing.assert_array_equal(default, x)                               # who has learnt the variance is asked for it


def test_euler():
    """eps = (8 - 4) / 4 = 1, and sigma falls by 2; with alpha, the picture's part grows too: 0.8 * 2 + 0.6 (8 - 0.6 * 2) / 0.8."""
    near(next(euler(saying(4.0), TWOS, START, [3.0, 2.0])).x, 8 - 2 * 1)
    near(next(euler(saying(2.0), VP, START)).x, 0.8 * 2 + 0.6 * 8.5)


@pytest.mark.parametrize("eta, down, up", [(0, 3, 0), (0.5, sqrt(9 - 1.44), 1.2), (1, 1.8, 2.4), (1.25, 0, 3), (2, 0, 3)])
def test_euler_ancestral(eta, down, up):
    """From sigma 5 to 3: sigma_up = eta sqrt(9 (25 - 9) / 25) = 2.4 eta, at most 3; eps = (8 - 3) / 5 = 1."""
    schedule = Schedule(np.ones(2), [3, 5])
    near(next(euler_ancestral(saying(3.0), schedule, START, eta=eta)).x, 3 + down * 1 + up * Z)


def test_heun():
    """eps = 8/4 = 2, so x' = 4, where eps' = (4 - 2) / 2 = 1: the mean slope is 1.5. The last step is Euler's, and ends at its guess."""
    denoise = saying(0.0, 2.0, 3.0)
    one, two = take(heun(denoise, TWOS, START, [3.0, 2.0]), 2)
    near(one, 8 - 2 * 1.5)
    near(two, 3.0)
    assert denoise.asked == [3, 2, 2] and denoise.x == [8, 4, 5]


def test_heun_with_alpha():
    """alpha grows by 0.2 and sigma falls by 0.2; the guess and its eps are 1 and (8 - 0.6) / 0.8 = 9.25, then 3 and (x' - 2.4) / 0.6."""
    euler_x = 8 + 0.2 * 1 - 0.2 * 9.25
    near(next(heun(saying(1.0, 3.0), VP, START)).x, 8 + 0.1 * (1 + 3) - 0.1 * (9.25 + (euler_x - 2.4) / 0.6))


@pytest.mark.parametrize("s_churn, s_noise, sigma_hat, added", [
    (0.5, 1.0, 5, 3),                                             # gamma = 0.5 / 2 steps: sigma from 4 to 5, and 3^2 = 5^2 - 4^2
    (0.5, 1.1, 5, 3.3),
    (80, 1.0, sqrt(32), 4),                                       # gamma is at most sqrt(2) - 1
])
def test_churn(s_churn, s_noise, sigma_hat, added):
    denoise = saying(0.0, 0.0, 0.0, 0.0)
    one, _ = take(heun(denoise, TWOS, START, [3.0, 2.0], s_churn=s_churn, s_noise=s_noise, s_tmin=3, s_tmax=4), 2)
    near(one, (8 + added * Z) * 2 / sigma_hat)                    # a guess of 0: x stays in proportion to sigma
    assert abs(TWOS.at(denoise.asked[0])[1] - sigma_hat) < 1e-12
    assert denoise.asked[1:] == [2, 2]                            # sigma = 2 is below s_tmin: no churn


def test_no_churn_above_s_tmax():
    denoise = saying(0.0, 0.0, 0.0)
    near(next(heun(denoise, TWOS, START, [3.0, 2.0], s_churn=80, s_tmax=3.9)).x, 8 * 2 / 4)
    assert denoise.asked == [3, 2]


def test_churn_goes_no_higher_than_the_schedule():
    denoise = saying(0.0, 0.0, 0.0)
    x = next(heun(denoise, TWOS, START, [5.0, 3.0], s_churn=80, seed=1)).x
    near(x, 8 * 4 / 16)
    assert denoise.asked == [5, 3]


def test_churn_with_alpha_is_the_forward_process():
    """From the noise level 3/4, gamma 1/3, to 1, where alpha = sigma = sqrt(1/2): q(x_t^ | x_t) has variance 1/2 - (1/2 / 0.64) 0.36."""
    denoise = saying(0.0)
    near(next(heun(denoise, VP, START, [0.0], s_churn=1 / 3)).x, 0)
    assert abs(denoise.asked[0] - 0.5) < 1e-12                    # alpha^2 = 0.5 is half of the way from 0.64 to 0.36
    assert abs(denoise.x[0] - (sqrt(0.5) / 0.8 * 8 + sqrt(0.5 - 0.5 / 0.64 * 0.36) * Z[0, 0, 0, 0])) < 1e-12


def test_dpmpp_2m():
    """h = ln 2, then 2 ln 2: r = 1/2, D = 2 * 3 - 1 = 5. The last step has D = x_0 again."""
    one, two, three = take(dpmpp_2m(saying(1.0, 3.0, 7.0), TWOS, START, [3.0, 2.0, 0.0]), 3)
    near(one, 8 / 2 + 1 / 2 * 1)
    near(two, 4.5 / 4 + 3 / 4 * 5)
    near(three, 7)


def test_dpmpp_2m_with_alpha():
    """sigma_s / sigma_t = 3/4, and alpha_s (1 - e^-h) = 0.8 * 7/16 = 0.35."""
    near(next(dpmpp_2m(saying(2.0), VP, START)).x, 0.75 * 8 + 0.35 * 2)


def test_dpmpp_2m_sde():
    """eta = 1 halves once more: e^-h = 1/2, x comes in with (1/2)^2, D with 1 - (1/2)^2, fresh noise with 2 sqrt(1 - (1/2)^2) = sqrt(3).

    eta = 1/2: x with 2^-1.5, D with 1 - 2^-1.5, noise with 2 sqrt(1 - 1/2). Second step, r = 1: D = 1.5 * 3 - 0.5 * 1 = 4.
    """
    one, two = take(dpmpp_2m_sde(saying(1.0, 3.0, 7.0), TWOS, START, [3.0, 2.0, 1.0]), 2)
    near(one, 8 / 4 + 3 / 4 * 1 + sqrt(3) * Z)
    near(two, one / 4 + 3 / 4 * 4 + sqrt(3) / 2 * noise(SHAPE, np.float64, 0, 2))
    half = next(dpmpp_2m_sde(saying(1.0), TWOS, START, [3.0, 2.0], eta=0.5)).x
    near(half, 8 * 2**-1.5 + (1 - 2**-1.5) * 1 + sqrt(2) * Z)


def test_dpmpp_2s():
    """From sigma 4 to 1 by way of 2, where x_m = 8/2 + 2/2 = 5 and the guess is 4: that one, not the first, counts for the step."""
    denoise = saying(2.0, 4.0, 9.0)
    one, two = take(dpmpp_2s(denoise, TWOS, START, [3.0, 1.0]), 2)
    near(one, 8 / 4 + 3 / 4 * 4)
    near(two, 9)
    np.testing.assert_allclose(denoise.asked, [3, 2, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(denoise.x, [8, 5, 5], rtol=0, atol=1e-12)


def test_dpmpp_2s_with_alpha():
    """Half of h = ln(16/9) is ln(4/3), to lambda = 0: x_m = sqrt(1/2) (8 / 0.8 + (1 - 3/4) 2), then 3/4 x + 0.35 D."""
    denoise = saying(2.0, 4.0)
    near(next(dpmpp_2s(denoise, VP, START)).x, 0.75 * 8 + 0.35 * 4)
    np.testing.assert_allclose(denoise.x, [8, sqrt(0.5) * (10 + 0.5)], rtol=0, atol=1e-12)


def test_dpmpp_2s_ancestral():
    """From sigma 5 to 3, eta = 1: sigma_down = 1.8, sigma_up = 2.4 as in Euler ancestral, the midpoint at sigma = sqrt(5 * 1.8) = 3."""
    schedule = Schedule(np.ones(3), [1, 3, 5])
    denoise = saying(1.0, 2.0)
    near(next(dpmpp_2s(denoise, schedule, START, [2.0, 1.0], eta=1)).x, 1.8 / 5 * 8 + (1 - 1.8 / 5) * 2 + 2.4 * Z)
    np.testing.assert_allclose(denoise.asked, [2, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(denoise.x, [8, 3 / 5 * 8 + 2 / 5 * 1], rtol=0, atol=1e-12)


def test_unipc():
    """B(h) = 1 - e^-h = 1/2 at each step, h = ln 2.

    UniP-1 predicts 8/2 + 1/2 = 4.5; UniC-1, told that the guess there is 3, adds B/2 (3 - 1) = 0.5: 5.
    UniP-2, r = 1: 5/2 + 1/2 (3 + 1/2 (3 - 1)) = 4.5. Told 4 there, UniC-2 weighs the two differences with the a_1, a_2 that the paper's equations
    give: with c = 1 - 1 / (2 ln 2) = 0.2786525, a_1 + a_2 = c / B = 0.5573050 and -a_1 + a_2 = 2 (1/2 - c / ln 2) / B = 0.3919578, so
    a_1 = 0.0826736, a_2 = 0.4746314, and x = 5/2 + 3/2 + B (a_1 (3 - 1) + a_2 (4 - 3)).
    """
    denoise = saying(1.0, 3.0, 4.0, 9.0)
    one, two, three, _ = take(unipc(denoise, TWOS, START, [3.0, 2.0, 1.0, 0.0]), 4)
    near(one, 4.5)
    near(two, 5 / 2 + 1 / 2 * (3 + 1 / 2 * (3 - 1)))
    corrected = 5 / 2 + 3 / 2 + 1 / 2 * (0.0826736 * (3 - 1) + 0.4746314 * (4 - 3))
    np.testing.assert_allclose(three, corrected / 2 + 1 / 2 * (4 + 1 / 2 * (4 - 3)), rtol=0, atol=1e-7)   # the digits above


def test_unipc_with_steps_of_two_lengths():
    """From sigma 16 by 8 and 2 to 1: r = 1/2, then 2. UniC integrates the parabola through the guesses 1, 3, 4 at u = -1/2, 0, 1: a fine sum here.

    The first step as above: 5 at sigma 8. UniP-2 at the last: D = 4 + 1/2 (4 - 3) / 2.
    """
    *_, three = take(unipc(saying(1.0, 3.0, 4.0, 9.0), TWOS, START, [5.0, 4.0, 2.0, 1.0]), 3)
    u, h = (np.arange(10**5) + 0.5) / 10**5, log(4)
    parabola = np.polyval(np.polyfit([-0.5, 0, 1], [1, 3, 4], 2), u)
    corrected = 5 / 4 + np.mean(h * np.exp(-h * (1 - u)) * parabola)
    np.testing.assert_allclose(three, corrected / 2 + 1 / 2 * (4 + 1 / 4), rtol=0, atol=1e-9)  # the sum: 1e-10 times a second derivative
