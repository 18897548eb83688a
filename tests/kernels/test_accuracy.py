"""In float32 each kernel is as right as float32 can be, at the very sizes of the reference training step.

The measure: the largest error of any entry, over the largest entry of the result, against the reference in float64. (An entry's own size
would be no measure: sums of thousands of normal numbers come out near zero now and then, with the rounding of the large terms in them.)
The bound of 2e-5 is some 300 roundings of float32; a direct sum needs 10, Winograd's transforms, whose matrices have entries up to 8 and
1/24, about 100.
"""
import numpy as np
import pytest

from benchmarks.cases import reference_step
from tests.kernels.test_kernels import IN_PLACE, flat, run, wide
from tinydiff.kernels import KERNELS

BOUND = 2e-5
CASES = reference_step(batch=2)


def check(case):
    arrays, first = case.arrays(), None
    for part in case.parts:
        kernel, arguments = KERNELS[part.kernel], part.arguments(arrays, first)
        if first is None:
            first = kernel.fast(*arguments)
        if part.kernel in IN_PLACE:
            results, expected = run(part.kernel, kernel.fast, arguments), run(part.kernel, kernel.reference, wide(arguments))
        else:
            results, expected = list(flat(kernel.fast(*arguments))), list(flat(kernel.reference(*wide(arguments))))
        for result, right in zip(results, expected, strict=True):
            assert np.abs(result - right).max() <= BOUND * np.abs(right).max(), f"{part.name} of {case.group} {case.shape}"


@pytest.mark.parametrize("case", CASES, ids=[f"{case.group} {case.shape}" for case in CASES])
def test_float32_kernels_are_near_the_float64_reference(case):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", reference_step(), ids=[f"{case.group} {case.shape}" for case in CASES])
def test_float32_kernels_are_near_the_float64_reference_in_the_whole_batch(case):
    check(case)
