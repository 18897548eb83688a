"""A denoiser is a function `denoise(x, t) -> guess of x_0`, arrays in and out: all that a sampler needs to know about a network.

What changes a denoiser (clipping, in thresholding.py, say) is a function from denoiser to denoiser.
"""
from tinydiff.autograd import no_grad
from tinydiff.diffusion.self_conditioning import LastGuess
from tinydiff.diffusion.targets import to_x0_eps
from tinydiff.diffusion.times import network_times


def denoiser(model, schedule, target: str, y=None, self_condition: bool | None = None):
    """`denoise(x, t) -> x0_hat` from a network that was trained on `target`.

    model  called as model(x, t, y) with x (N,H,W,C) and t (N,) = 1000 t / T in its parameters' dtype; builds no graph. Put it in
           evaluation mode (`model.eval()`) first if it has dropout.
    y      (N,) labels, or None. The network says which there are: a label out of range is its ValueError.
    self_condition  whether the network, called as model(x, t, y, x0), is given its last guess; None: if it was made for that
           (`model.self_condition`). Then denoise has a memory, and `denoise.reset()`: see `self_conditioning.LastGuess`.

    denoise takes x (N,H,W,C) of any float dtype and t, a number or (N,), and returns (N,H,W,C) of x's dtype.
    """
    if self_condition is None:
        self_condition = getattr(model, "self_condition", False)
    last = LastGuess()

    def denoise(x, t):
        network_input = x.astype(next(iter(model.parameters())).dtype, copy=False)
        guess = (last.before(x, t),) if self_condition else ()
        with no_grad():
            out = model(network_input, network_times(schedule, t, like=network_input), y, *guess).data
        x0, _ = to_x0_eps(target, out, x, *schedule.at(t))
        if self_condition:
            last.keep(x0, t)
        return x0.astype(x.dtype, copy=False)
    if self_condition:
        denoise.reset = last.reset
    return denoise
