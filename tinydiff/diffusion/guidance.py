"""Guidance: two denoisers, and away from the worse of them.

Classifier-free guidance follows the label more closely than the data do (Ho and Salimans 2022, arXiv 2207.12598, equation 6).

A network that was trained with its labels left out now and then answers two questions: what is x_0, given the label (cond), and given
none (uncond)? Their difference is what the label adds; guidance adds more of it:

    guided = uncond + scale (cond - uncond)

The guess moves away from pictures that could be of any class towards those that could be of this class only: they become more typical
and less varied. In the paper's w, scale = 1 + w. The formula is the paper's for eps; it is the same for x_0, v and flow, since for one
x_t each is an affine function of the other, a number times it plus an array, and the two weights, scale and 1 - scale, sum to 1.

A large scale also stretches the guess: too much contrast, colours that burn out. Rescaling takes the standard deviation of each guided
picture back to that of the conditional one (Lin, Liu, Li and Yang 2023, arXiv 2305.08891, section 3.4, equations 13 to 16):

    rescaled = guided std(cond) / std(guided)
    result   = rescale rescaled + (1 - rescale) guided            0.7 is the paper's choice

Here it matters what is rescaled, since std is not affine. The paper's and diffusers' code take whatever the network predicts; here it is
always x_0, the picture whose contrast is at stake. Where the paper's network, which predicts v, starts, at alpha = 0, the two are one,
as v = -sigma x_0. A factor on eps would do something else: x_0 = (x_t - sigma eps) / alpha, so that a smaller eps leaves noise in the
guess, the more the smaller alpha is. On x_0 the result depends neither on the target nor on the schedule.

Autoguidance needs no labels (Karras et al. 2024, arXiv 2406.02507). The worse denoiser is one that tends to be wrong about the same things, and more
so: in the paper a smaller network, trained for less time; here the same network at an earlier time. The difference is what it has learnt since, and
more of that takes the guess away from pictures that are like no data:

    guided = weak + scale (strong - weak)                         1.5, where weak has seen a quarter of the training, suits the cat faces

`autoguide` does so only while sigma > alpha, as long as it is open what cat it will be. Further on the difference is in the fur, and more of that
makes it coarse where a sampler adds fresh noise: measured in benchmarks/README.md. (`guide` alone is the paper's, all along. Kynkäänniemi et al.
2024, arXiv 2404.07724, keep classifier-free guidance to the middle.)

Read first: `thresholding.py`.
"""
from math import isfinite
from typing import Callable

import numpy as np

from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.thresholding import keep_attributes


def guide(cond: Callable, uncond: Callable, scale: float, rescale: float = 0.0) -> Callable:
    """The guided denoiser, from two: guesses (N,H,W,C) like theirs (Ho and Salimans 2022, arXiv 2207.12598, equation 6).

    cond, uncond  denoisers (x, t) -> guess of x_0, as `denoiser(model, schedule, target, y)` with and without y; or strong and weak.
    scale         1: cond itself, and uncond is never asked; 0: uncond; above 1: guidance, with labels 2 to 8 as a rule. Below 0 leads the other way.
    rescale       0: off, to 1: the guess has cond's standard deviation, over each picture's H, W and C.

    The result takes on cond's attributes, such as .log_variance, but for .vjp, which is not the guided denoiser's; its .reset() resets both, each of
    which keeps a last guess of its own (self_conditioning.py).
    Raises ValueError for a scale that is not finite or a rescale outside [0, 1].
    """
    scale, rescale = float(scale), float(rescale)  # NumPy's float64 would make float32 guesses float64
    if not isfinite(scale):
        raise ValueError(f"guide: scale is {scale}, but must be a finite number; 1 is no guidance")
    if not 0 <= rescale <= 1:
        raise ValueError(f"guide: rescale is {rescale}, but must be from 0 (off) to 1 (cond's standard deviation)")
    if scale == 1:
        return cond

    def denoise(x, t):
        with_label, without = cond(x, t), uncond(x, t)
        guided = without + scale * (with_label - without)
        return guided * (1 + rescale * (_std_ratio(with_label, guided) - 1)) if rescale else guided

    def reset():
        for one in (cond, uncond):
            if hasattr(one, "reset"):
                one.reset()
    keep_attributes(denoise, cond)
    denoise.reset = reset
    return denoise


def autoguide(strong: Callable, weak: Callable, schedule: Schedule, scale: float) -> Callable:
    """strong led away from weak, the same network at an earlier time, while sigma > alpha; from there on strong alone.

    Denoisers (x, t) -> guess of x_0 (N,H,W,C) of this schedule, t a number, as samplers give it (Karras et al. 2024, arXiv 2406.02507).
    scale: 1 is no guidance, 1.5 usual. Attributes and errors are those of `guide`.
    """
    guided = guide(strong, weak, scale)
    if guided is strong:
        return strong

    def denoise(x, t):
        alpha, sigma = schedule.at(t)
        return guided(x, t) if sigma > alpha else strong(x, t)
    keep_attributes(denoise, guided)
    return denoise


def _std_ratio(a, b):
    """std(a) / std(b) of each picture of a and b (N,...): (N,1,...,1); 1 where b is of one colour and has no contrast to scale."""
    axes = tuple(range(1, b.ndim))
    std_a, std_b = a.std(axis=axes, keepdims=True), b.std(axis=axes, keepdims=True)
    return np.divide(std_a, std_b, out=np.ones_like(std_b), where=std_b > 0)
