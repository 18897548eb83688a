"""The examples in steps lead from one to the next: each says how to run it, what to read after it and which follows, and the README has them."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = sorted((ROOT / "examples").glob("0*.py"))
FOLLOWING = [*(step.name for step in STEPS[1:]), "train_cats.py"]


@pytest.mark.parametrize("step, following", list(zip(STEPS, FOLLOWING)), ids=[step.stem for step in STEPS])
def test_a_step_says_how_it_is_run_and_what_comes_next(step, following):
    source = step.read_text(encoding="utf-8")
    told = ast.get_docstring(ast.parse(source))
    assert f"\n    python examples/{step.name}" in told and "Read next: " in told and f"The next example is {following}." in told.replace("\n", " ")
    for path in re.findall(r"\btinydiff/[\w/]+(?:\.py)?", told):
        assert (ROOT / path).exists(), path
    assert source.count("\n") <= 140                                        # to be read in one go
    assert f"| [`examples/{step.name}`](examples/{step.name}) |" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_steps_are_six():
    assert [step.name[:2] for step in STEPS] == ["01", "02", "03", "04", "05", "06"]
