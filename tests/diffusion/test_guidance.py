"""Guidance on two classes of Gaussian pictures, whose conditional and unconditional denoisers have closed forms.

Class k is N(MEANS[k], S^2) for each pixel of a picture, all of which share their class; the two are equally likely.
"""
import numpy as np
import pytest

from tinydiff.diffusion import Schedule, autoguide, cosine, ddim, denoiser, guide, initial_noise

MEANS, S = (-0.4, 0.6), 0.3
VP, VE = cosine(100), Schedule(np.ones(40), np.geomspace(0.01, 20, 40))


def log_densities(schedule, x, t):
    """log p(x_t | class) of both classes, up to one constant: (2,N)."""
    alpha, sigma = schedule.at(t)
    variance = alpha**2 * S**2 + sigma**2
    return np.array([-((x - alpha * mean) ** 2).sum(axis=(1, 2, 3)) / (2 * variance) for mean in MEANS])


def ideal(schedule, k=None):
    """The perfect denoiser of class k, or, for None, of the mixture: the classes' guesses, each as likely as x makes its class."""
    def denoise(x, t):
        alpha, sigma = schedule.at(t)
        guesses = [mean + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * mean) for mean in MEANS]
        if k is not None:
            return guesses[k]
        a, b = log_densities(schedule, x, t)
        p = (1 / (1 + np.exp(b - a)))[:, None, None, None]
        return p * guesses[0] + (1 - p) * guesses[1]
    return denoise


def never(x, t):
    pytest.fail("was asked")


def noisy(n=3, size=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n, size, size, 3))


@pytest.mark.parametrize("schedule, t", [(VP, 80), (VP, 50), (VE, 30)])
@pytest.mark.parametrize("scale", [-1, 0, 0.5, 3, 7.5])
def test_guidance_leans_on_the_implicit_classifier(schedule, t, scale):
    """x_0 = cond + (scale - 1) p(other class | x) sigma^2 / (alpha^2 S^2 + sigma^2) (mean - other mean), worked out from Bayes' rule:
    the two classes' guesses differ by a constant, and uncond leans towards the other class by how likely that is."""
    x = noisy()
    alpha, sigma = schedule.at(t)
    own, other = log_densities(schedule, x, t)[[1, 0]]
    p_other = 1 / (1 + np.exp(own - other))
    assert 0.05 < np.median(p_other) < 0.95  # the pictures do not give their class away
    pull = (scale - 1) * p_other * sigma**2 / (alpha**2 * S**2 + sigma**2) * (MEANS[1] - MEANS[0])
    guess = guide(ideal(schedule, 1), ideal(schedule), scale)(x, t)
    np.testing.assert_allclose(guess, ideal(schedule, 1)(x, t) + pull[:, None, None, None], rtol=0, atol=1e-13)  # float64, scale below 8


def test_guidance_is_the_gradient_of_the_sharpened_density():
    """The score of p(x|class)^scale p(x)^(1 - scale), by finite differences, is (alpha x_0 - x) / sigma^2 of the guided x_0."""
    x, t, scale, h = noisy(1), 60, 3.0, 1e-5
    alpha, sigma = VP.at(t)

    def log_p(x):
        classes = log_densities(VP, x, t)[:, 0]
        return scale * classes[1] + (1 - scale) * np.logaddexp(*classes)
    numeric = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        numeric[i] = (log_p(x + step) - log_p(x - step)) / (2 * h)
    guess = guide(ideal(VP, 1), ideal(VP), scale)(x, t)
    # Rounding 1e-16 * |log p| (about 50) / h = 5e-10, truncation of the order h^2 = 1e-10.
    np.testing.assert_allclose((alpha * guess - x) / sigma**2, numeric, rtol=0, atol=1e-8)


def test_scale_1_is_the_conditional_alone_and_0_the_unconditional():
    cond = ideal(VP, 0)
    for rescale in (0.0, 0.7):
        np.testing.assert_array_equal(guide(cond, never, 1, rescale)(noisy(), 50), cond(noisy(), 50))
    np.testing.assert_array_equal(guide(cond, ideal(VP), 0)(noisy(), 50), ideal(VP)(noisy(), 50))


def test_sampling_with_guidance_keeps_to_the_class():
    """Each pixel a picture of its own. Without guidance half of the samples are of the other class; with it the class's mean is overshot."""
    x_T = initial_noise(VP, (4000, 1, 1, 1), dtype=np.float64)

    def samples(scale):
        *_, last = ddim(guide(ideal(VP, 1), ideal(VP), scale), VP, x_T)
        return last.x
    unguided, guided = samples(0), samples(4)
    middle = np.mean(MEANS)
    assert abs(np.mean(unguided > middle) - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert np.mean(guided > middle) == 1 and guided.mean() > MEANS[1] and guided.std() < S


@pytest.mark.parametrize("schedule", [VP, VE])
def test_autoguidance_is_guidance_while_there_is_more_noise_than_picture(schedule):
    """Elsewhere weak is not asked. The formula is guide's, summed in another order: three roundings of numbers below 20, 2^-53 of them each."""
    x, guided = noisy(), autoguide(ideal(schedule, 1), ideal(schedule), schedule, 3)
    alpha, sigma = schedule.at(np.arange(schedule.T))
    until = int(np.argmax(sigma > alpha))                   # the first such t
    assert 0 < until < schedule.T - 1
    for t in (until, schedule.T - 2):
        np.testing.assert_allclose(guided(x, t), guide(ideal(schedule, 1), ideal(schedule), 3)(x, t), rtol=0, atol=1e-14)
    for t in (0, until - 1):
        np.testing.assert_array_equal(autoguide(ideal(schedule, 1), never, schedule, 3)(x, t), ideal(schedule, 1)(x, t))
    assert autoguide(never, ideal(schedule), schedule, 1) is never


def test_rescaling_by_hand():
    """Two pictures of two pixels. cond (1, 3): std 1. uncond (1, 1) and (0, 0): with scale 3, guided (1, 7), std 3, and (3, 9), std 3."""
    cond = lambda x, t: np.array([[1.0, 3.0], [1.0, 3.0]]).reshape(2, 1, 2, 1)
    uncond = lambda x, t: np.array([[1.0, 1.0], [0.0, 0.0]]).reshape(2, 1, 2, 1)
    x = np.zeros((2, 1, 2, 1))
    for rescale, expected in ((0, [1, 7, 3, 9]), (1, [1 / 3, 7 / 3, 1, 3]), (0.75, [0.5, 3.5, 1.5, 4.5])):
        np.testing.assert_allclose(guide(cond, uncond, 3, rescale)(x, 0).ravel(), expected, rtol=1e-15)


@pytest.mark.parametrize("schedule, t", [(VP, 90), (VE, 30)])
@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescaling_brings_the_contrast_back(schedule, t, rescale):
    """rescale of the way, for each picture by itself."""
    x = noisy(size=8)
    uncond = lambda x, t: 0.2 * ideal(schedule)(x, t)  # of another contrast than cond's
    cond, plain = ideal(schedule, 1)(x, t), guide(ideal(schedule, 1), uncond, 5)(x, t)
    std = guide(ideal(schedule, 1), uncond, 5, rescale)(x, t).std(axis=(1, 2, 3))
    before, goal = plain.std(axis=(1, 2, 3)), cond.std(axis=(1, 2, 3))
    assert np.all(before > 2 * goal)
    np.testing.assert_allclose(std, before + rescale * (goal - before), rtol=1e-13)


def test_a_guess_without_contrast_is_not_divided_by_it():
    grey = lambda x, t: np.full_like(x, 0.5)
    np.testing.assert_array_equal(guide(grey, grey, 3, 0.7)(noisy(), 0), np.full((3, 2, 2, 3), 0.5))


@pytest.mark.parametrize("scale", [2, np.float64(2), np.int64(2)])
def test_single_precision_stays(scale):
    cond, uncond = (lambda x, t: x), (lambda x, t: 2 * x)
    assert guide(cond, uncond, scale, np.float64(0.5))(noisy().astype(np.float32), 0).dtype == np.float32


def test_attributes():
    """What cond has beyond being called comes along, but for what is true of cond alone; reset reaches both."""
    calls = []
    cond, uncond, plain = (lambda x, t: x), (lambda x, t: x), (lambda x, t: x)
    cond.log_variance, cond.vjp = (lambda x, t: 7), (lambda x, t, u: u)
    cond.reset, uncond.reset = (lambda: calls.append("cond")), (lambda: calls.append("uncond"))
    guided = guide(cond, uncond, 2)
    assert guided.log_variance(0, 0) == 7 and not hasattr(guided, "vjp")
    guided.reset()
    guide(plain, uncond, 2).reset()
    assert calls == ["cond", "uncond", "uncond"]


@pytest.mark.parametrize("arguments, message", [
    ((np.nan,), "scale is nan, but must be a finite number"),
    ((np.inf,), "scale is inf"),
    ((2, 1.5), "rescale is 1.5, but must be from 0"),
    ((2, -0.1), "rescale is -0.1"),
    ((1, np.nan), "rescale is nan"),
])
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        guide(ideal(VP, 0), ideal(VP), *arguments)


def test_two_denoisers_of_one_network():
    """denoiser(..., y) and denoiser(...) ask the same network with and without labels."""
    from tests.diffusion.test_denoiser import Oracle

    class Labelled(Oracle):
        def __call__(self, x, t, y=None):
            self.answer = np.zeros_like(x) if y is None else np.broadcast_to(y.reshape(-1, 1, 1, 1), x.shape).astype(x.dtype)
            return super().__call__(x, t, y)
    model, y = Labelled(None), np.array([0, 1, 2])
    guided = guide(denoiser(model, VP, "x0", y), denoiser(model, VP, "x0"), 3)(noisy(), 50)
    np.testing.assert_array_equal(guided, np.broadcast_to(3 * y.reshape(-1, 1, 1, 1), (3, 2, 2, 3)))
