"""Loss weights: as their papers write them, and one loss in x_0 whatever the target."""
import numpy as np
import pytest

from tinydiff.autograd import Tensor
from tinydiff.diffusion import (TARGETS, WEIGHTS, Schedule, cosine, edm_weights, from_x0_eps, karras, loss, min_snr_weights, p2_weights, q_sample,
                                to_x0_eps)

X0, EPS, WRONG = np.random.default_rng(0).standard_normal((3, 4, 5, 5, 2))
T4 = np.array([3.0, 250.5, 600.0, 998.0])
GENERAL = Schedule(np.linspace(1, 0.1, 1000), np.linspace(0.05, 2, 1000))  # alpha^2 + sigma^2 is not 1
ZERO = Schedule([0.9, 0.0], [0.5, 1.0])
RULES = {"min_snr": lambda snr: np.minimum(snr, 5), "p2": lambda snr: snr / (1 + snr), "edm": lambda snr: snr + 4}  # on the error in x_0


@pytest.mark.parametrize("schedule", [cosine(), GENERAL, karras(1000)], ids=["variance preserving", "general", "karras"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", RULES)
def test_a_weight_is_one_loss_whatever_the_target(name, target, schedule):
    """An answer of any target says something about x_0: its squared error there is weighted by the rule."""
    alpha, sigma = schedule.at(T4)
    want = from_x0_eps(target, X0, EPS, alpha, sigma)
    x0_hat, _ = to_x0_eps(target, want + WRONG, q_sample(schedule, X0, T4, EPS), alpha, sigma)
    rule = RULES[name]((alpha / sigma) ** 2)
    expected = np.mean(rule[:, None, None, None] * (x0_hat - X0) ** 2)
    value = loss(lambda x, t, y: Tensor(want + WRONG), schedule, target, X0, T4, EPS, weight=name)
    # x0_hat - X0 is a difference of numbers of size 1; at little noise it is 1/400 of them, and its square weighted most.
    assert value.data == pytest.approx(expected, rel=1e-9)


def test_min_snr_as_the_paper_writes_it():
    schedule, t = cosine(), np.arange(1000)
    snr = schedule.snr
    for target, expected in (("eps", np.minimum(snr, 5) / snr), ("x0", np.minimum(snr, 5)), ("v", np.minimum(snr, 5) / (snr + 1))):
        np.testing.assert_allclose(min_snr_weights(schedule, target, t), expected, rtol=1e-9)
    np.testing.assert_allclose(min_snr_weights(schedule, "x0", t, gamma=2), np.minimum(snr, 2), rtol=1e-9)


def test_p2_as_the_paper_writes_it():
    """1 / (k + SNR)^gamma beside the simple loss on eps."""
    schedule, t = cosine(), np.arange(1000)
    np.testing.assert_allclose(p2_weights(schedule, "eps", t), 1 / (1 + schedule.snr), rtol=1e-9)
    np.testing.assert_allclose(p2_weights(schedule, "eps", t, k=2, gamma=0.5), (2 + schedule.snr) ** -0.5, rtol=1e-9)
    np.testing.assert_allclose(p2_weights(schedule, "v", t), (schedule.alpha * schedule.sigma) ** 2, rtol=1e-9)  # 1 / (1 + SNR) = sigma^2


def test_edm_as_the_paper_writes_it():
    """(s^2 + s_d^2) / (s s_d)^2 on the denoised picture, which leaves the raw network's squared error at weight 1."""
    schedule, t = karras(40), np.arange(40)
    s = schedule.sigma
    np.testing.assert_allclose(edm_weights(schedule, "x0", t), (s**2 + 0.25) / (0.5 * s) ** 2, rtol=1e-12)
    for schedule in (karras(1000), cosine(), GENERAL):
        np.testing.assert_allclose(edm_weights(schedule, "edm", np.arange(1000)), 1, rtol=1e-12)


def test_where_nothing_is_left_of_the_picture_weights_are_their_limits():
    """v: the error in x_0 is the error in v at alpha = 0, sigma = 1."""
    at = {name: {target: WEIGHTS[name](ZERO, target, [1.0]).item() for target in TARGETS} for name in WEIGHTS}
    assert at["min_snr"] == pytest.approx({"eps": 1, "x0": 0, "v": 0, "flow": 0, "edm": 0}, abs=1e-15)
    assert at["p2"] == pytest.approx({"eps": 1, "x0": 0, "v": 0, "flow": 0, "edm": 0}, abs=1e-15)
    assert at["edm"]["v"] == pytest.approx(4) and at["edm"]["flow"] == pytest.approx(4) and at["edm"]["edm"] == pytest.approx(1)
    assert set(at["simple"].values()) == {1.0}


@pytest.mark.parametrize("name", WEIGHTS)
def test_shapes_and_unknown_targets(name):
    assert WEIGHTS[name](cosine(), "v", 3.5).shape == () and WEIGHTS[name](cosine(), "v", T4).shape == (4,)
    with pytest.raises(ValueError, match="unknown target 'noise'; choose one of eps, x0, v, flow, edm"):
        WEIGHTS[name](cosine(), "noise", T4)
