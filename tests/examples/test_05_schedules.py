"""The program that draws the schedules."""
import sys
from importlib import import_module

import pytest
from PIL import Image

from tinydiff.diffusion import SCHEDULES

schedules = import_module("examples.05_schedules")


def run(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["05_schedules.py", *map(str, flags)])
    schedules.main()


def test_it_prints_a_table_and_draws_the_curves(monkeypatch, capsys, tmp_path):
    out = tmp_path / "deep" / "curves.png"
    run(monkeypatch, "flow", "cosine", "--T", 5, "--out", out)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [      # sigma = 0.2, 0.4, ..., alpha = 1 - sigma
        ["flow"], ["t", "0", "1", "2", "3", "4"], ["alpha", "0.8", "0.6", "0.4", "0.2", "0"], ["sigma", "0.2", "0.4", "0.6", "0.8", "1"]]
    assert lines[5] == "cosine" and lines[-1] == f"The curves: {out}"
    with Image.open(out) as image:
        image.load()
        assert image.size == (1500, 600)


def test_without_a_name_it_draws_all(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--out", tmp_path / "all.png")
    assert set(SCHEDULES) <= set(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("flags, words", [(["quadratic"], "unknown schedule 'quadratic'; choose from linear, cosine"),
                                          (["--T", 1], "T is 1, but the number of diffusion steps must be")])
def test_a_users_mistake_is_named(flags, words, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *flags)
    assert words in capsys.readouterr().err
