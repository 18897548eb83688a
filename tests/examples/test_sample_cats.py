"""examples/sample_cats.py and edit_cats.py on a tiny network: each way to start, what is written, and that memory stays flat."""
import importlib
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import drawn_cats, to_uint8
from tinydiff.diffusion import SAMPLERS, Step, clip_x0, initial_noise
from tinydiff.nn import UNet, UNetConfig
from tinydiff.training import Ranks, TrainConfig, Trainer, save_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE = 16


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two checkpoints after one step: `plain`, and `labels` of a network that knows the cats' coats."""
    cats, folder = drawn_cats(12, SIZE), tmp_path_factory.mktemp("runs")
    for name, classes in (("plain", None), ("labels", len(cats.label_names))):
        unet = UNetConfig(image_size=SIZE, channels=8, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(), num_classes=classes)
        trainer = Trainer(UNet(unet, rng=np.random.default_rng(0)), cats, TrainConfig(epochs=1, batch=4, sampler="dpmpp_2m_sde", steps=4),
                          folder / name)
        trainer.step()
        if classes:                                        # after one step a label makes no difference that a byte could show
            rng, network = np.random.default_rng(1), trainer.ema.model
            network.load_state_dict({key: 0.3 * rng.standard_normal(w.shape, np.float32) for key, w in network.state_dict().items()})
        (folder / name).mkdir()
        save_checkpoint(folder / name / "checkpoint.npz", trainer)
    return folder


@pytest.fixture
def example(monkeypatch):
    """example(name, *flags): runs that script's main, in this process."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name, *flags):
        monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
        importlib.import_module(name).main()
    return run


def pictures(out):
    files = sorted(path.name for path in out.iterdir() if path.stem.isdecimal())
    assert files == [f"{i:06d}.png" for i in range(len(files))]
    return np.stack([np.asarray(Image.open(out / name)) for name in files])


@pytest.mark.parametrize("way, count, steps", [
    ([], 64, 5), (["--count", 17, "--sampler", "dpmpp_2m", "--steps", 3, "--spacing", "linspace", "--threshold", "dynamic"], 17, 4),
    (["--inpaint", "cat:7", "--resamples", 2, "--jump", 2], 8, 8), (["--image", "cat:7", "--from", 999], 8, 5),
    (["--variations", "cat:7", "--count", 3], 3, 3), (["--interpolate", "cat:7", "cat:8"], 8, 8),
])
def test_every_way_to_start_writes_its_pictures_a_sheet_and_a_film(way, count, steps, runs, example, tmp_path, capsys):
    out = tmp_path / "out"
    example("sample_cats", "--run", runs / "plain", "--gif", "--out", out, *way)
    assert pictures(out).shape == (count, SIZE, SIZE, 3)
    assert len(np.unique(pictures(out), axis=0)) > 1
    with Image.open(out / "sheet.png") as sheet, Image.open(out / "film.gif") as film:
        sheet.load()
        assert film.n_frames == steps                      # where each step started, and the end; of an interpolation, its pictures
    said = capsys.readouterr().out
    assert f"{count} pictures in {out}" in said and not set(said) & {"\r", "\x1b"}


def test_pictures_depend_on_their_number_and_the_seed_alone(runs, example, tmp_path):
    for name, flags in (("few", ["--count", 5]), ("many", ["--count", 20]), ("other", ["--count", 5, "--seed", 1])):
        example("sample_cats", "--run", runs / "plain" / "checkpoint.npz", "--sampler", "ddpm", "--steps", 2, "--out", tmp_path / name, *flags)
    few, many, other = (pictures(tmp_path / name) for name in ("few", "many", "other"))
    np.testing.assert_array_equal(many[:5], few)
    assert not np.any((other == few).all(axis=(1, 2, 3)))


def test_inpainting_keeps_what_the_mask_keeps(runs, example, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[3:9, 5:] = 255                                    # white: kept
    for name, array in (("picture.png", picture), ("mask.png", mask)):
        Image.fromarray(array).save(tmp_path / name)
    for mask_flag, kept in ((tmp_path / "mask.png", mask > 0), ("top", np.arange(SIZE)[:, None] + np.zeros(SIZE) >= SIZE // 2)):
        out = tmp_path / f"out{kept.sum()}"
        example("sample_cats", "--run", runs / "plain", "--inpaint", tmp_path / "picture.png", "--mask", mask_flag, "--count", 2, "--out", out)
        for result in pictures(out):
            np.testing.assert_array_equal(result[kept], picture[kept])
            assert np.mean(result[~kept] == picture[~kept]) < 0.1


def test_interpolation_begins_and_ends_with_the_two_pictures(runs, example, tmp_path):
    """Even of a network that has learnt nothing DDIM, which is used here whatever the run's sampler is, finds its way back, to an error that more
    steps make smaller."""
    errors = []
    for steps in (10, 40):
        out = tmp_path / str(steps)
        example("sample_cats", "--run", runs / "plain", "--threshold", "none", "--steps", steps, "--interpolate", "cat:7", "cat:8", "--frames", 3,
                "--out", out)
        ends = np.stack([drawn_cats(1, SIZE, seed).images[0] for seed in (7, 8)])
        errors.append(np.abs(pictures(out)[[0, 2]].astype(float) - ends).mean())
    assert errors[1] < 0.7 * errors[0], errors


def test_a_gaussian_start_is_the_trainers(example, tmp_path):
    """The first pictures are those that the run itself would draw; where a spacing is given, or one step, the network takes all steps."""
    unet = UNetConfig(image_size=SIZE, channels=8, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=())
    config = TrainConfig(epochs=1, batch=4, sampler="dpmpp_2m_sde", steps=4, gaussian=True, autoguidance=1.5)
    run = Trainer(UNet(unet, rng=np.random.default_rng(0)), drawn_cats(12, SIZE), config, tmp_path / "run")
    run.fit()
    x_T = initial_noise(run.schedule, (2, SIZE, SIZE, 3), 0)
    drawn = {"own": run.sampler(clip_x0(run.denoiser()), run.schedule, x_T, 4, 0)}
    for name, steps in (("spaced", 4), ("one", 1)):
        drawn[name] = SAMPLERS[config.sampler](clip_x0(run.denoiser()), run.schedule, x_T, steps, 0)
    for name, flags in (("own", []), ("spaced", ["--spacing", "trailing"]), ("one", ["--steps", 1])):
        example("sample_cats", "--run", tmp_path / "run", "--count", 2, "--out", tmp_path / name, *flags)
        np.testing.assert_array_equal(pictures(tmp_path / name), to_uint8(list(drawn[name])[-1].x))
    for name, flags in (("image", ["--image", "cat:7"]), ("inpaint", ["--inpaint", "cat:7", "--resamples", 1])):
        example("sample_cats", "--run", tmp_path / "run", "--count", 2, "--out", tmp_path / name, *flags)


def test_labels_and_guidance(runs, example, tmp_path):
    for name, flags in (("none", []), ("black", ["--label", "black"]), ("strong", ["--label", "black", "--guidance", 4]),
                        ("rescaled", ["--label", "black", "--guidance", 4, "--rescale", 0.7]), ("away", ["--autoguidance", 3])):
        example("sample_cats", "--run", runs / "labels", "--count", 2, "--steps", 2, "--out", tmp_path / name, *flags)
    none, black, strong, rescaled, away = (pictures(tmp_path / name) for name in ("none", "black", "strong", "rescaled", "away"))
    assert np.any(none != away) and np.any(none != black) and np.any(black != strong) and np.any(strong != rescaled)


def test_memory_does_not_grow_with_the_count(runs, example, tmp_path):
    """The most that Python and NumPy hold at one time, by tracemalloc: pictures of 768 bytes would add 715 kB and more, if they were kept."""
    peaks = []
    for count in (64, 80, 1000):                           # the first fills the caches
        tracemalloc.start()
        example("sample_cats", "--run", runs / "plain", "--steps", 1, "--count", count, "--out", tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 200_000, peaks
    assert len(list((tmp_path / "1000").iterdir())) == 1001


def test_a_long_film_is_thinned(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    sample_cats = importlib.import_module("sample_cats")
    x = np.zeros((2, 4, 4, 3))
    steps = (Step(998.0 - i, x, x) for i in range(1000))
    _, moments = sample_cats.draw(lambda first, n: (x, steps), 2, tmp_path, True, Ranks())
    assert sample_cats.GIF_FRAMES <= len(moments) <= 4 * sample_cats.GIF_FRAMES
    assert len(set(np.diff([t for _, _, t in moments[:-1]]))) == 1 and moments[-1][2] == -1      # evenly, and the end


@pytest.mark.parametrize("flags, message", [
    (["--run", "nowhere"], "no checkpoint at nowhere.*train one first"),
    (["--steps", 0], "steps is 0, but must be a whole number from 1 to"),
    (["--count", 0], "--count is 0"),
    (["--guidance", 3], "give one with --label"),
    (["--label", "black"], "--label black: this network knows no labels"),
    (["--spacing", "cubic"], "unknown spacing 'cubic'"),
    (["--image", "cat:1", "--spacing", "leading"], "--spacing means nothing with --image"),
    (["--mask", "left"], "--mask means nothing without --inpaint"),
    (["--interpolate", "cat:1", "cat:2", "--count", 3], "--count means nothing with --interpolate"),
    (["--image", "cat:1", "--variations", "cat:2"], "not allowed with argument"),
    (["--image", "nowhere.png"], "there is no file nowhere.png"),
    (["--image", "cat:1", "--from", 1000], "t is 1000.*T-1 = 999"),
    (["--inpaint", "cat:1", "--mask", "middle"], "there is no file middle"),
    (["--inpaint", "cat:1", "--jump", 4], "jump_length is 4, but must be below the number of steps, 4"),
    (["--sampler", "cat"], "invalid choice: 'cat'"),
    (["--out", EXAMPLES], "already holds something"),
])
def test_a_users_mistake_is_one_clear_line(flags, message, runs, example, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        example("sample_cats", "--run", runs / "plain", "--out", tmp_path / "out", *flags)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and re.search(message, said) and len(said.splitlines()) == 1, said


def test_autoguidance_needs_a_network_of_an_earlier_time(example, tmp_path, capsys):
    with pytest.raises(SystemExit):
        example("sample_cats", "--autoguidance", 2, "--out", tmp_path / "out")
    assert "pretrained.npz holds no network of an earlier time" in capsys.readouterr().err


def test_an_unknown_label_lists_the_known_ones(runs, example, tmp_path, capsys):
    with pytest.raises(SystemExit):
        example("sample_cats", "--run", runs / "labels", "--label", "blue", "--out", tmp_path / "out")
    assert "--label blue: choose one of black, " in capsys.readouterr().err


def test_edit_cats_draws_its_four_sheets(runs, example, tmp_path, capsys):
    example("edit_cats", "--run", runs / "plain", "--out", tmp_path / "out", "--steps", 6)
    said = capsys.readouterr().out
    for name in ("inpainting", "image_to_image", "interpolation", "variations"):
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            sheet.load()
        assert f"{name}.png" in said
    with pytest.raises(SystemExit):
        example("edit_cats", "--run", tmp_path / "nowhere")
    assert "no checkpoint at" in capsys.readouterr().err


def test_without_a_run_the_network_that_comes_with_tinydiff_draws(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example("sample_cats", "--steps", 2, "--count", 3)
    out = tmp_path / "runs" / "drawn"
    assert pictures(out).shape == (3, 64, 64, 3) and (out / "film.gif").exists() and "the film: " in capsys.readouterr().out
