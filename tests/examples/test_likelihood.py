"""The programs that measure a run, on a run of a few steps: bits per dimension, errors by noise level, copies."""
import re
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import copies
from examples import likelihood
from tinydiff.data import drawn_cats
from tinydiff.nn import UNet, UNetConfig
from tinydiff.training import TrainConfig, Trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    model = UNet(UNetConfig(image_size=16, channels=8, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(), heads=2),
                 rng=np.random.default_rng(0))
    Trainer(model, drawn_cats(12, 16, 0), TrainConfig(epochs=2, batch=5, held_out=0.25, steps=3, autoguidance=1.5), out).fit()
    return out


def test_bits_and_errors_are_printed(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["likelihood.py", "--run", str(run), "--count", "2", "--steps", "20", "--flow-steps", "4"])
    likelihood.main()
    printed = capsys.readouterr().out
    assert printed.startswith("2 held-out pictures of 16 x 16 x 3 after 4 steps of training")
    total, prior, steps, decoder = map(float, re.search(
        r"bound +([\d.]+) \+- [\d.]+  20 steps, fixed large variance: prior ([\d.]+) \+ steps ([\d.]+) \+ decoder ([\d.]+)", printed).groups())
    assert total == pytest.approx(prior + steps + decoder, abs=0.002) and 1 < total < 60
    assert 1 < float(re.search(r"flow +([\d.]+) \+- [\d.]+  4 steps", printed)[1]) < 60
    levels = [list(map(float, line.split())) for line in printed.partition("(the plain loss)\n")[2].splitlines()]
    assert len(levels) == 10 and [round(level[1]) for level in levels] == list(range(9, -10, -2))


def test_copies_are_looked_for_and_drawn(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["copies.py", "--run", str(run), "--samples", "3"])
    copies.main()
    assert re.search(r"3 samples +median [\d.]+, least [\d.]+\n +3 held-out pictures +median", capsys.readouterr().out)
    with Image.open(run / "copies.png") as sheet:
        assert sheet.width > 3 * 2 * 128


@pytest.mark.parametrize("flags, words", [(["--run", "nowhere"], "no checkpoint at"), (["--count", "0"], "--count is 0")])
def test_a_users_mistake_is_one_clear_line(flags, words, run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["likelihood.py", "--run", str(run), *flags])
    with pytest.raises(SystemExit, match=words):
        likelihood.main()
