"""Diffusion on two numbers: every noisy picture is `x_t = alpha_t x_0 + sigma_t eps`. The whole idea in a few lines:

    x_t = alpha[t] * x_0 + sigma[t] * eps                       # to train: a picture made noisy, at a random t
    loss = mean((network(x_t, t) - eps) ** 2)                   # what was the noise?

    x = sigma[T - 1] * noise                                    # to draw: from noise alone,
    for t, s in pairs(falling times):                           # again and again,
        eps = network(x, t)
        x_0 = (x - sigma[t] * eps) / alpha[t]                   # a guess of the picture
        x = alpha[s] * x_0 + sigma[s] * eps                     # with a little less noise on it than before

All else is choice, and exactness: which alpha and sigma, which question to the network, which errors count how much, which way back. Read in
this order:

    schedules.py   alpha_t and sigma_t: how much picture and how much noise is left at each time t
    forward.py     q_sample: a clean picture made noisy, in one jump
    times.py       which times t to train on, and which to stop at on the way back
    targets.py     what the network is asked for (eps, x0, v, flow or edm), and how to get x_0 and eps from it
    gaussian.py    what of it is known before the network is asked
    weights.py     how much the error at each time counts
    posterior.py   the exact way back if x_0 were known, and the range of a learned variance
    losses.py      how wrong the network was: the number that training makes small
    denoiser.py    a trained network as a plain function `denoise(x, t) -> guess of x_0`
    thresholding.py  a denoiser whose guesses stay where pictures can be
    guidance.py    more of what the label says, or of what was learnt last, than the network itself would give
    self_conditioning.py   a network that is given its own last guess
    samplers/      from pure noise to a picture, step by step
    gaussian_start.py   its first step without a network
    repaint.py     a picture with a part missing: fill it in
    editing.py     start from pictures: change them, vary them, go from one to another
    likelihood.py  how likely a model finds pictures, in bits per dimension: a bound; flow_likelihood.py: the likelihood itself

Apart from losses.py and denoiser.py, everything here is NumPy arrays in and out; a sampler never sees a network, only `denoise`.

Read first: nothing; a network is any function here.
"""
from tinydiff.diffusion.denoiser import denoiser
from tinydiff.diffusion.editing import ddim_invert, noised_start, slerp
from tinydiff.diffusion.flow_likelihood import flow_likelihood
from tinydiff.diffusion.forward import offset_noise, q_sample
from tinydiff.diffusion.gaussian import Gaussian, fit_gaussian, gaussian_share
from tinydiff.diffusion.gaussian_start import gaussian_start
from tinydiff.diffusion.guidance import autoguide, guide
from tinydiff.diffusion.likelihood import variational_bound
from tinydiff.diffusion.losses import loss
from tinydiff.diffusion.repaint import repaint
from tinydiff.diffusion.samplers import (SAMPLERS, Step, ddim, ddpm, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, euler, euler_ancestral, heun, initial_noise,
                                         unipc)
from tinydiff.diffusion.schedules import SCHEDULES, Schedule, cosine, flow, karras, linear, sigmoid, zero_terminal_snr
from tinydiff.diffusion.targets import TARGETS, from_x0_eps, to_x0_eps
from tinydiff.diffusion.thresholding import clip_x0, dynamic_threshold
from tinydiff.diffusion.times import SPACINGS, TIME_SAMPLINGS, lognormal_times, stratified_times, timesteps, training_times
from tinydiff.diffusion.weights import WEIGHTS, edm_weights, min_snr_weights, p2_weights, simple_weights

__all__ = [
    "SAMPLERS", "SCHEDULES", "SPACINGS", "TARGETS", "TIME_SAMPLINGS", "WEIGHTS", "Gaussian", "Schedule", "Step", "autoguide", "clip_x0", "cosine",
    "ddim", "ddim_invert", "ddpm", "denoiser", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2s", "dynamic_threshold", "edm_weights", "euler",
    "euler_ancestral", "fit_gaussian", "flow", "flow_likelihood", "from_x0_eps", "gaussian_share", "gaussian_start", "guide", "heun",
    "initial_noise", "karras", "linear", "lognormal_times", "loss", "min_snr_weights", "noised_start", "offset_noise", "p2_weights",
    "q_sample", "repaint", "sigmoid", "simple_weights", "slerp", "stratified_times", "timesteps", "to_x0_eps", "training_times", "unipc",
    "variational_bound", "zero_terminal_snr",
]
