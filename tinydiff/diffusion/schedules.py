"""Noise schedules: how much of the picture (alpha) and how much noise (sigma) is left at each time t.

A noisy picture is `x_t = alpha_t x_0 + sigma_t eps`, with eps drawn from N(0, I): each number by itself, from the normal distribution of mean 0 and
variance 1. A schedule is nothing but the two arrays alpha and sigma, index 0 the least noise and index T-1 the most. The papers on DDPM (denoising
diffusion probabilistic models, Ho et al. 2020 and after) write alpha_bar for our alpha squared. (alpha / sigma)^2 is the signal-to-noise ratio, SNR.

Where alpha^2 + sigma^2 = 1 the schedule is *variance preserving*: a picture of variance 1 keeps variance 1 while the noise takes over.
`examples/05_schedules.py` draws them all.

Read first: `__init__.py`.
"""
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """The two arrays that define a diffusion process: `x_t = alpha[t] x_0 + sigma[t] eps`.

    alpha  (T,) float64, finite, >= 0: what is left of the picture.
    sigma  (T,) float64, finite, > 0: the standard deviation of the noise.

    Both are copied and read-only. Raises ValueError unless the signal-to-noise ratio (alpha/sigma)^2 falls at every index.
    """
    alpha: np.ndarray
    sigma: np.ndarray

    def __post_init__(self):
        alpha, sigma = (np.array(a, dtype=np.float64) for a in (self.alpha, self.sigma))
        if alpha.ndim != 1 or alpha.shape != sigma.shape or alpha.size == 0:
            raise ValueError(f"Schedule: alpha and sigma must be 1-D, of one length >= 1 (alpha {alpha.shape}, sigma {sigma.shape})")
        for name, a, allowed, rule in (("alpha", alpha, alpha >= 0, ">= 0"), ("sigma", sigma, sigma > 0, "> 0")):
            bad = np.flatnonzero(~(np.isfinite(a) & allowed))
            if bad.size:
                raise ValueError(f"Schedule: {name}[{bad[0]}] is {a[bad[0]]}, but every {name} must be finite and {rule}")
        ratio = alpha / sigma
        rising = np.flatnonzero(np.diff(ratio) >= 0)
        if rising.size:
            i = rising[0]
            raise ValueError(f"Schedule: alpha/sigma must fall at every index, from the least noise at 0, but goes from {ratio[i]:.6g} "
                             f"at {i} to {ratio[i + 1]:.6g} at {i + 1}")
        for name, a in (("alpha", alpha), ("sigma", sigma)):
            a.setflags(write=False)
            object.__setattr__(self, name, a)

    def __repr__(self):
        kind = ("variance preserving: " if self._preserves_variance() else "variance exploding: " if np.all(self.alpha == 1) else
                "straight lines: " if np.all(np.abs(self.alpha + self.sigma - 1) < 1e-8) else "")
        ranges = (f"{name} {a[0]:.4g} to {a[-1]:.4g}" for name, a in (("alpha", self.alpha), ("sigma", self.sigma), ("log SNR", self.log_snr)))
        return f"Schedule(T={self.T}, {kind}{', '.join(ranges)})"

    @property
    def T(self) -> int:
        """The number of diffusion steps."""
        return self.alpha.size

    @property
    def snr(self) -> np.ndarray:
        """(T,) signal-to-noise ratio (alpha/sigma)^2."""
        return (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> np.ndarray:
        """(T,) natural logarithm of the signal-to-noise ratio; -inf where alpha is 0."""
        with np.errstate(divide="ignore"):
            return 2 * (np.log(self.alpha) - np.log(self.sigma))

    def at(self, t: ArrayLike) -> tuple[Any, Any]:
        """alpha and sigma at time t: two floats for a number t, two float64 arrays of t's shape for an array.

        t is real, 0 to T-1; between the grid points alpha^2 and sigma^2 are interpolated linearly. t = -1 is the clean picture, one step
        before the least noise: alpha 1, sigma 0. Raises ValueError for a t outside [-1, T-1].
        """
        t = np.asarray(t, dtype=np.float64)
        outside = ~((t >= -1) & (t <= self.T - 1))
        if outside.any():
            raise ValueError(f"Schedule.at: t = {t[outside][0]:g} is outside -1 (the clean picture) to T-1 = {self.T - 1}")
        grid = np.arange(-1, self.T)
        alpha = np.sqrt(np.interp(t, grid, np.concatenate([[1.0], self.alpha**2])))
        sigma = np.sqrt(np.interp(t, grid, np.concatenate([[0.0], self.sigma**2])))
        # Python floats, unlike NumPy's float64, leave float32 pictures float32 when they multiply them.
        return (alpha, sigma) if t.ndim else (float(alpha), float(sigma))

    @property
    def alpha_bar(self) -> np.ndarray:
        """(T,) alpha^2, the papers' cumulative product of (1 - beta). Raises ValueError unless variance preserving."""
        if not self._preserves_variance():
            raise ValueError("Schedule: alpha_bar and betas exist only where alpha^2 + sigma^2 = 1 (variance preserving); "
                             "use alpha and sigma, which every schedule has")
        return self.alpha**2

    @property
    def betas(self) -> np.ndarray:
        """(T,) variance of the noise that each single step adds, 1 - alpha_bar[t] / alpha_bar[t-1]. Raises ValueError as alpha_bar does."""
        alpha_bar = self.alpha_bar
        return 1 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])

    def _preserves_variance(self):
        return bool(np.all(np.abs(self.alpha**2 + self.sigma**2 - 1) < 1e-8))


def from_betas(betas: ArrayLike) -> Schedule:
    """The variance-preserving schedule whose step t makes x into `sqrt(1 - betas[t]) x + sqrt(betas[t]) noise`. betas (T,) in (0, 1)."""
    betas = np.asarray(betas, dtype=np.float64)
    bad = np.flatnonzero(~((betas > 0) & (betas < 1)))
    if bad.size:
        raise ValueError(f"from_betas: betas[{bad[0]}] is {betas[bad[0]]:g}, but every beta must lie between 0 and 1, both excluded")
    alpha_bar = np.cumprod(1 - betas)
    return Schedule(np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar))


def from_curve(curve: ArrayLike) -> Schedule:
    """The variance-preserving schedule whose alpha_bar falls as curve (T+1,), before the first step and after each, up to a factor.

    Betas are clipped at 0.999 (Nichol and Dhariwal 2021, arXiv 2102.09672, section 3.2), and alpha_bar is built again from the clipped
    ones: a curve may end at 0, where no picture is left to recover.
    """
    curve = np.asarray(curve, dtype=np.float64)
    return from_betas(np.minimum(1 - curve[1:] / curve[:-1], 0.999))


def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """Betas (T,) on a straight line from beta_start to beta_end (Ho et al. 2020, arXiv 2006.11239, section 4).

    The betas are made for T = 1000 and not rescaled for another T: fewer steps of the same size leave more of the picture at the end.
    """
    _check_T("linear", T)
    return from_betas(np.linspace(beta_start, beta_end, T))


def cosine(T: int = 1000, s: float = 0.008) -> Schedule:
    """alpha_bar (T,) falls as a squared cosine (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 17), slower at both ends than linear.

    s > 0 keeps the first betas from vanishing. The cosine itself ends at 0: the last beta is clipped, as `from_curve` says.
    """
    _check_T("cosine", T)
    return from_curve(np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2)


def sigmoid(T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """alpha_bar (T,) falls as a logistic curve from start / tau to end / tau, moved and stretched to run from 1 to 0.

    (Jabri et al. 2022, arXiv 2212.11972; as a formula in Chen 2023, arXiv 2301.10972, algorithm 1.) A smaller tau makes the fall in the
    middle steeper. The last beta is clipped, as `from_curve` says. Raises ValueError unless start < end and tau > 0.
    """
    _check_T("sigmoid", T)
    if not (start < end and tau > 0):
        raise ValueError(f"sigmoid: start is {start}, end {end}, tau {tau}, but start must lie below end, and tau above 0")
    rest = 1 / (1 + np.exp((np.arange(T + 1) / T * (end - start) + start) / tau))  # (T+1,), 1 - the logistic function: it falls
    return from_curve(rest - rest[-1])


def karras(T: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """The picture stays whole and the noise grows: alpha (T,) is 1, sigma^(1/rho) on a straight line from sigma_min to sigma_max.

    (Karras et al. 2022, arXiv 2206.00364, equation 5; here index 0 is the least noise.) The network sees numbers as large as sigma_max,
    unless its target is "edm", which was made for this schedule. Raises ValueError unless 0 < sigma_min < sigma_max and rho > 0.
    """
    _check_T("karras", T)
    if not (0 < sigma_min < sigma_max and rho > 0):
        raise ValueError(f"karras: sigma_min is {sigma_min}, sigma_max {sigma_max}, rho {rho}, but 0 < sigma_min < sigma_max and rho > 0 "
                         "must hold")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return Schedule(np.ones(T), (low + np.arange(T) / (T - 1) * (high - low)) ** rho)


def flow(T: int) -> Schedule:
    """Picture and noise mixed along a straight line: alpha = 1 - tau, sigma = tau, with tau (T,) = 1/T, 2/T, ... 1.

    (Lipman et al. 2023, arXiv 2210.02747, section 4.1; Liu et al. 2023, arXiv 2209.03003.) The end is noise alone, alpha = 0.
    Between these times `at` interpolates the squares, so that alpha + sigma is a little above 1 there.
    """
    _check_T("flow", T)
    tau = np.arange(1, T + 1) / T
    return Schedule(1 - tau, tau)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule moved and stretched, in alpha (T,) = sqrt(alpha_bar), so that its last alpha is 0 and its first stays as it is.

    (Lin et al. 2023, arXiv 2305.08891, algorithm 1.) Otherwise training never shows the noise alone that sampling starts from, and the
    network learns to read a picture's brightness out of what is left of it. Ask the network for v, flow or x0 then, not eps, and sample
    with trailing times. Raises ValueError where the schedule does not preserve variance or has one time only.
    """
    if not schedule._preserves_variance():
        raise ValueError(f"zero_terminal_snr: {schedule} is not variance preserving (alpha^2 + sigma^2 = 1), which the rescaling needs; "
                         "'flow' ends at alpha = 0 as it is, and 'karras' takes a larger sigma_max")
    if schedule.T == 1:
        raise ValueError("zero_terminal_snr: the schedule has T = 1, but its first alpha must stay and its last become 0: at least 2 times")
    first, last = schedule.alpha[0], schedule.alpha[-1]
    alpha = (schedule.alpha - last) * (first / (first - last))
    return Schedule(alpha, np.sqrt(1 - alpha**2))


def _check_T(name, T):
    if T != int(T) or T < 2:
        why = ": with T = 1 the least noise and the most would be one and the same" if T == 1 else ""
        raise ValueError(f"{name}: T is {T}, but the number of diffusion steps must be a whole number, 2 or more{why}")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear, "cosine": cosine, "sigmoid": sigmoid, "karras": karras, "flow": flow,
    "linear_zero_snr": lambda T=1000: zero_terminal_snr(linear(T)),
    "cosine_zero_snr": lambda T=1000: zero_terminal_snr(cosine(T)),
    "sigmoid_zero_snr": lambda T=1000: zero_terminal_snr(sigmoid(T)),
}
