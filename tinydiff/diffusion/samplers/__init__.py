"""Samplers: from pure noise to a picture, step by step. One file an algorithm, each a generator in its paper's symbols.

    for step in ddim(denoise, schedule, x_T, steps=50):
        show(step.x, step.x0)              # the noisy picture at time step.t, and the guess of the clean one behind it
    pictures = step.x                      # the last step ends clean, at t = -1

How often each asks the network in n steps, the order of its error (2: twice the steps, a quarter of the error), and its noise:

                     asks    order
    ddpm             n       1  fresh noise; variance = "fixed_small", "fixed_large" or "learned"
    ddim             n       1  none; eta = 1 is ddpm
    euler            n       1  none; ddim seen as a step along the probability flow
    euler_ancestral  n       1  fresh noise
    heun             2n - 1  2  none; s_churn adds some and goes back
    dpmpp_2m         n       2  none; remembers the last guess
    dpmpp_2m_sde     n       1  fresh noise; eta = 0 is dpmpp_2m
    dpmpp_2s         2n - 1  2  none; eta = 1 is the ancestral one
    unipc            n       3  none; dpmpp_2m with each step corrected by the next guess

Each has a file of its own, in which the derivation stands above the code. `benchmarks/samplers.py` compares their pictures.

Arguments that all samplers share:

    denoise   any function (x, t) -> guess of x_0, arrays in and out; t is a number
    schedule  the Schedule that denoise was made for; any, also one that ends at alpha = 0
    x_T       (N,H,W,C) floats to start from, in the dtype that all steps keep: `initial_noise`
    steps     how many steps (None: all T), or the decreasing times t themselves, the first of which x_T is at
    seed      of the noise that is added on the way
    first     index of x_T's first picture in the whole set: a set made in chunks is then the set made at once

Read first: `diffusion/schedules.py`, `diffusion/denoiser.py`.
"""
from tinydiff.diffusion.samplers.common import Step, initial_noise
from tinydiff.diffusion.samplers.ddim import ddim
from tinydiff.diffusion.samplers.ddpm import ddpm
from tinydiff.diffusion.samplers.dpmpp_2m import dpmpp_2m
from tinydiff.diffusion.samplers.dpmpp_2m_sde import dpmpp_2m_sde
from tinydiff.diffusion.samplers.dpmpp_2s import dpmpp_2s
from tinydiff.diffusion.samplers.euler import euler
from tinydiff.diffusion.samplers.euler_ancestral import euler_ancestral
from tinydiff.diffusion.samplers.heun import heun
from tinydiff.diffusion.samplers.unipc import unipc

__all__ = ["SAMPLERS", "Step", "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2s", "euler", "euler_ancestral", "heun", "initial_noise",
           "unipc"]

SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "euler_ancestral": euler_ancestral, "heun": heun, "dpmpp_2m": dpmpp_2m,
            "dpmpp_2m_sde": dpmpp_2m_sde, "dpmpp_2s": dpmpp_2s, "unipc": unipc}
