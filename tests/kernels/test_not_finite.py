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
