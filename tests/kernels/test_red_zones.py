"""No kernel touches memory that is not its own, nor uses what it has not written: sizes up to 70, channels up to 200.

Inputs end at a page that can't be read: a read past the end ends the process, here. Everything that a kernel allocates lies between red zones
(see red_zones.py), which must be whole after the call. It is called twice, with zones and fresh memory full of NaN and full of zeros: a
number that was read outside, or before it was written, would make the two results differ.

One thread: its scratch is then one row, with a zone right behind it.
"""
import copy
import ctypes

import numba
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests import samples
from tests.kernels.red_zones import NAN, ZERO, RedZones, at_page_end
from tests.kernels.test_kernels import IN_PLACE, arrays, flat
from tests.samples import KERNEL_SAMPLES, arguments
from tinydiff.kernels import KERNELS

SIDES = st.integers(1, 70)
CHANNELS = st.integers(1, 200)
IMAGES = st.tuples(st.integers(1, 2), SIDES, SIDES, CHANNELS)
MOST_PRODUCTS = 2 ** 29                     # of a convolution: a tenth of a second


@st.composite
def conv_shapes(draw):
    """N, H, W, C, KH, KW, F, stride, padding: like tests.samples.conv_shapes, larger. Half of them 3x3 with stride 1."""
    N, H, W, C, F = draw(st.integers(1, 2)), draw(SIDES), draw(SIDES), draw(CHANNELS), draw(CHANNELS)
    if draw(st.booleans()):
        KH, KW, stride, padding = 3, 3, 1, draw(st.integers(0 if min(H, W) >= 3 else 1, 2))
    else:
        stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
        KH, KW = (draw(st.sampled_from([k for k in (1, 2, 3, 4, 5, 7) if k <= side + 2 * padding])) for side in (H, W))
    while N * H * W * C * KH * KW * F > MOST_PRODUCTS:
        C, F = (C + 1) // 2, (F + 1) // 2
    return N, H, W, C, KH, KW, F, stride, padding


@st.composite
def norm_shapes(draw):
    G, per_group = draw(st.sampled_from([(1, 200), (8, 25), (25, 8), (32, 6), (199, 1)]))
    return (draw(st.integers(1, 2)), draw(SIDES), draw(SIDES), G * draw(st.integers(1, per_group))), G


@st.composite
def attention_shapes(draw):
    N, heads, D, L, M = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(CHANNELS), draw(SIDES), draw(SIDES)
    return (N, heads, L, D), (N, heads, M, D)


ACTS = st.sampled_from([None, "silu"])
PARTS = st.tuples(st.tuples(SIDES, SIDES), st.lists(CHANNELS, min_size=1, max_size=3))
MATRICES = st.tuples(st.lists(st.integers(1, 2), max_size=1), SIDES, CHANNELS, CHANNELS, st.booleans(), st.booleans())

SMALL = st.integers(1, 25)
DOUBLED = st.tuples(st.tuples(st.integers(1, 2), SMALL, SMALL, st.integers(1, 100)), st.integers(1, 100))
TOKENS = st.tuples(st.integers(1, 2), SIDES, st.integers(1, 3), st.integers(1, 66))

LARGE_SAMPLES = KERNEL_SAMPLES | {
    "conv2d": arguments(samples.conv2d_arguments, st.tuples(conv_shapes(), st.integers(0, 2), st.booleans())),
    "conv2d_dx": arguments(samples.conv2d_dx_arguments, st.tuples(conv_shapes(), st.booleans())),
    "conv2d_dw": arguments(samples.conv2d_dw_arguments, conv_shapes()),
    "pixel_sum": arguments(lambda array, shape: (array(shape),), IMAGES),
    "matmul": arguments(samples.matmul_arguments, MATRICES),
    "group_norm": arguments(samples.group_norm_arguments, st.tuples(norm_shapes(), ACTS, st.integers(1, 3))),
    "group_norm_backward": arguments(samples.group_norm_backward_arguments, st.tuples(norm_shapes(), ACTS, st.integers(1, 3))),
    "attention": arguments(lambda array, shapes: (array(shapes[0]), array(shapes[1]), array(shapes[1])), attention_shapes()),
    "attention_backward": arguments(samples.attention_backward_arguments, attention_shapes()),
    "upsample_conv2d": arguments(lambda array, d: (array(d[0]), array((3, 3, d[0][3], d[1])), array((d[1],))), DOUBLED),
    "upsample_conv2d_dx": arguments(lambda array, d: (array((d[0][0], 2 * d[0][1], 2 * d[0][2], d[1])), array((3, 3, d[0][3], d[1])),
                                                      array(d[0])), DOUBLED),
    "upsample_conv2d_dw": arguments(lambda array, d: (array(d[0]), array((d[0][0], 2 * d[0][1], 2 * d[0][2], d[1]))), DOUBLED),
    "self_attention": arguments(samples.self_attention_arguments, TOKENS),
    "self_attention_backward": arguments(samples.self_attention_backward_arguments, TOKENS),
    "softmax": arguments(lambda array, shape: (array(shape),), st.tuples(SIDES, CHANNELS)),
    "softmax_backward": arguments(lambda array, shape: (array(shape), array(shape)), st.tuples(SIDES, CHANNELS)),
    "concat_channels": arguments(lambda array, drawn: ([array(drawn[0] + (n,)) for n in drawn[1]],), PARTS),
    "split_channels": arguments(lambda array, drawn: (array(drawn[0] + (sum(drawn[1]),)), drawn[1]), PARTS),
    "upsample": arguments(lambda array, drawn: (array(drawn[0]), drawn[1]), st.tuples(IMAGES, st.integers(1, 3))),
    "pool_sum": arguments(samples.pool_sum_arguments, st.tuples(st.tuples(st.integers(1, 2), st.integers(1, 35), st.integers(1, 35), CHANNELS),
                                                                st.integers(1, 2))),
}


def placed(argument):
    """The same arguments, every array at the end of its page."""
    if isinstance(argument, np.ndarray):
        return at_page_end(argument)
    return type(argument)(map(placed, argument)) if isinstance(argument, (list, tuple)) else argument


def check(name, data):
    drawn = data.draw(LARGE_SAMPLES[name])
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        KERNELS[name].fast(*copy.deepcopy(drawn))                               # compiles, where it has to, in ordinary memory
        runs = []
        for byte in (NAN, ZERO):
            inputs = placed(drawn)
            results = RedZones(byte).call(KERNELS[name].fast, inputs)
            if name in IN_PLACE:
                results = inputs
            else:
                for before, after in zip(arrays(drawn), arrays(inputs), strict=True):
                    assert before.tobytes() == after.tobytes(), "an input was written"
            runs.append(list(flat(results)))
    finally:
        numba.set_num_threads(threads)
    for with_nan, with_zeros in zip(*runs, strict=True):
        assert np.isfinite(with_nan).all()
        assert with_nan.tobytes() == with_zeros.tobytes()


@pytest.mark.parametrize("name", sorted(KERNELS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_kernel_keeps_to_its_own_memory(name, data):
    check(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KERNELS))
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_kernel_keeps_to_its_own_memory_on_many_shapes(name, data):
    check(name, data)


def test_the_zones_notice_a_write_and_unwritten_memory():
    def reckless():
        y = np.empty(4)
        ctypes.memset(y.ctypes.data + y.nbytes, 7, 1)
        return y
    with pytest.raises(AssertionError, match="buffer 0 of the call was written after its bounds"):
        RedZones(NAN).call(reckless, [])
    assert np.isnan(RedZones(NAN).call(lambda: np.empty(4), [])).all() and not RedZones(ZERO).call(lambda: np.empty(4), []).any()
