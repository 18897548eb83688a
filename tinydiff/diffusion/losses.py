"""The loss: the mean squared difference between what the network says and its target, with a weight for each time t.

A network with twice as many channels out as in learns the variance of its steps too. Its second half, v, has no target; it is trained by the
variational bound L_vlb, minus the log-likelihood of the whole way back (Nichol and Dhariwal 2021, arXiv 2102.09672, section 3.1):

    L_hybrid = L_simple + 0.001 L_vlb         L_vlb = L_0 + L_1 + ... + L_{T-1}
    L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))    and at the last step, t = 0,    L_0 = -log p(x_0 | x_t)

KL(q || p), the Kullback-Leibler divergence, is how much longer a message about a draw from q gets where p is taken for q, in nats (a nat is
1 / ln 2 = 1.44 bits): 0 where the two are equal, else more. In L_vlb the mean is a constant, so that it teaches the variance alone and leaves the
mean to L_simple.

Read first: `weights.py`, `posterior.py`, `denoiser.py`.
"""
import math
from typing import Callable

import numpy as np
from numpy.typing import ArrayLike

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.diffusion.denoiser import denoiser
from tinydiff.diffusion.forward import per_picture, q_sample
from tinydiff.diffusion.gaussian import Gaussian, gaussian_share
from tinydiff.diffusion.posterior import log_variance_range, posterior
from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.targets import from_x0_eps, network_inputs, to_x0_eps
from tinydiff.diffusion.thresholding import clip_x0
from tinydiff.diffusion.weights import WEIGHTS

VLB_WEIGHT = 0.001


def loss(model: Callable[..., Tensor], schedule: Schedule, target: str, x0: np.ndarray, t: np.ndarray, eps: np.ndarray,
         y: np.ndarray | None = None, weight: str | ArrayLike | None = None, self_condition: bool = False,
         gaussian: Gaussian | None = None) -> Tensor:
    """Make x0 noisy, ask the network for the target, and return the weighted mean squared error, a scalar Tensor to call backward() on.

    model    called as model(*network_inputs, y), for most targets model(x_t, 1000 t / T, y), in x0's dtype; returns a Tensor (N,H,W,C), or
             (N,H,W,2C) with learned variance: then the loss is the hybrid one, and x0 must be 8-bit pictures.
    x0, eps  (N,H,W,C) clean pictures in [-1, 1] and noise from N(0, I).
    t        real times, 0 to T-1: (N,), or a number for all.
    weight   of the squared error: a name in WEIGHTS (see weights.py), None for "simple", or (N,) numbers.
    self_condition  whether the network is given a first guess of its own, as model(*network_inputs, y, x0): see self_conditioning.py.
    gaussian  of the pictures, whose share of the target the network isn't asked for (gaussian.py); None: it is asked for all.

    Raises ValueError for an unknown target or weight and for shapes that don't fit.
    """
    if isinstance(weight, str) and weight not in WEIGHTS:
        raise ValueError(f"loss: unknown weight {weight!r}; choose one of {', '.join(WEIGHTS)}, None (simple), or give (N,) numbers")
    if weight is None or isinstance(weight, str):
        weight = WEIGHTS[weight or "simple"](schedule, target, t)
    alpha, sigma = schedule.at(t)
    x_t = q_sample(schedule, x0, t, eps)
    guess = (clip_x0(denoiser(model, schedule, target, y, self_condition, gaussian))(x_t, t),) if self_condition else ()  # builds no graph
    out, v = model(*network_inputs(target, x_t, schedule, t), y, *guess), None
    if out.shape[-1] == 2 * x_t.shape[-1]:
        out, v = ops.split(out, 2)  # (N,H,W,C) each
    if out.shape != x_t.shape:
        raise ValueError(f"loss: the network answers {out.shape} to pictures {x_t.shape}; it must have as many channels out as in, or, to "
                         "learn the variance, twice as many")
    known = gaussian_share(gaussian, target, x_t, alpha, sigma)
    weight = np.broadcast_to(per_picture(weight, x_t).reshape(-1), len(x_t))
    L_simple = ops.mse(out, from_x0_eps(target, x0, eps, alpha, sigma) - known, weight)
    if v is None:
        return L_simple
    x0_hat, _ = to_x0_eps(target, out.data + known, x_t, alpha, sigma)  # an array: no gradient flows into the mean
    return L_simple + VLB_WEIGHT * schedule.T * ops.mean(vlb_terms(schedule, x0, x0_hat, v, t))


def vlb_terms(schedule, x0, x0_hat, v, t):
    """L_t for each number of the pictures, in nats: a Tensor (N,H,W,C), differentiable in v.

    x0, x0_hat  (N,H,W,C) arrays: the clean pictures, and the network's guesses of them at times t, (N,) or a number.
    v           (N,H,W,C) Tensor, the answer about the variance.

    A real t takes one step down like a whole one, to s = t - 1, and all t below 1 the last step, to s = -1.
    """
    t = np.broadcast_to(np.asarray(t, dtype=np.float64), x0.shape[:1])
    last = t < 1
    s = np.where(last, -1.0, t - 1)
    coefficient, _, _ = posterior(schedule, t, s)
    low, high = log_variance_range(schedule, t, s)
    log_variance = per_picture((low + high) / 2, x0) + per_picture((high - low) / 2, x0) * v
    # x_t has the same part in both means.
    divergence = gaussian_kl(per_picture(coefficient, x0) * (x0 - x0_hat), per_picture(low, x0), log_variance)
    return per_picture(~last, x0) * divergence + per_picture(last, x0) * decoder_nll(x0, x0_hat, log_variance)


def gaussian_kl(difference, log_variance_q, log_variance_p):
    """KL(q || p) in nats of two normal distributions whose means differ by `difference`: arrays, and log_variance_p a Tensor."""
    squares = np.exp(log_variance_q) + difference * difference
    return 0.5 * (log_variance_p - log_variance_q + squares * ops.exp(-log_variance_p) - 1.0)


def decoder_nll(x0, mean, log_variance):
    """-log of the chance that N(mean, variance) rounds to the 8-bit numbers x0, in nats: arrays, and log_variance a Tensor.

    Each of the 256 values in [-1, 1] owns what lies within 1/255 of it, the two at the ends all beyond them too (Ho et al. 2020, arXiv
    2006.11239, equation 13). A chance below 1e-12 counts as that, and has no gradient.
    """
    steepness = ops.exp(-0.5 * log_variance)  # 1 / standard deviation
    above = normal_cdf((x0 - mean + 1 / 255) * steepness)
    below = normal_cdf((x0 - mean - 1 / 255) * steepness)
    highest, lowest = (x0 > 0.999).astype(x0.dtype), (x0 < -0.999).astype(x0.dtype)
    chance = above * (1 - highest) + highest - below * (1 - lowest)
    return -ops.log(ops.relu(chance - 1e-12) + 1e-12)


def normal_cdf(z):
    """The cumulative distribution function of N(0, 1), within 2e-4, for which tanh is enough (Page 1977, as in gelu)."""
    return 0.5 * (1.0 + ops.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * (z * z * z))))
