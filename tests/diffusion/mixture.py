"""Data with a perfect denoiser in closed form: each pixel by itself is drawn from a mixture of two Gaussians. No network, exact answers.

At time t the pixel is a mixture too, of N(alpha m_k, v_k) with v_k = alpha^2 s_k^2 + sigma^2. And since a flow in one dimension keeps points in
order, the probability flow takes the quantiles at t to the same quantiles at s: its end is known without integrating anything.
"""
from math import erf, sqrt

import numpy as np

from tinydiff.diffusion import Schedule

W, M, S = np.array([0.35, 0.65]), np.array([-0.6, 0.5]), np.array([0.3, 0.2])  # weights, means, standard deviations
MEAN = float(W @ M)
VARIANCE = float(W @ (S**2 + (M - MEAN) ** 2))
SKEW = float(W @ ((M - MEAN) ** 3 + 3 * (M - MEAN) * S**2))   # the third central moment
KURTOSIS = float(W @ ((M - MEAN) ** 4 + 6 * (M - MEAN) ** 2 * S**2 + 3 * S**4))  # the fourth


def karras(T=1000, sigma_min=0.002, sigma_max=80, rho=7) -> Schedule:
    """Karras et al. 2022, equation 5, turned round: index 0 the least noise. alpha = 1."""
    return Schedule(np.ones(T), np.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), T) ** rho)


def flow(T=1000) -> Schedule:
    """Straight lines: alpha = 1 - sigma. Ends at alpha = 0."""
    sigma = np.arange(1, T + 1) / T
    return Schedule(1 - sigma, sigma)


def posterior(alpha, sigma, x):
    """For noisy pixels x (...): each component's probability, mean and variance of x_0, (...,2), (...,2) and (2,)."""
    v = alpha**2 * S**2 + sigma**2
    z = x[..., None] - alpha * M
    log_p = np.log(W) - z**2 / (2 * v) - np.log(v) / 2
    p = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True), M + alpha * S**2 / v * z, S**2 * sigma**2 / v


def denoiser(schedule):
    """The mean of x_0 given x_t, what a perfect network says."""
    def denoise(x, t):
        p, mean, _ = posterior(*schedule.at(t), x)
        return (p * mean).sum(axis=-1).astype(x.dtype)
    return denoise


def data(shape, seed=0):
    """x_0: pixels of the mixture, of `shape`."""
    rng = np.random.default_rng(seed)
    k = rng.choice(2, size=shape, p=W)
    return M[k] + S[k] * rng.standard_normal(shape)


def noisy(schedule, t, shape, seed=0):
    """x_t of pictures that the mixture drew: where a sampler may start without an error."""
    alpha, sigma = schedule.at(t)
    return alpha * data(shape, seed) + sigma * np.random.default_rng(seed + 1).standard_normal(shape)


def cdf(alpha, sigma, x):
    return (W / 2 * (1 + np.vectorize(erf)((x[..., None] - alpha * M) / np.sqrt(2 * (alpha**2 * S**2 + sigma**2))))).sum(axis=-1)


def flowed(schedule, x_t, t, s):
    """Where the probability flow takes the pixels x_t by time s: the same quantiles, found by bisection."""
    quantile = cdf(*schedule.at(t), x_t)
    alpha, sigma = schedule.at(s)
    widest = sqrt(alpha**2 * S.max() ** 2 + sigma**2)
    low, high = np.full_like(x_t, alpha * M.min() - 9 * widest), np.full_like(x_t, alpha * M.max() + 9 * widest)
    for _ in range(60):  # 60 halvings of an interval that is at most 1500 wide: 1e-15
        middle = (low + high) / 2
        below = cdf(alpha, sigma, middle) < quantile
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def last(steps):
    *_, step = steps
    return step
