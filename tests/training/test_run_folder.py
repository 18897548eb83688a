"""What a run keeps on disk, where the disk doesn't do what it should; and a run that is stopped."""
import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.runs import RUN, pictures, trainer
from tinydiff.training import Trainer, load_checkpoint, run_folder, save_checkpoint, trainer as trainer_module
from tinydiff.training.files import only_run_in, whole_file
from tinydiff.training.interrupt import Terminated, heed_termination, hold_interrupt
from tinydiff.training.log import read_log

ROOT = Path(__file__).parents[2]
no_signal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")


def stop_at(step, error=KeyboardInterrupt):
    def stop(run, row):
        if row["step"] == step:
            raise error
    return stop


def stopped(out, step, config=RUN):
    run = trainer(out, config)
    with pytest.raises(KeyboardInterrupt):
        run.fit(stop_at(step))
    return run


def test_the_last_two_checkpoints_are_kept(tmp_path):
    stopped(tmp_path, 7)
    steps = [load_checkpoint(tmp_path / name).step for name in ("checkpoint.npz", "checkpoint.previous.npz")]
    assert steps == [7, 6] and load_checkpoint(tmp_path).step == 7


def test_a_long_epoch_has_checkpoints_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "SAVE_EVERY", 4)
    saved = []
    monkeypatch.setattr(run_folder, "save_checkpoint", lambda path, run: saved.append(run.global_step))
    trainer(tmp_path, dataclasses.replace(RUN, batch=1, epochs=1)).fit()
    assert saved == [4, 8, 10]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:5000] + b"?" + data[5001:]],
                         ids=["cut", "empty", "byte"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_taken(damage, tmp_path, capsys):
    stopped(tmp_path, 5)
    newest = tmp_path / "checkpoint.npz"
    newest.write_bytes(damage(newest.read_bytes()))
    run = Trainer.resume(pictures(), tmp_path)
    complaint = capsys.readouterr().err
    assert run.global_step == 3 and len(run.history) == 3 and complaint.count("\n") == 1
    assert f"{newest} is damaged" in complaint and "taking the one before it" in complaint and "of step 3" in complaint
    run.step()
    run.folder.save(run)
    assert [load_checkpoint(tmp_path / name).step for name in ("checkpoint.npz", "checkpoint.previous.npz")] == [4, 3]


def test_two_damaged_checkpoints_are_an_error(tmp_path):
    stopped(tmp_path, 5)
    for name in ("checkpoint.npz", "checkpoint.previous.npz"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(ValueError, match="checkpoint.npz is damaged"):
        Trainer.resume(pictures(), tmp_path)


@pytest.mark.parametrize("changes, words", [
    (dict(lr=0.1, batch=2), "batch was 4, not 2; lr was 0.003, not 0.1"), (dict(epochs=2), "epochs was 3, not 2"),
    (dict(micro_batch=2), "micro_batch was None, not 2"),
])
def test_a_setting_that_would_break_the_run_is_refused_by_name(changes, words, tmp_path):
    stopped(tmp_path, 4)
    with pytest.raises(ValueError, match=words):
        Trainer.resume(pictures(), tmp_path, config=dataclasses.replace(RUN, **changes))


def test_other_pictures_are_refused_by_what_is_other(tmp_path):
    stopped(tmp_path, 4)
    other = pictures()
    other.images[0] ^= 1
    with pytest.raises(ValueError, match=r"was started on other pictures, but crc32 was \d+, not \d+$"):
        Trainer.resume(other, tmp_path)


def test_a_run_can_become_longer_and_draw_in_another_way(tmp_path):
    stopped(tmp_path, 4)
    run = Trainer.resume(pictures(), tmp_path, config=dataclasses.replace(RUN, epochs=5, sampler="ddpm", steps=7))
    run.fit()
    assert run.global_step == 15 and load_checkpoint(tmp_path).config == run.config and run.config.sampler == "ddpm"
    assert run.history[4]["lr"] > run.history[9]["lr"] > 0


def full(*args):
    raise OSError(28, "No space left on device", "somewhere")


def test_a_log_that_cannot_be_written_stops_the_run_and_loses_nothing(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    monkeypatch.setattr(run_folder, "append_row", lambda path, row: full() if row["step"] == 5 else None)
    with pytest.raises(OSError, match=r"No space left on device: 'somewhere'\nThe state after step 5 is saved."):
        run.fit()
    assert load_checkpoint(tmp_path).step == 5 == len(Trainer.resume(pictures(), tmp_path).history)


def test_a_checkpoint_that_cannot_be_written_goes_to_the_temporary_files(tmp_path, monkeypatch):
    run = trainer(tmp_path / "run")
    monkeypatch.setattr(run_folder.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(run_folder, "save_checkpoint",
                        lambda path, run: full() if path.parent.name == "run" and run.global_step == 6 else save_checkpoint(path, run))
    with pytest.raises(OSError, match=rf"The state after step 6 is in {tmp_path}: move both files there to {tmp_path}/run when"):
        run.fit()
    assert load_checkpoint(tmp_path / "run").step == 3 and load_checkpoint(tmp_path).step == 6
    for name in ("checkpoint.npz", "log.csv"):
        (tmp_path / name).replace(tmp_path / "run" / name)
    moved = Trainer.resume(pictures(), tmp_path / "run")
    assert moved.global_step == 6 == len(moved.history)


def test_nowhere_to_save_is_told(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    monkeypatch.setattr(run_folder.tempfile, "mkdtemp", lambda prefix: full())
    monkeypatch.setattr(run_folder, "append_row", lambda path, row: full())
    monkeypatch.setattr(run_folder, "write_log", lambda path, rows: full() if rows else None)
    with pytest.raises(OSError, match="Nor could the state after step 1 be saved anywhere else"):
        run.fit()


def test_a_log_that_is_removed_meanwhile_is_written_again(tmp_path):
    run = trainer(tmp_path)
    run.fit(lambda run, row: run.folder.log_path.unlink() if row["step"] == 4 else None)
    assert [row["step"] for row in read_log(tmp_path / "log.csv", 9)] == list(range(1, 10))


@pytest.mark.parametrize("damage", [
    lambda rows: b"\xff\x00" * 5000, lambda rows: b"".join(rows[:2]) + b"1" * 200_000, lambda rows: b"".join(rows[1:]),
    lambda rows: rows[0], lambda rows: b"".join(rows[:3]), lambda rows: b"".join(rows[:3] + rows[2:]), lambda rows: b"".join(rows[:2] + rows[3:]),
], ids=["binary", "long", "no names", "empty", "cut", "twice", "missing"])
def test_a_damaged_log_is_refused_in_one_line_and_can_be_moved_away(damage, tmp_path):
    stopped(tmp_path, 4)
    path = tmp_path / "log.csv"
    path.write_bytes(damage(path.read_bytes().splitlines(keepends=True)))
    with pytest.raises(ValueError, match="move it away to resume without the history") as caught:
        Trainer.resume(pictures(), tmp_path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 300
    path.unlink()
    for step in (6, 7):                                     # the log that begins anew can itself be gone on with
        with pytest.raises(KeyboardInterrupt):
            Trainer.resume(pictures(), tmp_path).fit(stop_at(step))
    assert [row["step"] for row in read_log(path, 7)] == [5, 6, 7]


def test_an_error_of_a_callback_loses_nothing(tmp_path):
    with pytest.raises(OSError, match="The state after step 5 is saved"):
        trainer(tmp_path).fit(stop_at(5, BrokenPipeError(32, "Broken pipe")))
    assert load_checkpoint(tmp_path).step == 5


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path):
    path, before = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path, before) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and path.read_bytes() == b"old"
    with whole_file(path, before) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and before.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_two_processes_do_not_train_in_one_folder(tmp_path):
    code = ("import sys; from tests.training.runs import trainer; from pathlib import Path\n"
            "try: trainer(Path(sys.argv[1])).fit()\n"
            "except ValueError as error: print(error)")

    def other():
        return subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100).stdout
    with only_run_in(tmp_path):
        assert f"another process is training in {tmp_path} right now" in other()
        assert list(tmp_path.iterdir()) == []
    assert other() == "" and load_checkpoint(tmp_path).step == 9


@no_signal
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_termination_waits_for_the_step_and_then_saves(name, tmp_path, monkeypatch, capsys):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    heed_termination()
    try:
        run = trainer(tmp_path)
        step = run.optimizer.step

        def told_meanwhile(*args, **kwargs):
            if run.global_step == 1:
                signal.raise_signal(number)
            step(*args, **kwargs)
        monkeypatch.setattr(run.optimizer, "step", told_meanwhile)
        with pytest.raises(Terminated) as caught:
            run.fit()
        assert caught.value.number == number and run.global_step == 2 == load_checkpoint(tmp_path).step
        assert "stopping after this step\n" in capsys.readouterr().err
        with pytest.raises(Terminated):                     # outside of a step at once
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


@no_signal
def test_what_nohup_switches_off_stays_off():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        heed_termination()
        with hold_interrupt():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


SECOND = """
import os, signal, sys
from pathlib import Path
from tests.training.runs import trainer
from tinydiff.training import run_folder
def slow(path, run):
    print("saving", run.global_step, flush=True)
    signal.raise_signal(signal.SIGINT)
    print("still here")
run_folder.save_checkpoint = slow
def press(run, row):
    if row["step"] == 2:
        raise KeyboardInterrupt
trainer(Path(sys.argv[1])).fit(press)
"""


@no_signal
def test_a_second_ctrl_c_leaves_at_once_even_while_saving(tmp_path):
    done = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout == "saving 2\n" and done.returncode == -signal.SIGINT
