"""The loss: its value by formula, its weights, and that it trains."""
import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.diffusion import TARGETS, Schedule, cosine, from_x0_eps, linear, loss, min_snr_weights, q_sample, to_x0_eps

RNG = np.random.default_rng(0)
X0, EPS, WRONG = RNG.standard_normal((3, 4, 5, 5, 2))
T4 = np.array([3.0, 250.5, 600.0, 998.0])
GENERAL = Schedule(np.linspace(1, 0.1, 1000), np.linspace(0.05, 2, 1000))  # alpha^2 + sigma^2 is not 1


def answering(out):
    """A network that says `out` whatever it is asked."""
    return lambda x, t, y: Tensor(out)


@pytest.mark.parametrize("target", TARGETS)
def test_simple_loss_is_the_mean_squared_error(target):
    schedule = cosine()
    want = from_x0_eps(target, X0, EPS, *schedule.at(T4))
    for weight in (None, "simple", np.ones(4)):
        value = loss(answering(want + WRONG), schedule, target, X0, T4, EPS, weight=weight)
        assert value.shape == () and value.data == pytest.approx(np.mean(WRONG**2), rel=1e-12)
    assert loss(answering(want), schedule, target, X0, T4, EPS).data < 1e-28


def test_network_sees_the_noisy_picture_the_time_and_the_labels():
    schedule, y = linear(500), np.arange(4)

    def model(*seen):
        x_t, t, labels = seen
        np.testing.assert_array_equal(x_t, q_sample(schedule, X0, T4 / 2, EPS))
        np.testing.assert_allclose(t, T4)  # 1000 t / T
        assert labels is y
        return Tensor(x_t)
    loss(model, schedule, "eps", X0, T4 / 2, EPS, y)


@pytest.mark.parametrize("schedule", [cosine(), GENERAL], ids=["variance preserving", "general"])
@pytest.mark.parametrize("target", TARGETS)
def test_min_snr_is_one_loss_whatever_the_target(target, schedule):
    """An answer of any target says something about x_0: min-SNR weights its squared error there by min(SNR, 5)."""
    alpha, sigma = schedule.at(T4)
    want = from_x0_eps(target, X0, EPS, alpha, sigma)
    x0_hat, _ = to_x0_eps(target, want + WRONG, q_sample(schedule, X0, T4, EPS), alpha, sigma)
    weight = np.minimum((alpha / sigma) ** 2, 5)
    expected = np.mean(weight[:, None, None, None] * (x0_hat - X0) ** 2)
    value = loss(answering(want + WRONG), schedule, target, X0, T4, EPS, weight="min_snr")
    assert value.data == pytest.approx(expected, rel=1e-9)


def test_min_snr_weights_as_the_paper_writes_them():
    schedule = cosine()
    t = np.arange(1000)
    snr = schedule.snr
    for target, expected in (("eps", np.minimum(snr, 5) / snr), ("x0", np.minimum(snr, 5)), ("v", np.minimum(snr, 5) / (snr + 1))):
        np.testing.assert_allclose(min_snr_weights(schedule, target, t), expected, rtol=1e-9)
    np.testing.assert_allclose(min_snr_weights(schedule, "x0", t, gamma=2), np.minimum(snr, 2), rtol=1e-9)
    assert min_snr_weights(Schedule([0.9, 0.0], [0.5, 1.0]), "eps", [1.0]) == 1


def test_own_weights_belong_to_pictures():
    want = from_x0_eps("eps", X0, EPS, *cosine().at(T4))
    weight = [0.0, 1.0, 2.0, 5.0]
    value = loss(answering(want + WRONG), cosine(), "eps", X0, T4, EPS, weight=weight)
    assert value.data == pytest.approx(np.mean(weight * np.mean(WRONG**2, axis=(1, 2, 3))), rel=1e-12)


def test_gradient_and_float32():
    """out = p x_t, target eps: d loss / d p = mean(2 w (p x_t - eps) x_t)."""
    x0, eps = X0.astype(np.float32), EPS.astype(np.float32)
    p = Tensor(np.float32(0.3), requires_grad=True)
    value = loss(lambda x, t, y: ops.mul(p, x), cosine(), "eps", x0, T4, eps, weight="min_snr")
    value.backward()
    assert value.dtype == p.grad.dtype == np.float32
    x_t = q_sample(cosine(), X0, T4, EPS)
    w = min_snr_weights(cosine(), "eps", T4)[:, None, None, None]
    assert p.grad == pytest.approx(np.mean(2 * w * (0.3 * x_t - EPS) * x_t), rel=1e-4)  # 200 float32 terms of either sign


def test_errors():
    model = answering(EPS)
    with pytest.raises(ValueError, match="unknown weight 'snr'"):
        loss(model, cosine(), "eps", X0, T4, EPS, weight="snr")
    with pytest.raises(ValueError, match=r"each of the 4 pictures, got \(3,\)"):
        loss(model, cosine(), "eps", X0, T4, EPS, weight=np.ones(3))
    with pytest.raises(ValueError, match=r"each of the 4 pictures"):
        loss(model, cosine(), "eps", X0, T4[:2], EPS)
    for weight in (None, "min_snr"):
        with pytest.raises(ValueError, match="unknown target 'noise'"):
            loss(model, cosine(), "noise", X0, T4, EPS, weight=weight)
    with pytest.raises(ValueError, match="unknown target 'noise'"):
        min_snr_weights(cosine(), "noise", T4)
