"""Every op in the registry: its gradients against finite differences, and its dtype, on shapes and values drawn by hypothesis."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.samples import SAMPLES
from tinydiff.autograd import Tensor
from tinydiff.gradcheck import gradcheck

drawn = settings(max_examples=15, deadline=None, derandomize=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_gradients_agree_with_finite_differences(name):
    @drawn
    @given(SAMPLES[name], st.integers(0, 2**32 - 1))
    def check(sample, seed):
        gradcheck(sample.fn, sample.inputs, np.random.default_rng(seed))
    check()


@pytest.mark.parametrize("name", SAMPLES)
def test_float32_in_float32_out_and_close_to_float64(name):
    @drawn
    @given(SAMPLES[name])
    def check(sample):
        results = {}
        for dtype in (np.float32, np.float64):
            tensors = [Tensor(x.astype(np.float32).astype(dtype), requires_grad=True) for x in sample.inputs]
            y = sample.fn(*tensors)
            y.backward(np.ones_like(y.data))
            results[dtype] = [y.data, *(t.grad for t in tensors)]
            assert all(a.dtype == dtype for a in results[dtype])
        for single, double in zip(results[np.float32], results[np.float64]):
            # n products of size about 1 add up to about sqrt(n), each rounded by up to 6e-8 of the running sum, so about 6e-8 n where the
            # errors conspire: 6e-5 for the longest sums, n = 980 (a 7 x 7 kernel of 20 channels); ten times that for what comes after.
            np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)
    check()
