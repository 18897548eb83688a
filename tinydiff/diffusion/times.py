"""Times: which t to train on, which to stop at when sampling, and how the network is told.

Read first: `schedules.py`.
"""
import numpy as np
from numpy.typing import ArrayLike

from tinydiff.diffusion.schedules import Schedule

TIME_SAMPLINGS = ("stratified", "uniform", "lognormal")
SPACINGS = ("trailing", "leading", "linspace", "log_snr")


def training_times(schedule: Schedule, n: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
    """n times to train on, drawn by rng: (n,) float64 in 0 to T-1. Raises ValueError for an unknown sampling.

    stratified  uniform, and spread evenly over the batch: `stratified_times`
    uniform     each by itself (Ho et al. 2020, arXiv 2006.11239, algorithm 1)
    lognormal   most where a picture takes shape: `lognormal_times`
    """
    if sampling == "stratified":
        return stratified_times(n, schedule.T, rng.random())
    if sampling == "uniform":
        return rng.random(n) * (schedule.T - 1)
    if sampling == "lognormal":
        return lognormal_times(schedule, rng.standard_normal(n))
    raise ValueError(f"training_times: unknown time sampling {sampling!r}; choose one of {', '.join(TIME_SAMPLINGS)}")


def stratified_times(n: int, T: int, u: float) -> np.ndarray:
    """n training times spread evenly over 0 to T-1: one random offset u in [0, 1) shifts the whole comb.

    Returns (n,) float64, ((u + i/n) mod 1) (T-1). Each time alone is uniform, but a batch never has all of its times at one end, so the
    loss varies less from batch to batch (Kingma et al. 2021, arXiv 2107.00630, appendix I).
    """
    if not 0 <= u < 1:
        raise ValueError(f"stratified_times: u is {u}, but must be at least 0 and below 1")
    return (u + np.arange(n) / n) % 1 * (T - 1)


def lognormal_times(schedule: Schedule, z: ArrayLike, mean: float = -1.2, std: float = 1.2) -> np.ndarray:
    """The times at which ln(sigma/alpha) = mean + std z: z (N,) from N(0, 1) gives EDM's times to train on, (N,).

    (Karras et al. 2022, arXiv 2206.00364, table 1 and section 5.) With little noise there is nothing left to learn, and in much noise nothing can
    be told. What the schedule doesn't reach is moved to its nearest end, 0 or T-1.
    """
    return np.maximum(time_of_log_snr(schedule, -2 * (mean + std * np.asarray(z, dtype=np.float64))), 0)


def time_of_log_snr(schedule: Schedule, log_snr: ArrayLike) -> np.ndarray:
    """The time t at which the schedule has this finite log SNR, 2 ln(alpha/sigma): the inverse of `schedule.at`, of log_snr's shape (...).

    From the clean picture at t = -1, whose SNR is infinite, to T-1, which stands for all log SNRs below its own. Between two grid points
    alpha^2 and sigma^2 are straight lines in t, so alpha^2 = SNR sigma^2 is one linear equation.
    """
    snr = np.exp(np.asarray(log_snr, dtype=np.float64))
    alpha2, sigma2 = np.concatenate([[1.0], schedule.alpha**2]), np.concatenate([[0.0], schedule.sigma**2])     # (T+1,), from t = -1
    i = np.clip(np.searchsorted(-schedule.snr, -snr, side="right"), 0, schedule.T - 1)      # the SNR falls: it is between those at i and i + 1
    above = alpha2[i] - snr * sigma2[i]                    # how far alpha^2 lies above SNR sigma^2 at i, >= 0,
    below = snr * sigma2[i + 1] - alpha2[i + 1]            # and below it at i + 1
    return i - 1 + np.clip(above / (above + below), 0, 1)


def timesteps(schedule: Schedule, steps: int, spacing: str = "trailing") -> np.ndarray:
    """The times at which a sampler that takes `steps` steps asks the denoiser: (steps,) float64, decreasing. Then comes t = -1, clean.

    trailing  starts at T-1, steps of T/steps, the last as long as the others: 999, 979, ..., 19 for 50 of 1000
    leading   ends at 0, steps of T/steps: 980, 960, ..., 0. Starts with less noise than pure noise has.
    linspace  both ends: 999, 978.6, ..., 0
    log_snr   both ends, with the same factor of the SNR from each to the next (Lu et al. 2022, arXiv 2206.00927, section 3.3). Where
              alpha = 0 at T-1, the log SNR there is minus infinity: the times are those of a schedule that ends at T-2, but the first
              of them is T-1.

    (The first three: Lin et al. 2023, arXiv 2305.08891, table 2; not rounded here, as t may be real.) Raises ValueError unless
    1 <= steps <= T.
    """
    T = schedule.T
    if steps != int(steps) or not 1 <= steps <= T:
        raise ValueError(f"timesteps: steps is {steps}, but must be a whole number from 1 to the schedule's T = {T}")
    if spacing == "trailing":
        return np.linspace(T - 1, -1, steps + 1)[:-1]
    if spacing == "leading":
        return np.linspace(T, 0, steps + 1)[1:]
    if spacing == "linspace":
        return np.linspace(T - 1, 0, steps)
    if spacing == "log_snr":
        if steps == 1:
            return np.array([T - 1.0])
        last = T - 1 if schedule.alpha[-1] > 0 else T - 2
        log_snr = schedule.log_snr
        t = time_of_log_snr(schedule, np.linspace(log_snr[last], log_snr[0], steps))
        t[0], t[-1] = T - 1, 0  # exactly, whatever the rounding
        return t
    raise ValueError(f"timesteps: unknown spacing {spacing!r}; choose one of {', '.join(SPACINGS)}")


def network_times(schedule: Schedule, t: ArrayLike, like: np.ndarray) -> np.ndarray:
    """t as the network is given it, 1000 t / T, one for each picture of `like` (N,...) and in its dtype: (N,)."""
    t = np.asarray(t, dtype=np.float64)
    if t.ndim and t.shape != like.shape[:1]:
        raise ValueError(f"t must be a number or one for each of the {len(like)} pictures (t {t.shape}, pictures {like.shape})")
    return np.broadcast_to(1000 * t / schedule.T, like.shape[:1]).astype(like.dtype)
