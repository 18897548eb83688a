"""Every layer and the U-Net against PyTorch: on the same random weights, the output and the gradient of every input and parameter."""
import numpy as np
import pytest

from tests.nn.parity import CASES, STORED, draw, load_stored, tinydiff_results


def assert_agree(ours, theirs, rtol, atol):
    """Entry by entry: |ours - theirs| <= rtol |theirs| + atol * the largest |theirs| of that array."""
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name].shape == theirs[name].shape, name
        np.testing.assert_allclose(ours[name], theirs[name], rtol, atol * np.abs(theirs[name]).max(), err_msg=name)


@pytest.mark.parametrize("name", STORED)
def test_stored_outputs_of_torch(name):
    numbers, results = load_stored(name)
    # Stored as float32, so off by at most 2^-24 = 6.0e-8 of each; two float64 computations differ by far less, 1e-10 of the largest.
    assert_agree(tinydiff_results(CASES[name], numbers), results, rtol=6e-8, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_live_torch(name):
    pytest.importorskip("torch", reason="torch is not installed: compared with the stored outputs only")
    from tests.nn import make_torch_outputs as torch_side
    numbers = draw(CASES[name], seed=100)
    # Sums of up to 1e5 float64 products in another order: sqrt(1e5) * 1.1e-16 = 3.5e-14 a layer, some 60 layers deep.
    assert_agree(tinydiff_results(CASES[name], numbers), torch_side.torch_results(name, numbers), rtol=1e-9, atol=1e-10)


def test_single_precision_is_as_close_as_torch():
    """In float32 neither side is exact; ours may be off from the float64 result by no more than 4 times as much as torch's own float32.

    Of one input the ratio says little: it is that of the worst of some 130 arrays on each side. Over these six it was 1.7 to 4.0 before a change of
    nothing but the order of sums, and 1.4 to 4.6 after; its geometric mean was 2.6 both times.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed: float32 is compared with float64 in tests/nn/test_unet.py only")
    from tests.nn import make_torch_outputs as torch_side
    ratios = []
    for seed in range(101, 107):
        numbers = draw(CASES["unet_reference"], seed)
        exact = torch_side.torch_results("unet_reference", numbers)
        theirs = torch_side.torch_results("unet_reference", numbers, torch.float32)
        ours = tinydiff_results(CASES["unet_reference"], numbers, np.float32)
        ratios.append(worst(ours, exact) / worst(theirs, exact))
    assert np.exp(np.mean(np.log(ratios))) <= 4, ratios


def worst(results, exact):
    """The largest relative error of an array, in the Euclidean norm."""
    return max(np.linalg.norm(results[name] - exact[name]) / np.linalg.norm(exact[name]) for name in exact)
