"""What theory says is the same algorithm: the samplers against each other, and against the same method in other coordinates."""
import numpy as np
import pytest

from tests.diffusion.mixture import denoiser, flow, karras, last, noisy
from tinydiff.diffusion import cosine, ddim, ddpm, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, euler, euler_ancestral, heun, linear, timesteps, unipc

SCHEDULES = {"linear": linear(), "cosine": cosine(), "karras": karras(), "flow": flow()}
EXACT = 1e-10    # rounding: values of at most 300, and sigma/alpha of at most 20,000 in the coordinates x/alpha, times 2^-53, over 20 steps


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param]


def beginning(schedule, steps=20):
    """The times of a run in which alpha > 0, as some coordinates need it, and x at the first."""
    times = timesteps(schedule, steps)
    times = times[schedule.alpha[times.astype(int)] > 0]
    return times, noisy(schedule, times[0], (3, 4, 4, 1))


def assert_same_walk(ours, other):
    for a, b in zip(ours, other, strict=True):
        assert a.t == b.t
        np.testing.assert_allclose(a.x, b.x, rtol=0, atol=EXACT)


def test_ddim_is_euler_in_the_coordinates_x_over_alpha_and_sigma_over_alpha(schedule):
    times, x_T = beginning(schedule)
    denoise = denoiser(schedule)
    alpha, sigma = schedule.at(np.array([*times, -1]))
    y, level = x_T / alpha[0], sigma / alpha
    for i, (a, b) in enumerate(zip(ddim(denoise, schedule, x_T, times), euler(denoise, schedule, x_T, times), strict=True)):
        slope = (y - denoise(alpha[i] * y, times[i])) / level[i]                    # eps
        y = y + (level[i + 1] - level[i]) * slope
        for step in (a, b):
            np.testing.assert_allclose(step.x, alpha[i + 1] * y, rtol=0, atol=EXACT)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_euler_ancestral_is_ddim_with_fresh_noise(schedule, eta):
    x_T = noisy(schedule, 999, (3, 4, 4, 1))
    assert_same_walk(euler_ancestral(denoiser(schedule), schedule, x_T, 20, seed=3, eta=eta),
                     ddim(denoiser(schedule), schedule, x_T, 20, seed=3, eta=eta))


@pytest.mark.parametrize("first_order, same, own", [
    (dpmpp_2m, ddim, {}), (dpmpp_2m_sde, ddim, {"eta": 0.0}), (unipc, ddim, {}), (dpmpp_2m_sde, ddpm, {"eta": 1.0}),
], ids=["2M", "2M SDE without noise", "UniPC", "2M SDE with DDPM's noise"])
def test_first_order_dpm_solver_is_ddim_or_ddpm(schedule, first_order, same, own):
    """The first step of a multistep solver has no other guess to use. So it is taken from each time of a run."""
    times = [*timesteps(schedule, 20), 0.0]
    x = noisy(schedule, 999, (3, 4, 4, 1))
    for t, s in zip(times, times[1:]):
        one, other = (next(sampler(denoiser(schedule), schedule, x, [t, s], seed=5, **more)).x
                      for sampler, more in ((first_order, own), (same, {})))
        np.testing.assert_allclose(one, other, rtol=0, atol=EXACT)
        x = one


def test_2m_sde_without_noise_is_2m(schedule):
    x_T = noisy(schedule, 999, (3, 4, 4, 1))
    assert_same_walk(dpmpp_2m_sde(denoiser(schedule), schedule, x_T, 20, eta=0), dpmpp_2m(denoiser(schedule), schedule, x_T, 20))


def test_heun_on_straight_lines_is_heuns_method_in_t():
    """On alpha = 1 - sigma the velocity is eps - x_0, and sigma is the time."""
    schedule, x = flow(), noisy(flow(), 999, (3, 4, 4, 1))
    denoise, times = denoiser(schedule), [*timesteps(schedule, 10), -1.0]

    def velocity(x, t):
        alpha, sigma = schedule.at(t)
        x0 = denoise(x, t)
        return (x - alpha * x0) / sigma - x0
    for i, step in enumerate(heun(denoise, schedule, x, 10)):
        t, s = times[i:i + 2]
        length = schedule.at(s)[1] - schedule.at(t)[1]
        slope = velocity(x, t)
        if s >= 0:
            slope = (slope + velocity(x + length * slope, s)) / 2
        x = x + length * slope
        np.testing.assert_allclose(step.x, x, rtol=0, atol=EXACT)


@pytest.mark.parametrize("sampler", [ddim, euler, heun, dpmpp_2m, dpmpp_2s, unipc])
def test_without_noise_the_seed_changes_nothing(schedule, sampler):
    x_T = noisy(schedule, 999, (2, 4, 4, 1))
    ends = [last(sampler(denoiser(schedule), schedule, x_T, 5, seed)).x for seed in (0, 1)]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("sampler, own", [(ddpm, {}), (ddim, {"eta": 1.0}), (euler_ancestral, {}), (heun, {"s_churn": 5.0}), (dpmpp_2m_sde, {}),
                                          (dpmpp_2s, {"eta": 1.0})])
def test_with_noise_it_does(schedule, sampler, own):
    x_T = noisy(schedule, 999, (2, 4, 4, 1))
    one, again, other = (last(sampler(denoiser(schedule), schedule, x_T, 5, seed, **own)).x for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01
