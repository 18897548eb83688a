"""Module: finding, naming, saving and loading parameters."""
import copy

import numpy as np
import pytest

from tinydiff import nn, ops
from tinydiff.autograd import Tensor


class Tower(nn.Module):
    """Parameters at every place that a Module looks: itself, a module, a list, a list in a list."""

    def __init__(self, rng):
        self.scale = Tensor(np.ones(3, np.float32), requires_grad=True)
        self.constant = Tensor(np.ones(3, np.float32))
        self.first = nn.Linear(2, 3, rng=rng)
        self.rows = [[nn.Embedding(4, 2, rng=rng)], [nn.Dropout(0.5), nn.Linear(3, 1, rng=rng)]]
        self.nothing = None


@pytest.fixture
def tower():
    return Tower(np.random.default_rng(0))


NAMES = ["scale", "first.weight", "first.bias", "rows.0.0.weight", "rows.1.1.weight", "rows.1.1.bias"]


def test_parameters_are_found_once_and_in_order(tower):
    assert [name for name, _ in tower.named_parameters()] == NAMES
    assert tower.parameters()[4] is tower.rows[1][1].weight
    assert sum(p.size for p in tower.parameters()) == 3 + 9 + 8 + 4


def test_state_round_trip(tower):
    other = Tower(np.random.default_rng(1))
    state = tower.state_dict()
    other.load_state_dict(state)
    assert list(state) == NAMES
    for p, q in zip(tower.parameters(), other.parameters()):
        assert np.array_equal(p.data, q.data)


def test_state_is_a_copy_both_ways(tower):
    state = tower.state_dict()
    tower.scale.writable()[...] = 7
    assert state["scale"][0] == 1
    tower.load_state_dict(state)
    state["scale"][...] = 9
    assert tower.scale.data[0] == 1


def test_load_converts_to_the_parameters_dtype(tower):
    tower.load_state_dict({name: array.astype(np.float64) for name, array in tower.state_dict().items()})
    assert {p.dtype for p in tower.parameters()} == {np.dtype(np.float32)}


def test_load_names_every_fault_and_loads_nothing(tower):
    state = tower.state_dict()
    del state["first.bias"]
    state["second.bias"] = np.zeros(2)
    state["rows.0.0.weight"] = np.zeros((2, 4))
    state["scale"] = np.full(3, 5.0)
    with pytest.raises(ValueError, match=r"first.bias is missing; second.bias is unexpected; rows.0.0.weight is \(2, 4\), expected \(4, 2\)"):
        tower.load_state_dict(state)
    assert tower.scale.data[0] == 1


def test_train_and_eval_reach_all(tower):
    assert tower.train([[7, 1], [7, 2]]) is tower
    assert [(m.training, m.keys) for m in tower.modules()] == [(True, [[7, 1, k], [7, 2, k]]) for k, _ in enumerate(tower.modules())]
    assert tower.eval() is tower and not any(m.training or m.keys for m in tower.modules())


def test_zero_grad(tower):
    for p in tower.parameters():
        p.grad = np.ones(p.shape, p.dtype)
    tower.zero_grad()
    assert all(p.grad is None for p in tower.parameters())


def test_repr_counts_parameters(tower):
    rows = [line.split() for line in repr(tower).splitlines()]
    assert rows[0] == ["Tower", "24"]
    assert rows[1] == ["first:", "Linear(2", "->", "3)", "(...,3)", "9"]
    assert rows[2] == ["rows.0.0:", "Embedding(4", "x", "2)", "(...,2)", "8"]
    assert rows[3] == ["rows.1.0:", "Dropout(0.5)", "0"]


def test_repr_of_a_layer_has_letters_for_sizes():
    rng = np.random.default_rng(0)
    assert repr(nn.Conv2d(3, 8, stride=2, rng=rng)) == "Conv2d(3 -> 8, 3x3, stride 2)  (N,H/2,W/2,8)  224"
    assert repr(nn.GroupNorm(8, 2, "silu")) == "GroupNorm(8, 2 groups, silu)  (N,H,W,8)  16"
    chain = nn.Sequential(nn.Conv2d(3, 4, stride=2, rng=rng), ops.silu, nn.Dropout(0.5), nn.Conv2d(4, 2, rng=rng))
    assert [line.split()[-2] for line in repr(chain).splitlines()] == ["(N,H/2,W/2,2)", "(N,H/2,W/2,4)", "Dropout(0.5)", "(N,H/2,W/2,2)"]


def test_a_deep_copy_is_independent(tower):
    other = copy.deepcopy(tower)
    other.scale.writable()[...] = 3
    assert tower.scale.data[0] == 1 and [name for name, _ in other.named_parameters()] == NAMES


def test_sequential_takes_functions():
    rng = np.random.default_rng(0)
    layers = nn.Sequential(nn.Linear(2, 3, rng=rng), ops.silu, nn.Linear(3, 1, rng=rng))
    assert [name for name, _ in layers.named_parameters()] == ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
    assert layers(np.ones((4, 2), np.float32)).shape == (4, 1)
