"""The program that checks the gradients: it checks every op, and it says so and fails where one is wrong."""
import numpy as np

import tinydiff.ops as ops
from examples import check_gradients
from tinydiff.autograd import PRIMITIVES


def test_its_table_has_every_primitive():
    assert set(check_gradients.CASES) == {name for name, op in PRIMITIVES.items() if op.__module__.startswith("tinydiff.")}


def test_it_reports_every_op_and_the_unet(monkeypatch, capsys):
    monkeypatch.setattr(check_gradients, "UNET", check_gradients.UNetConfig(
        image_size=4, channels=8, channel_mults=(1, 2), blocks_per_level=1, attention_resolutions=(2,), heads=2, groups=4, num_classes=3))
    assert check_gradients.main() == 0
    printed = capsys.readouterr().out
    for name in check_gradients.CASES:
        assert f"\n{name} " in printed
    assert "\nthe whole U-Net " in printed and "WRONG" not in printed


def test_a_wrong_gradient_is_reported_and_is_a_failure(monkeypatch, capsys):
    def wrong(x):
        return ops.exp(x) + x.data      # the second term is cut out of the graph
    monkeypatch.setattr(check_gradients, "CASES", {"exp": [check_gradients.Case(wrong, [(2, 3)])]})
    monkeypatch.setattr(check_gradients, "check_unet", lambda: [("x", np.float64(0))])
    assert check_gradients.main() == 1
    printed = capsys.readouterr().out
    assert "exp                     WRONG  gradcheck: input 0 (2, 3), entry (" in printed and printed.endswith("1 WRONG\n")
