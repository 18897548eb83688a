"""Samplers: from pure noise to a picture, step by step. One file an algorithm, each a generator in its paper's symbols.

    for step in ddim(denoise, schedule, x_T, steps=50):
        show(step.x, step.x0)              # the noisy picture at time step.t, and the guess of the clean one behind it
    pictures = step.x                      # the last step ends clean, at t = -1

Arguments that all samplers share:

    denoise   any function (x, t) -> guess of x_0, arrays in and out; t is a number
    schedule  the Schedule that denoise was made for
    x_T       (N,H,W,C) floats to start from, in the dtype that all steps keep: `initial_noise`
    steps     how many steps (None: all T), or the decreasing times t themselves, the first of which x_T is at
    seed      of the noise that is added on the way
    first     index of x_T's first picture in the whole set: a set made in chunks is then the set made at once
"""
from tinydiff.diffusion.samplers.common import Step, initial_noise
from tinydiff.diffusion.samplers.ddim import ddim
from tinydiff.diffusion.samplers.ddpm import ddpm

__all__ = ["SAMPLERS", "Step", "ddim", "ddpm", "initial_noise"]

SAMPLERS = {"ddpm": ddpm, "ddim": ddim}
