"""Every benchmark runs, small and without PyTorch: it says on what machine, checks before it times, and writes its figures and pictures."""
import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.mpi.launch import needs_mpi
from tinydiff.data import drawn_cats
from tinydiff.kernels import KERNELS
from tinydiff.metrics import sliced_wasserstein

ROOT = Path(__file__).parents[2]


def run(script, *flags, **environment):
    return subprocess.run([sys.executable, ROOT / "benchmarks" / f"{script}.py", *map(str, flags)], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"PYTHONPATH": str(ROOT)} | environment)


def quick(script, tmp_path, *flags):
    """What a quick run printed, and its figures."""
    done = run(script, "--quick", "--json", tmp_path / "figures.json", *flags)
    assert done.returncode == 0, done.stderr
    assert "float32 lanes" in done.stdout and "Numba" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["machine"]) >= {"cpu", "threads", "float32_lanes", "python", "numpy", "numba", "torch"}
    return done.stdout, figures


def test_kernels(tmp_path):
    said, figures = quick("kernels", tmp_path, "--picture", tmp_path / "roofline.png")
    assert {row["kernel"] for row in figures["rows"] if "kernel" in row} >= {"conv2d", "group_norm", "attention", "adamw_step"}
    for row in figures["rows"]:
        assert row["ms"]["tinydiff"] > 0 and row.get("error", 0) <= 2e-5
    assert "forward + backward" in said and figures["peaks"]["gb_per_s"] > 0 and figures["peaks"]["gflops"] > 0
    with Image.open(tmp_path / "roofline.png") as picture:
        assert len(picture.convert("RGB").getcolors(2 ** 24)) > 50              # something is drawn


def test_kernels_of_one_name_only(tmp_path):
    said, figures = quick("kernels", tmp_path, "--only", "softmax")
    assert {row["group"] for row in figures["rows"]} == {"softmax"}
    unknown = run("kernels", "--quick", "--only", "dog")
    assert unknown.returncode == 2 and "--only dog: no such op; there are 3x3, " in unknown.stderr


def test_references(tmp_path):
    _, figures = quick("references", tmp_path)
    assert {row["kernel"] for row in figures["rows"]} == set(KERNELS)
    assert all(row["gain"] == row["reference_ms"] / row["kernel_ms"] > 0 for row in figures["rows"])


def test_train_step(tmp_path):
    said, figures = quick("train_step", tmp_path, "--rounds", 2)
    assert "same loss" in said and figures["rows"]["tinydiff"]["ms"] > 0 and figures["rows"]["tinydiff"]["peak_mb"] > 10


def test_sampling(tmp_path):
    said, figures = quick("sampling", tmp_path, "--rounds", 2)
    assert "8 pictures by 6 DDIM steps" in said and len(figures["drawing"]["memory"]) == 12
    assert figures["growth_mb"] <= 16


def test_scaling(tmp_path):
    _, figures = quick("scaling", tmp_path, "--picture", tmp_path / "scaling.png")
    assert [row["value"] for row in figures["batch"]] == [1, 2] and figures["threads"][0]["speed"] == 1
    assert figures["two processes"] > 0
    with Image.open(tmp_path / "scaling.png") as picture:
        assert len(picture.convert("RGB").getcolors(2 ** 24)) > 50


def test_startup(tmp_path):
    said, figures = quick("startup", tmp_path)
    assert "meanwhile it says: tinydiff: compiling kernels" in said
    assert figures["import"] > 0 and 0 < figures["warm begins"] < figures["warm ends"] and figures["compiling"] > 0


def test_long_run(tmp_path):
    said, figures = quick("long_run", tmp_path)
    assert "50 times a training step" in said and len(figures["training"]) == 50 and len(figures["sampling"]) == 6
    assert 0 <= max(figures["growth"].values()) <= 0.02


@needs_mpi
def test_mpi(tmp_path):
    said, figures = quick("mpi", tmp_path, "--picture", tmp_path / "mpi.png")
    assert "Measured, in milliseconds; 5.6 MB of gradients in 2 buckets" in said
    assert list(figures["one"]) == ["1", "2", "4", "8", "16"] and list(figures["two"]) == ["8", "16"]
    for row in (*figures["one"].values(), *figures["two"].values()):
        assert row["step"] > 0 and row["filled"] == sorted(row["filled"]) and 0 < row["filled"][0] < row["ends"] < 1
    assert all(row["all_reduce"] > 0 and 0 <= row["hidden"] <= 1 for row in figures["two"].values())
    assert {(row["kind"], row["network"]) for row in figures["predicted"]} == {(k, n) for k in ("weak", "strong") for n in ("10 Gb/s", "100 Gb/s")}
    assert {row["ranks"] for row in figures["predicted"]} == {2 ** k for k in range(1, 11)}
    with Image.open(tmp_path / "mpi.png") as picture:
        assert len(picture.convert("RGB").getcolors(2 ** 24)) > 50


def test_what_the_network_model_predicts(monkeypatch):
    """Two buckets of a second each between two ranks; backward fills them at 2 and 7 s of 10 and ends at 7.5, half a second before the sum."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    predict = runpy.run_path(str(ROOT / "benchmarks" / "mpi.py"))["predict"]
    one = {16: dict(batch=16, alone=10.0, filled=[0.2, 0.7], ends=0.75, bytes=[1000, 1000])}
    row = predict(2, 16, one, 0.0, (0.0, 1000.0))
    assert math.isclose(row["ms"], 10_500) and math.isclose(row["hidden"], 0.75) and math.isclose(row["efficiency"], 10 / 10.5)
    row = predict(4, 16, one, 0.0, (0.125, 1500.0))                  # 2 log2(4) / 8 + 2 x 3/4 x 1000 / 1500 = 1.5 s
    assert math.isclose(row["ms"], 11_000) and math.isclose(row["hidden"], 2 / 3)
    row = predict(2, 32, one, 1.0, (0.0, 1e30))                      # an infinite network; the processors' second is left
    assert math.isclose(row["ms"], 21_000) and row["hidden"] == 1 and row["without"] == 1


@pytest.fixture
def race(monkeypatch):
    """The functions of benchmarks/race.py."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.syspath_prepend(ROOT / "examples")
    return runpy.run_path(str(ROOT / "benchmarks" / "race.py"))


def test_what_the_race_makes_of_its_legs(race):
    """Of a mean the jackknife's deviation is s / sqrt(n). What two contenders share, as their noise, is no part of that of their difference."""

    def distances(x):
        return [x.mean(), *((x.sum() - out) / (len(x) - 1) for out in x)]
    shared, own = np.sqrt(19) * np.array([np.tile([10, -10], 10), np.repeat([10, -10], 10)])     # s = sqrt(20) 10, n = 20: each mean scatters by 10
    leg = dict(minutes=5, seconds=300, pictures=1600, x0_errors=[0.01, 0.04], suspicious=0)
    ours = dict(leg, name="tinydiff", distances=distances(100 + shared))
    torch = dict(leg, name="torch", distances=distances(160 + shared + own))
    _, _, first, second, floor = race["table"]([ours, torch], distances(np.full(race["PARTS"], 4.0))).splitlines()
    assert first == "| 5 | tinydiff | 300 | 1,600 | 100.0 ± 10.0 |  | 0.02000 | 0 |"
    assert second == "| 5 | torch | 300 | 1,600 | 160.0 ± 14.1 | 60.0 ± 10.0: 6.0 sd | 0.02000 | 0 |"
    assert "4.0 ± 0.0" in floor


def test_the_race_measures_all_samples_and_then_without_each_part(race):
    cats, held_out = np.split(drawn_cats(2 * race["PARTS"] + 5, size=16).images, [-5])
    distances = race["distances"](cats, held_out)
    assert len(distances) == 1 + race["PARTS"]
    assert distances[:2] == [sliced_wasserstein(cats, held_out), sliced_wasserstein(cats[2:], held_out)]
    assert distances[-1] == sliced_wasserstein(cats[:-2], held_out)


def test_the_race_refuses_a_leg_of_another_recipe(tmp_path):
    leg = tmp_path / "tinydiff-5"
    leg.mkdir()
    (leg / "weights.npz").touch()
    (leg / "leg.json").write_text(json.dumps({"recipe": "an older one"}))
    done = run("race", "--data", "cats64.zip", "--out", tmp_path, "--minutes", 5, "--contenders", "tinydiff")
    assert done.returncode == 1 and f"{leg} holds a leg of another recipe: give another --out, or remove it" in done.stderr


def test_the_race_tells_training_from_drawing(race):
    """A leg is judged again where only the drawing has changed."""
    assert race["training"]("tinydiff") == race["training"]("--sampler ddim --steps 25 --autoguidance 1") != race["training"]("--batch 8")
    told = race["drawing"]("--sampler ddim --steps 25 --autoguidance 1")
    assert told == {"autoguidance": 1, "sampler": "ddim", "steps": 25}


def test_a_contender_that_ends_is_named():
    done = run("train_step", "--quick", NUMBA_THREADING_LAYER="no such layer")
    assert done.returncode == 1 and "the process of tinydiff ended; its error is above" in done.stderr
