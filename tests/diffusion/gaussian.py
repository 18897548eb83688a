"""Gaussian data N(MU, S^2) for each pixel, rounded to bytes: all that a model could learn of them has a closed form."""
import math

import numpy as np

MU, S = 0.1, 0.2  # the ends, -1 and 1, are 4.5 standard deviations away


def ideal(schedule):
    """The best denoiser, E[x_0 | x_t], with its derivative and with the true variance of each step: Var[x_s | x_t]."""
    def gain(t):
        alpha, sigma = schedule.at(t)
        return alpha * S**2 / (alpha**2 * S**2 + sigma**2)

    def denoise(x, t):
        return MU + gain(t) * (x - schedule.at(t)[0] * MU)

    def log_variance(x, t, s):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        of_s, of_t = alpha_s**2 * S**2 + sigma_s**2, alpha_t**2 * S**2 + sigma_t**2
        covariance = alpha_t / alpha_s * of_s                       # x_t = alpha_t / alpha_s x_s + noise
        return np.full(x.shape, math.log(of_s - covariance**2 / of_t))
    denoise.vjp = lambda x, t, u: gain(t) * u
    denoise.log_variance = log_variance
    return denoise


def pictures(n, size=32, seed=0):
    x = MU + S * np.random.default_rng(seed).standard_normal((n, size, size, 3))
    return np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)


def true_bits(images):
    """-log2 of the chance of each picture's bytes, a dimension: (N,)."""
    bits = [-math.log2((math.erf((byte + 0.5 - MEAN) / WIDTH) - math.erf((byte - 0.5 - MEAN) / WIDTH)) / 2) for byte in range(256)]
    return np.array(bits)[images].reshape(len(images), -1).mean(axis=1)


MEAN, WIDTH = (MU + 1) * 127.5, S * 127.5 * math.sqrt(2)  # in grey levels
