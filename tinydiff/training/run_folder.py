"""What a run keeps on disk, such that a power cut at any moment leaves it whole: config.json, log.csv and its last two checkpoints.

Read first: `checkpoint.py`, `log.py`.
"""
import json
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from tinydiff.training.checkpoint import run_config, save_checkpoint
from tinydiff.training.files import only_run_in, sync, whole_file
from tinydiff.training.log import append_row, write_log


class RunFolder:
    """The folder of a run. saved_step: the step of its newest checkpoint, 0 for none."""

    def __init__(self, path):
        self.path = Path(path)
        self.checkpoint_path, self.log_path = self.path / "checkpoint.npz", self.path / "log.csv"
        self.saved_step = 0
        self.is_open = False

    @contextmanager
    def open(self, trainer):
        """Makes the folder, its config.json and a log of what is done; nobody else trains in it inside the block (ValueError where one does).

        Within such a block of the same folder another changes nothing.
        """
        if self.is_open:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with only_run_in(self.path):
            with whole_file(self.path / "config.json") as file:
                file.write(json.dumps(run_config(trainer), indent=2).encode() + b"\n")
            write_log(self.log_path, trainer.history)
            self.is_open = True
            try:
                yield
            finally:
                self.is_open = False

    def log(self, history: list[dict]) -> None:
        """The last row of the history; all of them where somebody has removed the log."""
        try:
            append_row(self.log_path, history[-1])
        except FileNotFoundError:
            write_log(self.log_path, history)

    def save(self, trainer) -> None:
        """A checkpoint; what the log says of its steps is on the disk before it."""
        sync(self.log_path)
        save_checkpoint(self.checkpoint_path, trainer)

    def rescue(self, trainer) -> str:
        """Saves the state where it belongs or, where that can't be, among the temporary files. Says where it is."""
        step = trainer.global_step
        if step == 0 or step == self.saved_step and self.checkpoint_path.exists():
            return f"Nothing is lost: {self.checkpoint_path} is of this step, {step}." if step else "No step was taken."
        with suppress(OSError):
            self._save_in(self.path, trainer)
            return f"The state after step {step} is saved."
        with suppress(OSError):
            elsewhere = Path(tempfile.mkdtemp(prefix="tinydiff-"))
            self._save_in(elsewhere, trainer)
            return f"The state after step {step} is in {elsewhere}: move both files there to {self.path} when that can be written again."
        return f"Nor could the state after step {step} be saved anywhere else. The last checkpoint is of step {self.saved_step}."

    def _save_in(self, folder, trainer):
        """The checkpoint and the log, whose last row may be what could not be written."""
        write_log(folder / self.log_path.name, trainer.history)
        save_checkpoint(folder / self.checkpoint_path.name, trainer)

    def set_damaged_aside(self, taken: Path) -> None:
        """Renames the newest checkpoint where an older one had to be taken, so that it can't replace that one."""
        if taken != self.checkpoint_path and self.checkpoint_path.exists():
            os.replace(self.checkpoint_path, self.checkpoint_path.with_suffix(".damaged.npz"))
