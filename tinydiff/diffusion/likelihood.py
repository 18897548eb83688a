"""How likely does a diffusion model find 8-bit pictures? At most so many bits per dimension, by the variational bound.

A picture x_0 could be sent to someone who has the same denoiser: first x_T, then each x_s given the x_t before it, at last the picture itself
given the least noisy x_t. Each message costs the more bits the more what is sent differs from what the denoiser leads to expect (a KL, see
losses.py), and the sum is a bound on -log2 p(x_0) (Ho et al. 2020, arXiv 2006.11239, equation 5; computed as in the code of Nichol and Dhariwal
2021, arXiv 2102.09672):

    prior     KL( q(x_T | x_0) || N(0, sigma_T^2 I) )
    L_t       KL( q(x_s | x_t, x_0) || p(x_s | x_t) )    for each step from t to s
    L_0       -log P(x_0 | x_t)                          for the last step, to the clean picture: the decoder

q(x_s | x_t, x_0) is that of posterior.py; p(x_s | x_t) is the same with the denoiser's guess for x_0, and with the variance that DDPM
draws with. The posterior of the last step has variance 0, so no KL is taken there: the decoder says what chance each of the 256 bytes has.

The bound is exact where each true p(x_s | x_t) is a Gaussian of that mean and variance. A fixed variance is off by more the longer the step is in
log SNR, and each step costs about a quarter of the square of that, in nats: O(1/steps) together if the steps are equally long in log SNR. Steps
equally long in t never are short near the clean end, where each halves the noise or nearly so, and most of the excess remains: learn the variance,
or take flow_likelihood.py, which gives the likelihood itself.

Read first: `losses.py`, `samplers/ddpm.py`.
"""
import math
from typing import Callable, NamedTuple

import numpy as np

from tinydiff.diffusion.posterior import posterior
from tinydiff.diffusion.samplers.common import Steps, keyed_normal, moves
from tinydiff.diffusion.samplers.ddpm import VARIANCES
from tinydiff.diffusion.schedules import Schedule

BOUND_NOISE = 43  # a stream of random numbers: the noise of step n and picture i is drawn by default_rng([seed, BOUND_NOISE, n, i])
LEAST_CHANCE = 1e-12  # of a byte: one that the decoder rules out costs 40 bits, not infinitely many


class Bound(NamedTuple):
    """The variational bound in bits per dimension, whole and in parts, for each of N pictures and K steps; float64.

    total  (N,)   prior + sum of terms
    prior  (N,)
    terms  (N,K)  the decoder's L_0 first, then L_t at growing t
    t      (K,)   their times
    """
    total: np.ndarray
    prior: np.ndarray
    terms: np.ndarray
    t: np.ndarray


def variational_bound(denoise: Callable, schedule: Schedule, images: np.ndarray, steps: Steps = None, seed: int = 0, *,
                      variance: str = "fixed_small", first: int = 0) -> Bound:
    """Bits per dimension of 8-bit pictures by the variational bound, with one draw of the noise for each step.

    denoise   (x, t) -> guess of x_0; clip it (`clip_x0`) as improved-diffusion does: pictures lie in [-1, 1].
    images    (N,H,W,C) uint8.
    steps     how many (None: all T, one evaluation of the denoiser each), or the decreasing times themselves, as in a sampler; at least 2.
    variance  of p(x_s | x_t): "fixed_small" or "fixed_large" (see `ddpm`), or "learned": exp(denoise.log_variance(x, t, s)).
              With a fixed one, the decoder takes the small variance of the step before it, whose own would be 0.
    first     index of the first picture in the whole set: a set in chunks then has the bounds of the set at once.

    Any schedule will do: nothing here needs alpha^2 + sigma^2 = 1. Raises TypeError where images aren't uint8, ValueError for an unknown
    variance, for "learned" where the denoiser has learnt none, and for a single step.
    """
    x_0 = in_model_space("variational_bound", images)
    if variance not in VARIANCES:
        raise ValueError(f"variational_bound: unknown variance {variance!r}; choose one of {', '.join(VARIANCES)}")
    if variance == "learned" and not hasattr(denoise, "log_variance"):
        raise ValueError("variational_bound: variance 'learned' needs a denoiser with log_variance(x, t, s), as one of a network that learnt its "
                         "variance has; this one has none: use 'fixed_small' or 'fixed_large'")
    walk = list(moves(schedule, steps))
    if len(walk) < 2:
        raise ValueError("variational_bound: one step is the decoder alone, which takes its variance from the step before it; at least 2 steps "
                         f"are needed (the schedule has T = {schedule.T})")
    terms, small = [], 0.0
    for move in walk:
        t, s, decoding = move.t, move.s, move.s == -1
        coefficient, large, beta_tilde = posterior(schedule, t, s)
        if not decoding:
            small = beta_tilde  # kept for the decoder
        x_t = move.alpha_t * x_0 + move.sigma_t * keyed_normal(x_0.shape, [seed, BOUND_NOISE, move.number], first)
        guess = denoise(x_t, t)
        if variance == "learned":
            v = np.exp(denoise.log_variance(x_t, t, s))  # (N,H,W,C)
        else:
            v = large if variance == "fixed_large" and not decoding else small
        if decoding:
            nats = -np.log(np.maximum(byte_chance(x_0, guess, np.sqrt(v)), LEAST_CHANCE))
        else:
            mean_error = coefficient * (x_0 - guess)  # x_t has the same part in both means
            nats = (np.log(v / small) + (small + mean_error**2) / v - 1) / 2
        terms.append(bits_per_dimension(nats))
    by_step = np.stack(terms[::-1], axis=1)  # (N,K)
    prior = bits_per_dimension((walk[0].alpha_t / walk[0].sigma_t * x_0) ** 2 / 2)  # the variances are equal, only the means differ
    return Bound(prior + by_step.sum(axis=1), prior, by_step, np.array([move.t for move in walk[::-1]]))


def byte_chance(x_0, mean, deviation) -> np.ndarray:
    """The chance that a number drawn from N(mean, deviation^2) is rounded to the byte that x_0 in [-1, 1] stands for: arrays of x_0's shape.

    A byte owns the numbers within 1/255 of it, 0 and 255 also all beyond (Ho et al. 2020, equation 13).
    """
    low = np.where(x_0 < -0.999, -np.inf, (x_0 - mean - 1 / 255) / deviation)
    high = np.where(x_0 > 0.999, np.inf, (x_0 - mean + 1 / 255) / deviation)
    # Far above the mean both cumulative chances are nearly 1 and their difference is lost: there, take it on the other side.
    mirror = low > 0
    low, high = np.where(mirror, -high, low), np.where(mirror, -low, high)
    return normal_cdf(high) - normal_cdf(low)


# The chance that N(0, 1) is below z. NumPy has no error function; the decoder needs it only once a picture.
normal_cdf = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[np.float64])


def bits_per_dimension(nats) -> np.ndarray:
    """(N,H,W,C) nats, one for each number of a picture -> (N,) bits, their mean."""
    return nats.reshape(len(nats), -1).mean(axis=1) / math.log(2)


def in_model_space(name, images) -> np.ndarray:
    """Bytes (N,H,W,C) -> float64 in [-1, 1], or an error that names the caller: TypeError unless uint8, as a byte is what has a probability."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"{name}: images must be uint8, not {images.dtype} (shape {images.shape}): bits per dimension are those of 8-bit pictures")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"{name}: images must be (N,H,W,C) with at least one picture, got {images.shape}")
    return images / 127.5 - 1
