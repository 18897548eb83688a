"""The figures of a run, read back from its log.csv, for whoever draws or tells them.

log.csv has a row for each optimizer step, with the columns step,epoch,loss,held_out_loss,grad_norm,lr,seconds; held_out_loss stands only
on the last step of an epoch and is empty elsewhere.

Read first: `training/log.py`.
"""
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np


class RunLog(NamedTuple):
    """One entry a step: step and epoch int64, counted from 1; loss, held_out_loss (NaN where empty) and the step's seconds, float64."""
    step: np.ndarray
    epoch: np.ndarray
    loss: np.ndarray
    held_out_loss: np.ndarray
    seconds: np.ndarray

    def history(self) -> list[dict]:
        """A row for each epoch that has ended: dict(epoch, loss, held_out_loss), the loss being the mean over the epoch's steps.

        An epoch has ended once a later one has begun, its held-out loss is there, or, without held-out pictures, it has as many steps as the
        first.
        """
        rows = []
        without_held_out = np.isnan(self.held_out_loss).all()
        steps_per_epoch = (self.epoch == 1).sum()
        for epoch in np.unique(self.epoch):
            here = self.epoch == epoch
            held_out = self.held_out_loss[here][-1]
            if epoch < self.epoch[-1] or without_held_out and here.sum() == steps_per_epoch or not np.isnan(held_out):
                rows.append({"epoch": int(epoch), "loss": float(self.loss[here].mean()),
                             "held_out_loss": None if np.isnan(held_out) else float(held_out)})
        return rows

    def held_out_points(self) -> tuple[np.ndarray, np.ndarray]:
        """(steps, losses) at which the held-out loss was taken."""
        taken = ~np.isnan(self.held_out_loss)
        return self.step[taken], self.held_out_loss[taken]


def read_log(path: str | Path) -> RunLog:
    """The log of a run. Raises FileNotFoundError where there is none, ValueError, with the line, where a row can't be read."""
    path = Path(path)
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                rows.append((int(row["step"]), int(row["epoch"]),
                             float(row["loss"]), float(row["held_out_loss"] or "nan"), float(row["seconds"])))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {line}: not a row of a training log (step,epoch,loss,held_out_loss,...,seconds)") from error
    columns = zip(*rows) if rows else [()] * 5
    return RunLog(*(np.array(column, dtype) for column, dtype in zip(columns, (np.int64, np.int64, np.float64, np.float64, np.float64))))
