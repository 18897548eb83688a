"""The way back when x_0 is known, against Bayes' rule by numbers."""
import numpy as np
import pytest

from tinydiff.diffusion import Schedule, cosine, flow, karras, linear
from tinydiff.diffusion.posterior import log_variance_range, posterior


@pytest.mark.parametrize("schedule, t, s", [(Schedule([0.9, 0.5], [0.4, 1.5]), 1, 0), (cosine(), 500.5, 320.25), (flow(10), 9, 4)], ids=repr)
def test_posterior_is_bayes_rule(schedule, t, s):
    """q(x_s | x_0) q(x_t | x_s) multiplied out on a fine grid of x_s, for two x_0: the mean moves by the coefficient, the variance stays."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    x_t, grid, means = 1.3, np.linspace(-12, 12, 200_001), []
    coefficient, beta, beta_tilde = posterior(schedule, t, s)
    for x_0 in (-0.2, 0.8):
        log_p = -(grid - alpha_s * x_0) ** 2 / (2 * sigma_s**2) - (x_t - alpha_t / alpha_s * grid) ** 2 / (2 * beta)
        p = np.exp(log_p - log_p.max())
        means.append(np.sum(p * grid) / p.sum())
        assert beta_tilde == pytest.approx(np.sum(p * (grid - means[-1]) ** 2) / p.sum(), rel=1e-9)
    assert coefficient == pytest.approx(means[1] - means[0], rel=1e-9)  # sums of a smooth function that ends at 0: no error but rounding
    assert beta + (alpha_t / alpha_s) ** 2 * sigma_s**2 == pytest.approx(sigma_t**2, rel=1e-12)  # the two steps make the whole jump's noise


def test_single_steps_have_the_papers_betas():
    schedule = linear()
    t = np.arange(1, 1000)
    coefficient, beta, beta_tilde = posterior(schedule, t, t - 1)
    alpha_bar, before = schedule.alpha_bar[1:], schedule.alpha_bar[:-1]
    np.testing.assert_allclose(beta, schedule.betas[1:], rtol=1e-9)  # differences of alpha_bar, 1e-4 of it
    np.testing.assert_allclose(beta_tilde, (1 - before) / (1 - alpha_bar) * schedule.betas[1:], rtol=1e-9)
    np.testing.assert_allclose(coefficient, np.sqrt(before) * schedule.betas[1:] / (1 - alpha_bar), rtol=1e-9)


def test_the_range_is_finite_and_ordered_down_to_the_clean_end():
    for schedule in (linear(), cosine(), karras(50), flow(50), Schedule([0.6], [0.8])):
        t = np.arange(schedule.T, dtype=float)
        low, high = log_variance_range(schedule, t, t - 1)
        assert np.isfinite(low).all() and np.isfinite(high).all() and np.all(low <= high)
