"""The proof that all of it works together: a network that trains learns its pictures by heart."""
import dataclasses

import numpy as np

from tests.training.runs import RUN, network, pictures, trainer
from tinydiff import diffusion
from tinydiff.autograd import Tensor, no_grad
from tinydiff.training.batches import training_batch


def test_eight_pictures_are_learnt_by_heart(tmp_path):
    images = pictures(8).images
    config = dataclasses.replace(RUN, epochs=200, batch=8, lr=6e-3, held_out=0.0, flip=False)
    run = trainer(tmp_path, config, pictures(8), network(channels=32))

    def pixel_denoiser(x, t, y):
        """The best guess of v for one who knows only the variance of the colours: these are drawn independently, so no pixel tells of another."""
        alpha, sigma = (a[:, None, None, None] for a in run.schedule.at(t.astype(float) * config.T / 1000))
        variance = np.var(images / 127.5 - 1)
        x0 = alpha * variance / (alpha**2 * variance + sigma**2) * x
        return Tensor((alpha * (x - alpha * x0) / sigma - sigma * x0).astype(np.float32))

    def mean_loss(model):
        """Over 32 batches with times and noise that training never drew."""
        with no_grad():
            batches = [training_batch(images, None, config, 10_000 + k, np.float32) for k in range(32)]
            return np.mean([diffusion.loss(model, run.schedule, "v", b.x0, b.t, b.eps, weight="min_snr").data for b in batches])

    start = mean_loss(run.model)
    run.fit()
    # Whatever is below the pixel denoiser's loss has been learnt from these eight pictures; half of it leaves room for the luck of the draws,
    # which moves the mean of 256 losses by a few per cent.
    assert mean_loss(run.ema.model) < 0.5 * mean_loss(pixel_denoiser) < 0.5 * start
