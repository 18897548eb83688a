"""Arrays whose shapes don't fit together never reach a kernel: the op says so first."""
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from tests.samples import SAMPLES
from tinydiff import kernels
from tinydiff.autograd import Tensor
from tinydiff.kernels.registry import KERNELS

LAYERS = ["conv2d", "linear", "matmul", "group_norm", "attention", "concat", "mse", "add", "mul", "softmax", "avg_pool", "upsample_nearest"]


def guarded(name):
    """The kernel, and before it its reference, with shapes that NumPy itself would reject as a failure of the op's checks."""
    def call(*arguments, **settings):
        try:
            KERNELS[name].reference(*arguments, **settings)
        except (ValueError, IndexError) as error:
            pytest.fail(f"{name} was called with arrays that don't fit: {error}")
        return KERNELS[name].fast(*arguments, **settings)
    return call


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_shapes_that_do_not_fit_never_reach_a_kernel(name, data):
    """One axis of one input of a good call is made longer, dropped or added: the op raises, or all its kernels can take what they get."""
    sample = data.draw(SAMPLES[name])
    assume(sample.inputs)
    victim = data.draw(st.integers(0, len(sample.inputs) - 1))
    shape = list(sample.inputs[victim].shape)
    axis = data.draw(st.integers(0, len(shape)))
    if axis == len(shape) or data.draw(st.booleans()):
        shape.insert(axis, data.draw(st.integers(1, 3)))
    else:
        shape[axis:axis + 1] = data.draw(st.sampled_from([[], [shape[axis] + 1], [shape[axis] + 16]]))
    inputs = [Tensor(array, requires_grad=True) for array in sample.inputs]
    inputs[victim] = Tensor(np.ones(shape), requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        for kernel in set(KERNELS) - {"adamw_step", "muon_step", "squared_norm"}:
            patch.setattr(kernels, kernel, guarded(kernel))
        try:
            y = sample.fn(*inputs)
        except ValueError as error:
            assert str(error).startswith(f"{name}: ")
            return
        y.backward(np.ones(y.shape))
