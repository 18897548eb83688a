"""The house's arrows: who may import whom, and which packages may be imported at all. Read from the sources, without running them."""
import ast
import sys
from pathlib import Path

import pytest

import tinydiff

ROOT = Path(tinydiff.__file__).parent
# What each part may import, of its siblings in tinydiff.
ALLOWED = {
    "kernels": set(),
    "autograd": {"kernels"},                        # gradients are summed by a kernel
    "gradcheck": {"autograd"},
    "ops": {"kernels", "autograd"},
    "nn": {"ops", "autograd"},
    "diffusion": set(),
    "diffusion/losses.py": {"ops", "autograd"},
    "diffusion/denoiser.py": {"autograd"},
    "diffusion/gaussian.py": {"kernels"},           # as metrics: its products are in every training step
    "text": set(),
    "data": {"text"},
    "report": {"text"},
    "metrics": {"kernels"},                         # arrays in, numbers out: its products are the kernels'
    "mpi": {"training"},                            # and it's in no one's list: it is only imported where asked for
    "training": {"nn", "ops", "autograd", "kernels", "diffusion", "data", "text"},
}
PACKAGES = {"numpy", "numba", "llvmlite", "PIL", "tinydiff", *sys.stdlib_module_names}


def imports(path):
    """Full names of all that a file imports."""
    inside = path.relative_to(ROOT.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[:len(inside) - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), ALLOWED[part]) | {part}
    siblings = {child.stem for child in ROOT.iterdir()}
    for name in imports(path):
        assert name.split(".")[0] in PACKAGES | ({"mpi4py"} if part == "mpi" else set()), f"{path} imports {name}"
        if name.startswith("tinydiff.") and name.split(".")[1] in siblings:
            assert name.split(".")[1] in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_begins_with_an_underscore_stays_in_its_file(path):
    assert not [name for name in imports(path) if name.rpartition(".")[2].startswith("_")]


def test_the_main_job_needs_only_the_run_time_packages():
    script = ROOT.parent / "examples" / "train_cats.py"
    names = {name.split(".")[0] for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
             for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                          else [node.module] if isinstance(node, ast.ImportFrom) else [])}
    assert names <= PACKAGES
