"""tinydiff: a diffusion model from scratch in NumPy, made to be read and to be fast.

    import tinydiff as td

    cats = td.data.drawn_cats(1000)                                          # pictures in
    model = td.nn.UNet(td.nn.UNetConfig(), rng=np.random.default_rng(0))     # a network of our own autograd and kernels
    trainer = td.training.Trainer(model, cats, td.training.TrainConfig(), "runs/cats")
    trainer.fit()                                                            # it learns to remove noise
    x_T = td.diffusion.initial_noise(trainer.schedule, (16, 64, 64, 3))
    *_, last = td.diffusion.ddim(trainer.denoiser(), trainer.schedule, x_T, steps=50)
    new_cats = td.data.to_uint8(last.x)                                      # new pictures out

Begin to read with `autograd.py`; each file names what to read before it, and README.md has the whole path as a table.
"""
from . import data, diffusion, kernels, metrics, nn, ops, report, training
from .autograd import GraphError, Tensor, no_grad
from .gradcheck import GradientError, gradcheck
from .training import optim

__version__ = "0.1.0"
__all__ = ["GradientError", "GraphError", "Tensor", "data", "diffusion", "gradcheck", "kernels", "metrics", "nn", "no_grad", "ops", "optim",
           "report", "training"]
