"""The network that comes with tinydiff: small, readable by anybody, and still drawing cats."""
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinydiff import diffusion
from tinydiff.data import drawn_cats, to_uint8
from tinydiff.metrics import sliced_wasserstein
from tinydiff.training import load_pretrained
from tinydiff.training.pretrained import LOSSES, PRETRAINED, pretrained_record, save_pretrained

ROOT = Path(__file__).parents[2]
N, STEPS = 64, 10
# The distance is the mean of those to four sets of cats that it has never seen. For one set it is 38.3 with a standard deviation of 2.9 (20 sets,
# seeds 100 to 119), so the mean of four has one of 1.4; WORST is three of these above. (Sets of drawn cats are 27 to 33 from each other.)
FRESH, WORST = range(100, 104), 38.3 + 3 * 1.4


def distance(saved, sampler="ddim"):
    """How far N pictures of the network are from as many cats that it has never seen, the mean over FRESH."""
    schedule = diffusion.SCHEDULES[saved.config.schedule](saved.config.T)
    denoise = diffusion.clip_x0(diffusion.denoiser(saved.ema.model.eval(), schedule, saved.config.target))
    x_T = diffusion.initial_noise(schedule, (N, 64, 64, 3))
    *_, last = diffusion.SAMPLERS[sampler](denoise, schedule, x_T, STEPS)
    pictures = to_uint8(last.x)
    return np.mean([sliced_wasserstein(pictures, drawn_cats(N, seed=seed).images, directions=64) for seed in FRESH])


def test_it_is_small_and_holds_no_objects():
    assert PRETRAINED.stat().st_size <= 4_000_000
    with np.load(PRETRAINED, allow_pickle=False) as file:
        assert all(file[name].dtype == np.float16 for name in file.files if name.startswith("weights/"))
    losses, made = pretrained_record()
    assert losses.shape == (LOSSES,) and losses.dtype == np.float64 and made["command"].startswith("python examples/train_cats.py")


def test_it_still_draws_cats():
    """Fails where a change to schedule, sampler or network makes its pictures worse by more than chance does; and the measure would notice."""
    saved = load_pretrained()
    assert distance(saved) <= WORST
    assert distance(saved, sampler="ddpm") > WORST          # which needs more than STEPS


def test_what_is_written_is_what_is_read(tmp_path):
    from tests.training.runs import RUN, trainer
    run = trainer(tmp_path / "run", replace(RUN, epochs=40))
    run.fit()
    save_pretrained(tmp_path / "run", {"command": "none"}, tmp_path / "small.npz")
    with np.load(tmp_path / "small.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["losses"], [row["loss"] for row in run.history[:LOSSES]])
        for name, p in run.ema.model.named_parameters():
            np.testing.assert_allclose(file[f"weights/{name}"], p.data, rtol=2 ** -11, atol=2 ** -25)      # float16 has 11 bits


@pytest.mark.slow
def test_its_first_losses_come_out_again():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "pretrained.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
