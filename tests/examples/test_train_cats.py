"""The main job itself, tiny, as a person runs it: in a process of its own, with nothing but its flags."""
import csv
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinydiff.training.files import only_run_in

ROOT = Path(__file__).parents[2]
TINY = ["--images", "12", "--size", "16", "--channels", "8", "--epochs", "2", "--batch", "4", "--steps", "4"]
FILES = ["config.json", "flags.json", "log.csv", "skipped.txt", "checkpoint.npz", "report.html", "input.png", "forward.png", "loss.png",
         "neighbours.png", "neighbours.json", "reverse.png", "reverse.gif", "samples.png", "samples/epoch_002.png"]


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
    assert all(str(out / name) in last for name in FILES if name not in ("skipped.txt", "neighbours.json", "samples/epoch_002.png"))


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
    other = train_cats(*TINY, "--out", finished[0], "--resume", "--epochs", "1", "--lr", "0.1")
    assert other.returncode == 2 and "epochs was 2, not 1" in other.stderr and "lr was 0.003, not 0.1" in other.stderr
    assert len(other.stderr.splitlines()) == 1


SIGNAL_AT = """
import os, runpy, signal, sys
import tinydiff.training.trainer as trainer
number, at, step = int(sys.argv[1]), int(sys.argv[2]), trainer.Trainer.step
signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)     # nohup may have switched it off
def step_and_signal(self):
    loss = step(self)
    if self.global_step == at:
        signal.raise_signal(number)
    return loss
trainer.Trainer.step = step_and_signal
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python(code, *words, env=(), **more):
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300, encoding="utf-8",
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | dict(env), **more)


def same_results(one, other):
    """Whether two folders hold the same run, bit for bit: every array, every picture, every row of the log but for its seconds."""
    names = {path.relative_to(one) for path in one.rglob("*") if path.suffix in (".png", ".gif")}
    pictures = all((one / name).read_bytes() == (other / name).read_bytes() for name in names if name.name != "loss.png")
    logs = [[{name: cell for name, cell in row.items() if name != "seconds"} for row in log_rows(out)] for out in (one, other)]
    with np.load(one / "checkpoint.npz") as a, np.load(other / "checkpoint.npz") as b:
        return len(names) > 5 and pictures and logs[0] == logs[1] and a.files == b.files and all(a[key].tobytes() == b[key].tobytes() for key in a)


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_stopped_and_resumed_is_the_same_run(name, status, finished, tmp_path):
    """A signal inside the first epoch; then --resume, which knows the flags."""
    if not hasattr(signal, name):
        pytest.skip(f"there is no {name} on this system")
    out = tmp_path / "stopped"
    stopped = python(SIGNAL_AT, int(getattr(signal, name)), 2, ROOT / "examples" / "train_cats.py", *TINY, "--out", out)
    assert stopped.returncode == status, stopped.stderr
    assert "Stopped at step 2 of 6" in stopped.stdout and stopped.stderr.strip().startswith("stopping after this step")
    assert stopped.stdout.splitlines()[-1].endswith(f"train_cats.py --out {out} --resume")
    assert (out / "report.html").exists()
    resumed = train_cats("--out", out, "--resume", PYTHONIOENCODING="ascii")
    assert resumed.returncode == 0 and "Going on after step 2 of 6" in resumed.stdout and resumed.stdout.isascii(), resumed.stderr
    assert same_results(out, finished[0])


def test_a_finished_run_says_so_and_can_become_longer(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    again = train_cats("--out", out, "--resume")
    assert again.returncode == 0 and "This run is finished: all 6 steps are done" in again.stdout and same_results(out, finished[0])
    longer = train_cats("--out", out, "--resume", "--epochs", 3, "--sampler", "ddpm")
    assert longer.returncode == 0 and "Going on after step 6 of 9." in longer.stdout and "4 ddpm steps" in longer.stdout
    assert [row["step"] for row in log_rows(out)] == [str(n) for n in range(1, 10)]
    assert json.loads((out / "config.json").read_text())["train"]["epochs"] == 3
    assert "Going on" not in train_cats("--out", out, "--resume").stdout            # and the longer run is finished too


def test_minutes_fix_the_steps_once_and_a_resumed_run_keeps_them(finished, tmp_path):
    """After `finished`, which has compiled the kernels: that would take longer than these minutes."""
    flags = ["--images", "12", "--size", "16", "--channels", "8", "--batch", "4", "--steps", "4", "--seed", "3"]
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    done = train_cats(*flags, "--minutes", 0.1, "--out", whole)
    assert done.returncode == 0, done.stderr
    config = json.loads((whole / "config.json").read_text())["train"]
    steps, kept = config["max_steps"], json.loads((whole / "flags.json").read_text())
    assert config["epochs"] == math.ceil(steps / 3) and kept[kept.index("--max-steps") + 1] == str(steps) and "--minutes" not in kept
    assert f"0.1 minutes are enough for {steps:,} steps" in done.stdout and len(log_rows(whole)) == steps

    stopped = python(SIGNAL_AT, int(signal.SIGINT), 5, ROOT / "examples" / "train_cats.py", *flags, "--epochs", config["epochs"], "--max-steps",
                     steps, "--out", out)
    assert stopped.returncode == 130, stopped.stderr
    assert "--minutes is for the start of a run" in train_cats("--out", out, "--resume", "--minutes", 1).stderr
    assert train_cats("--out", out, "--resume").returncode == 0
    assert same_results(out, whole)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    path = out / "checkpoint.npz"
    data = bytearray(path.read_bytes())
    for i in range(200):                                   # more than lie between two arrays, where a changed bit may do no harm
        data[len(data) // 2 + i] ^= 1
    path.write_bytes(data)
    resumed = train_cats("--out", out, "--resume")
    assert resumed.returncode == 0 and "Going on after step 3 of 6" in resumed.stdout
    assert f"{path} is damaged" in resumed.stderr and f"taking the one before it, {out / 'checkpoint.previous.npz'}, of step 3" in resumed.stderr
    assert (out / "checkpoint.damaged.npz").read_bytes() == data
    assert same_results(out, finished[0])


# A limit on the length of a file stands for a full disk: what is beyond it can't be written. (No more than the log and the settings need.)
FULL_DISK = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import tinydiff.training.run_folder as run_folder
limit, log = int(sys.argv[1]), run_folder.RunFolder.log
def log_until_full(self, history):
    if len(history) == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    log(self, history)
run_folder.RunFolder.log = log_until_full
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_full_disk_stops_the_run_with_one_message_and_the_last_checkpoint_whole(finished, tmp_path):
    pytest.importorskip("resource", reason="no limits on files here")
    out, temporary = tmp_path / "run", tmp_path / "tmp"
    temporary.mkdir()
    full = python(FULL_DISK, 100, ROOT / "examples" / "train_cats.py", *TINY, "--out", out)
    assert full.returncode == 1 and "Traceback" not in full.stderr, full.stderr
    for words in ("File too large", "state after step 4", "The last checkpoint is of step 3", "go on with", f"--out {out} --resume"):
        assert words in full.stderr
    assert not list(out.glob("*.tmp"))
    resumed = train_cats("--out", out, "--resume")
    assert resumed.returncode == 0 and "Going on after step 3 of 6" in resumed.stdout and same_results(out, finished[0])


def test_a_reader_that_goes_away_stops_the_run_and_loses_nothing(finished, tmp_path):
    """`train_cats.py | head`, in the middle of the table."""
    out = tmp_path / "run"
    with subprocess.Popen([sys.executable, ROOT / "examples" / "train_cats.py", *TINY, "--out", out], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}) as process:
        while not process.stdout.readline().startswith("    1 |"):
            pass
        process.stdout.close()
        err = process.stderr.read()
    assert process.wait(60) == 1 and "Broken pipe" in err and "Traceback" not in err and "Exception" not in err
    resumed = train_cats("--out", out, "--resume")
    assert resumed.returncode == 0 and same_results(out, finished[0])


FOLDER_REMOVED = """
import runpy, shutil, sys
import tinydiff.training.run_folder as run_folder
log = run_folder.RunFolder.log
def log_without_a_folder(self, history):
    if len(history) == 4:
        shutil.rmtree(self.path)
    log(self, history)
run_folder.RunFolder.log = log_without_a_folder
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_folder_that_is_removed_meanwhile_is_one_message_that_says_how_to_go_on(finished, tmp_path):
    out = tmp_path / "run"
    gone = python(FOLDER_REMOVED, ROOT / "examples" / "train_cats.py", *TINY, "--out", out, env={"TMPDIR": str(tmp_path)})
    saved = next(tmp_path.glob("tinydiff-*"))
    assert gone.returncode == 1 and "Traceback" not in gone.stderr, gone.stderr
    assert f"The state after step 4 is in {saved}: move both files there to {out} when" in gone.stderr
    saved.rename(out)
    resumed = train_cats(*shlex.split(gone.stderr.splitlines()[-1])[2:])
    assert resumed.returncode == 0 and "Going on after step 4 of 6" in resumed.stdout and same_results(out, finished[0]), resumed.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_a_run_that_goes_on_elsewhere_is_left_alone(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with only_run_in(out):
        other = train_cats("--out", out, "--resume", "--epochs", 5)
    assert other.returncode == 2 and "another process is training in" in other.stderr and len(other.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_run_that_was_killed_between_two_renamings_is_not_overwritten(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "checkpoint.npz").unlink()
    again = train_cats(*TINY, "--out", tmp_path / "run")
    assert again.returncode == 2 and "already holds a run: --resume goes on with it" in again.stderr


@pytest.mark.parametrize("words, told", [
    ("[" * 200_000, "flags.json is damaged (maximum recursion"), ('{"--epochs": 3}', "flags.json is damaged (not a list of words)"),
    (json.dumps(["x" * 100_000]), "unrecognized arguments: xxx"),
], ids=["deep", "no list", "long"])
def test_damaged_flags_are_one_short_line(words, told, tmp_path):
    (tmp_path / "flags.json").write_text(words)
    done = train_cats("--out", tmp_path, "--resume")
    assert done.returncode == 2 and told in done.stderr and len(done.stderr.splitlines()) == 1 and len(done.stderr) < 2000


def test_files_that_a_killed_run_left_half_written_or_that_were_moved_away_do_not_stop_it(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    for name in ("log.csv", "flags.json"):
        (out / name).unlink()
    for name in ("reverse.png", "reverse.gif", "config.json", "neighbours.json", "samples/epoch_002.png"):
        (out / name).write_bytes((out / name).read_bytes()[:10])
    resumed = train_cats(*TINY, "--out", out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "log.csv has only 0 of these steps" in resumed.stdout and "flags.json is missing: only the flags given now are known" in resumed.stderr
    names = [name for name in FILES if name.endswith(("png", "gif")) and name != "loss.png"]
    assert all((out / name).read_bytes() == (finished[0] / name).read_bytes() for name in names)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's way to close a stream")
def test_without_any_standard_output(tmp_path):
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, ROOT / "examples" / "train_cats.py", "--threads", "0", "--out",
                           tmp_path / "run"], stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=100)
    assert done.returncode == 2 and "--threads is 0" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = train_cats(*TINY, "--out", tmp_path / "file" / "run")
    assert done.returncode == 2 and "can't be written (Not a directory); give another --out" in done.stderr and len(done.stderr.splitlines()) == 1


def test_one_picture_again_and_again_is_said_to_be_so(finished, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "abcd":
        shutil.copy(ROOT / "examples" / "pictures" / "schedules.png", folder / f"{name}.png")
    done = train_cats(*TINY, "--epochs", 1, "--data", folder, "--out", tmp_path / "run")
    told = "All of them are one and the same picture"
    assert done.returncode == 0 and told in done.stdout and told not in finished[1].stdout, done.stderr


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)).save(folder / f"cat{i}.png")
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    out = tmp_path / "run"
    done = train_cats(*TINY, "--epochs", "1", "--sampler", "ddpm", "--target", "eps", "--schedule", "linear", "--held-out", "0", "--weight", "p2",
                      "--time-sampling", "uniform", "--offset-noise", "0.1", "--learn-variance", "--gaussian", "--threads", "1", "--data", folder,
                      "--out", out)
    assert done.returncode == 0, done.stderr
    for words in ("1. Input: 4 images x 16 x 16 x 3", "1 file could not be read and was skipped", "broken.jpg: ",
                  "Under much noise a formula knows nearly all of eps", "The first step is taken without the network",
                  "an early part of the run counts 1.5 times"):
        assert words in done.stdout
    assert (out / "skipped.txt").read_text(encoding="utf-8").startswith("broken.jpg: ")
    assert "broken.jpg" in (out / "report.html").read_text(encoding="utf-8")
    config = json.loads((out / "config.json").read_text())
    train = config["train"]
    assert (train["target"], train["schedule"], train["sampler"], train["held_out"]) == ("eps", "linear", "ddpm", 0.0)
    assert train["autoguidance"] == 1.5                     # with --data
    assert (train["weight"], train["time_sampling"], train["offset_noise"], config["unet"]["out_channels"]) == ("p2", "uniform", 0.1, 6)


def test_photographs_come_in_larger_batches_and_are_drawn_with_fresh_noise():
    code = "import sys; sys.path.append(sys.argv[1]); import train_cats as t; s = [t.settings(t.parser().parse_args(flags))[0] " \
           "for flags in ([], ['--data', 'faces'], ['--data', 'faces', '--batch', '4', '--sampler', 'heun', '--classes'], " \
           "['--data', 'faces', '--offset-noise', '0.1'])]; " \
           "print(*[(c.batch, c.sampler, c.gaussian, c.autoguidance) for c in s])"
    done = subprocess.run([sys.executable, "-c", code, ROOT / "examples"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(8, 'ddim', False, 1.0) (16, 'dpmpp_2m_sde', True, 1.5) (4, 'heun', False, 1.5) (16, 'dpmpp_2m_sde', False, 1.5)"


def test_what_was_said_about_the_gaussian_is_kept_for_resume():
    code = "import sys; sys.path.append(sys.argv[1]); import train_cats as t; parse = t.parser().parse_args; " \
           "print(*[parse(t.kept_flags(parse(flags))).gaussian for flags in ([], ['--gaussian'], ['--no-gaussian', '--batch', '1'])])"
    done = subprocess.run([sys.executable, "-c", code, ROOT / "examples"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None True False"


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
    again = train_cats("--resume", "--out", tmp_path / "run")
    assert again.returncode == 0 and "This run is finished" in again.stdout


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
    (["--channels", "8000000"], "there is not enough memory for these pictures or this network"),
    (["--lr", "inf"], "lr is inf; it must be above 0"),
    (["--threads", "0"], "--threads is 0"),
    (["--resume"], "no checkpoint at"),
    (["--minutes", "0"], "--minutes is 0; it must be above 0"),
    (["--minutes", "5", "--epochs", "20"], "--minutes finds --epochs and --max-steps itself"),
    (["--minutes", "0.001", "--size", "16", "--channels", "8"], "--minutes 0.001 is too short: one epoch of 9 pictures takes "),
])
def test_a_users_mistake_is_one_clear_line(flags, words, tmp_path):
    done = train_cats("--images", "10", *flags, "--out", tmp_path / "run")
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
