"""No op and no kernel without samples: the tables of tests/samples.py and tests/plain.py name exactly what the registries do."""
import tinydiff.ops  # noqa: F401 (fills PRIMITIVES)
from tests.plain import PLAIN
from tests.samples import KERNEL_SAMPLES, SAMPLES
from tinydiff.autograd import PRIMITIVES
from tinydiff.kernels import KERNELS


def test_every_primitive_has_samples():
    # Tests of the engine make primitives of their own; those are not the library's.
    library = {name for name, op in PRIMITIVES.items() if op.__module__.startswith("tinydiff.")}
    assert set(SAMPLES) == library


def test_every_kernel_has_samples_and_a_plain_definition():
    assert set(KERNEL_SAMPLES) == set(KERNELS)
    assert set(PLAIN) == set(KERNELS)
