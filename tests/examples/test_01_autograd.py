"""What the first example prints is true: the graph, three gradients that agree, the step to measure with, the descent, the fault found."""
import re
from importlib import import_module

import numpy as np
import pytest

example = import_module("examples.01_autograd")


@pytest.fixture(scope="module")
def parts():
    """What it prints, by its numbered parts."""
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda text, file=None, **how: lines.append(text) if file is None else None)
        example.main()
    printed = "\n".join(lines)
    assert max(map(len, printed.splitlines())) <= 80
    return re.split(r"^\d\. ", printed, flags=re.M)[1:]


def test_the_graph_leads_from_the_loss_to_the_leaves(parts):
    graph = [line.split() for line in parts[0].splitlines()[2:] if line]
    assert [(name, op) for name, _, op, *_ in graph] == [
        ("loss", "add"), ("error", "pow"), ("e", "sub"), ("h", "tanh"), ("z", "add"), ("p", "mul"), ("w", "a"), ("b", "a"),
        ("price", "mul"), ("square", "pow"), ("w", "a")]
    value = {name: float(number) for name, number, *_ in graph}
    assert value["loss"] == pytest.approx((np.tanh(0.8 * 1.5 - 0.3) - 0.5) ** 2 + 0.1 * 0.8 ** 2, abs=5e-5)      # of 4 printed places, half of one


def test_three_gradients_agree(parts):
    rows = re.findall(r"d loss / d\w +(\S+) +(\S+) +(\S+)", parts[1])
    assert len(rows) == 2
    for row in rows:
        hand, engine, measured = map(float, row)
        # By hand and engine differ by rounding, the measurement by eps^2 = 1e-10 of a third derivative of about 1: both below the 10th place.
        assert hand != 0 and engine == pytest.approx(hand, abs=1.1e-10) and measured == pytest.approx(hand, abs=1e-9)


def test_the_best_step_is_neither_the_largest_nor_the_smallest(parts):
    errors = [(float(step), float(error)) for step, error in re.findall(r"^ +(1e-\d\d) +(\S+)", parts[2], flags=re.M)]
    assert len(errors) == 12
    best = min(errors, key=lambda row: row[1])[0]
    # Off by about step^2 and by 1e-16 / step: least near the cube root of 1e-16, and 1e-5 within a hundred times the least.
    assert 1e-8 < best < 1e-4 and dict(errors)[1e-5] < 1e-8 < dict(errors)[1e-1]


def test_the_loss_falls(parts):
    losses = [float(loss) for loss in re.findall(r"loss (\S+)$", parts[3], flags=re.M)]
    assert len(losses) == 6 and losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2


def test_gradcheck_passes_the_right_op_and_names_the_faulty(parts):
    errors = [float(error) for error in re.findall(r"relative error (\S+)$", parts[4], flags=re.M)]
    assert len(errors) == 2 and max(errors) < 1e-8
    assert re.search(r"faulty_softplus:\n\s+gradcheck: input 0 \(3, 4\), entry", parts[4])
