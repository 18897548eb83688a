"""What the network is told beside x_t and t: labels, some of them left out, and its own first guess."""
import dataclasses

import numpy as np
import pytest

from tests.training.runs import RUN, network, pictures, trainer
from tests.training.test_trainer import results, same_bits, state
from tinydiff import diffusion
from tinydiff.training import Trainer, load_checkpoint
from tinydiff.training.batches import held_out_batches, training_batch

LABELS = np.arange(13) % 2
SIXTEEN = dataclasses.replace(RUN, batch=16)


def class_run(out_dir, config=RUN, **changes):
    return trainer(out_dir, config, pictures(labels=LABELS), network(**{"num_classes": 2} | changes))


def test_a_tenth_of_the_labels_is_left_out():
    images, labels = pictures(40).images, np.arange(40) % 3
    steps = range(120)
    with_dropout = [training_batch(images, labels, SIXTEEN, step, np.float32, no_label=3) for step in steps]
    without = [training_batch(images, labels, SIXTEEN, step, np.float32) for step in steps]
    y, true = (np.concatenate([batch.y for batch in batches]) for batches in (with_dropout, without))
    assert y.dtype == np.int64 and np.array_equal(y[y != 3], true[y != 3]) and true.max() == 2
    assert abs(np.mean(y == 3) - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(y))  # 4 standard errors of 1,600 draws: 0.03
    assert all(np.array_equal(a, b) for one, two in zip(with_dropout, without) for a, b in zip(one[:3], two[:3]))  # no other draw moves


def test_which_labels_are_left_out_depends_on_seed_step_and_place_only():
    def dropped(step, **changes):
        config = dataclasses.replace(SIXTEEN, label_dropout=0.5, **changes)
        return (training_batch(pictures(40).images, np.zeros(40, np.int64), config, step, np.float32, no_label=1).y == 1).tolist()
    assert dropped(3) == dropped(3) and dropped(3)[:4] == dropped(3, batch=4)
    assert dropped(3) != dropped(4) and dropped(3) != dropped(3, seed=1)


@pytest.mark.parametrize("part, used", [(0.0, [True, True, False]), (0.5, [True, True, True]), (1.0, [False, False, True])])
def test_a_network_with_classes_is_trained_on_labels(tmp_path, part, used):
    """The rows of the label table that move: both labels', and that of "no label"."""
    run = class_run(tmp_path, dataclasses.replace(RUN, label_dropout=part))
    for _ in range(4):  # what starts at zero holds the gradient back: from the labels for two steps
        run.step()
    moved = np.abs(run.model.labels.weight.data - network(num_classes=2).labels.weight.data).max(axis=1)
    assert (moved > 0).tolist() == used
    assert run.label_names == ["a", "b"]


def test_the_held_out_loss_is_told_the_true_labels(tmp_path):
    run = class_run(tmp_path, dataclasses.replace(RUN, label_dropout=1.0))
    run.ema.model.load_state_dict({name: np.random.default_rng(1).standard_normal(p.shape) / 4 for name, p in run.model.named_parameters()})

    def by_hand(no_label):
        total = 0
        for batch in held_out_batches(run.held_out_images, run._held_out_labels, RUN, np.float32):
            y = None if no_label else batch.y
            total += float(diffusion.loss(run.ema.model, run.schedule, "v", *batch[:3], y, "min_snr").data) * len(batch.x0)
        return total / len(run.held_out_images)
    assert run.held_out_loss() == pytest.approx(by_hand(False), rel=1e-12) != pytest.approx(by_hand(True), rel=1e-3)


def test_the_denoiser_takes_labels(tmp_path):
    run = class_run(tmp_path)
    run.ema.model.load_state_dict({name: np.random.default_rng(1).standard_normal(p.shape) / 4 for name, p in run.model.named_parameters()})
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    both, none = run.denoiser(np.array([0, 1]))(x, 500.0), run.denoiser()(x, 500.0)
    assert np.array_equal(none, run.denoiser(np.array([2, 2]))(x, 500.0))
    assert np.abs(both - none).max(axis=(1, 2, 3)).min() > 1e-3
    with pytest.raises(ValueError, match=r"UNet: y\[1\] is 3, but labels run from 0 to num_classes - 1 = 1"):
        run.denoiser(np.array([0, 3]))(x, 500.0)
    with pytest.raises(ValueError, match="made without num_classes"):
        trainer(tmp_path).denoiser(np.array([0, 1]))(x, 500.0)


def test_labels_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="num_classes=2 needs pictures with labels, but these have none"):
        trainer(tmp_path, model=network(num_classes=2))
    with pytest.raises(ValueError, match=r"picture 1 has the label 1 \('b'\), but a network with num_classes=1 needs .* with num_classes=2"):
        class_run(tmp_path, num_classes=1)


def test_other_labels_of_the_same_pictures_are_another_run(tmp_path):
    class_run(tmp_path, dataclasses.replace(RUN, epochs=1)).fit()
    assert load_checkpoint(tmp_path / "checkpoint.npz").data["label_names"] == ["a", "b"]
    with pytest.raises(ValueError, match="was started on other pictures"):
        Trainer.resume(pictures(labels=1 - LABELS), tmp_path)


def test_half_of_the_batches_have_a_first_guess(tmp_path, monkeypatch):
    """By the step's number: a Trainer of the same seed draws the same ones, another seed others."""
    drawn = {}
    for name, seed in (("once", 0), ("again", 0), ("other", 1)):
        run = trainer(tmp_path, dataclasses.replace(RUN, seed=seed, epochs=30), model=network(self_condition=True))
        asked = drawn[name] = []
        monkeypatch.setattr(run, "_loss", lambda model, batch, first_guess: asked.append(first_guess) or Trainer._loss(run, model, batch))
        for _ in range(40):
            run.step()
    assert drawn["once"] == drawn["again"] != drawn["other"]
    assert abs(np.mean(drawn["once"]) - 0.5) < 4 * 0.5 / np.sqrt(40)


def test_a_network_without_self_condition_is_given_no_guess(tmp_path):
    run = trainer(tmp_path)
    asked = []
    run._loss = lambda model, batch, first_guess: asked.append(first_guess) or Trainer._loss(run, model, batch)
    for _ in range(8):
        run.step()
    assert not any(asked)


@pytest.mark.parametrize("stop", [2, 3])
def test_a_resumed_run_with_labels_guesses_and_dropout_is_the_unbroken_run_bit_for_bit(stop, tmp_path):
    def new(folder):
        return class_run(tmp_path / folder, dataclasses.replace(RUN, label_dropout=0.4), self_condition=True, dropout=0.2)

    def interrupt(run, row):
        if row["step"] == stop:
            raise KeyboardInterrupt
    unbroken = new("unbroken")
    unbroken.fit()
    with pytest.raises(KeyboardInterrupt):
        new("stopped").fit(interrupt)
    resumed = Trainer.resume(pictures(labels=LABELS), tmp_path / "stopped")
    assert resumed.model.config.self_condition and resumed.model.config.num_classes == 2 and resumed.config.label_dropout == 0.4
    resumed.fit()
    assert same_bits(state(unbroken), state(resumed)) and results(unbroken.history) == results(resumed.history)
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    ends = [[denoise(x, t) for t in (900.0, 500.0)] for denoise in (run.denoiser(np.array([0, 1])) for run in (unbroken, resumed))]
    assert same_bits(*ends)
