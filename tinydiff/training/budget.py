"""How many steps fit into the time there is. It is found once, before the first step, because the learning rate must know where it ends.

Read first: `trainer.py`.
"""
import bisect
import tempfile
import time
from pathlib import Path
from typing import Callable, NamedTuple

from tinydiff.training.checkpoint import save_checkpoint
from tinydiff.training.trainer import Trainer

MOST_STEPS = 10**9


class Pace(NamedTuple):
    """What work takes on this machine, in seconds: an optimizer step, and what follows each epoch (the held-out loss, a checkpoint)."""
    step: float
    epoch: float


def measure_pace(trial: Trainer, seconds: float) -> Pace:
    """Works with `trial`, which is of no use afterwards, for about `seconds` and a few steps more; the kernels are compiled before.

    Of several ranks each learns the mean. Raises TrainingDiverged like `Trainer.step`, OSError where no temporary file can be written.
    """
    trial.step()
    trial.held_out_loss()
    few = mean_time(trial, trial.step, 3)
    step = mean_time(trial, trial.step, max(3, round(seconds / few)))
    return Pace(step, mean_time(trial, trial.held_out_loss) + mean_time(trial, lambda: _save(trial)))


def mean_time(trial: Trainer, work: Callable, times: int = 1) -> float:
    """Seconds that the work takes, the mean over the times that it is done and over all ranks, so that these agree."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return trial.ranks.total(time.perf_counter() - start) / times / trial.ranks.size


def steps_within(seconds: float, pace: Pace, steps_per_epoch: int, drawing: Callable[[int], float] = lambda epochs: 0.0) -> int:
    """The most steps that take no longer than `seconds`, 0 where not even one does.

    drawing(epochs): the seconds that are spent on pictures in a run of so many epochs, the last of which may be cut short.
    """
    def duration(steps):
        epochs = -(-steps // steps_per_epoch)
        return steps * pace.step + epochs * pace.epoch + drawing(epochs)

    return bisect.bisect_right(range(1, MOST_STEPS), seconds, key=duration)


def _save(trial):
    """Writes a checkpoint among the temporary files, and takes it away again."""
    if trial.ranks.rank == 0:
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder) / "checkpoint.npz", trial)
