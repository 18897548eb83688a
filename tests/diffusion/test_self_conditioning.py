"""The guess that is handed on: in the denoiser, from call to call; in the loss, from the first pass to the second."""
import numpy as np
import pytest

from tinydiff import nn
from tinydiff.diffusion import SAMPLERS, TARGETS, clip_x0, cosine, denoiser, guide, initial_noise, loss, q_sample
from tinydiff.diffusion.times import network_times

X0, EPS = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 3))
SCHEDULE = cosine(100)
T3 = np.array([3.0, 40.0, 90.0])


def network(**changes):
    """A tiny U-Net of random weights, none of them zero, in double precision."""
    config = nn.UNetConfig(image_size=4, channels=4, channel_mults=(1,), blocks_per_level=1, attention_resolutions=(), heads=1, groups=2,
                           **{"self_condition": True} | changes)
    model, rng = nn.UNet(config, rng=np.random.default_rng(1), dtype=np.float64), np.random.default_rng(2)
    model.load_state_dict({name: rng.standard_normal(p.shape) / 4 for name, p in model.named_parameters()})
    return model


class Spy:
    """A network that answers 3 (so that its guess, for target x0, is clipped to 1) and remembers which guess it was given at which t."""
    self_condition = True

    def __init__(self):
        self.model, self.given = network(), []

    def parameters(self):
        return self.model.parameters()

    def __call__(self, x, t, y=None, x0=None):
        self.given.append(x0)
        out = self.model(x, t, y, x0)
        return out * 0.0 + 3.0


def test_the_denoiser_hands_on_its_last_guess_clipped():
    spy = Spy()
    denoise = denoiser(spy, SCHEDULE, "x0")
    assert np.all(denoise(X0, 90) == 3)
    denoise(X0, 50.5)
    denoise(X0, 50)
    assert spy.given[0] is None and np.all(spy.given[1] == 1) and np.all(spy.given[2] == 1)


def test_what_the_network_says_with_the_guess_is_what_comes_out():
    model = network()
    denoise = denoiser(model, SCHEDULE, "v")
    first = denoise(X0, 90)
    alpha, sigma = SCHEDULE.at(80)
    v = model(X0, np.full(3, 800.0), None, np.clip(first, -1, 1)).data
    np.testing.assert_allclose(denoise(X0, 80), alpha * X0 - sigma * v, rtol=0, atol=1e-13)
    assert np.abs(denoiser(model, SCHEDULE, "v")(X0, 80) - (alpha * X0 - sigma * v)).max() > 1e-3


@pytest.mark.parametrize("t, n, kept", [(49, 3, True), (50, 3, False), (60, 3, False), (49, 2, False),
                                        (np.array([10.0, 49.0, 49.9]), 3, True), (np.array([10.0, 49.0, 50.0]), 3, False)])
def test_when_the_guess_is_forgotten(t, n, kept):
    """At any t that is not below the last, and with another shape."""
    spy = Spy()
    denoise = denoiser(spy, SCHEDULE, "x0")
    denoise(X0, 50)
    denoise(X0[:n], t)
    assert (spy.given[-1] is not None) == kept


def test_reset():
    spy = Spy()
    denoise = denoiser(spy, SCHEDULE, "x0")
    denoise(X0, 50)
    denoise.reset()
    denoise(X0, 40)
    assert spy.given == [None, None]


@pytest.mark.parametrize("steps", [1, 4])
def test_chunks_know_nothing_of_each_other(steps):
    """One denoiser, chunk after chunk, also of one size, also in one step: what each would give alone."""
    def draw(denoise, first):
        *_, last = SAMPLERS["ddim"](denoise, SCHEDULE, initial_noise(SCHEDULE, (2, 4, 4, 3), 0, first, np.float64), steps, first=first)
        return last.x
    one = denoiser(network(), SCHEDULE, "v")
    for first in (0, 2, 4):
        np.testing.assert_array_equal(draw(one, first), draw(denoiser(network(), SCHEDULE, "v"), first))


def test_it_is_an_option_of_the_denoiser():
    """Off, a network with self-conditioning is asked without a guess, and there is nothing to reset."""
    model = network()
    off = denoiser(model, SCHEDULE, "v", self_condition=False)
    off(X0, 90)
    np.testing.assert_array_equal(off(X0, 80), denoiser(model, SCHEDULE, "v")(X0, 80))
    assert not hasattr(off, "reset") and not hasattr(denoiser(network(self_condition=False), SCHEDULE, "v"), "reset")
    with pytest.raises(ValueError, match="made without self_condition"):
        on = denoiser(network(self_condition=False), SCHEDULE, "v", self_condition=True)
        on(X0, 90)
        on(X0, 80)


def test_guidance_resets_both():
    model = network(num_classes=2)
    guided = guide(denoiser(model, SCHEDULE, "v", np.array([0, 1, 0])), denoiser(model, SCHEDULE, "v"), 3)
    fresh = guided(X0, 50)
    guided.reset()
    np.testing.assert_array_equal(guided(X0, 50), fresh)
    assert np.abs(guided(X0, 49.9999) - fresh).max() > 1e-3  # the guess does make a difference


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_is_that_of_the_second_pass_and_no_gradient_flows_through_the_first(target):
    """Bit for bit the loss and gradients of a network that is given the first guess as plain numbers."""
    model, x_t = network(), q_sample(SCHEDULE, X0, T3, EPS)
    guess = clip_x0(denoiser(model, SCHEDULE, target))(x_t, T3)

    def handed(x, t, y):
        return model(x, t, y, guess)

    def gradients(value):
        model.zero_grad()
        value.backward()
        return [float(value.data), *(p.grad.copy() for p in model.parameters())]
    both = gradients(loss(model, SCHEDULE, target, X0, T3, EPS, weight="min_snr", self_condition=True))
    second = gradients(loss(handed, SCHEDULE, target, X0, T3, EPS, weight="min_snr"))
    alone = gradients(loss(model, SCHEDULE, target, X0, T3, EPS, weight="min_snr"))
    assert all(np.array_equal(a, b) for a, b in zip(both, second, strict=True))
    assert both[0] != alone[0]


def test_the_first_guess_is_clipped_and_of_the_same_pictures_and_labels():
    """At t = 99 alpha is 2e-3: a guess made from eps is hundreds of times too large."""
    model, asked = network(num_classes=2), []

    class Listening:
        parameters = staticmethod(model.parameters)

        def __call__(self, x, t, y=None, x0=None):
            asked.append((x, t, y, x0))
            return model(x, t, y, x0)
    y = np.array([0, 2, 1])
    loss(Listening(), SCHEDULE, "eps", X0, 99.0, EPS, y, self_condition=True)
    (x, t, y_first, none), (x_again, t_again, y_second, guess) = asked
    assert none is None and y_first is y and y_second is y
    assert np.array_equal(x, x_again) and np.array_equal(t, t_again) and np.array_equal(t, network_times(SCHEDULE, 99.0, X0))
    assert np.abs(guess).max() == 1
