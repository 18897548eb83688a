"""Rounding does not drift: a network trained with the fast kernels and one trained with their NumPy references do equally well."""
import numpy as np
import pytest

from tests.training.runs import network
from tinydiff import kernels
from tinydiff.data import drawn_cats
from tinydiff.training import TrainConfig, Trainer

STEPS = 300


def last_losses(tmp_path):
    config = TrainConfig(epochs=100, batch=8, held_out=0.25)                             # 24 pictures, 3 steps an epoch
    model = network(image_size=16, channel_mults=(1, 2), attention_resolutions=(8,))
    run = Trainer(model, drawn_cats(32, size=16), config, tmp_path)
    losses = [run.step() for _ in range(STEPS)]
    assert run.total_steps == STEPS and losses[-1] < 0.5 * losses[0]
    return losses[-50:]


@pytest.mark.slow
def test_fast_kernels_and_references_train_alike(tmp_path, monkeypatch):
    fast = last_losses(tmp_path)
    for name, kernel in kernels.KERNELS.items():
        monkeypatch.setattr(kernels, name, kernel.reference)
    reference = last_losses(tmp_path)
    assert fast != reference                                                             # the references did run
    assert np.mean(fast) == pytest.approx(np.mean(reference), rel=0.01)
