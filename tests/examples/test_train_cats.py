"""The main job itself, tiny, as a person runs it: in a process of its own, with nothing but its flags."""
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TINY = ["--images", "12", "--size", "16", "--channels", "8", "--epochs", "2", "--batch", "4", "--steps", "4"]
FILES = ["config.json", "log.csv", "skipped.txt", "checkpoint.npz", "report.html", "input.png", "forward.png", "loss.png",
         "reverse.png", "reverse.gif", "samples.png", "samples/epoch_002.png"]


def train_cats(*flags, **env):
    return subprocess.run([sys.executable, ROOT / "examples" / "train_cats.py", *map(str, flags)],
                          capture_output=True, text=True, timeout=300, encoding="utf-8",
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | env)


def log_rows(out):
    with open(out / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "tiny"
    return out, train_cats(*TINY, "--out", out)


def test_it_ends_well_and_leaves_every_file(finished):
    out, done = finished
    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (out / name).exists(), name
        if name.endswith((".png", ".gif")):
            with Image.open(out / name) as image:
                image.load()
                assert min(image.size) > 16
    with Image.open(out / "reverse.gif") as movie:
        assert movie.n_frames == 5                                     # x_T and what each of the 4 steps made of it
    with np.load(out / "checkpoint.npz", allow_pickle=False) as arrays:
        assert arrays["step"] == 6


def test_the_four_stages_are_told_with_their_shapes(finished):
    out, done = finished
    stages = [line for line in done.stdout.splitlines() if line[:2] in ("1.", "2.", "3.", "4.")]
    assert stages == ["1. Input: 12 images x 16 x 16 x 3", "2. Add noise: (16, 16, 3) -> (16, 16, 3), unchanged",
                      "3. Train: (4, 16, 16, 3) and (4,) times t -> U-Net -> (4, 16, 16, 3) v",
                      "4. Generate: (64, 16, 16, 3) noise -> 4 ddim steps -> (64, 16, 16, 3)"]
    last = done.stdout.partition("Everything is here:")[2]
    assert all(str(out / name) in last for name in FILES if name not in ("skipped.txt", "samples/epoch_002.png"))


def test_the_table_the_log_and_the_page_agree(finished):
    out, done = finished
    rows = log_rows(out)
    assert [(row["step"], row["epoch"]) for row in rows] == [("1", "1"), ("2", "1"), ("3", "1"), ("4", "2"), ("5", "2"), ("6", "2")]
    assert [row["held_out_loss"] != "" for row in rows] == [False, False, True] * 2
    page = (out / "report.html").read_text(encoding="utf-8")
    for epoch, steps in ((1, rows[:3]), (2, rows[3:])):
        loss, held_out = np.mean([float(row["loss"]) for row in steps]), float(steps[-1]["held_out_loss"])
        assert f"\n    {epoch} | {loss:7.4f} | {held_out:13.4f} | " in done.stdout
        assert f"<td>{epoch}</td><td>{loss:.4f}</td><td>{held_out:.4f}</td>" in page


def test_a_pipe_gets_no_control_characters(finished):
    assert not set(finished[1].stdout) & {"\r", "\x1b"}


def test_a_second_run_does_not_overwrite_the_first(finished):
    out, _ = finished
    before = (out / "log.csv").read_bytes()
    again = train_cats(*TINY, "--out", out)
    assert again.returncode == 2 and "--resume" in again.stderr and len(again.stderr.splitlines()) == 1
    assert (out / "log.csv").read_bytes() == before


def test_resume_refuses_other_settings_by_name(finished):
    other = train_cats(*TINY, "--out", finished[0], "--resume", "--epochs", "3", "--lr", "0.1")
    assert other.returncode == 2 and "epochs was 2, not 3" in other.stderr and "lr was 0.0006, not 0.1" in other.stderr


def test_stopped_and_resumed_is_the_same_run(finished, tmp_path):
    """Ctrl-C inside the first epoch of the same run, in a terminal's place a signal from within; then --resume."""
    out = tmp_path / "stopped"
    stop = ("import runpy, signal, sys; import tinydiff.training.trainer as trainer; step = trainer.Trainer.step\n"
            "def step_and_stop(self):\n"
            "    loss = step(self)\n"
            "    if self.global_step == 2: signal.raise_signal(signal.SIGINT)\n"
            "    return loss\n"
            "trainer.Trainer.step = step_and_stop; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")
    flags = [str(ROOT / "examples" / "train_cats.py"), *TINY, "--out", str(out)]
    stopped = subprocess.run([sys.executable, "-c", stop, *flags], capture_output=True, text=True, timeout=300, encoding="utf-8",
                             env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})
    assert stopped.returncode == 130, stopped.stderr
    assert "Stopped at step 2 of 6" in stopped.stdout and "--resume" in stopped.stdout.splitlines()[-1]
    assert "Traceback" not in stopped.stderr
    assert (out / "report.html").exists()
    resumed = train_cats(*flags[1:], "--resume", PYTHONIOENCODING="ascii")
    assert resumed.returncode == 0 and "Going on after step 2 of 6" in resumed.stdout and resumed.stdout.isascii(), resumed.stderr
    losses = [[(row["loss"], row["held_out_loss"]) for row in log_rows(folder)] for folder in (out, finished[0])]
    assert losses[0] == losses[1]                                       # every digit
    assert (out / "samples.png").read_bytes() == (finished[0] / "samples.png").read_bytes()


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)).save(folder / f"cat{i}.png")
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    out = tmp_path / "run"
    done = train_cats(*TINY, "--epochs", "1", "--sampler", "ddpm", "--target", "eps", "--schedule", "linear", "--held-out", "0", "--weight", "p2",
                      "--time-sampling", "uniform", "--offset-noise", "0.1", "--learn-variance", "--threads", "1", "--data", folder, "--out", out)
    assert done.returncode == 0, done.stderr
    for words in ("1. Input: 4 images x 16 x 16 x 3", "1 file could not be read and was skipped", "broken.jpg: "):
        assert words in done.stdout
    assert (out / "skipped.txt").read_text(encoding="utf-8").startswith("broken.jpg: ")
    assert "broken.jpg" in (out / "report.html").read_text(encoding="utf-8")
    config = json.loads((out / "config.json").read_text())
    train = config["train"]
    assert (train["target"], train["schedule"], train["sampler"], train["held_out"]) == ("eps", "linear", "ddpm", 0.0)
    assert (train["weight"], train["time_sampling"], train["offset_noise"], config["unet"]["out_channels"]) == ("p2", "uniform", 0.1, 6)


def test_classes_and_self_conditioning(tmp_path):
    """Folders as labels; sheets with a column for each class; --resume knows the run by its labels."""
    for i in range(6):
        folder = tmp_path / "pictures" / ("dark", "light")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    flags = [*TINY, "--epochs", "1", "--classes", "--data", tmp_path / "pictures", "--out", tmp_path / "run"]
    done = train_cats(*flags, "--self-condition")
    assert done.returncode == 0, done.stderr
    for words in ("3. Train: (4, 16, 16, 3) and (4,) times t, (4,) labels y -> U-Net", "Each has a label, left out 10% of the time: dark, light",
                  "the second time sees its own first guess"):
        assert words in done.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["unet"]["num_classes"] == 2 and config["unet"]["self_condition"] and config["data"]["label_names"] == ["dark", "light"]
    assert "which of 2 classes a picture is of: dark, light" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    with Image.open(tmp_path / "run" / "samples.png") as sheet:
        assert sheet.width == 2 * (128 + 8)                            # strip's: two columns of pictures of 16 pixels, enlarged 8 times
    other = train_cats(*flags, "--resume")
    assert other.returncode == 2 and "self_condition was True, not False" in other.stderr


def test_more_threads_than_cores_is_a_warning_not_an_error(tmp_path):
    done = train_cats("--threads", "4096", "--data", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert "warning: 4096 threads" in done.stderr and done.returncode == 2


def test_mpi_without_mpi4py_says_what_to_install(tmp_path):
    code = ("import runpy, sys; sys.modules['mpi4py'] = None; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code, ROOT, ROOT / "examples" / "train_cats.py", "--mpi", "--out", tmp_path / "run"],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "--mpi needs mpi4py: pip install -e '.[mpi]'" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("flags, words", [
    (["--data", "nowhere"], "nowhere does not exist"),
    (["--data", str(ROOT / "setup.cfg")], "setup.cfg is neither a folder nor a readable .zip or .tar"),
    (["--size", "20"], "20 does not divide by 8"),
    (["--channels", "12"], "--channels is 12; it must be a multiple of 8"),
    (["--images", "1"], "at least 2"),
    (["--epochs", "0"], "epochs is 0"),
    (["--lr", "fast"], "--lr: invalid float value: 'fast'"),
    (["--held-out", "1"], "held_out is 1.0"),
    (["--target", "cat"], "--target: invalid choice: 'cat'"),
    (["--target", "eps", "--schedule", "flow"], "target is 'eps'; it must be v, flow or x0 with the schedule 'flow'"),
    (["--classes", "--data", str(ROOT / "examples" / "pictures")], "have no labels; put each class into a folder of its own"),
    (["--threads", "0"], "--threads is 0"),
    (["--resume"], "no checkpoint at"),
])
def test_a_users_mistake_is_one_clear_line(flags, words, tmp_path):
    done = train_cats("--images", "10", *flags, "--out", tmp_path / "run")
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
