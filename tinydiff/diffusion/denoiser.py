"""A denoiser is a function `denoise(x, t) -> guess of x_0`, arrays in and out: all that a sampler needs to know about a network.

What changes a denoiser (clipping, in thresholding.py, say) is a function from denoiser to denoiser.
"""
from tinydiff.autograd import no_grad
from tinydiff.diffusion.targets import to_x0_eps
from tinydiff.diffusion.times import network_times


def denoiser(model, schedule, target: str, y=None):
    """`denoise(x, t) -> x0_hat` from a network that was trained on `target`.

    model  called as model(x, t, y) with x (N,H,W,C) and t (N,) = 1000 t / T in its parameters' dtype; builds no graph. Put it in
           evaluation mode (`model.eval()`) first if it has dropout.
    y      (N,) labels, or None.

    denoise takes x (N,H,W,C) of any float dtype and t, a number or (N,), and returns (N,H,W,C) of x's dtype.
    """
    def denoise(x, t):
        network_input = x.astype(next(iter(model.parameters())).dtype, copy=False)
        with no_grad():
            out = model(network_input, network_times(schedule, t, like=network_input), y).data
        x0, _ = to_x0_eps(target, out, x, *schedule.at(t))
        return x0.astype(x.dtype, copy=False)
    return denoise
