"""The loop: its rows and files, exact resume, Ctrl-C, divergence."""
import ast
import csv
import dataclasses
import functools
import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import tinydiff
from tests.training.runs import RUN, network, pictures, trainer
from tinydiff import diffusion
from tinydiff.data import to_model
from tinydiff.diffusion.posterior import log_variance_range
from tinydiff.kernels import amx, has_bfloat16
from tinydiff.kernels.amx import wanted
from tinydiff.training import Trainer, TrainingDiverged, gaussian_of, load_checkpoint, save_checkpoint
from tinydiff.training.batches import held_out_batches, training_batch
from tinydiff.training.interrupt import hold_interrupt


def state(run):
    """Every number that training changes."""
    weak = run.weak.state_dict().values() if run.weak else []
    return [*run.model.state_dict().values(), *run.ema.model.state_dict().values(), *weak, *run.optimizer.m, *run.optimizer.v,
            np.array([run.global_step, run.optimizer.steps, run.ema.updates])]


def same_bits(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def results(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def log(out_dir):
    with open(out_dir / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 3 epochs of 3 steps, never stopped, and what its callbacks were given."""
    run = trainer(tmp_path_factory.mktemp("whole") / "deep" / "folder")
    steps, epochs = [], []
    run.fit(lambda run, row: steps.append(row), lambda run, row: epochs.append(row))
    return run, steps, epochs


def test_the_rows_of_a_run(whole):
    run, steps, epochs = whole
    assert (run.global_step, run.total_steps, run.steps_per_epoch, run.epoch) == (9, 9, 3, 3)
    assert [(row["step"], row["epoch"]) for row in steps] == [(n, (n + 2) // 3) for n in range(1, 10)]
    assert set(steps[0]) == {"step", "epoch", "loss", "grad_norm", "lr", "seconds", "images_per_second"}
    assert steps[2]["images_per_second"] == pytest.approx(2 / steps[2]["seconds"])  # the short batch of an epoch of 4 + 4 + 2
    assert [row["lr"] for row in steps] == sorted((row["lr"] for row in steps), reverse=True)  # 9 steps: too few to warm up
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert epochs[1]["loss"] == pytest.approx(sum(row["loss"] for row in steps[3:6]) / 3, rel=1e-14)
    assert epochs[2]["held_out_loss"] == run.held_out_loss()


def test_the_files_of_a_run(whole):
    run, steps, epochs = whole
    rows = log(run.folder.path)
    assert list(rows[0]) == "step,epoch,loss,held_out_loss,grad_norm,lr,seconds".split(",")
    assert [int(row["step"]) for row in rows] == list(range(1, 10))
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in steps]
    assert [row["held_out_loss"] for row in rows if row["held_out_loss"]] == [repr(row["held_out_loss"]) for row in epochs]
    assert all(bool(row["held_out_loss"]) == (int(row["step"]) % 3 == 0) for row in rows)
    config = json.loads((run.folder.path / "config.json").read_text())
    assert config["train"]["lr"] == RUN.lr and config["unet"]["channels"] == 16 and config["data"]["shape"] == [4, 4, 3]
    assert sorted(path.name for path in run.folder.path.iterdir()) == ["checkpoint.npz", "checkpoint.previous.npz", "config.json", "log.csv"]


def test_the_first_loss_is_what_the_formula_says(tmp_path):
    """A new network says 0, so the first loss is the mean of weight * v^2."""
    run = trainer(tmp_path)
    b = training_batch(run.train_images, None, RUN, 0, np.float32)
    alpha, sigma = diffusion.cosine(1000).at(b.t)
    snr = (alpha / sigma) ** 2
    v = alpha[:, None, None, None] * b.eps - sigma[:, None, None, None] * b.x0
    expected = np.mean(np.minimum(snr, 5) / (snr + 1) * np.mean(v**2, axis=(1, 2, 3)))
    assert run.step() == pytest.approx(expected, rel=1e-5)  # float32


def test_a_step_clips_and_follows_the_learning_rate(tmp_path):
    config = dataclasses.replace(RUN, epochs=10, clip=0.01)  # 30 steps, the first 3 to warm up
    run = trainer(tmp_path, config)
    before = run.model.state_dict()
    run.step()
    assert run.history[0]["grad_norm"] > 0.01 and run.history[0]["lr"] == config.lr / 3
    # After one step m is (1 - beta1) times the clipped gradient, and Adam's step is lr in every entry that has a gradient well above eps.
    clipped = np.sqrt(sum((m.astype(np.float64) ** 2).sum() for m in run.optimizer.m)) / (1 - config.betas[0])
    assert clipped == pytest.approx(0.01, rel=1e-5)  # float32
    moved = max(np.abs(p.data - before[name]).max() for name, p in run.model.named_parameters())
    assert moved == pytest.approx(config.lr / 3, rel=1e-3)  # 2e-4 added to weights of 0.1, rounded to 7e-9


def test_the_held_out_loss_is_the_averaged_networks_mean_over_pictures(tmp_path):
    run = trainer(tmp_path, dataclasses.replace(RUN, batch=2))
    for _ in range(3):
        run.step()

    def by_hand(model):
        losses = [float(diffusion.loss(model, run.schedule, "v", *(part[i:i + 1] for part in batch[:3]), weight="min_snr").data)
                  for batch in held_out_batches(run.held_out_images, None, run.config, np.float32) for i in range(len(batch.x0))]
        return np.mean(losses)
    assert len(run.held_out_images) == 3  # a batch of 2 and one of 1
    assert run.held_out_loss() == pytest.approx(by_hand(run.ema.model), rel=1e-5)  # float32
    assert abs(by_hand(run.model) / by_hand(run.ema.model) - 1) > 1e-4


@pytest.mark.parametrize("stop", [2, 3, 4])
@pytest.mark.parametrize("dropout, optimizer", [(0.0, "adamw"), (0.3, "adamw"), (0.0, "muon")])
def test_a_resumed_run_is_the_unbroken_run_bit_for_bit(stop, dropout, optimizer, tmp_path):
    def fit(run, until):
        def interrupt(run, row):
            if row["step"] == until:
                raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            run.fit(interrupt)
    config = dataclasses.replace(RUN, epochs=2, optimizer=optimizer, gaussian=optimizer == "muon")
    unbroken = trainer(tmp_path / "unbroken", config, model=network(dropout=dropout))
    unbroken.fit()
    fit(trainer(tmp_path / "stopped", config, model=network(dropout=dropout)), stop)
    resumed = Trainer.resume(pictures(), tmp_path / "stopped")
    assert (resumed.gaussian is None) == (optimizer != "muon")
    assert resumed.global_step == stop == len(resumed.history)
    resumed.fit()
    assert same_bits(state(unbroken), state(resumed))
    assert results(unbroken.history) == results(resumed.history)
    assert unbroken.epoch_rows() == resumed.epoch_rows()
    assert [row["loss"] for row in log(tmp_path / "stopped")] == [row["loss"] for row in log(tmp_path / "unbroken")]


def test_autoguidance_leads_away_from_the_average_of_a_quarter_of_the_run(tmp_path):
    """The average after 3 of 12 steps is kept, through a checkpoint, until the quarter of a longer run; guesses are the formula's."""
    run = trainer(tmp_path, dataclasses.replace(RUN, epochs=4, autoguidance=3.0))
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3), np.float32)
    for step in range(1, 6):
        assert (run.weak is None) == (step < 4)
        run.step()
        if step == 3:
            quarter = {name: array.copy() for name, array in run.ema.model.state_dict().items()}
    run.folder.path.mkdir(exist_ok=True)
    save_checkpoint(tmp_path / "checkpoint.npz", run)
    longer = Trainer.resume(pictures(), tmp_path, config=dataclasses.replace(run.config, epochs=9, autoguidance=2.0))
    longer.step()
    for one, scale in ((run, 3), (longer, 2)):
        assert same_bits(one.weak.state_dict().values(), quarter.values())
        for t, counts in ((600, scale), (400, 1)):          # more noise than picture, and less
            strong, weak = (diffusion.denoiser(model, run.schedule, run.config.target)(x, t) for model in (one.ema.model, one.weak))
            assert np.abs(strong - weak).max() > 1e-4
            np.testing.assert_allclose(one.denoiser()(x, t), weak + counts * (strong - weak), rtol=0, atol=1e-6)
    longer.step()                                           # the 7th of 27
    assert same_bits(longer.weak.state_dict().values(), longer.ema.model.state_dict().values())


def test_the_gaussian_is_that_of_the_training_pictures(tmp_path):
    """Half of them mirrored where the training mirrors half. A new network, which answers 0, guesses as the Gaussian does."""
    run = trainer(tmp_path, dataclasses.replace(RUN, gaussian=True, flip=False, autoguidance=3.0))
    images = to_model(run.train_images[:])
    np.testing.assert_allclose(run.gaussian.mean, images.mean(axis=0), atol=1e-6)
    images[1::2] = images[1::2, :, ::-1].copy()
    np.testing.assert_allclose(gaussian_of(run.train_images, flip=True).mean, images.mean(axis=0), atol=1e-6)
    x_T = diffusion.initial_noise(run.schedule, (2, *images.shape[1:]))
    new = run.denoiser()
    np.testing.assert_allclose(new(x_T, 999), np.broadcast_to(run.gaussian.mean, x_T.shape), atol=1e-3)
    steps = list(run.sampler(new, run.schedule, x_T, 4))
    assert len(steps) == 4 and np.array_equal(steps[0].x0[0], run.gaussian.mean)

    run.fit()
    of = functools.partial(diffusion.denoiser, schedule=run.schedule, target=run.config.target, gaussian=run.gaussian)
    strong, weak = (of(model)(x_T, 900) for model in (run.ema.model, run.weak))
    assert np.abs(strong - weak).max() > 1e-4
    np.testing.assert_allclose(run.denoiser()(x_T, 900), weak + 3 * (strong - weak), rtol=0, atol=1e-6)
    held_out = next(held_out_batches(run.held_out_images, None, run.config, np.float32))
    known = diffusion.loss(run.ema.model, run.schedule, run.config.target, *held_out[:3], None, run.config.loss_weight, gaussian=run.gaussian)
    assert run.held_out_loss() == pytest.approx(float(known.data), rel=1e-5)


def test_the_gaussian_of_many_pictures_is_that_of_some_from_all_over():
    """Darker at first, brighter at the end: the mean is that of all."""
    images = np.repeat(np.linspace(0, 255, 3000).astype(np.uint8), 12).reshape(3000, 2, 2, 3)
    found = gaussian_of(images, flip=True)
    assert np.abs(found.mean).max() < 0.01 and found.deviations == pytest.approx([2 / math.sqrt(12) * math.sqrt(12)], rel=0.01)


def test_a_finished_run_is_saved_again_with_other_settings_to_draw_with(tmp_path):
    run = trainer(tmp_path)
    run.fit()
    before = (tmp_path / "checkpoint.npz").read_bytes()
    Trainer.resume(pictures(), tmp_path).fit()
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    other = dataclasses.replace(RUN, autoguidance=2.0, sampler="ddpm")
    Trainer.resume(pictures(), tmp_path, config=other).fit()
    saved = load_checkpoint(tmp_path)
    assert saved.config == other and saved.step == run.global_step


@pytest.mark.parametrize("change, message", [({"num_classes": 2}, "num_classes=2, image_size=4"), ({"image_size": 8}, "image_size=8, the pictures")])
def test_a_gaussian_is_for_all_pictures_and_their_size(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, dataclasses.replace(RUN, gaussian=True), model=network(**change), image_set=pictures(labels=np.arange(13) % 2))


def test_max_steps_end_the_run_in_the_middle_of_an_epoch(tmp_path):
    config, told = dataclasses.replace(RUN, max_steps=7), []
    run = trainer(tmp_path / "short", config)
    run.fit(on_epoch=lambda run, row: told.append(row["epoch"]))
    assert (run.total_steps, run.global_step, run.epoch, told) == (7, 7, 3, [1, 2, 3])
    assert [row["held_out_loss"] is not None for row in run.history] == [False, False, True] * 2 + [True] and len(run.epoch_rows()) == 3
    assert run.history[-1]["lr"] == pytest.approx(RUN.lr * 0.5 * (1 + math.cos(math.pi * 6 / 7)))       # the learning rate knows the end

    longer = Trainer.resume(pictures(), tmp_path / "short", config=RUN)                     # no max_steps: to the end of the epochs
    longer.fit()
    assert longer.global_step == 9 and len(longer.epoch_rows()) == 3 and longer.history[-1]["held_out_loss"] is not None
    with pytest.raises(ValueError, match="max_steps was None, not 7"):
        Trainer.resume(pictures(), tmp_path / "short", config=config)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only, by this host or by NUMBA_NUM_THREADS")
def test_the_number_of_threads_changes_no_bit_in_fifty_steps(tmp_path):
    states, used = [], numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            model = network(image_size=16, channels=32, channel_mults=(1, 2), attention_resolutions=(8,))
            run = trainer(tmp_path, dataclasses.replace(RUN, epochs=20, gaussian=True), pictures(size=16), model)
            for _ in range(50):
                run.step()
            states.append(state(run))
    finally:
        numba.set_num_threads(used)
    assert same_bits(*states)


def test_no_product_of_a_step_is_left_to_a_blas():
    """Whose threads and whose order of sums are its own. References, which end in _reference, may use one; so may what no step calls."""
    found, products = [], tuple(f"np.{name}" for name in ("dot", "vdot", "inner", "matmul", "einsum", "tensordot", "linalg"))

    def look(node, place):
        if isinstance(node, ast.FunctionDef) and (node.name.endswith("_reference") or node.name in ("fit_gaussian", "slerp")):
            return
        called = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) or called.startswith(products):
            found.append(f"{place}:{node.lineno}")
        for child in ast.iter_child_nodes(node):
            look(child, place)
    root = Path(tinydiff.__file__).parent
    parts = ("autograd.py", "kernels/*.py", "ops/*.py", "nn/*.py", "diffusion/*.py", "training/*.py")
    paths = [path for part in parts for path in sorted(root.glob(part))]
    for path in paths:
        look(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(root))
    assert len(paths) > 30 and not found


def test_steps_after_the_checkpoint_are_not_counted_twice(tmp_path):
    run = trainer(tmp_path)

    def die(run, row):
        if row["step"] == 5:
            raise MemoryError  # dies without saving; the last checkpoint is of step 3
    with pytest.raises(MemoryError):
        run.fit(die)
    assert len(log(tmp_path)) == 5
    with open(tmp_path / "log.csv", "a") as file:
        file.write("6,2,0.1")  # and in the middle of a row
    resumed = Trainer.resume(pictures(), tmp_path)
    assert resumed.global_step == 3 and len(resumed.history) == 3
    resumed.fit()
    assert [int(row["step"]) for row in log(tmp_path)] == list(range(1, 10))


def test_a_run_resumes_without_its_log(tmp_path):
    def stop(run, row):
        if row["step"] == 4:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(stop)
    (tmp_path / "log.csv").unlink()
    resumed, epochs = Trainer.resume(pictures(), tmp_path), []
    resumed.fit(on_epoch=lambda run, row: epochs.append(row))
    assert [row["epoch"] for row in epochs] == [2, 3] and [row["step"] for row in resumed.history] == [5, 6, 7, 8, 9]
    assert epochs[0]["loss"] == pytest.approx((resumed.history[0]["loss"] + resumed.history[1]["loss"]) / 2, rel=1e-14)


TWICE = """
import signal, sys
from tinydiff.training.batches import held_out_batches, training_batch
from tinydiff.training.interrupt import hold_interrupt
try:
    with hold_interrupt():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
finally:
    print("got away")
"""


def test_ctrl_c_twice_ends_the_program_in_the_middle_of_a_step():
    """Were KeyboardInterrupt raised there, a half-taken step would be saved over the good checkpoint."""
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert done.returncode != 0 and "got away" not in done.stdout and "Ctrl-C again stops at once" in done.stderr


def test_a_finished_run_has_nothing_to_do(whole):
    run, steps, epochs = whole
    again = Trainer.resume(pictures(), run.folder.path)
    again.fit(lambda *_: pytest.fail("a step was taken"))
    assert same_bits(state(run), state(again)) and len(log(run.folder.path)) == 9


def test_resuming_on_other_pictures_is_refused(whole):
    with pytest.raises(ValueError, match="was started on other pictures"):
        Trainer.resume(pictures(12), whole[0].folder.path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        Trainer.resume(pictures(), whole[0].folder.path / "nowhere")


def test_ctrl_c_lets_the_step_finish(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    optimizer_step = run.optimizer.step

    def pressed_meanwhile(*args, **kwargs):
        if run.global_step == 1:
            signal.raise_signal(signal.SIGINT)
        optimizer_step(*args, **kwargs)
    monkeypatch.setattr(run.optimizer, "step", pressed_meanwhile)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    saved = load_checkpoint(tmp_path / "checkpoint.npz")
    assert saved.step == run.global_step == len(log(tmp_path)) == 2
    assert same_bits(saved.model.state_dict().values(), run.model.state_dict().values())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_that_handles_ctrl_c_itself_is_left_to():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with hold_interrupt():
            signal.raise_signal(signal.SIGINT)
            assert seen == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def poison(run):
    run.model.conv_in.weight.writable()[0, 0, 0, 0] = np.nan


def explode(run):
    """A finite loss whose gradient is not: the error's square, 1e36, fits into float32, its gradient times a weight of 1e25 does not."""
    for parameter, value in ((run.model.norm_out.weight, 0), (run.model.norm_out.bias, 0), (run.model.conv_out.weight, 1e25),
                             (run.model.conv_out.bias, 1e18)):
        parameter.writable()[...] = value


@pytest.mark.parametrize("fault, message", [(poison, "loss nan, .*gradient norm nan"), (explode, r"loss \d\S*e\+3\d, .*gradient norm (nan|inf)")])
def test_training_stops_at_the_first_number_that_is_not_finite(fault, message, tmp_path):
    run = trainer(tmp_path)

    def damage(run, row):
        if row["step"] == 4:
            fault(run)
            run.before = state(run)
    with np.errstate(all="ignore"), pytest.raises(TrainingDiverged, match=message) as caught:
        run.fit(damage)
    text = str(caught.value)
    assert "at step 5 of 9" in text and "learning rate 0.00" in text and f"last good checkpoint is {tmp_path / 'checkpoint.npz'}, of step 3" in text
    assert re.search(r"the largest gradient (nan|inf) \(of [a-z]+", text)
    assert f"the step before: {run.history[-1]['grad_norm']:.3g}" in text
    assert same_bits(state(run), run.before) and len(log(tmp_path)) == 4
    assert load_checkpoint(tmp_path / "checkpoint.npz").step == 3


def test_diverging_at_once_names_no_checkpoint(tmp_path):
    run = trainer(tmp_path)
    poison(run)
    with np.errstate(all="ignore"), pytest.raises(TrainingDiverged, match="No checkpoint was saved yet"):
        run.step()


def test_nothing_held_out(tmp_path):
    run, rows = trainer(tmp_path, dataclasses.replace(RUN, held_out=0.0, epochs=1)), []
    run.fit(on_epoch=lambda run, row: rows.append(row))
    assert len(run.train_images) == 13 and np.isnan(run.held_out_loss()) and rows[0]["held_out_loss"] is None
    assert not any(row["held_out_loss"] for row in log(tmp_path))


def test_held_out_and_training_pictures_are_apart(whole):
    run = whole[0]
    both = {picture.tobytes() for picture in (*run.train_images, *run.held_out_images)}
    assert len(run.train_images) == 10 and len(run.held_out_images) == 3 and both == {picture.tobytes() for picture in pictures().images}


def test_the_denoiser_is_the_averaged_networks(whole):
    run = whole[0]
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    average, raw = (diffusion.denoiser(model, run.schedule, "v")(x, 500.0) for model in (run.ema.model, run.model))
    assert np.array_equal(run.denoiser()(x, 500.0), average) and not np.array_equal(average, raw)


@pytest.mark.parametrize("changes", [
    dict(schedule="karras", target="edm", weight="edm", time_sampling="lognormal"), dict(schedule="flow", target="flow", weight="p2"),
    dict(schedule="linear_zero_snr", weight="simple", offset_noise=0.1), dict(schedule="sigmoid", target="eps", time_sampling="uniform"),
    dict(optimizer="muon"),
], ids=str)
def test_every_option_trains_and_draws(changes, tmp_path):
    run = trainer(tmp_path, dataclasses.replace(RUN, epochs=12, lr=2e-3, T=50, steps=5, **changes))
    batch = training_batch(run.train_images, None, run.config, 0, np.float32)  # the same before and after: only the network differs
    before = run._loss(run.model, batch).data
    for _ in range(run.total_steps):
        run.step()
    assert run._loss(run.model, batch).data < 0.97 * before
    x = diffusion.initial_noise(run.schedule, (2, 4, 4, 3))
    *_, last = diffusion.ddim(run.denoiser(), run.schedule, x, steps=5)
    assert np.isfinite(last.x).all()


@pytest.mark.parametrize("changes", [dict(micro_batch=1), dict(micro_batch=3), dict(recompute=True)], ids=str)
def test_less_memory_gives_the_same_step(changes, tmp_path):
    """The same draws, dropout's too, and the same gradient but for the order in which float32 numbers are added: some 100 roundings of 6e-8.

    RUN's batches are of 4, so that parts of 3 are of unequal size. AdamW's first step would blow rounding up: the gradients are compared.
    """
    gradients = []
    for config in (RUN, dataclasses.replace(RUN, **changes)):
        run = trainer(tmp_path, config, model=network(dropout=0.3))
        rng = np.random.default_rng(0)
        for p in run.model.parameters():
            p.data = (0.3 * rng.standard_normal(p.shape)).astype(np.float32)
        loss = run.step()
        gradients.append([np.float32(loss), *(p.grad for p in run.model.parameters())])
    for whole, parts in zip(*gradients, strict=True):
        assert np.abs(parts - whole).max() <= 1e-5 * np.abs(whole).max() + 1e-7


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no AMX, or the system doesn't let it be used")
def test_bfloat16_gives_nearly_the_same_step(tmp_path):
    """The gradient, as one vector, within 3 %: each factor is rounded by up to 2^-8 of itself, in some twenty layers one after the other."""
    gradients = []
    for config in (RUN, dataclasses.replace(RUN, bfloat16=True)):
        run = trainer(tmp_path, config, model=network())
        rng = np.random.default_rng(0)
        for p in run.model.parameters():
            p.data = (0.3 * rng.standard_normal(p.shape)).astype(np.float32)
        run.step()
        gradients.append(np.concatenate([p.grad.ravel() for p in run.model.parameters()]))
    exact, rounded = gradients
    assert 1e-4 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.03
    assert not wanted()


def test_bfloat16_needs_its_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(amx, "has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="AMX"):
        trainer(tmp_path, dataclasses.replace(RUN, bfloat16=True))


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no AMX, or the system doesn't let it be used")
def test_a_run_in_bfloat16_goes_on_without_where_the_processor_cannot(tmp_path, monkeypatch):
    config = dataclasses.replace(RUN, bfloat16=True, epochs=1)
    trainer(tmp_path, config).fit()
    monkeypatch.setattr(amx, "has_bfloat16", lambda: False)
    assert load_checkpoint(tmp_path).config == config           # all that drawing needs
    with pytest.raises(ValueError, match="AMX.*--no-bfloat16"):
        Trainer.resume(pictures(), tmp_path, config=dataclasses.replace(config, epochs=2))
    run = Trainer.resume(pictures(), tmp_path, config=dataclasses.replace(config, epochs=2, bfloat16=False))
    run.fit()
    assert run.epoch == 2


def test_a_network_with_twice_the_channels_learns_the_variance(tmp_path):
    run = trainer(tmp_path, dataclasses.replace(RUN, T=50, steps=5), model=network(out_channels=6))
    first = run.model.conv_out.weight.data.copy()
    run.step()
    moved = np.abs(run.model.conv_out.weight.data - first).max(axis=(0, 1, 2))  # (6,)
    assert np.all(moved > 0)
    run.fit()
    denoise, x = run.denoiser(), np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    low, high = log_variance_range(run.schedule, 30, 20)
    variance = denoise.log_variance(x, 30, 20)
    assert denoise(x, 30).shape == variance.shape == x.shape
    assert np.ptp(variance) > 0 and np.all(np.abs(variance - (low + high) / 2) < high - low)  # begun in the middle, not far from it yet
    assert same_bits(state(Trainer.resume(pictures(), tmp_path)), state(run))
    with pytest.raises(ValueError, match=r"twice as many"):
        trainer(tmp_path, model=network(out_channels=5)).step()


def test_pictures_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="1 picture to train on; at least 2"):
        trainer(tmp_path, image_set=pictures(1))
    with pytest.raises(ValueError, match=r"takes 1 channels, the pictures are \(13, 4, 4, 3\)"):
        trainer(tmp_path, model=network(in_channels=1))


@pytest.mark.parametrize("changes, message", [
    (dict(epochs=0), "epochs is 0; it must be at least 1"),
    (dict(lr=0.0), "lr is 0.0; it must be above 0"),
    (dict(held_out=1.0), "below 1"),
    (dict(max_steps=0), "max_steps is 0; it must be at least 1, or None"),
    (dict(label_dropout=1.5), "label_dropout is 1.5; it must be from 0 to 1"),
    (dict(steps=2000), "at most T = 1000"),
    (dict(optimizer="sgd"), "optimizer is 'sgd'; it must be one of adamw, muon"),
    (dict(target="w"), "target is 'w'; it must be one of eps, x0, v, flow, edm"),
    (dict(weight="none"), "one of simple, min_snr, p2, edm, None"),
    (dict(schedule="quadratic"), "one of linear, cosine, sigmoid, karras, flow, linear_zero_snr, cosine_zero_snr, sigmoid_zero_snr"),
    (dict(time_sampling="even"), "one of stratified, uniform, lognormal"),
    (dict(offset_noise=-0.1), "offset_noise is -0.1; it must be from 0 to"),
    (dict(lr=float("inf")), "lr is inf; it must be above 0 and at most 1e\\+30"),
    (dict(clip=float("inf")), "clip is inf; it must be above 0 and at most 1e\\+30"),       # JSON has no infinity: its checkpoints couldn't be read
    (dict(weight_decay=float("nan")), "weight_decay is nan; it must be from 0 to 1e\\+30"),
    (dict(T=1, steps=1), "T is 1; it must be at least 2: with one time alone, the least noise and the most"),
    (dict(target="eps", schedule="flow"), "target is 'eps'; it must be v, flow or x0 with the schedule 'flow'.* alpha = 0"),
    (dict(target="edm", schedule="linear_zero_snr"), "target is 'edm'; it must be v, flow or x0"),
])
def test_configs_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RUN, **changes)


def test_the_default_weight_follows_the_target():
    weights = {target: dataclasses.replace(RUN, target=target).loss_weight for target in diffusion.TARGETS}
    assert weights == {"eps": "simple", "x0": "min_snr", "v": "min_snr", "flow": "simple", "edm": "simple"}
    assert dataclasses.replace(RUN, weight="simple").loss_weight == "simple"
