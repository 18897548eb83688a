"""Convolution on the matrix unit, where there is one: whole numbers of few bits must come out exactly, others rounded just as bfloat16 is."""
import numba
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.kernels.red_zones import NAN, ZERO, RedZones, at_page_end
from tinydiff.kernels import KERNELS, amx, bfloat16, has_bfloat16

on_the_unit = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no AMX, or the system doesn't let it be used")
CONV, UPSAMPLED = ("conv2d", "conv2d_dx", "conv2d_dw"), ("upsample_conv2d", "upsample_conv2d_dx", "upsample_conv2d_dw")


def arguments(name, N, H, W, C, F, padding, more, K=3):
    """Whole numbers from -4 to 4, for sizes that go to the unit: of a product of two, all bits are kept, and of a sum of a million."""
    rng = np.random.default_rng([N, H, W, C, F])

    def array(*shape):
        return rng.integers(-4, 5, shape).astype(np.float32)
    x, w, dy = array(N, H, W, C), array(K, K, C, F), array(N, H + 2 * padding - K + 1, W + 2 * padding - K + 1, F)
    if name in UPSAMPLED:
        dy = array(N, 2 * H, 2 * W, F)
    extra = (array(F), array(N, F), None)[more]
    return {"conv2d": (x, w, extra, 1, padding, dy if more else None), "conv2d_dx": (dy, w, (H, W), 1, padding, x if more else None),
            "conv2d_dw": (x, dy, (K, K), 1, padding), "upsample_conv2d": (x, w, extra if more != 1 else None),
            "upsample_conv2d_dx": (dy, w, x if more else None), "upsample_conv2d_dw": (x, dy)}[name]


def check(name, shape):
    given_arrays = arguments(name, *shape)
    with bfloat16():
        result = KERNELS[name].fast(*given_arrays)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, KERNELS[name].reference(*given_arrays))


@on_the_unit
@pytest.mark.parametrize("name", CONV + UPSAMPLED)
@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(st.integers(1, 3), st.integers(6, 20), st.integers(6, 20), st.integers(5, 70), st.integers(5, 70), st.integers(0, 4),
                       st.integers(0, 2)), K=st.sampled_from([1, 3]))
def test_whole_numbers_come_out_exactly(name, shape, K):
    check(name, (*shape, K if name in CONV else 3))


@on_the_unit
@pytest.mark.parametrize("name", CONV + UPSAMPLED)
@pytest.mark.parametrize("shape", [(2, 64, 64, 32, 32, 1, 1), (1, 40, 33, 96, 32, 1, 2), (17, 8, 8, 256, 128, 1, 0), (2, 40, 1, 40, 24, 1, 1),
                                   (0, 8, 8, 32, 32, 1, 1)], ids=str)
def test_pictures_of_several_bands_and_sums_of_several_stretches(name, shape):
    """64 and 40 rows are several bands, and 17 pictures of 8 x 8 more than one slice sums up at once. And a narrow picture, and none."""
    check(name, shape)


@on_the_unit
@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(CONV + UPSAMPLED), shape=st.tuples(st.integers(1, 2), st.integers(6, 40), st.integers(6, 40), st.integers(5, 100),
                                                               st.integers(5, 100), st.integers(0, 2), st.integers(0, 2)), K=st.sampled_from([1, 3]))
def test_no_memory_but_its_own(name, shape, K):
    """As in test_red_zones.py: inputs end where no one may read, buffers lie between red zones, and nothing is read before it is written."""
    given_arrays = arguments(name, *shape, K if name in CONV else 3)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with bfloat16():
            expected = KERNELS[name].fast(*given_arrays)
            guarded = [at_page_end(a) if isinstance(a, np.ndarray) else a for a in given_arrays]
            results = [RedZones(byte).call(KERNELS[name].fast, guarded) for byte in (NAN, ZERO)]
    finally:
        numba.set_num_threads(threads)
    for result in results:
        np.testing.assert_array_equal(result, expected)


def as_bfloat16(x):
    """Rounded to the nearest number whose lower 16 bits are 0, of two equally near the one with an even last bit: by arithmetic, not on bits."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent).astype(np.float32)


@on_the_unit
def test_inputs_are_rounded_to_the_nearest_ties_to_even():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((1, 8, 8, 16)) * 2.0 ** rng.integers(-60, 60, (1, 8, 8, 16))).astype(np.float32)
    x[0, 0, :, 0] = [1 + 2 ** -8, 1 + 3 * 2 ** -8, -1 - 2 ** -8, 1 + 2 ** -8 + 2 ** -23, 255.5, 0, -0.0, np.inf]
    same = np.zeros((3, 3, 16, 16), np.float32)
    same[1, 1] = np.eye(16)
    x[0, 0, -1, 1:] = 0                                     # infinity times a filter's zero is NaN, in the other channels
    with bfloat16():
        y = KERNELS["conv2d"].fast(x, same, None, 1, 1)
    clean = np.ones((8, 8), bool)
    clean[:2, -2:] = False                                  # and so in the pixels around
    np.testing.assert_array_equal(y[0, clean], as_bfloat16(x)[0, clean])
    assert y[0, 0, -1, 0] == np.inf and np.isnan(y[0, 0, -1, 1:]).all()


@on_the_unit
@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F800001, 0x7F800000, 0xFF800000], ids=hex)
def test_what_is_not_finite_stays_visible(bits):
    """NaNs, which have many patterns of bits, and infinities."""
    x, w, dy = (np.ones(shape, np.float32) for shape in ((2, 8, 8, 32), (3, 3, 32, 32), (2, 8, 8, 32)))
    x.view(np.uint32)[1, 3, 4, 5] = bits
    with bfloat16():
        y, dw = KERNELS["conv2d"].fast(x, w, None, 1, 1), KERNELS["conv2d_dw"].fast(x, dy, (3, 3), 1, 1)
        other = KERNELS["conv2d_dw"].fast(dy, x, (3, 3), 1, 1)
    np.testing.assert_array_equal(~np.isfinite(other).all((0, 1, 2)), np.arange(32) == 5)
    reached = np.zeros((2, 8, 8), bool)
    reached[1, 2:5, 3:6] = True
    np.testing.assert_array_equal(~np.isfinite(y).all(-1), reached)
    np.testing.assert_array_equal(~np.isfinite(dw).all((0, 1, 3)), np.arange(32) == 5)


@on_the_unit
@pytest.mark.parametrize("name", CONV + UPSAMPLED)
def test_same_bits_on_one_thread_and_on_all(name):
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(a.shape, dtype=np.float32) if isinstance(a, np.ndarray) else a for a in arguments(name, 5, 16, 16, 40, 24, 1, 1)]
    threads, results = numba.get_num_threads(), []
    try:
        with bfloat16():
            for some in (1, numba.config.NUMBA_NUM_THREADS):
                numba.set_num_threads(some)
                results.append(KERNELS[name].fast(*drawn))
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(*results)


@on_the_unit
def test_only_where_it_is_wanted_and_only_float32():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 8, 16)), rng.standard_normal((3, 3, 16, 16))
    wide, narrow = [KERNELS["conv2d"].fast(x.astype(kind), w.astype(kind), None, 1, 1) for kind in (np.float64, np.float32)]
    with bfloat16():
        np.testing.assert_array_equal(KERNELS["conv2d"].fast(x, w, None, 1, 1), wide)
        rounded = KERNELS["conv2d"].fast(x.astype(np.float32), w.astype(np.float32), None, 1, 1)
        with bfloat16(False):
            np.testing.assert_array_equal(KERNELS["conv2d"].fast(x.astype(np.float32), w.astype(np.float32), None, 1, 1), narrow)
    assert 1e-4 < np.abs(rounded - wide).max() / np.abs(wide).max() < 2 ** -7
    np.testing.assert_array_equal(KERNELS["conv2d"].fast(x.astype(np.float32), w.astype(np.float32), None, 1, 1), narrow)


def test_a_processor_without_the_unit_is_told(monkeypatch):
    monkeypatch.setattr(amx, "has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="AMX.*float32"), bfloat16():
        pass
    with bfloat16(False):
        pass
