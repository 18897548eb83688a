"""The derivative of a network's denoiser, against differences of its guesses, through a small U-Net in float64."""
from dataclasses import replace

import numpy as np
import pytest

from tinydiff.diffusion import TARGETS, cosine, denoiser, fit_gaussian, flow_likelihood, variational_bound
from tinydiff.nn import UNet, UNetConfig

CONFIG = UNetConfig(image_size=8, in_channels=2, channels=8, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(4,), heads=2,
                    groups=4)
SCHEDULE = cosine()


def network(dtype=np.float64, **changes):
    """A U-Net whose parameters are all random: a new one answers 0, and would have no derivative."""
    model = UNet(replace(CONFIG, **changes), rng=np.random.default_rng(0), dtype=dtype).eval()
    for i, p in enumerate(model.parameters()):
        p.data = 0.3 * np.random.default_rng([1, i]).standard_normal(p.shape).astype(dtype)
    return model


GAUSSIAN = fit_gaussian(np.random.default_rng(4).standard_normal((6, 8, 8, 2), np.float32))
X, U, DIRECTION = np.random.default_rng(2).standard_normal((3, 2, 8, 8, 2))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [5.0, np.array([300.0, 950.5])])
@pytest.mark.parametrize("out_channels, gaussian", [(None, None), (4, None), (None, GAUSSIAN)], ids=["", "learned variance", "Gaussian"])
def test_vjp_is_the_derivative(target, t, out_channels, gaussian):
    denoise = denoiser(network(out_channels=out_channels), SCHEDULE, target, gaussian=gaussian)
    h = 1e-5
    measured = np.sum(U * (denoise(X + h * DIRECTION, t) - denoise(X - h * DIRECTION, t))) / (2 * h)
    vjp = denoise.vjp(X, t, U)
    assert vjp.shape == X.shape and vjp.dtype == X.dtype
    # Differences are off by O(h^2) = 1e-10 and by rounding / h = 1e-11, times what the sum loses to cancellation.
    assert np.sum(vjp * DIRECTION) == pytest.approx(measured, rel=1e-6)
    np.testing.assert_array_equal(denoise.vjp(X[::-1], t if np.ndim(t) == 0 else t[::-1], U[::-1])[::-1], vjp)   # each picture by itself


def test_it_leaves_the_parameters_alone():
    model = network(np.float32)
    for p in model.parameters():
        p.grad = np.full(p.shape, 3, np.float32)
    still = next(iter(model.parameters()))
    still.requires_grad = False
    denoise = denoiser(model, SCHEDULE, "v")
    assert denoise.vjp(X, 500.0, U).dtype == np.float64                     # the network is in float32, x decides
    assert all((p.grad == 3).all() for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [p is not still for p in model.parameters()]
    with pytest.raises(ValueError, match="UNet: x is"):
        denoise.vjp(X[:, :7], 500.0, U[:, :7])
    assert [p.requires_grad for p in model.parameters()] == [p is not still for p in model.parameters()]


def test_a_network_has_a_likelihood():
    """From a U-Net with learned variance to bits, both ways: finite, and the same whether a picture is alone or among others."""
    images = np.random.default_rng(3).integers(0, 256, (2, 8, 8, 2), dtype=np.uint8)
    denoise = denoiser(network(out_channels=4), SCHEDULE, "v")
    bound = variational_bound(denoise, SCHEDULE, images, 5, variance="learned").total
    assert np.isfinite(bound).all()
    np.testing.assert_allclose(variational_bound(denoise, SCHEDULE, images[1:], 5, variance="learned", first=1).total, bound[1:], rtol=1e-12)
    both = flow_likelihood(denoise, SCHEDULE, images, 3)
    assert np.isfinite(both).all()
    np.testing.assert_allclose(flow_likelihood(denoise, SCHEDULE, images[1:], 3, first=1), both[1:], rtol=1e-12)
