"""NaN and infinity never come out of a kernel as a number: where the reference's result isn't finite, the kernel's isn't either."""
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from tests.kernels.test_kernels import arrays, run, wide
from tests.samples import KERNEL_SAMPLES
from tinydiff.kernels import KERNELS


@pytest.mark.parametrize("name", sorted(KERNELS))
@settings(max_examples=40, deadline=None)
@given(data=st.data(), bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_where_the_reference_is_not_finite_neither_is_the_kernel(name, data, bad):
    arguments = data.draw(KERNEL_SAMPLES[name])
    inputs = [array for array in arrays(arguments) if array.size]
    assume(inputs)
    array = data.draw(st.sampled_from(inputs))
    array.flat[data.draw(st.integers(0, array.size - 1))] = bad
    with np.errstate(all="ignore"):
        results, expected = (run(name, function, given_arguments) for function, given_arguments in (
            (KERNELS[name].fast, arguments), (KERNELS[name].reference, wide(arguments))))
    for result, right in zip(results, expected, strict=True):
        assert not np.isfinite(result[~np.isfinite(right)]).any()


@pytest.mark.parametrize("C, F", [(3, 20), (20, 3), (20, 20)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_every_tap_of_a_weight_gradient_hears_of_it(C, F, bad):
    """Also those that meet only the padding there: zero times what is not finite is not a number. A corner, in each way to the gradient."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 5, 6, C), dtype=np.float32), rng.standard_normal((2, 5, 6, F), dtype=np.float32)
    dy[1, 0, 0, 1] = bad
    dw = KERNELS["conv2d_dw"].fast(x, dy, (3, 3), 1, 1)                   # (3,3,C,F)
    with np.errstate(all="ignore"):
        right = KERNELS["conv2d_dw"].reference(x, dy, (3, 3), 1, 1)
    assert not np.isfinite(right[..., 1]).any() and not np.isfinite(dw[..., 1]).any()
