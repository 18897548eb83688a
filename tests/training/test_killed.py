"""kill -9 at any moment: the run goes on from its last checkpoint, to the bits of one that was never killed."""
import csv
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydiff.training import load_checkpoint

ROOT = Path(__file__).parents[2]
INTERVAL = 2                                                # steps from one checkpoint to the next
WRITES = 2268                                               # about so many moments in the writing of one
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")


def run(folder, epochs, *words):
    """Starts or resumes the run in a folder, see killed.py. Returns its exit status and what it complained of."""
    done = subprocess.run([sys.executable, "-m", "tests.training.killed", folder, str(epochs), *map(str, words)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def rows(folder):
    """The log's rows without their seconds, but for a last one that was cut."""
    with open(folder / "log.csv", newline="") as file:
        return [[row[name] for name in row if name != "seconds"] for row in csv.DictReader(file) if row["seconds"]]


def killed(folder, epochs, reached, *words):
    """Runs until the kill, and requires that all is sound. Returns the step of the newest checkpoint, which was `reached` before."""
    status, complaints = run(folder, epochs, *words)
    assert status == -signal.SIGKILL and "Traceback" not in complaints, complaints
    steps = [int(row[0]) for row in rows(folder)]
    assert steps == list(range(1, len(steps) + 1))          # none twice
    paths = [path for path in (folder / "checkpoint.npz", folder / "checkpoint.previous.npz") if path.exists()]
    saved = max((load_checkpoint(path).step for path in paths), default=0)          # none that can't be read
    assert saved >= reached and saved >= len(steps) - INTERVAL
    return saved


def require_same(folder, unbroken):
    assert rows(folder) == rows(unbroken)
    with np.load(folder / "checkpoint.npz") as a, np.load(unbroken / "checkpoint.npz") as b:
        assert a.files == b.files and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_killed_twice_in_a_checkpoint_and_once_in_a_step(tmp_path):
    """The first kill is in the middle of the first checkpoint, the second between the two renamings of the second."""
    assert run(tmp_path / "unbroken", 4)[0] == 0
    folder = tmp_path / "killed"
    saved = killed(folder, 4, 0, "write", WRITES // 2)
    assert saved == 0
    saved = killed(folder, 4, saved, "rename", 4)           # config.json, log.csv, the first checkpoint, and its other name
    assert (folder / "checkpoint.previous.npz").exists() and not (folder / "checkpoint.npz").exists() and saved == INTERVAL
    assert killed(folder, 4, saved, "step", 2, 0.5) >= saved
    assert run(folder, 4)[0] == 0
    require_same(folder, tmp_path / "unbroken")


@pytest.mark.slow
def test_killed_at_fifty_moments(tmp_path):
    """Each kill is within four epochs: 25 in the writing of files, 25 anywhere in a step or after it."""
    epochs, kills, saved = 4 * 50, 50, 0
    draw = random.Random(0)
    for n in range(kills):
        words = ("write", draw.randint(1, 4 * WRITES)) if n % 2 else ("step", draw.randint(1, 4), 2 * draw.random())
        saved = killed(tmp_path / "killed", epochs, saved, *words)
    for folder in ("killed", "unbroken"):
        assert run(tmp_path / folder, epochs)[0] == 0
    require_same(tmp_path / "killed", tmp_path / "unbroken")
