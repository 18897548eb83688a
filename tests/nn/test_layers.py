"""Layers: how they start, what they refuse, and Dropout, which draws. What they compute is in test_torch_parity.py."""
import numpy as np
import pytest

from tinydiff import nn


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("layer, fan_in", [
    (nn.Linear(400, 500, rng=rng()), 400),
    (nn.Conv2d(40, 60, 3, rng=rng()), 360),
    (nn.Conv2d(300, 400, 1, rng=rng()), 300),
], ids=["linear", "conv3x3", "conv1x1"])
def test_weights_and_biases_start_uniform_in_one_over_root_fan_in(layer, fan_in):
    bound = 1 / np.sqrt(fan_in)
    for values in (layer.weight.data, layer.bias.data):
        # Float32 rounding may reach the bound itself. The standard error of the mean is bound / sqrt(3 n), of the variance bound^2 sqrt(4 / 45 n).
        n = values.size
        assert np.abs(values).max() <= bound * (1 + 1e-7)
        assert abs(values.mean()) < 5 * bound / np.sqrt(3 * n)
        assert abs(values.var() - bound**2 / 3) < 5 * bound**2 * np.sqrt(4 / 45 / n)


def test_embedding_starts_standard_normal():
    values = nn.Embedding(100, 200, rng=rng()).weight.data
    assert abs(values.mean()) < 5 / np.sqrt(values.size) and abs(values.var() - 1) < 5 * np.sqrt(2 / values.size)


def test_group_norm_starts_as_the_norm_alone():
    layer = nn.GroupNorm(4, 2)
    assert np.array_equal(layer.weight.data, np.ones(4)) and np.array_equal(layer.bias.data, np.zeros(4))


def test_the_last_convolutions_start_at_zero():
    emb = np.ones((2, 6), np.float32)
    x = rng().standard_normal((2, 4, 4, 8)).astype(np.float32)
    assert np.array_equal(nn.ResBlock(8, 8, 6, 4, rng=rng())(x, emb).data, x)
    assert np.array_equal(nn.Attention(8, 2, 4, rng=rng())(x).data, x)


def test_both_dtypes_start_from_the_same_numbers():
    single, double = (nn.Conv2d(3, 4, rng=rng(), dtype=dtype).weight.data for dtype in (np.float32, np.float64))
    assert double.dtype == np.float64 and np.array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize("build, message", [
    (lambda: nn.GroupNorm(10, 4), "GroupNorm: 10 channels do not divide into 4 groups"),
    (lambda: nn.Attention(8, 3, 4, rng=rng()), "Attention: 8 channels do not divide into 3 heads"),
    (lambda: nn.Conv2d(3, 4, 2, rng=rng()), "kernel_size is 2; it must be odd"),
    (lambda: nn.Dropout(1.0), "p is 1.0; it must be at least 0 and below 1"),
])
def test_what_layers_refuse(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_dropout():
    layer, x = nn.Dropout(0.25), np.ones((100, 100))
    with pytest.raises(ValueError, match=r"call model.train\(keys\)"):
        layer(x)
    keys = lambda seed: [[seed, i] for i in range(100)]
    y = layer.train(keys(3))(x).data
    # 10,000 draws of probability 0.25: standard deviation 0.0043.
    assert set(np.unique(y)) == {0, 1 / 0.75} and abs((y == 0).mean() - 0.25) < 5 * 0.0043
    assert np.array_equal(layer(x).data, y) and not np.array_equal(layer.train(keys(4))(x).data, y)
    assert np.array_equal(layer.train(keys(3)[60:])(x[60:]).data, y[60:])         # a row's draws don't hang on the others
    assert layer.eval()(x) is x


def test_a_block_drops_in_training_only():
    block, emb = nn.ResBlock(8, 8, 6, 4, dropout=0.5, rng=rng()), np.ones((2, 6), np.float32)
    block.conv2.weight.data = rng().standard_normal(block.conv2.weight.shape).astype(np.float32)
    x = rng().standard_normal((2, 4, 4, 8)).astype(np.float32)
    dropped = [block.train([[seed, 0], [seed, 1]])(x, emb).data for seed in (1, 1, 2)]
    assert np.array_equal(dropped[0], dropped[1]) and not np.array_equal(dropped[0], dropped[2])
    assert np.array_equal(block.eval()(x, emb).data, block.eval()(x, emb).data)
