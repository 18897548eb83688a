"""The diffusion of points, cut short: it learns, its samplers come nearer to the roll with more steps, the arrows point out of the noise."""
import re
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from tinydiff.report.pictures import CARD

example = import_module("examples.04_swiss_roll")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What it prints, and the folder with its pictures, of a short training and few points."""
    with pytest.MonkeyPatch.context() as patch:
        lines, out = [], tmp_path_factory.mktemp("roll") / "deep"
        for name, value in dict(STEPS=1600, BATCH=128, SHOWN=200, SAMPLER_STEPS=(2, 10), OUT=out).items():
            patch.setattr(example, name, value)
        patch.setattr("builtins.print", lambda text: lines.append(text))
        example.main()
    return "\n".join(lines), out


def test_points_lie_on_the_roll():
    points, along = example.swiss_roll(1000, np.random.default_rng(0))
    assert points.shape == (1000, 2) and points.dtype == np.float32 and 0 <= along.min() < 0.1 and 0.9 < along.max() <= 1
    angle = 3 * np.pi * (0.25 + along)
    # Of noise 0.03, the largest of 1,000 is about 3.5 times that; the roll's arms are pi apart at least, over 6.
    assert np.abs(np.hypot(*points.T) - angle / 6).max() < 0.15
    assert np.abs(np.hypot(points[:, 0] - angle / 6 * np.cos(angle), points[:, 1] - angle / 6 * np.sin(angle))).max() < 0.2


def test_nearest():
    far, which = example.nearest(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[9.0, 9.0], [0.0, 1.0], [3.0, 2.0]]))
    np.testing.assert_allclose(far, [1, 2])
    assert which.tolist() == [1, 2]


def test_the_arrows_point_to_where_the_denoiser_says(monkeypatch):
    drawn = []
    monkeypatch.setattr(example, "arrows", lambda panel, x, way: drawn.append((x, way)))
    target = np.array([0.1, -0.2])
    alpha, _ = example.SCHEDULE.at(300)
    example.field(lambda x, t: np.broadcast_to(target, x.shape), 300, None)
    (x, way), = drawn
    to_target = alpha * target - x
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (way, to_target)]
    np.testing.assert_allclose(*unit, atol=1e-6)
    assert np.linalg.norm(way, axis=1).max() < 0.301                        # the places are 4.8 / 14 = 0.34 apart


def test_it_learns(run):
    losses = [float(loss) for loss in re.findall(r"step +[\d,]+ +loss (\S+)", run[0])]
    assert len(losses) == 8 and losses[-1] < losses[0] and max(map(len, run[0].splitlines())) <= 80


def table(printed):
    return {name: (float(few), float(more)) for name, few, more in re.findall(r"^   (\w+) +[12] +(\S+) +(\S+)$", printed, flags=re.M)}


def test_new_points_are_nearer_to_the_roll_than_noise(run):
    far = table(run[0])
    noise, _ = example.nearest(example.td.diffusion.initial_noise(example.SCHEDULE, (200, 2)), example.swiss_roll(1000, np.random.default_rng(0))[0])
    assert set(far) == set(example.SAMPLERS)
    assert all(more < 0.7 * noise.mean() for _, more in far.values())       # it has learned a tenth of what it will
    assert far["euler"] == pytest.approx(far["ddim"], abs=0.0011)           # one method, and the last place printed


def test_with_a_perfect_denoiser_more_steps_come_nearer(monkeypatch, capsys, tmp_path):
    """The best guess of x_0 is the mean of the points, each by how likely it is to have become x_t; it leads to one of them."""
    monkeypatch.setattr(example, "SAMPLER_STEPS", (5, 40))
    monkeypatch.setattr(example, "OUT", tmp_path)
    x0, along = example.swiss_roll(300, np.random.default_rng(0))

    def denoise(x, t):
        alpha, sigma = example.SCHEDULE.at(t)
        exponent = -((x[:, None] - alpha * x0) ** 2).sum(-1) / (2 * sigma ** 2)                 # (N,300)
        weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return (weights @ x0 / weights.sum(axis=1, keepdims=True)).astype(x.dtype)
    example.compare_samplers(denoise, example.td.diffusion.initial_noise(example.SCHEDULE, (200, 2)), along[:200], x0)
    far = table(capsys.readouterr().out)
    assert set(far) == set(example.SAMPLERS)
    assert all(more < few / 3 and more < 0.03 for few, more in far.values())
    assert far["heun"][0] < far["ddim"][0] and far["dpmpp_2m"][0] < far["ddim"][0]              # second order against first


def test_both_sheets_are_drawn(run):
    for name, rows in (("swiss_roll.png", 3), ("swiss_roll_samples.png", 2)):
        with Image.open(run[1] / name) as sheet:
            pixels = np.asarray(sheet.convert("RGB")).astype(int)
        assert pixels.shape[1] == 6 * (200 + 8) and f"drawn: {run[1] / name}" in run[0]
        for row in range(rows):
            for column in range(6):
                panel = pixels[36 + row * 236:, 4 + column * 208:][:200, :200]
                assert 0.02 < (np.abs(panel - CARD).sum(axis=-1) > 60).mean() < 0.9, (name, row, column)      # dots, and the card between
