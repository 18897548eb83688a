"""Diffusion on two numbers: every noisy picture is `x_t = alpha_t x_0 + sigma_t eps`.

Read in this order:

    schedules.py   alpha_t and sigma_t: how much picture and how much noise is left at each time t
    forward.py     q_sample: a clean picture made noisy, in one jump
    times.py       which times t to train on, and which to stop at on the way back
    targets.py     what the network is asked for (eps, x0, v or flow), and how to get x_0 and eps from it
    losses.py      how wrong the network was: the number that training makes small
    denoiser.py    a trained network as a plain function `denoise(x, t) -> guess of x_0`
    thresholding.py   a denoiser whose guesses stay where pictures can be
    samplers/      from pure noise to a picture, step by step

Apart from losses.py and denoiser.py, everything here is NumPy arrays in and out; a sampler never sees a network, only `denoise`.
"""
from tinydiff.diffusion.denoiser import denoiser
from tinydiff.diffusion.forward import q_sample
from tinydiff.diffusion.losses import loss, min_snr_weights
from tinydiff.diffusion.samplers import (SAMPLERS, Step, ddim, ddpm, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, euler, euler_ancestral, heun,
                                         initial_noise, unipc)
from tinydiff.diffusion.schedules import SCHEDULES, Schedule, cosine, linear
from tinydiff.diffusion.targets import TARGETS, from_x0_eps, to_x0_eps
from tinydiff.diffusion.thresholding import clip_x0, dynamic_threshold
from tinydiff.diffusion.times import stratified_times, timesteps

__all__ = [
    "SAMPLERS", "SCHEDULES", "TARGETS", "Schedule", "Step", "clip_x0", "cosine", "ddim", "ddpm", "denoiser", "dpmpp_2m", "dpmpp_2m_sde",
    "dpmpp_2s", "dynamic_threshold", "euler", "euler_ancestral", "from_x0_eps", "heun", "initial_noise", "linear", "loss", "min_snr_weights",
    "q_sample", "stratified_times", "timesteps", "to_x0_eps", "unipc",
]
