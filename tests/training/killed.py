"""A run for the tests to kill: `python -m tests.training.killed FOLDER EPOCHS [write N | rename N | step N PART]` starts or resumes it.

`write N` kills it at the N-th moment inside the writing of files: before a piece is written, after a flush to the disk, after a renaming;
`rename N` after the N-th renaming. `step N PART` kills it during its N-th step, or what follows it, after PART of the time that the one before took.
"""
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from tests.training.runs import RUN, network, pictures, trainer
from tinydiff.training import Trainer, files

CONFIG = replace(RUN, batch=5)                              # 10 pictures to train on: 2 steps an epoch, and a checkpoint


def start_or_resume(folder, epochs):
    """The run in a folder, from its last checkpoint if it has one."""
    config = replace(CONFIG, epochs=epochs)
    try:
        return Trainer.resume(pictures(), folder, config=config)
    except FileNotFoundError:
        return trainer(folder, config, model=network())


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_a_write(n, only=("write", "fsync", "replace")):
    """Kills this process at the n-th of these moments from now."""
    left = [n]

    def moment(kind):
        left[0] -= kind in only
        if not left[0]:
            kill()

    class File:
        """Each piece is at once with the system, so that half a file may be left."""
        def __init__(self, *args):
            self.file = open(*args, buffering=0)

        def write(self, data):
            moment("write")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    class System:
        def __getattr__(self, name):
            function = getattr(os, name)
            if name not in ("replace", "fsync"):
                return function

            def before_a_moment(*args):
                function(*args)
                moment(name)
            return before_a_moment
    files.open, files.os = File, System()


def kill_in_a_step(n, part):
    """Kills this process in the n-th step from now."""
    step, steps, times = Trainer.step, [0], [time.perf_counter()]

    def counted(self):
        steps[0] += 1
        times.append(time.perf_counter())
        if steps[0] == n:
            threading.Timer(part * (times[-1] - times[-2]), kill).start()
        return step(self)
    Trainer.step = counted


if __name__ == "__main__":
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    run = start_or_resume(folder, epochs)
    if sys.argv[3:4] == ["write"]:
        kill_in_a_write(int(sys.argv[4]))
    if sys.argv[3:4] == ["rename"]:
        kill_in_a_write(int(sys.argv[4]), only=("replace",))
    if sys.argv[3:4] == ["step"]:
        kill_in_a_step(int(sys.argv[4]), float(sys.argv[5]))
    run.fit()
