"""Training and sampling on several ranks: real MPI processes, as mpiexec starts them."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.mpi import jobs
from tests.mpi.launch import ROOT, end, needs_mpi, start
from tinydiff.training import Ranks, Trainer, load_checkpoint

pytestmark = needs_mpi
BOUND = 1e-5        # of a loss, between numbers of ranks, over 100 steps


def job(n, name, folder, *words, **env):
    """The answers of n ranks to a job of jobs.py."""
    folder.mkdir(parents=True, exist_ok=True)
    code, out, err = end(start(n, "-m", "tests.mpi.jobs", name, folder, *words, **env))
    assert code == 0, err
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(n)]


def close(a, b, bound):
    """Whether the rows of losses, gradient norms and held-out losses agree within a relative bound."""
    a, b = (np.array(rows, float) for rows in (a, b))
    return a.shape == b.shape and np.array_equal(np.isnan(a), np.isnan(b)) and np.nanmax(np.abs(a / b - 1)) < bound


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The mixed run of 100 steps without MPI, and its losses."""
    run = jobs.mixed(tmp_path_factory.mktemp("alone"), Ranks())
    run.fit()
    return run, jobs.losses(run)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_number_of_ranks_changes_nothing_but_rounding(n, alone, tmp_path):
    """Batches of 7 and 3 pictures with micro-batches, dropout, labels left out, flips and offset noise. One rank gives the same bits as none.

    A sum of float32 numbers in another order is another by some 6e-8 of it, and so are the weights after a step; over 100 steps 2.6e-7 was
    seen. A picture of the seven that counted twice, or drew other noise, would change a loss by a tenth.
    """
    answers = job(n, "train", tmp_path)
    assert len(alone[1]) == 100 and close(answers[0]["losses"], alone[1], BOUND)
    assert n > 1 or answers[0]["losses"] == alone[1]
    assert all(answer["losses"] == answers[0]["losses"] and answer["weights"] == answers[0]["weights"] for answer in answers)
    assert [answer["folder"] for answer in answers] == [True] + [False] * (n - 1)       # rank 0 writes, no one else
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["checkpoint.npz", "checkpoint.previous.npz", "config.json", "log.csv"]


def test_ordered_sums_give_the_same_bits_each_time(alone, tmp_path):
    first, second = (job(2, "train", tmp_path / str(i), "ordered")[0] for i in range(2))
    assert first == second and close(first["losses"], alone[1], BOUND)


def test_ordered_sums_add_in_the_order_of_the_ranks(tmp_path):
    one, two, three, four = job(3, "ordered_sums", tmp_path, "ordered")[2]
    assert one == [[1, 0, 0], [0, 0, 0]] and two == [0, 0, 0, 0, 3]                    # (1e8 - 1e8) + 1; 0 + 1 + 2
    assert three == [[0, 0, 0], [0, 4, 0]] and four == [2, 0, 0, 0, 0]                 # of two ranks: the third had no part


def test_sums_start_while_backward_runs(tmp_path):
    for answer in job(2, "buckets", tmp_path):
        started, last = answer["started"], answer["buckets"]
        assert len(started) == answer["parameters"] and last >= 4 and started[-1] == last
        assert started == sorted(started) and started[len(started) // 2] >= 1 and started[-2] >= last - 1


def test_recomputed_blocks_have_their_gradients_summed_too(alone, tmp_path):
    """What they compute again isn't part of the graph that backward walks, so their parameters come after it."""
    for answer in job(2, "recomputed", tmp_path):
        assert close(answer, alone[1][:4], BOUND)


def test_a_parameter_without_gradient_is_named(tmp_path):
    for answer in job(2, "frozen", tmp_path):
        assert answer == "mpi: backward gave no gradient to a parameter of shape (5,)"


@pytest.mark.parametrize("before, after", [(4, 2), (4, None), (None, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(before, after, alone, tmp_path):
    def go_on(n, until):
        return job(n, "resume", tmp_path, tmp_path / "run", until)[0] if n else jobs.resume(None, Ranks(), tmp_path / "run", until)
    assert close(go_on(before, 3), alone[1][:3], BOUND)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.npz").step == 3
    assert close(go_on(after, 8), alone[1][:8], BOUND)


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(tmp_path):
    answers = job(3, "diverge", tmp_path)
    for answer in answers:
        assert "diverged at step 5" in answer["error"] and answer["step"] == 4
    assert load_checkpoint(tmp_path / "0" / "checkpoint.npz").step == 3


@pytest.mark.parametrize("what, words", [
    ("data", "data.crc32 is "), ("settings", "train.lr is 0.5 on rank 1 of 2"), ("weights", "weights is "),
    ("code", "code.tinydiff is '0.0.older' on rank 1 of 2"), ("fault", "rank 1 of 2 (on "),
])
def test_ranks_that_differ_refuse_to_start(what, words, tmp_path):
    for answer in job(2, "differ", tmp_path, what):
        assert words in answer["error"] and not answer["folder"]
        assert what != "fault" or answer["error"].endswith("no cats here")
        assert answer["error"].count(" is ") == (what != "fault")                      # one difference, and no other


def pids(process, folder, n):
    """The ranks' process numbers, once each has taken three steps."""
    files = [folder / f"{rank}.pid" for rank in range(n)]
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None and time.monotonic() < deadline, end(process, 5)
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def all_end_by(deadline, numbers):
    """Whether the processes end in time: mpiexec doesn't wait for those that a guardian has left behind, which end by themselves."""
    while not all(map(gone, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return all(map(gone, numbers))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the launcher alone tells")
@pytest.mark.parametrize("n, rank", [(2, 0), (2, 1), (4, 2)])
def test_a_killed_rank_ends_the_job_with_one_line(n, rank, tmp_path):
    process = start(n, "-m", "tests.mpi.jobs", "live", tmp_path)
    numbers = pids(process, tmp_path, n)
    killed = time.monotonic()
    os.kill(numbers[rank], signal.SIGKILL)
    code, out, err = end(process, 10)
    assert code != 0 and all_end_by(killed + 10, numbers)
    line, = err.strip().splitlines()                            # mpiexec may have its own say, on stdout
    assert line.startswith(f"rank {rank} of {n} (on ") and f"process {numbers[rank]}, is dead (Killed)" in line
    assert load_checkpoint(tmp_path / "0" / "checkpoint.npz").step >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="there is no guardian elsewhere")
def test_without_its_guardian_a_rank_ends_the_job_too(tmp_path):
    process = start(2, "-m", "tests.mpi.jobs", "live", tmp_path)
    numbers = pids(process, tmp_path, 2)
    os.kill(int(Path(f"/proc/{numbers[1]}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    killed = time.monotonic()
    assert end(process, 10)[0] != 0 and all_end_by(killed + 10, numbers)


def test_an_error_on_one_rank_ends_the_job(tmp_path):
    code, out, err = end(start(2, "-m", "tests.mpi.jobs", "fail", tmp_path), 30)
    assert code != 0 and "rank 1 of 2 (on " in err and "RuntimeError: a screw is loose" in err


def test_a_full_disk_of_one_rank_stops_all(tmp_path):
    first, second = job(2, "full", tmp_path)
    assert "rank 0 of 2 (on " in first["error"] and "no space left\nThe state after step 2 is saved" in first["error"]
    assert second["error"].endswith("no space left") and not second["folder"]
    assert load_checkpoint(tmp_path / "0" / "checkpoint.npz").step == 2


@pytest.mark.parametrize("rank, number, error", [(None, signal.SIGINT, "KeyboardInterrupt"), (1, signal.SIGINT, "KeyboardInterrupt"),
                                                 (0, signal.SIGTERM, "Terminated"), (1, signal.SIGTERM, "Terminated")])
def test_ctrl_c_and_kill_save_once(rank, number, error, tmp_path):
    """As mpiexec passes it on, and where it reaches one rank only."""
    process = start(2, "-m", "tests.mpi.jobs", "interrupt", tmp_path)
    numbers = pids(process, tmp_path, 2)
    os.kill(process.pid if rank is None else numbers[rank], number)
    code, out, err = end(process, 30)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["step"] == second["step"] >= 3 and first["saved"] == [first["step"]] and second["saved"] == []
    assert first["error"] == second["error"] == error
    assert load_checkpoint(tmp_path / "0" / "checkpoint.npz").step == first["step"]
    assert err.count("stopping at the next moment") == (rank != 1) and "Traceback" not in err


def test_ctrl_c_while_saving_saves_once(tmp_path):
    assert job(2, "interrupt_saving", tmp_path) == [{"step": 3, "saved": [3]}, {"step": 3, "saved": []}]


def test_threads_are_the_hosts_cores_shared(tmp_path):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert job(2, "threads", tmp_path, NUMBA_NUM_THREADS=str(cores)) == [max(1, cores // 2)] * 2
    assert job(1, "threads", tmp_path, NUMBA_NUM_THREADS=str(cores)) == [cores]


TINY = ["--images", 12, "--size", 16, "--channels", 8, "--epochs", 2, "--batch", 4, "--steps", 3]


def test_the_examples_train_and_draw_the_same(tmp_path):
    """train_cats.py on two ranks tells its story once; sample_cats.py draws on three what it draws alone, byte for byte."""
    code, out, err = end(start(2, "examples/train_cats.py", "--mpi", *TINY, "--out", tmp_path / "run"))
    assert code == 0 and err == "" and all(out.count(words) == 1 for words in ("1. Input", "4. Generate", "Everything is here"))
    assert (tmp_path / "run" / "report.html").exists() and load_checkpoint(tmp_path / "run" / "checkpoint.npz").step == 6
    draw = ["examples/sample_cats.py", "--run", tmp_path / "run", "--count", 20, "--sampler", "ddpm", "--gif", "--out"]
    assert end(start(3, *draw, tmp_path / "three", "--mpi"))[0] == 0
    subprocess.run([sys.executable, *map(str, draw), tmp_path / "one"], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 22 and names == sorted(path.name for path in (tmp_path / "three").iterdir())
    for name in set(names) - {"film.gif"}:                                             # the film shows the pictures of rank 0's chunk
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes(), name


def test_a_mistake_is_one_line_from_all_ranks_together(tmp_path):
    code, out, err = end(start(2, "examples/train_cats.py", "--mpi", *TINY, "--resume", "--out", tmp_path / "nowhere"))
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "no checkpoint at" in err


def test_ranks_with_disks_of_their_own(tmp_path):
    """Rank 0 alone writes, also from the examples. All must read the checkpoint to go on, and what draws together must be the same network."""
    def each_its_own(script, own, *flags):
        first, second = ([f"examples/{script}.py", "--mpi", *flags, own, tmp_path / folder] for folder in ("a", "b"))
        return end(start(1, *first, ":", "-n", 1, sys.executable, *second))
    code, out, err = each_its_own("train_cats", "--out", *TINY)
    assert code == 0 and err == "" and (tmp_path / "a" / "samples.png").exists() and not (tmp_path / "b").exists()
    code, out, err = each_its_own("train_cats", "--out", *TINY, "--resume")
    assert code == 2 and len(err.splitlines()) == 1 and "rank 1 of 2 (on " in err and f"no checkpoint at {tmp_path / 'b'}" in err
    subprocess.run([sys.executable, "examples/train_cats.py", *map(str, TINY), "--seed", "1", "--out", tmp_path / "b"], cwd=ROOT, check=True,
                   capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    code, out, err = each_its_own("sample_cats", "--run", "--out", tmp_path / "drawn")
    assert code == 2 and len(err.splitlines()) == 1 and "checkpoint is " in err and not (tmp_path / "drawn").exists()


def test_resuming_needs_the_same_pictures_on_any_number_of_ranks(alone):
    with pytest.raises(ValueError, match="was started on other pictures"):
        Trainer.resume(jobs.pictures(12, labels=jobs.LABELS[:12]), alone[0].folder.path)
