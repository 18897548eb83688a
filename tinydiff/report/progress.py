"""What a person sees while the training runs: a live line that rewrites itself, and a row for each epoch.

The live line is drawn by a carriage return and spaces, so that every terminal understands it. A file or a pipe gets the rows alone.

Read first: `observation.py`.
"""
import shutil
import sys
import time
from typing import Iterable, TextIO

from tinydiff.report.observation import observation


class LiveLine:
    """One line of a terminal, shown again and again. On a stream that is no terminal nothing is written."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.shown = 0            # characters on the line now

    def show(self, parts: Iterable[str]) -> None:
        """Shows the parts, two spaces apart: as many of them, from the first, as fit the width of the terminal."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1         # a character in the last column would start a new line
        line = ""
        for part in parts:
            longer = f"{line}  {part}" if line else part[:width]
            if len(longer) > width:
                break
            line = longer
        self.stream.write("\r" + line + " " * (min(self.shown, width) - len(line)))
        self.stream.flush()
        self.shown = len(line)

    def clear(self) -> None:
        """Takes the line away, so that what is printed next stands in its place."""
        if self.live and self.shown:
            width = min(self.shown, shutil.get_terminal_size().columns - 1)
            self.stream.write("\r" + " " * width + "\r")
            self.stream.flush()
            self.shown = 0


class Progress:
    """The live line and the table of a training run.

    total_steps, epochs: of the whole run. history: the rows of the epochs that an earlier run has done, oldest first; start: its first
    step's loss. Give `step` and `epoch` the rows that the trainer gives its callbacks.
    """
    HEADER = "epoch |    loss | held-out loss | observation"

    def __init__(self, total_steps: int, epochs: int, history: Iterable[dict] = (), start: float | None = None, stream: TextIO | None = None):
        self.total_steps, self.epochs, self.start = total_steps, epochs, start
        self.history = list(history)
        self.line = LiveLine(stream)
        self.first: tuple[int, float] | None = None         # (step, clock) after the first step, which may have compiled the kernels
        self.seconds_left: float | None = None              # of the training; None until it can be told
        self.line.stream.write(self.HEADER + "\n")

    def step(self, row: dict) -> None:
        """Shows a step: dict with step, epoch, loss, images_per_second."""
        now = time.monotonic()
        if self.start is None:
            self.start = row["loss"]
        left: list[str] = []
        if self.first is None:
            self.first = row["step"], now
        elif row["step"] > self.first[0]:
            seconds_a_step = (now - self.first[1]) / (row["step"] - self.first[0])
            self.seconds_left = seconds_a_step * (self.total_steps - row["step"])
            left = [f"{duration(self.seconds_left)} left"]
        self.line.show([f"epoch {row['epoch']}/{self.epochs}", f"step {row['step']:,}/{self.total_steps:,}", f"loss {row['loss']:.4f}",
                        f"{row['images_per_second']:.1f} images/s", *left, bar(row["step"] / self.total_steps, self.line.stream)])

    def epoch(self, row: dict) -> None:
        """Writes the row of an epoch that has ended: dict with epoch, loss, held_out_loss."""
        self.history.append(row)
        self.line.clear()
        self.line.stream.write(table_row(row, observation(self.history, self.start)) + "\n")
        self.line.stream.flush()


def table_row(row, remark) -> str:
    """A row of the table under Progress.HEADER."""
    held_out = "-" if row["held_out_loss"] is None else f"{row['held_out_loss']:.4f}"
    return f"{row['epoch']:5d} | {row['loss']:7.4f} | {held_out:>13} | {remark}"


def duration(seconds: float) -> str:
    """41 s, 12 min, 3 h 05 min: as exactly as one wants to know how long to wait."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def bar(done, stream, width=20) -> str:
    """A bar that is full at done = 1, in block characters where the stream can write them and in ASCII where it can't."""
    filled = int(min(max(done, 0), 1) * width)
    return "█" * filled + "░" * (width - filled) if writes_unicode(stream) else "[" + "#" * filled + "-" * (width - filled) + "]"


def writes_unicode(stream: TextIO) -> bool:
    """Whether the stream's encoding has the characters of the bar and of the chart."""
    try:
        "█░⠿●│└─".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
