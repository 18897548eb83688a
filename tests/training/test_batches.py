"""What a step is computed from: the split, the order, the times, the noise, the mirroring."""
import dataclasses

import numpy as np
import pytest

from tests.training.runs import RUN, pictures
from tinydiff.data import to_model
from tinydiff.diffusion import cosine, karras, lognormal_times
from tinydiff.training import Ranks
from tinydiff.training.batches import batch_indices, held_out_batches, split, steps_per_epoch, training_batch

SIXTEEN = dataclasses.replace(RUN, batch=16)


@pytest.mark.parametrize("n, part, expected", [(1000, 0.1, 100), (13, 0.2, 3), (2, 0.1, 1), (2, 0.9, 1), (10, 0.0, 0)])
def test_the_split_is_a_partition_by_seed(n, part, expected):
    train, held_out = split(n, part, seed=1)
    assert len(held_out) == expected and sorted([*train, *held_out]) == list(range(n))
    assert all(np.array_equal(a, b) for a, b in zip(split(n, part, seed=1), (train, held_out)))


def test_another_seed_holds_out_others():
    assert set(split(1000, 0.1, seed=1)[1]) != set(split(1000, 0.1, seed=2)[1])


def test_an_epoch_takes_each_picture_once_in_its_own_order():
    n, batch = 10, 4
    assert steps_per_epoch(n, batch) == 3 and steps_per_epoch(8, batch) == 2
    epochs = [[batch_indices(n, batch, 0, epoch * 3 + k) for k in range(3)] for epoch in range(2)]
    assert [len(indices) for indices in epochs[0]] == [4, 4, 2]
    orders = [np.concatenate(epoch).tolist() for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(n)) and orders[0] != orders[1] != list(range(n))


def test_a_batch_depends_on_seed_and_step_only():
    images = pictures(40).images
    first, again, other = (training_batch(images, None, SIXTEEN, step, np.float32) for step in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first[:3], again[:3]))
    assert not any(np.array_equal(a, b) for a, b in zip(first[:3], other[:3]))


def test_parts_of_a_batch_are_the_batch():
    """Whatever is drawn for a picture is keyed by its place in the whole batch: 16 pictures in parts of 6, 5 and 5."""
    config = dataclasses.replace(SIXTEEN, offset_noise=0.1, label_dropout=0.5, time_sampling="uniform")
    images, labels = pictures(40).images, np.arange(40)
    whole = training_batch(images, labels, config, 3, np.float32, no_label=40)
    parts = [training_batch(images, labels, config, 3, np.float32, 40, part) for part in parts_of(3, 16)]
    assert [len(part.x0) for part in parts] == [6, 5, 5]
    assert all(np.array_equal(np.concatenate(arrays), array) for arrays, array in zip(zip(*parts), whole))
    assert 0 < (whole.y == 40).sum() < 16
    parts = [batch for part in parts_of(3, 40) for batch in held_out_batches(images, labels, config, np.float32, part)]
    whole = list(held_out_batches(images, labels, config, np.float32))
    assert all(np.array_equal(np.concatenate(a), np.concatenate(b)) for a, b in zip(zip(*parts), zip(*whole)))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1024])
def test_ranks_share_pictures_evenly(n, size):
    parts = [range(n)[part] for part in parts_of(size, n)]
    assert [i for part in parts for i in part] == list(range(n))
    assert len(parts[0]) == max(map(len, parts)) <= min(map(len, parts)) + 1


def parts_of(size, n):
    for rank in range(size):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, size
        yield ranks.part(n)


def test_times_are_spread_evenly():
    t = np.sort(training_batch(pictures(40).images, None, SIXTEEN, 3, np.float32).t)
    assert t[0] >= 0 and t[-1] <= 999
    np.testing.assert_allclose(np.diff(t), 999 / 16, rtol=1e-9)  # one comb of 16 teeth


def test_the_other_time_samplings():
    times = {}
    for sampling in ("uniform", "lognormal"):
        config = dataclasses.replace(SIXTEEN, time_sampling=sampling, schedule="karras")
        times[sampling] = np.concatenate([training_batch(pictures(40).images, None, config, step, np.float32).t for step in range(60)])
    n = len(times["uniform"])  # 60 steps, every third of 8 pictures
    assert abs(times["uniform"].mean() / 999 - 0.5) < 4 * np.sqrt(1 / 12 / n)
    log_sigma = np.log(karras(1000).at(times["lognormal"])[1])
    assert abs(log_sigma.mean() + 1.2) < 4 * 1.2 / np.sqrt(n) and abs(log_sigma.std() - 1.2) < 4 * 1.2 / np.sqrt(2 * n)


def test_offset_noise_is_shared_by_the_pixels_of_a_channel():
    config = dataclasses.replace(SIXTEEN, offset_noise=0.5)
    images = pictures(40, size=16).images
    shifts = []
    for step in range(20):
        with_offset, without = training_batch(images, None, config, step, np.float32), training_batch(images, None, SIXTEEN, step, np.float32)
        shift = with_offset.eps - without.eps  # (N,H,W,C)
        assert np.ptp(shift, axis=(1, 2)).max() < 2e-6  # float32, numbers up to 6
        shifts.append(shift[:, 0, 0])
    shifts = np.concatenate(shifts)  # (N,C)
    assert abs(shifts.std() / 0.5 - 1) < 4 / np.sqrt(2 * shifts.size)
    assert abs(np.mean(shifts[:, 0] * shifts[:, 1])) < 4 * 0.25 / np.sqrt(len(shifts))  # each channel has its own


def test_noise_is_standard_normal_and_each_pictures_own():
    eps = np.concatenate([training_batch(pictures(40, size=16).images, None, SIXTEEN, step, np.float32).eps for step in (0, 1)])
    assert eps.dtype == np.float32
    assert abs(eps.mean()) < 5 / np.sqrt(eps.size) and abs(eps.var() - 1) < 5 * np.sqrt(2 / eps.size)
    products = np.tensordot(eps, eps, ([1, 2, 3], [1, 2, 3])) / eps[0].size
    # 768 numbers a picture: two pictures' mean product has the standard deviation 1 / sqrt(768) = 0.036.
    assert np.abs(products - np.diag(np.diag(products))).max() < 0.18


def test_half_of_the_pictures_are_mirrored_left_to_right():
    images, labels = pictures(40).images, np.arange(40)
    mirrored = []
    for step in range(10):
        batch = training_batch(images, labels, SIXTEEN, step, np.float32)
        for x, label in zip(batch.x0, batch.y):
            original = to_model(images[label])
            mirrored.append(np.array_equal(x, original[:, ::-1]))
            assert mirrored[-1] or np.array_equal(x, original)
    n = len(mirrored)  # 3 epochs of 40 and more
    assert abs(np.mean(mirrored) - 0.5) < 5 * 0.5 / np.sqrt(n)
    plain = training_batch(images, labels, dataclasses.replace(SIXTEEN, flip=False), 0, np.float32)
    assert np.array_equal(plain.x0, to_model(images[plain.y]))


def test_held_out_batches_are_all_pictures_always_alike():
    images, labels = pictures(10).images, np.arange(10)
    once, again = (list(held_out_batches(images, labels, RUN, np.float32)) for _ in range(2))
    assert np.concatenate([b.y for b in once]).tolist() == labels.tolist()
    assert all(np.array_equal(a, b) for one, two in zip(once, again) for a, b in zip(one, two))
    np.testing.assert_allclose(np.concatenate([b.t for b in once]), 999 * (np.arange(10) + 0.5) / 10, rtol=1e-12)
    np.testing.assert_array_equal(once[1].eps, np.concatenate([b.eps for b in held_out_batches(images, labels, SIXTEEN, np.float32)])[4:8])


def test_held_out_times_and_noise_have_the_distribution_of_the_trainings():
    images, plain = pictures(10).images, list(held_out_batches(pictures(10).images, None, RUN, np.float32))
    config = dataclasses.replace(RUN, time_sampling="lognormal", offset_noise=0.5)
    batches = list(held_out_batches(images, None, config, np.float32))
    # The 5 %, 15 %, ... 95 % points of N(0, 1), from a table.
    z = np.array([-1.6449, -1.0364, -0.6745, -0.3853, -0.1257, 0.1257, 0.3853, 0.6745, 1.0364, 1.6449])
    alpha, sigma = cosine(1000).at(np.concatenate([b.t for b in batches]))
    np.testing.assert_allclose(np.log(sigma / alpha), -1.2 + 1.2 * z, rtol=0, atol=1e-4)  # 1.2 times half a unit of the table, and rounding
    np.testing.assert_allclose(batches[0].t, lognormal_times(cosine(1000), z[:4]), rtol=1e-3)
    shift = np.concatenate([b.eps for b in batches]) - np.concatenate([b.eps for b in plain])
    assert np.ptp(shift, axis=(1, 2)).max() < 2e-6 and 0.2 < shift.std() < 0.8
