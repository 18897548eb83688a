"""Measures of pictures: what they must be by definition, on pictures where the answer is known."""
import math

import numpy as np
import pytest

from tinydiff import metrics
from tinydiff.data import drawn_cats
from tinydiff.diffusion import Schedule, cosine, linear
from tinydiff.metrics import errors_by_noise, expand, laplacian_pyramid, nearest, sliced_wasserstein, sliced_wasserstein_levels, wasserstein_1d

CATS = drawn_cats(24, size=32, seed=0).images
OTHERS = drawn_cats(24, size=32, seed=1).images
FEW = dict(patches=16, directions=32)


def test_wasserstein_on_a_line_by_hand():
    """{0, 1, 3} to {5, 6, 8}: each grain moves by 5. {0, 4} to {1, 2}: 0 to 1 and 4 to 2, 1.5 on average."""
    np.testing.assert_array_equal(wasserstein_1d(np.array([[3.0, 0, 1]]), np.array([[6.0, 8, 5]])), [5])
    np.testing.assert_array_equal(wasserstein_1d(np.array([[0.0, 4], [7, 7]]), np.array([[2.0, 1], [7, 7]])), [1.5, 0])


def test_wasserstein_on_a_line_of_unequal_heaps():
    """{0, 3} to {0, 0, 3}: of the half at 3, a sixth moves to 0. And three of each grain, a third as heavy, change nothing."""
    two, three = np.array([[3.0, 0]]), np.array([[0.0, 3, 0]])
    assert wasserstein_1d(two, three) == pytest.approx([0.5], rel=1e-15) and wasserstein_1d(three, two) == pytest.approx([0.5], rel=1e-15)
    a, b = np.random.default_rng(0).standard_normal((2, 5, 12))
    assert wasserstein_1d(np.repeat(a, 3, axis=1), b[:, :7]) == pytest.approx(wasserstein_1d(a, np.repeat(b[:, :7], 2, axis=1)), rel=1e-13)
    assert wasserstein_1d(a, np.repeat(b, 3, axis=1)) == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean(1), rel=1e-13)


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 33, 18, 1)])
def test_the_levels_of_the_pyramid_add_up_to_the_picture(shape):
    picture = np.random.default_rng(0).standard_normal(shape)
    levels = laplacian_pyramid(picture, 3)
    assert [level.shape[1:3] for level in levels] == [shape[1:3], *(((shape[1] + k) // (k + 1), (shape[2] + k) // (k + 1)) for k in (1, 3))]
    whole = levels[-1]
    for level in reversed(levels[:-1]):
        whole = level + expand(whole, level.shape)
    np.testing.assert_allclose(whole, picture, rtol=0, atol=1e-14)      # what was subtracted is added again


def test_the_pyramid_takes_apart_by_size():
    """A flat picture, and so its brightness, is in the last level alone; a chessboard, the finest detail, in the first alone."""
    flat = np.full((1, 32, 32, 1), 7.0)
    chessboard = np.indices((32, 32)).sum(0).reshape(1, 32, 32, 1) % 2 * 2.0 - 1
    np.testing.assert_allclose(laplacian_pyramid(flat, 2)[0], 0, atol=1e-13)
    np.testing.assert_allclose(laplacian_pyramid(flat, 2)[1], 7, rtol=1e-13)
    np.testing.assert_allclose(laplacian_pyramid(chessboard, 2)[0], chessboard, rtol=1e-13)     # 1 + 6 + 1 = 4 + 4: blurring removes it


def test_of_equal_sets_it_is_zero_in_any_order_and_it_is_symmetric():
    shuffled = CATS[np.random.default_rng(0).permutation(len(CATS))]
    assert sliced_wasserstein(CATS, CATS.copy(), **FEW) == 0
    # The order changes in what order float64 sums of the moments are rounded, nothing else: 1e-16 on a mean, an ulp of float32 at worst.
    assert sliced_wasserstein(CATS, shuffled, **FEW) < 1e-4
    there, back, again = (sliced_wasserstein_levels(*pair, **FEW) for pair in ((CATS, OTHERS), (OTHERS, CATS), (shuffled, OTHERS)))
    assert list(there) == [32, 16]
    assert there == back and min(there.values()) > 1
    assert again == pytest.approx(there, rel=1e-5)


def test_definition():
    """Level, patches, normalisation, projection and distance, all at once and without blocks."""
    levels = sliced_wasserstein_levels(CATS, OTHERS, patches=5, directions=7, seed=3)
    for level, side in enumerate((32, 16)):
        rays = np.random.default_rng([3, metrics.DIRECTION_STREAM, level]).standard_normal((7, 147))
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        projections = []
        for pictures in (CATS, OTHERS):
            of_level = laplacian_pyramid(pictures.astype(np.float64), 2)[level]
            found = []
            for picture, x in zip(pictures, of_level):
                rng = np.random.default_rng([3, metrics.PATCH_STREAM, level, metrics.zlib.crc32(picture)])
                found += [x[i:i + 7, j:j + 7].transpose(2, 0, 1) for i, j in rng.integers(0, side - 6, (5, 2))]
            found = np.array(found)
            found = (found - found.mean((0, 2, 3), keepdims=True)) / found.std((0, 2, 3), keepdims=True)
            projections.append(np.sort(found.reshape(-1, 147) @ rays.T, axis=0))
        assert levels[side] == pytest.approx(1000 * np.abs(projections[0] - projections[1]).mean(), rel=1e-4)   # float32 against float64


def test_it_does_not_depend_on_blocks_or_groups(monkeypatch):
    whole = sliced_wasserstein(CATS, OTHERS, **FEW)
    monkeypatch.setattr(metrics, "BLOCK", 5)
    monkeypatch.setattr(metrics, "PROJECTION_BYTES", 7 * 4 * 24 * 16)      # seven directions at a time
    assert sliced_wasserstein(CATS, OTHERS, **FEW) == pytest.approx(whole, rel=1e-5)


def test_it_grows_with_noise_and_with_blur_where_they_act():
    """The cats against themselves spoiled more and more. Noise and blur spoil the finest level most; noise leaves the other as it was."""
    def far(spoiled):
        return sliced_wasserstein_levels(np.clip(np.rint(spoiled), 0, 255).astype(np.uint8), CATS, directions=32)
    clean, noise = CATS.astype(np.float64), np.random.default_rng(0).standard_normal(CATS.shape)
    noisy = [far(clean + sigma * noise) for sigma in (1, 16, 32, 64)]       # with 1, only other patches of the same pictures are taken
    once = metrics.blur(clean)
    blurred = [noisy[0], far(once), far(metrics.blur(once))]
    for series in (noisy, blurred):
        finest = [levels[32] for levels in series]
        assert all(b > 1.15 * a for a, b in zip(finest, finest[1:])), series
    assert noisy[2][16] < 1.3 * noisy[0][16] and blurred[2][32] > 1.5 * blurred[2][16]


def test_flat_pictures_are_no_trouble():
    assert sliced_wasserstein(np.full((2, 16, 16, 1), 9, np.uint8), np.full((2, 16, 16, 1), 200, np.uint8), **FEW) == 0


def test_bad_pictures():
    with pytest.raises(TypeError, match="uint8, got float64.*to_uint8"):
        sliced_wasserstein(CATS / 255, CATS)
    with pytest.raises(ValueError, match=r"must have one size, got \(24, 32, 32, 3\) and \(24, 31, 32, 3\)"):
        sliced_wasserstein(CATS, CATS[:, 1:])
    with pytest.raises(ValueError, match=r"\(N,H,W,C\) with at least one picture, got \(32, 32, 3\)"):
        sliced_wasserstein(CATS[0], CATS[0])
    with pytest.raises(ValueError, match="at least 16 pixels a side"):
        sliced_wasserstein(CATS[:, :12], CATS[:, :12])
    with pytest.raises(ValueError, match=r"patches \(0\)"):
        sliced_wasserstein(CATS, CATS, patches=0)


def test_nearest_finds_planted_copies_and_mirrored_copies(monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 7)                                # 24 and 5 pictures are more than one block, and not whole ones
    samples = OTHERS[:9].copy()
    samples[1], samples[2], samples[8] = CATS[20], CATS[3, :, ::-1], CATS[23]
    samples[8, 0, 0, 0] ^= 1                                                # one number of 3,072 off by one
    found = nearest(samples, CATS)
    assert found.index[[1, 2, 8]].tolist() == [20, 3, 23] and found.mirrored[[1, 2, 8]].tolist() == [False, True, False]
    assert found.distance[[1, 2]].tolist() == [0, 0] and found.distance[8] == pytest.approx(math.sqrt(1 / 3072), rel=1e-12)
    both = np.concatenate([CATS, CATS[:, :, ::-1]]).astype(float)
    for i, sample in enumerate(samples):
        distances = np.sqrt(np.square(both - sample).mean((1, 2, 3)))
        assert found.distance[i] == pytest.approx(distances.min(), rel=1e-12)
        assert found.index[i] + 24 * found.mirrored[i] == distances.argmin()
        assert np.sqrt(np.square(found.of(CATS)[i].astype(float) - sample).mean()) == pytest.approx(found.distance[i], rel=1e-12)


def test_nearest_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"pictures \(24, 16, 32, 3\), training \(24, 32, 32, 3\)"):
        nearest(CATS[:, ::2], CATS)
    with pytest.raises(TypeError, match="nearest: pictures must be uint8, got float32"):
        nearest(CATS, CATS.astype(np.float32))
    with pytest.raises(ValueError, match="at least one picture"):
        nearest(CATS, CATS[:0])


def test_errors_by_noise_of_denoisers_that_are_wrong_in_known_ways():
    """One that says nothing is there is off by the pictures' mean square at each level; one that leaves the noise in, by (sigma/alpha)^2."""
    schedule, square = cosine(), np.square(CATS / 127.5 - 1).mean()
    silent = errors_by_noise(lambda x, t: 0 * x, schedule, CATS)
    noisy = errors_by_noise(lambda x, t: x / np.float32(schedule.at(t)[0]), schedule, CATS)
    assert len(silent) == 10
    for level, other, log_snr in zip(silent, noisy, range(9, -10, -2)):
        assert abs(level.log_snr - log_snr) < 0.3 and level.log_snr == pytest.approx(schedule.log_snr[int(level.t)])
        assert level.x0_error == pytest.approx(square, rel=1e-6)
        # The mean square of 73,728 normal numbers is 1 within 4 sqrt(2/73728).
        assert other.eps_error == pytest.approx(1, abs=4 * math.sqrt(2 / CATS.size))
        assert other.x0_error == pytest.approx(other.eps_error * math.exp(-other.log_snr))


def test_errors_by_noise_do_not_depend_on_the_chunk_and_networks_see_the_same_noise():
    seen = {}

    def watch(x, t):
        seen.setdefault(t, []).append(x)
        return np.tanh(x)
    whole = errors_by_noise(watch, linear(), CATS[:5], [0, 20.5, 999], seed=3)
    assert [level.t for level in whole] == [0, 20.5, 999] and all(x.dtype == np.float32 for (x,) in seen.values())
    for a, b in zip(whole, errors_by_noise(lambda x, t: np.tanh(x), linear(), CATS[:5], [0, 20.5, 999], seed=3, chunk=2)):
        assert a.x0_error == pytest.approx(b.x0_error, rel=1e-12)
    clean = CATS[:5] / 127.5 - 1
    first, last = ((seen[t][0] - linear().at(t)[0] * clean) / linear().at(t)[1] for t in (0, 999))
    np.testing.assert_allclose(first, last, atol=2e-5)                      # float32 pictures, divided by a sigma of 0.01
    other_seed = errors_by_noise(lambda x, t: np.tanh(x), linear(), CATS[:5], [999], seed=4)
    assert other_seed[0].x0_error != whole[2].x0_error


def test_errors_by_noise_at_the_ends_of_a_schedule():
    ends_in_noise = Schedule([0.9, 0.5, 0.0], [0.4, 0.8, 1.0])
    assert errors_by_noise(lambda x, t: 0 * x, ends_in_noise, CATS[:1], [2])[0].log_snr == -math.inf
    assert [level.t for level in errors_by_noise(lambda x, t: x, ends_in_noise, CATS[:1])] == [0, 1]     # each time once, never -inf
    with pytest.raises(ValueError, match="t = 3 is outside the schedule's 0 to T-1 = 2"):
        errors_by_noise(lambda x, t: x, ends_in_noise, CATS[:1], [3])
    with pytest.raises(TypeError, match="errors_by_noise: pictures must be uint8"):
        errors_by_noise(lambda x, t: x, ends_in_noise, CATS / 255)
