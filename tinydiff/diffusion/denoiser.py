"""A denoiser is a function `denoise(x, t) -> guess of x_0`, arrays in and out: all that a sampler needs to know about a network.

What changes a denoiser (clipping, in thresholding.py, say) is a function from denoiser to denoiser. What a use needs beyond the guess is an
attribute of the function, such as `denoise.log_variance` and `denoise.vjp` here; a function from denoiser to denoiser hands them on where they
stay true (`thresholding.keep_attributes`).

Read first: `gaussian.py`, `posterior.py`.
"""
from contextlib import contextmanager
from typing import Callable

import numpy as np
from numpy.typing import ArrayLike

from tinydiff.autograd import Tensor, no_grad
from tinydiff.diffusion.forward import per_picture
from tinydiff.diffusion.gaussian import Gaussian, gaussian_share
from tinydiff.diffusion.posterior import log_variance_range
from tinydiff.diffusion.schedules import Schedule
from tinydiff.diffusion.self_conditioning import LastGuess
from tinydiff.diffusion.targets import network_inputs, to_x0_eps


def denoiser(model: Callable[..., Tensor], schedule: Schedule, target: str, y: ArrayLike | None = None,
             self_condition: bool | None = None, gaussian: Gaussian | None = None) -> Callable:
    """`denoise(x, t) -> x0_hat` from a network that was trained on `target`.

    model  called as model(*network_inputs, y), for most targets model(x, 1000 t / T, y), with x (N,H,W,C) and the times (N,) in its
           parameters' dtype; builds no graph. Put it in evaluation mode (`model.eval()`) first if it has dropout.
    y      (N,) labels, or None. The network says which there are: a label out of range is its ValueError.
    self_condition  whether the network, called as model(*network_inputs, y, x0), is given its last guess; None: if it was made for that
           (`model.self_condition`). Then denoise has a memory, and `denoise.reset()`: see `self_conditioning.LastGuess`.
    gaussian  the one that the network was trained with: its share of the target is added to the network's answer. None: without.

    denoise takes x (N,H,W,C) of any float dtype and t, a number or (N,), and returns (N,H,W,C) of x's dtype.
    `denoise.vjp(x, t, u)` is u^T d denoise / dx, like x, for u (N,H,W,C), a vector-Jacobian product: what a change of x does to the sum of
    u x0_hat. (Not with self-conditioning, where x0_hat hangs on more than x.)

    With a network of learned variance, `denoise.log_variance(x, t, s)` is the logarithm of the variance of the step from t to an earlier s
    (-1 for the clean end), whatever steps there are between: like x, (N,H,W,C). Asked for the x and t that denoise was asked for last, it
    takes the second half of that answer; the network is evaluated again only for others.
    """
    if self_condition is None:
        self_condition = getattr(model, "self_condition", False)
    last = LastGuess()
    answered = None  # the last (x, t) with the network's v, of which denoise makes nothing itself

    def denoise(x, t):
        nonlocal answered
        network_input = x.astype(next(iter(model.parameters())).dtype, copy=False)
        guess = (last.before(x, t),) if self_condition else ()
        with no_grad():
            out = model(*network_inputs(target, network_input, schedule, t), y, *guess).data
        if learns_variance(model):
            out, v = np.split(out, 2, axis=-1)  # (N,H,W,C) each
            answered = x.copy(), np.copy(t), v.astype(x.dtype)
        alpha, sigma = schedule.at(t)
        x0, _ = to_x0_eps(target, out + gaussian_share(gaussian, target, x, alpha, sigma), x, alpha, sigma)
        if self_condition:
            last.keep(x0, t)
        return x0.astype(x.dtype, copy=False)

    def log_variance(x, t, s):
        if answered is None or not (np.array_equal(answered[0], x) and np.array_equal(answered[1], t)):
            denoise(x, t)
        low, high = log_variance_range(schedule, t, s)
        return per_picture((low + high) / 2, x) + per_picture((high - low) / 2, x) * answered[2]

    if learns_variance(model):
        denoise.log_variance = log_variance
    if self_condition:
        denoise.reset = last.reset
    else:
        denoise.vjp = lambda x, t, u: vjp(model, schedule, target, y, gaussian, x, t, u)
    return denoise


def vjp(model, schedule, target, y, gaussian, x, t, u):
    """u^T d x0_hat / dx, like x (N,H,W,C), of the denoiser of these: the gradient of the sum of u x0_hat, by one pass through and back."""
    # x0_hat is a sum of two parts, one linear in x and one linear in the answer, of which the Gaussian's share is affine in x, by a symmetric matrix.
    alpha, sigma = schedule.at(t)
    direct, _ = to_x0_eps(target, np.zeros_like(x), u, alpha, sigma)
    d_out, _ = to_x0_eps(target, u, np.zeros_like(x), alpha, sigma)
    centred = gaussian and gaussian._replace(mean=np.zeros_like(gaussian.mean))                 # the linear part of its share
    direct = direct + gaussian_share(centred, target, d_out, alpha, sigma)
    picture, times = network_inputs(target, x.astype(next(iter(model.parameters())).dtype, copy=False), schedule, t)
    picture = Tensor(picture, requires_grad=True)
    with frozen(model):
        out = model(picture, times, y)
        dy = np.zeros(out.shape, out.dtype)
        dy[..., :x.shape[-1]] = d_out  # a learned variance, in the channels behind, has no part in x0_hat
        out.backward(dy)
    through, _ = network_inputs(target, picture.grad, schedule, t)  # the network's picture is x times a number, and so is its gradient
    return (direct + through).astype(x.dtype, copy=False)


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


def learns_variance(model) -> bool:
    """Whether the network answers with learned variance: with twice as many channels as it is given, by its `model.config`."""
    config = getattr(model, "config", None)
    return config is not None and config.out_channels == 2 * config.in_channels
