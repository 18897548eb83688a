"""A denoiser is a function `denoise(x, t) -> guess of x_0`, arrays in and out: all that a sampler needs to know about a network.

What changes a denoiser (clipping, say) is a function from denoiser to denoiser.
"""
from contextlib import contextmanager

import numpy as np

from tinydiff.autograd import Tensor, no_grad
from tinydiff.diffusion.targets import to_x0_eps
from tinydiff.diffusion.times import network_times


def denoiser(model, schedule, target: str, y=None):
    """`denoise(x, t) -> x0_hat` from a network that was trained on `target`.

    model  called as model(x, t, y) with x (N,H,W,C) and t (N,) = 1000 t / T in its parameters' dtype; builds no graph. Put it in
           evaluation mode (`model.eval()`) first if it has dropout.
    y      (N,) labels, or None.

    denoise takes x (N,H,W,C) of any float dtype and t, a number or (N,), and returns (N,H,W,C) of x's dtype.
    `denoise.vjp(x, t, u)` is u^T d denoise / dx, like x, for u (N,H,W,C): what a change of x does to the sum of u x0_hat.
    """
    def denoise(x, t):
        network_input = x.astype(next(iter(model.parameters())).dtype, copy=False)
        with no_grad():
            out = model(network_input, network_times(schedule, t, like=network_input), y).data
        x0, _ = to_x0_eps(target, out, x, *schedule.at(t))
        return x0.astype(x.dtype, copy=False)

    def vjp(x, t, u):
        # x0_hat is a sum of two parts, one linear in x and one linear in the network's answer.
        alpha, sigma = schedule.at(t)
        direct, _ = to_x0_eps(target, np.zeros_like(x), u, alpha, sigma)
        d_out, _ = to_x0_eps(target, u, np.zeros_like(x), alpha, sigma)
        network_input = Tensor(x.astype(next(iter(model.parameters())).dtype, copy=False), requires_grad=True)
        with frozen(model):
            model(network_input, network_times(schedule, t, like=network_input), y).backward(d_out.astype(network_input.dtype))
        return (direct + network_input.grad).astype(x.dtype, copy=False)
    denoise.vjp = vjp
    return denoise


@contextmanager
def frozen(model):
    """Inside this context the model's parameters get no gradients, and cost none: only what is put in does."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad = False
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad = True


def clip_x0(denoise, low: float = -1, high: float = 1):
    """The denoiser whose guesses stay in [low, high], where all pictures lie. Samplers derive eps from the guess, so eps follows suit."""
    return lambda x, t: np.clip(denoise(x, t), low, high)
