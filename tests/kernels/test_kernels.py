"""Every kernel on drawn inputs: against its NumPy reference, and against a plain definition that shares no code with either."""
import copy
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from tests import plain
from tests.samples import KERNEL_SAMPLES
from tinydiff import kernels
from tinydiff.kernels.registry import KERNELS

# Rounding of sums of up to a few hundred terms, relative to the largest entry, or to the inputs (about 1) where large terms cancel, as they do
# in the gradients of softmax and GroupNorm. Winograd's transforms amplify rounding about tenfold.
TOLERANCE = {np.dtype(np.float32): 5e-5, np.dtype(np.float64): 1e-13}
IN_PLACE = {"adamw_step": 3, "muon_step": 2}        # these return nothing and write into the parameters, and so many lists after the gradients


def run(name, function, arguments):
    """The results of a kernel as a list of arrays."""
    if name in IN_PLACE:
        params, grads, *rest = copy.deepcopy(arguments)
        function(params, grads, *rest)
        results = [params, *rest[:IN_PLACE[name]]]
    else:
        results = function(*map(locked, arguments))
    return list(flat(results))


def locked(argument):
    """Arrays read-only, so that a kernel that wrote into an input would raise."""
    if isinstance(argument, np.ndarray):
        argument.flags.writeable = False
    return argument


def flat(results):
    if isinstance(results, (list, tuple)):
        for result in results:
            yield from flat(result)
    elif isinstance(results, (np.ndarray, np.generic, float)):
        yield np.asarray(results)


def arrays(argument):
    """All arrays among the arguments."""
    if isinstance(argument, (list, tuple)):
        return [array for item in argument for array in arrays(item)]
    return [argument] if isinstance(argument, np.ndarray) else []


def check_close(name, results, expected, dtype):
    assert len(results) == len(expected)
    for i, (result, right) in enumerate(zip(results, expected)):
        assert result.shape == right.shape
        scale = max(1, np.abs(right).max(initial=0))
        assert np.abs(result - right).max(initial=0) <= TOLERANCE[dtype] * scale, f"{name}: result {i}"


@pytest.mark.parametrize("name", sorted(KERNEL_SAMPLES))
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_against_reference_and_plain_definition(name, data):
    arguments = data.draw(KERNEL_SAMPLES[name])
    found = arrays(arguments)
    dtype = found[0].dtype if found else np.dtype(np.float64)
    results = run(name, KERNELS[name].fast, arguments)
    if name not in ("squared_norm", "squared_error"):        # these give one Python number
        assert all(result.dtype == dtype for result in results)
    check_close(name, results, run(name, KERNELS[name].reference, wide(arguments)), dtype)
    check_close(name, results, list(flat(plain.PLAIN[name](*arguments))), dtype)


def with_one_changed(argument, old, new):
    """The arguments with the array `old`, found by identity, replaced."""
    if isinstance(argument, (list, tuple)):
        return type(argument)(with_one_changed(item, old, new) for item in argument)
    return new if argument is old else argument


@pytest.mark.parametrize("name", sorted(KERNEL_SAMPLES))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_shapes_and_dtypes_that_do_not_fit_raise(name, data):
    """One array gets the other dtype, or is made longer along an axis, or gets or loses one: ValueError, or else a result that is right for that."""
    arguments = data.draw(KERNEL_SAMPLES[name])
    found = [array for array in arrays(arguments) if array.size and array.ndim and array.dtype.kind == "f"]
    assume(found)
    array = found[data.draw(st.integers(0, len(found) - 1), label="array")]
    axis = data.draw(st.integers(0, array.ndim - 1), label="axis")
    change = data.draw(st.sampled_from(["dtype", "longer", "axis more", "axis less"]), label="change")
    other = {"dtype": array.astype(np.float32 if array.dtype == np.float64 else np.float64), "axis more": array[None], "axis less": array[0],
             "longer": np.pad(array, [(0, int(i == axis)) for i in range(array.ndim)])}[change]
    changed = with_one_changed(arguments, array, np.array(other))
    try:
        results = run(name, KERNELS[name].fast, changed)
    except ValueError:
        return
    assert change != "dtype" or len(found) == 1
    check_close(name, results, run(name, KERNELS[name].reference, wide(changed)), other.dtype)


@pytest.mark.parametrize("F", [1, 20])
def test_more_padding_than_the_filter_reaches(F):
    """A rim of the output then sees no pixel, and the input gradient is a convolution of dy with its rim cut off."""
    rng = np.random.default_rng(0)
    dy, w = rng.standard_normal((1, 9, 10, F)), rng.standard_normal((3, 3, 2, F))
    np.testing.assert_allclose(KERNELS["conv2d_dx"].fast(dy, w, (5, 6), 1, 3), KERNELS["conv2d_dx"].reference(dy, w, (5, 6), 1, 3), rtol=1e-12)


def test_no_pictures():
    """A batch of none gives none, and weights no gradient."""
    for size, w_shape, stride in ((8, (3, 3, 5, 7), 1), (8, (3, 3, 5, 7), 2), (8, (1, 1, 5, 7), 1), (8, (3, 3, 3, 7), 1)):
        KH, C, F = w_shape[1:]
        x, w, out = np.zeros((0, size, size, C)), np.ones(w_shape), size // stride
        dy = np.zeros((0, out, out, F))
        assert kernels.conv2d(x, w, None, stride, KH // 2).shape == dy.shape
        assert kernels.conv2d_dx(dy, w, (size, size), stride, KH // 2).shape == x.shape
        np.testing.assert_array_equal(kernels.conv2d_dw(x, dy, (KH, KH), stride, KH // 2), np.zeros(w_shape))
    x, w, dy = np.zeros((0, 4, 4, 5)), np.ones((3, 3, 5, 7)), np.zeros((0, 8, 8, 7))
    assert kernels.upsample_conv2d(x, w).shape == dy.shape and kernels.upsample_conv2d_dx(dy, w).shape == x.shape
    np.testing.assert_array_equal(kernels.upsample_conv2d_dw(x, dy), np.zeros(w.shape))


def wide(argument):
    """The same arguments in float64."""
    if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
        return argument.astype(np.float64)
    return type(argument)(map(wide, argument)) if isinstance(argument, (list, tuple)) else argument


def work_of_a_network(dtype):
    """Results of all kernels at sizes that several threads share."""
    rng = np.random.default_rng(0)

    def array(*shape):
        return rng.standard_normal(shape).astype(dtype)
    x, w, dy = array(3, 20, 22, 24), array(3, 3, 24, 40), array(3, 20, 22, 40)
    w2, dy2, q = array(3, 3, 24, 16), array(3, 10, 11, 16), [array(2, 4, 70, 12) for _ in range(4)]
    scale, shift = array(24), array(24)
    normed = kernels.group_norm([x], scale, shift, 4, act="silu")
    attended = kernels.attention(*q[:3])
    qkv = array(2, 70, 72)
    together = kernels.self_attention(qkv, 3)
    parameters = [[array(40_000), array(7, 5)] for _ in range(5)]
    parameters[3] = [a ** 2 for a in parameters[3]]
    kernels.adamw_step(*parameters, 1e-3, 0.9, 0.99, 1e-8, 0.01, 3, 0.5, 0.9)
    matrices = [[array(3, 3, 20, 40), array(50, 130), array(33, 33)] for _ in range(4)]
    kernels.muon_step(*matrices, 1e-3, 0.95, 0.01, 0.5, 0.9)
    return list(flat([
        kernels.conv2d(x, w, padding=1), kernels.conv2d_dx(dy, w, (20, 22), padding=1), kernels.conv2d_dw(x, dy, (3, 3), padding=1),
        kernels.conv2d(x, w, None, 1, 1, dy),
        kernels.conv2d(x, w2, None, 2, 1), kernels.conv2d_dx(dy2, w2, (20, 22), 2, 1), kernels.conv2d_dw(x, dy2, (3, 3), 2, 1),
        kernels.upsample_conv2d(x, w), kernels.upsample_conv2d_dx(dy, w), kernels.upsample_conv2d_dw(x[:, :10, :11], dy),
        kernels.pixel_sum(x), kernels.matmul(array(50, 30), array(30, 20)), normed,
        kernels.group_norm_backward(x, [x], scale, shift, *normed[1:], "silu"),
        attended, kernels.attention_backward(q[3], *q[:3], *attended), together, kernels.self_attention_backward(array(2, 70, 24), qkv, *together),
        kernels.silu(x), kernels.silu_backward(x, x), kernels.add(x, x),
        kernels.concat_channels([x, dy]), kernels.split_channels(x, [4, 20]), parameters, matrices, kernels.squared_norm([x, w]),
        kernels.softmax(x), kernels.softmax_backward(x, x), kernels.squared_error(x, x + 1), kernels.scaled_difference(x, x + 1, 0.3)]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_on_any_number_of_threads(dtype):
    every = numba.config.NUMBA_NUM_THREADS
    if every == 1:
        pytest.skip("one thread only: set NUMBA_NUM_THREADS=2")
    results = work_of_a_network(dtype)
    numba.set_num_threads(1)
    try:
        alone = work_of_a_network(dtype)
    finally:
        numba.set_num_threads(every)
    for result, other in zip(results, alone, strict=True):
        assert result.tobytes() == other.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(bad):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 8, 8, 16)).astype(np.float32)
    x[0, 3, 3, 5] = bad
    w, ones = rng.standard_normal((3, 3, 16, 16)).astype(np.float32), np.ones(16, np.float32)
    with np.errstate(invalid="ignore"):
        for result in (kernels.conv2d(x, w, padding=1)[0, 3, 3], kernels.conv2d_dw(x, x, (3, 3), padding=1)[:, :, 5],
                       kernels.group_norm([x], ones, ones, 4, act="silu")[0][0, 3, 3, 4:8],
                       kernels.attention(*3 * [x.reshape(1, 1, 64, 16)])[0][0, 0, 27], kernels.squared_norm([x])):
            assert not np.isfinite(result).any()
    x[0, 3, 3, 5] = -bad
    assert np.isnan(kernels.silu(x)[0, 3, 3, 5]) and np.isfinite(np.delete(kernels.silu(x).ravel(), (3 * 8 + 3) * 16 + 5)).all()


def test_an_edit_changes_the_cache_folder_and_a_locked_one_is_no_obstacle(tmp_path):
    """The kernels' machine code is kept under a hash of their sources; where nothing can be kept, they still run, and say so."""
    code = "from tinydiff.kernels.jit import CACHE_FOLDER; import numpy as np; from tinydiff import kernels; " \
           "print(CACHE_FOLDER, kernels.silu(np.zeros(3, np.float32)))"
    (tmp_path / "file").write_text("not a folder")
    for place, line in ((tmp_path / "cache", "compiling kernels"), (tmp_path / "file" / "cache", "can't be written")):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(place)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert line in run.stderr
    assert "None" in run.stdout
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    again = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "compiling" not in again.stderr and "kernels-" in again.stdout


def test_the_process_that_compiles_gives_the_bits_of_those_that_find_the_kernels_in_the_cache(tmp_path):
    """Or a run that is stopped and resumed would not end in the bits of one that went on: what is compiled and used at once has been through
    LLVM's passes once, what Numba puts into the cache twice."""
    code = "import hashlib; import numpy as np; from tests.kernels.test_kernels import work_of_a_network; " \
           "print([hashlib.sha256(result.tobytes()).hexdigest() for result in work_of_a_network(np.float32)])"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True) for _ in range(2))
    assert "compiling" in first.stderr and "compiling" not in second.stderr
    assert first.stdout == second.stdout
