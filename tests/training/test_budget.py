"""What fits into the time there is."""
import dataclasses
import math
import tempfile

import pytest
from hypothesis import given, strategies as st

from tests.training.runs import RUN, trainer
from tinydiff.training import Pace, Ranks, mean_time, measure_pace, steps_within

SECONDS = st.floats(1e-3, 10)


@given(st.floats(0, 1e4), SECONDS, SECONDS, SECONDS, SECONDS, st.integers(1, 100))
def test_as_many_steps_as_fit_and_no_more(seconds, step, epoch, sheet, end, steps_per_epoch):
    def drawing(epochs):
        return epochs // 5 * sheet + end

    def taken(steps):
        epochs = math.ceil(steps / steps_per_epoch)
        return steps * step + epochs * epoch + drawing(epochs)
    steps = steps_within(seconds, Pace(step, epoch), steps_per_epoch, drawing)
    assert taken(steps + 1) > seconds and (steps == 0 or taken(steps) <= seconds)


def test_the_pace_is_measured_by_working_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trial = trainer(tmp_path / "run", dataclasses.replace(RUN, epochs=1000))
    pace = measure_pace(trial, 0.2)
    assert trial.global_step >= 1 + 3 + 3 and 0 < pace.step < 0.2 and pace.epoch > 0
    assert abs(pace.step * (trial.global_step - 4) / 0.2 - 1) < 0.9                         # so many steps that they take about 0.2 s
    assert list(tmp_path.iterdir()) == []


def test_ranks_agree_on_the_mean(tmp_path):
    class Two(Ranks):
        size = 2

        def total(self, value):
            return value + 3.0                              # the other one took 3 s
    trial = trainer(tmp_path)
    trial.ranks = Two()
    assert mean_time(trial, lambda: None) == pytest.approx(1.5, abs=0.1)
    assert mean_time(trial, lambda: None, 3) == pytest.approx(0.5, abs=0.1)
