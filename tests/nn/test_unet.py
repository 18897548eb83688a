"""The U-Net: its size, its shapes, its time embedding, its errors. What it computes is in test_torch_parity.py."""
import dataclasses
import math

import numpy as np
import pytest

from tests.nn.parity import CASES, LABELS, SMALL, draw, tinydiff_results
from tinydiff import nn
from tinydiff.kernels import buffers
from tinydiff.nn.unet import time_embedding

T2 = np.array([3.0, 500.0])


def new(config, dtype=np.float32):
    return nn.UNet(config, rng=np.random.default_rng(0), dtype=dtype)


def test_the_reference_network_has_the_parameters_it_should():
    model = new(nn.UNetConfig())
    assert sum(p.size for p in model.parameters()) == 5_533_091
    assert [stage.attention is not None for level in model.down for stage in level] == [False] * 4 + [True] * 4
    assert [stage.attention is not None for level in model.up for stage in level] == [False] * 6 + [True] * 6
    assert [stage.attention is not None for stage in model.middle] == [True, False]


def test_a_new_network_says_zero_and_keeps_shape_and_dtype():
    y = new(SMALL)(np.ones((2, 8, 8, 3)), T2)
    assert y.shape == (2, 8, 8, 3) and y.dtype == np.float32 and not y.data.any()


def test_pictures_of_another_size_that_divides_are_taken():
    assert new(SMALL)(np.ones((1, 4, 10, 3)), T2[:1]).shape == (1, 4, 10, 3)


def test_time_embedding():
    t, i = 123.5, 5
    emb = time_embedding(np.array([0.0, t]), 32)
    assert emb.shape == (2, 32)
    assert np.array_equal(emb[0], [1] * 16 + [0] * 16)
    assert emb[1, i] == pytest.approx(math.cos(t * 10000 ** (-i / 16)), abs=1e-12)  # t < 1000, so the angle is right to 1e-13
    assert emb[1, 16 + i] == pytest.approx(math.sin(t * 10000 ** (-i / 16)), abs=1e-12)


def test_no_label_is_the_label_num_classes():
    case = CASES["unet_labels"]
    numbers = draw(case, 5)
    plain = {key: array for key, array in numbers.items() if key != "in/y"}
    with_none = tinydiff_results(case, plain)
    with_index = tinydiff_results(case, plain | {"in/y": np.full(3, LABELS.num_classes)})
    assert all(np.array_equal(with_none[name], with_index[name]) for name in with_index)
    assert not np.array_equal(with_none["out"], tinydiff_results(case, numbers)["out"])


def test_pictures_in_a_batch_do_not_mix():
    numbers = draw(CASES["unet"], 6)
    alone = {key: array[:1] if key.startswith("in/") or key == "dy" else array for key, array in numbers.items()}
    both, one = tinydiff_results(CASES["unet"], numbers), tinydiff_results(CASES["unet"], alone)
    for name in ("out", "grad/x"):
        np.testing.assert_allclose(both[name][:1], one[name], rtol=1e-10, atol=1e-12)  # float64, entries of order 1


@pytest.mark.parametrize("name", ["unet", "unet_labels"])
def test_single_precision_agrees_with_double(name):
    numbers = draw(CASES[name], 7)
    single, double = (tinydiff_results(CASES[name], numbers, dtype) for dtype in (np.float32, np.float64))
    for key, exact in double.items():
        # About 40 layers in a row, forward and back, each rounding to 6e-8: 80 * 6e-8 = 5e-6, with their growth through the norms 20 times that.
        assert np.linalg.norm(single[key] - exact) <= 1e-4 * np.linalg.norm(exact), key


@pytest.mark.parametrize("changes, message", [
    (dict(image_size=20), "image_size 20 does not divide by 8"),
    (dict(image_size=24, patch=2), "image_size 24 does not divide by 16, which 4 levels of patches of 2 need; take a multiple of 16"),
    (dict(patch=0), "patch is 0; it must be at least 1"),
    (dict(channels=33), "channels is 33; it must be even"),
    (dict(channel_mults=()), "at least one level"),
    (dict(blocks_per_level=0), "one block in it"),
    (dict(num_classes=0), "num_classes is 0; it must be at least 1, or None"),
])
def test_configs_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        nn.UNetConfig(**changes)


@pytest.mark.parametrize("x, t, y, message", [
    ((2, 8, 8, 1), T2, None, r"x is \(2, 8, 8, 1\), expected \(N,H,W,3\) with H and W multiples of 2"),
    ((2, 8, 7, 3), T2, None, "multiples of 2"),
    ((8, 8, 3), T2, None, r"x is \(8, 8, 3\)"),
    ((2, 8, 8, 3), 3.0, None, r"t is \(\), expected one time for each picture, \(2,\)"),
    ((2, 8, 8, 3), T2, np.array([0, 1]), "made without num_classes"),
])
def test_inputs_that_do_not_fit(x, t, y, message):
    with pytest.raises(ValueError, match=message):
        new(SMALL)(np.zeros(x), t, y)


@pytest.mark.parametrize("y, error, message", [
    ([0, 1, 2], ValueError, r"y is \(3,\), expected one label for each picture, \(2,\)"),
    ([0, 4], ValueError, r'UNet: y\[1\] is 4, but labels run from 0 to num_classes - 1 = 2; 3 is "no label"'),
    ([-1, 0], ValueError, r"UNet: y\[0\] is -1, but labels run from 0"),
    ([0.0, 1.0], TypeError, "UNet: labels y must be integers, got float64"),
])
def test_labels_that_do_not_fit(y, error, message):
    with pytest.raises(error, match=message):
        new(LABELS)(np.zeros((2, 8, 8, 1)), T2, np.array(y))


SELF = dataclasses.replace(SMALL, self_condition=True)


def random_state(model):
    rng = np.random.default_rng(4)
    return {name: rng.standard_normal(p.shape) / 4 for name, p in model.named_parameters()}


def test_a_guess_of_x0_is_further_input_channels():
    """The same weights in a network that takes 6 channels: the pictures', then the guess's."""
    x, x0 = np.random.default_rng(5).standard_normal((2, 2, 8, 8, 3))
    model, six = new(SELF, np.float64), new(dataclasses.replace(SMALL, in_channels=6, out_channels=3), np.float64)
    for network in (model, six):
        network.load_state_dict(random_state(six))
    for guess in (x0, None):
        expected = six(np.concatenate([x, np.zeros_like(x) if guess is None else guess], axis=-1), T2).data
        np.testing.assert_array_equal(model(x, T2, x0=guess).data, expected)
    assert np.abs(model(x, T2, x0=x0).data - model(x, T2).data).max() > 1e-3


def test_guesses_that_do_not_fit():
    x = np.zeros((2, 8, 8, 3))
    with pytest.raises(ValueError, match="a guess x0 was given to a network made without self_condition"):
        new(SMALL)(x, T2, x0=x)
    with pytest.raises(ValueError, match=r"the guess x0 is \(1, 8, 8, 3\), expected the shape of x, \(2, 8, 8, 3\)"):
        new(SELF)(x, T2, x0=x[:1])


def test_recomputed_blocks_give_the_same_gradients_from_less_memory():
    """Rounding differs: the gradients that meet at a skip are added in another order."""
    config = nn.UNetConfig(image_size=16, channels=8, channel_mults=(1, 2), attention_resolutions=(8,), heads=2, groups=2)
    model = nn.UNet(config, rng=np.random.default_rng(0), dtype=np.float64)
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data = 0.2 * rng.standard_normal(p.shape)
    x, dy = rng.standard_normal((2, 16, 16, 3)), rng.standard_normal((2, 16, 16, 3))
    results, live = {}, {}
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        before, _ = buffers.pool_bytes()
        y = model(x, np.array([10.0, 700.0]))
        live[recompute] = buffers.pool_bytes()[0] - before
        y.backward(dy)
        results[recompute] = [y.data, *(p.grad for p in model.parameters())]
    for once, again in zip(results[False], results[True], strict=True):
        np.testing.assert_allclose(again, once, rtol=0, atol=1e-12 * max(1, np.abs(once).max()))
    assert live[True] < 0.6 * live[False]


def test_its_tree_says_the_shapes_that_come_out(monkeypatch):
    """What each line of `repr` says is what comes out of that module when the network is run."""
    model, came_out = new(nn.UNetConfig(image_size=16, channels=8, channel_mults=(1, 2), groups=4, attention_resolutions=(8,), num_classes=3)), {}

    def noting(call):
        def noted(module, *args, **kwargs):
            y = call(module, *args, **kwargs)
            came_out[id(module)] = y.shape
            return y
        return noted

    for kind in {type(module) for module in model.modules()}:
        monkeypatch.setattr(kind, "__call__", noting(kind.__call__))
        monkeypatch.setattr(kind, "folded", False)
    model(np.ones((5, 16, 16, 3)), np.full(5, 3.0))
    lines = repr(model).splitlines()
    modules = list(model.modules())
    assert len(lines) == len(modules) > 60
    for line, module in zip(lines, modules):
        shape = came_out[id(module)]
        said = f"(N,{','.join(map(str, shape[1:]))})" if len(shape) == 4 else f"(...,{shape[-1]})"
        assert isinstance(module, nn.Dropout) or said in line, (line, shape)


def test_its_tree_has_a_line_a_stage():
    lines = repr(new(nn.UNetConfig())).splitlines()
    assert len(lines) == 35
    assert lines[0].split() == ["UNet(64x64x3)", "(N,64,64,3)", "5,533,091"]
    assert "  down.2.0: Stage(64 -> 96, attention)           (N,16,16,96)     194,816" in lines
