"""The training loop: a picture, noise, the network's guess, a step towards a better one; and all that a long run needs around it.

Read first: `batches.py`, `optim.py`.
"""
import copy
import functools
import itertools
import math
import time
import zlib
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Callable

import numpy as np
from numpy.typing import ArrayLike

from tinydiff import diffusion
from tinydiff.autograd import no_grad
from tinydiff.data import ImageSet, Rows
from tinydiff.kernels import bfloat16
from tinydiff.nn import Module, UNet, UNetConfig
from tinydiff.training.batches import check_labels, gaussian_of, held_out_batches, split, steps_per_epoch, training_batch
from tinydiff.training.checkpoint import load_checkpoint, require_same, run_config
from tinydiff.training.config import TrainConfig
from tinydiff.training.interrupt import hold_interrupt, leave_at_once
from tinydiff.training.log import read_log
from tinydiff.training.optim import EMA, OPTIMIZERS, grad_norm, warmup_cosine
from tinydiff.training.ranks import Ranks
from tinydiff.training.run_folder import RunFolder
from tinydiff.training.streams import DROPOUT, SELF_CONDITION

SAVE_EVERY = 500            # steps from one checkpoint to the next, where an epoch has more
DRAWING = {"sampler", "steps", "autoguidance"}     # what a TrainConfig says about drawing pictures
WEAK_AT = 0.25              # of the run: when the averaged network is set aside for autoguidance


class TrainingDiverged(RuntimeError):
    """The loss or the gradient is not finite. The weights are still those of the step before."""


class Trainer:
    """Trains `model`, a UNet, on the pictures of `image_set`, an ImageSet, as `config` says. Files go to the folder `out_dir`.

    ranks: the processes that share the work, where there are several (`tinydiff.mpi.start()`); all of them make the same Trainer.

    .model .ema .optimizer      the network, its running average (draw pictures with `.ema.model`), one of optim.OPTIMIZERS
    .weak                       the averaged network as it was after WEAK_AT of the run, None before: what autoguidance leads away from
    .gaussian                   the training pictures' diffusion.Gaussian, where config.gaussian asks for it; otherwise None
    .train_images .held_out_images   (N,H,W,C) uint8, Rows of the set's
    .global_step .total_steps .steps_per_epoch   steps taken, in the whole run, in an epoch (the last batch of an epoch may be shorter)
    .history                    a dict for each step: step, epoch, loss, held_out_loss (None but at the end of an epoch), grad_norm, lr, seconds
    .label_names                the classes' names, where the network was made with num_classes; otherwise []

    A network made with num_classes is trained on the pictures' labels, one made with self_condition on its own first guess for half of the
    batches; one with twice as many channels out as in learns the variance of a sampler's steps too, by the hybrid loss (diffusion/losses.py).
    Raises ValueError where model and pictures don't fit, where this processor lacks bfloat16, or where ranks differ in them, in settings or in code.
    """

    def __init__(self, model: UNet, image_set: ImageSet, config: TrainConfig, out_dir: str | Path, ranks: Ranks = Ranks()):
        images, labels = image_set.images, image_set.labels
        if len(images) < 2:
            raise ValueError(f"Trainer: {len(images)} picture to train on; at least 2 are needed")
        if images.shape[3] != model.config.in_channels:
            raise ValueError(f"Trainer: the network takes {model.config.in_channels} channels, the pictures are {images.shape}")
        conditional = model.config.num_classes is not None
        if config.gaussian and (conditional or images.shape[1:3] != 2 * (model.config.image_size,)):
            raise ValueError("Trainer: gaussian knows one Gaussian, of all pictures and of their size; the network has "
                             f"num_classes={model.config.num_classes}, image_size={model.config.image_size}, the pictures are {images.shape}")
        if conditional:
            check_labels(image_set, model.config.num_classes)
        self.model, self.config, self.ranks, self.folder = model, config, ranks, RunFolder(out_dir)
        self.data = {"images": len(images), "shape": list(images.shape[1:]), "crc32": zlib.crc32(np.ascontiguousarray(images))}
        self.label_names = list(image_set.label_names) if conditional else []
        if conditional:
            self.data |= {"label_names": self.label_names, "labels_crc32": zlib.crc32(np.ascontiguousarray(labels))}

        train, held_out = split(len(images), config.held_out, config.seed)
        self.train_images, self.held_out_images = Rows(images, train), Rows(images, held_out)
        self._train_labels, self._held_out_labels = (labels[train], labels[held_out]) if conditional else (None, None)

        model.recompute = config.recompute
        with bfloat16(config.bfloat16):                     # raises where the processor can't
            pass
        self.schedule = diffusion.SCHEDULES[config.schedule](config.T)
        self._saved_config = config                         # the settings that the newest checkpoint holds
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config.lr, config.betas, weight_decay=config.weight_decay)
        self.ema = EMA(model, config.ema_max, config.ema_power)
        self.weak: Module | None = None
        self.gaussian = gaussian_of(self.train_images, config.flip) if config.gaussian else None
        self.steps_per_epoch = steps_per_epoch(len(train), config.batch)
        steps = config.epochs * self.steps_per_epoch
        self.total_steps = min(steps, config.max_steps or steps)
        self.global_step = 0
        self.history: list[dict] = []
        ranks.require_same(run_config(self) | self._weights())

    @classmethod
    def resume(cls, image_set: ImageSet, out_dir: str | Path, ranks: Ranks = Ranks(), config: TrainConfig | None = None,
               unet: UNetConfig | None = None) -> "Trainer":
        """The trainer of the run in `out_dir`, as it was at its last checkpoint; what follows is the same, bit for bit, as without a stop.

        config, unet: what the run is now asked to be, a TrainConfig and a UNetConfig; None for what it was. More epochs, or more max_steps,
        go on with the learning rate of a run of that length; sampler, steps and autoguidance say how pictures are drawn.
        Nothing else may change, but for bfloat16 and the number of ranks; then the same up to rounding.

        A damaged checkpoint is set aside, as checkpoint.damaged.npz, and the one before it is taken; a line on standard error says so.
        Raises FileNotFoundError without a checkpoint, ValueError where none can be read, or, naming them, where settings or pictures differ.
        """
        out_dir = Path(out_dir)
        saved = load_checkpoint(out_dir)
        config, unet = config or saved.config, unet or saved.model.config
        longer = {name for name in ("epochs", "max_steps") if _more(getattr(config, name), getattr(saved.config, name))}
        require_same(f"the run in {out_dir} can only go on as it was started (and become longer)",
                     asdict(saved.config) | asdict(saved.model.config), asdict(config) | asdict(unet), longer | DRAWING | {"bfloat16"})
        trainer = cls(saved.model, image_set, config, out_dir, ranks)
        require_same(f"the run in {out_dir} was started on other pictures", saved.data, trainer.data)
        for i, (name, _) in enumerate(saved.model.named_parameters()):
            trainer.optimizer.m[i], trainer.optimizer.v[i] = saved.adam_m[name], saved.adam_v[name]
        trainer.optimizer.steps = trainer.global_step = trainer.folder.saved_step = saved.step
        trainer.ema, trainer.weak, trainer.gaussian, trainer._saved_config = saved.ema, saved.weak, saved.gaussian, saved.config
        trainer.history = read_log(out_dir / "log.csv", saved.step)
        if ranks.rank == 0:
            trainer.folder.set_damaged_aside(saved.path)
        return trainer

    @property
    def epoch(self) -> int:
        """The epoch, from 1, of the step taken last; 0 before the first."""
        return -(-self.global_step // self.steps_per_epoch)

    @np.errstate(over="ignore", invalid="ignore")           # what becomes of it is found below, and told in one line
    def step(self) -> float:
        """One optimizer step: returns its loss, the mean over the batch. Raises TrainingDiverged, with no weight changed, if it is not finite."""
        start, number, config = time.perf_counter(), self.global_step, self.config
        N = self._batch_size(number + 1)
        own = range(N)[self.ranks.part(N)]                  # the pictures of the batch that are this rank's
        batch = training_batch(self.train_images, self._train_labels, config, number, self.model.dtype, self.model.config.num_classes,
                               self.ranks.part(N))
        lr = config.lr * warmup_cosine(number, self.total_steps, config.warmup)

        self.model.zero_grad()
        first_guess = self.model.self_condition and np.random.default_rng([config.seed, SELF_CONDITION, number]).random() < 0.5
        value, loss, n = 0.0, None, len(own)
        with bfloat16(config.bfloat16):
            for first in range(0, n, config.micro_batch or N):
                rows = range(first, min(first + (config.micro_batch or N), n))
                self.model.train([[config.seed, DROPOUT, number, own[row]] for row in rows])
                loss = self._loss(self.model, batch.part(rows), first_guess) * (len(rows) / N)
                value += float(loss.data)
                if rows.stop < n:
                    loss.backward()                         # adds to the gradients of the parts before
            self.ranks.backward(loss, self.optimizer.params)    # the last one's, and then the sum over the ranks
        value, norm = self.ranks.total(value), grad_norm(self.optimizer.params)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingDiverged(self._diagnosis(value, norm, lr))
        self.optimizer.lr = lr
        self.optimizer.step(grad_scale=config.clip / max(norm, config.clip), ema=self.ema)

        self.global_step += 1
        if number < WEAK_AT * self.total_steps <= self.global_step:
            self.weak = copy.deepcopy(self.ema.model)
        self.history.append({"step": self.global_step, "epoch": self.epoch, "loss": value, "held_out_loss": None, "grad_norm": norm, "lr": lr,
                             "seconds": round(time.perf_counter() - start, 4)})
        return value

    def fit(self, on_step: Callable | None = None, on_epoch: Callable | None = None) -> None:
        """Trains to the end of the run, from wherever it is.

        on_step(trainer, row) follows each step, row as in `history` with images_per_second instead of held_out_loss;
        on_epoch(trainer, row) each epoch, row: epoch, loss (the mean over its steps), held_out_loss.
        Writes config.json, log.csv (a row a step) and, after each epoch and every 500 steps, checkpoint.npz, the one before it becoming
        checkpoint.previous.npz; of several ranks, rank 0 does. Ctrl-C (KeyboardInterrupt, or Terminated, see interrupt.py) lets the step
        finish, saves a checkpoint and is raised on. A file that can't be written stops the run too: the OSError says where its state is kept.
        Raises ValueError where another process is training in the folder, TrainingDiverged like `step`.
        """
        try:
            with ExitStack() as stack:
                with self.ranks.together():
                    if self.ranks.rank == 0:
                        stack.enter_context(self.folder.open(self))
                self._fit(on_step, on_epoch)
        except OSError as error:
            if self.ranks.rank > 0:
                raise
            raise OSError(f"{error}\n{self.folder.rescue(self)}") from error

    def _fit(self, on_step, on_epoch):
        try:
            while self.global_step < self.total_steps:
                with hold_interrupt():
                    self._logged_step()
                self.ranks.heed_interrupt()
                row = dict(self.history[-1])
                row["images_per_second"] = self._batch_size(row["step"]) / row["seconds"]
                del row["held_out_loss"]
                with self.ranks.together():
                    if on_step:
                        on_step(self, row)
                    if on_epoch and self.epoch_done:
                        on_epoch(self, self.epoch_rows()[-1])
            self._save()                                    # a finished run may have got other settings to draw with
        except KeyboardInterrupt:
            with leave_at_once():
                self._save()
            raise

    def held_out_loss(self) -> float:
        """The loss of the averaged network on the held-out pictures, weighted as in training; NaN where none are held out.

        Each picture always has the same time and noise, its own label and no first guess, so that only the network changes from one epoch to
        the next.
        """
        if not len(self.held_out_images):
            return math.nan
        total, part = 0.0, self.ranks.part(len(self.held_out_images))
        with no_grad():
            for batch in held_out_batches(self.held_out_images, self._held_out_labels, self.config, self.model.dtype, part):
                total += float(self._loss(self.ema.model, batch).data) * len(batch.x0)
        return self.ranks.total(total) / len(self.held_out_images)

    def epoch_rows(self) -> list[dict]:
        """A dict for each finished epoch in the history: epoch, loss (the mean over its steps), held_out_loss (None where none are held out)."""
        rows = []
        for epoch, group in itertools.groupby(self.history, key=lambda row: row["epoch"]):
            steps = list(group)
            if self._ends_epoch(steps[-1]["step"]):
                loss = float(np.mean([row["loss"] for row in steps]))
                rows.append({"epoch": epoch, "loss": loss, "held_out_loss": steps[-1]["held_out_loss"]})
        return rows

    @property
    def sampler(self) -> Callable:
        """The sampler that config names, with a Gaussian start where it asks for a Gaussian and more steps than one."""
        return diffusion.gaussian_start(diffusion.SAMPLERS[self.config.sampler], self.gaussian if self.config.steps > 1 else None)

    def denoiser(self, y: ArrayLike | None = None) -> Callable:
        """`denoise(x, t) -> x0_hat` of the averaged network, for the samplers in `diffusion`: t is a number. With autoguidance where config
        asks for it and .weak is there. y: (N,) labels, or None for none."""
        of = functools.partial(diffusion.denoiser, schedule=self.schedule, target=self.config.target, y=y, gaussian=self.gaussian)
        strong = of(self.ema.model)
        return diffusion.autoguide(strong, of(self.weak), self.schedule, self.config.autoguidance) if self.weak else strong

    @property
    def epoch_done(self) -> bool:
        """Whether the step taken last was its epoch's last, or the run's."""
        return self._ends_epoch(self.global_step)

    def _ends_epoch(self, step):
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def _logged_step(self):
        """A step with all that must be on disk after it, so that what is there is always of one moment."""
        self.step()
        if self.epoch_done and len(self.held_out_images):
            self.history[-1]["held_out_loss"] = self.held_out_loss()
        with self.ranks.together():
            if self.ranks.rank == 0:
                self.folder.log(self.history)
        if self.epoch_done or self.global_step % SAVE_EVERY == 0:
            self._save()

    def _save(self):
        """A checkpoint, unless there is one of this step and these settings."""
        if self.global_step == self.folder.saved_step and self.config == self._saved_config:
            return
        self.ranks.require_same(self._weights())            # or one of them has gone astray
        with self.ranks.together():
            if self.ranks.rank == 0:
                self.folder.save(self)
        self.folder.saved_step, self._saved_config = self.global_step, self.config

    def _weights(self):
        return {"weights": functools.reduce(lambda crc32, p: zlib.crc32(p.data, crc32), self.optimizer.params, 0)}

    def _loss(self, model, batch, first_guess=False):
        return diffusion.loss(model, self.schedule, self.config.target, batch.x0, batch.t, batch.eps, batch.y, self.config.loss_weight,
                              first_guess, self.gaussian)

    def _batch_size(self, step):
        """Pictures in the batch of step `step`, from 1."""
        first = (step - 1) % self.steps_per_epoch * self.config.batch
        return min(self.config.batch, len(self.train_images) - first)

    def _diagnosis(self, loss, norm, lr):
        step = self.global_step + 1
        before = f"{self.history[-1]['grad_norm']:.3g}" if self.history else "unknown, this is the first step"
        gradients = [(np.abs(p.grad).max(), name) for name, p in self.model.named_parameters()]
        largest, name = max(gradients, key=lambda gradient: np.nan_to_num(gradient[0], nan=np.inf))
        saved = self.folder.saved_step
        kept = f"The last good checkpoint is {self.folder.checkpoint_path}, of step {saved}." if saved else "No checkpoint was saved yet."
        return (f"training diverged at step {step} of {self.total_steps}: loss {loss:.4g}, learning rate {lr:.3g}, gradient norm {norm:.4g} (the "
                f"step before: {before}), the largest gradient {largest:.3g} (of {name}). No weight was changed by this step. Try a lower learning "
                f"rate ({self.config.lr / 3:.2g}) or a longer warm-up, and check that the pictures are what you think they are. {kept}")


def _more(now, was):
    """Whether a limit now allows more than it did; None is no limit."""
    return was is not None and (now is None or now > was)
