"""The cases that are measured are those of the reference network, with every kernel among them."""
import numpy as np

from benchmarks.cases import reference_step, small_step
from tinydiff.kernels import KERNELS
from tinydiff.nn import UNet, UNetConfig


def test_every_kernel_is_measured():
    for cases in (reference_step(), small_step()):
        assert {part.kernel for case in cases for part in case.parts} == set(KERNELS)


def test_the_convolutions_are_those_of_the_reference_network():
    network = UNet(UNetConfig(), rng=np.random.default_rng(0))
    strides = {"downsample": 2, "upsample": 0.5}
    used = {(*p.shape, strides.get(name.split(".")[0], 1)) for name, p in network.named_parameters() if p.ndim == 4}
    measured = {(*case.inputs["w"], case.inputs["x"][1] / case.inputs["dy"][1]) for case in reference_step() if len(case.inputs.get("w", ())) == 4}
    assert measured == used


def test_the_norms_are_those_of_the_reference_network():
    network = UNet(UNetConfig(), rng=np.random.default_rng(0))
    widths = {p.shape[0] for name, p in network.named_parameters() if "norm" in name and name.endswith("weight")}
    assert {case.inputs["weight"][0] for case in reference_step() if case.group.startswith("GroupNorm")} == widths
