"""The sheet of guidance, tiny, as a person makes it; and what it says of a run without classes."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.training.runs import trainer
from tinydiff.training import save_checkpoint

ROOT = Path(__file__).parents[2]


def guidance(*flags):
    return subprocess.run([sys.executable, ROOT / "examples" / "06_guidance.py", *map(str, flags)], capture_output=True, text=True, timeout=300,
                          encoding="utf-8", env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})


def test_a_row_for_each_scale_and_the_run_can_be_used_again(tmp_path):
    done = guidance("--epochs", 1, "--images", 16, "--steps", 2, "--scales", 1, 3, "--out", tmp_path / "first")
    assert done.returncode == 0 and str(tmp_path / "first" / "guidance.png") in done.stdout, done.stderr
    again = guidance("--run", tmp_path / "first", "--steps", 2, "--scales", 3, "--out", tmp_path / "again")
    assert again.returncode == 0 and "Trained" not in again.stdout, again.stderr
    with Image.open(tmp_path / "first" / "guidance.png") as two, Image.open(tmp_path / "again" / "guidance.png") as one:
        assert two.width == one.width == 7 * (96 + 8)                  # the coats, 32 pixels enlarged 3 times, and the gap
        row = 96 + 8 + 28                                              # a row of pictures and its title
        assert two.height - one.height == row
        pictures = [np.asarray(sheet.crop((0, top + 28, sheet.width, top + row))) for sheet, top in ((two, 8 + row), (one, 8))]
        np.testing.assert_array_equal(*pictures)                       # scale 3 again, from the saved network


def test_a_run_without_classes_is_refused_in_one_line(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.npz", trainer(tmp_path))
    done = guidance("--run", tmp_path)
    assert done.returncode != 0 and "was trained without classes" in done.stderr and len(done.stderr.splitlines()) == 1
    done = guidance("--run", tmp_path / "nowhere")
    assert "no checkpoint at" in done.stderr and len(done.stderr.splitlines()) == 1
