"""What a reader is promised: docstrings with shapes and sources, derivations with their tests, and what each kernel gains."""
import ast
import inspect
import re
from pathlib import Path

import pytest

import tinydiff as td

ROOT = Path(td.__file__).parents[1]
MODULES = sorted((ROOT / "tinydiff").rglob("*.py"))
PARTS = {name: getattr(td, name) for name in ("data", "diffusion", "kernels", "metrics", "nn", "ops", "optim", "report", "training")}


def public(part):
    """{name: function or class} of what a part offers: its __all__, or else what it defines without an underscore."""
    names = getattr(part, "__all__", [name for name, value in vars(part).items()
                                      if not name.startswith("_") and getattr(value, "__module__", None) == part.__name__])
    return {name: getattr(part, name) for name in names if inspect.isroutine(getattr(part, name)) or inspect.isclass(getattr(part, name))}


NAMES = [(where, name, value) for where, part in (("td", td), *PARTS.items()) for name, value in public(part).items()]
IDS = [f"{where}.{name}" for where, name, _ in NAMES]


def members(value):
    """The public methods and properties that a class defines itself."""
    return [(name, member) for name, member in vars(value).items()
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, (property, classmethod)))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_has_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("where, name, value", NAMES, ids=IDS)
def test_every_public_name_has_a_docstring(where, name, value):
    """Of its own: not one that it has from its parent, nor the list of fields that Python writes for a dataclass or a named tuple."""
    assert vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert not value.__doc__.startswith(f"{name}(")
    if inspect.isclass(value):
        for member_name, member in members(value):
            assert inspect.getdoc(member), f"{name}.{member_name}"


# A shape is (N,H,W,C), (..., C), (T,) or the like. What has none: exceptions, and what is about no array.
SHAPE = re.compile(r"\((\.\.\.|[A-Z]|n|rows|steps)[,) +]")
SHAPELESS = {"nn.Dropout", "nn.UNetConfig"}


@pytest.mark.parametrize("where, name, value", [row for row in NAMES if row[0] in ("ops", "nn", "diffusion")],
                         ids=[f"{where}.{name}" for where, name, _ in NAMES if where in ("ops", "nn", "diffusion")])
def test_shapes_are_said(where, name, value):
    assert f"{where}.{name}" in SHAPELESS or SHAPE.search(value.__doc__), value.__doc__


# What has no paper: tools, and what everybody has always known.
UNWRITTEN = {"diffusion.denoiser", "diffusion.initial_noise", "diffusion.Schedule", "diffusion.Step", "nn.Module", "nn.Sequential", "nn.UNetConfig",
             "nn.Embedding", "nn.Linear", "nn.Conv2d",
             "ops.add", "ops.avg_pool", "ops.concat", "ops.conv2d", "ops.div", "ops.embedding", "ops.exp", "ops.getitem", "ops.linear", "ops.log",
             "ops.matmul", "ops.max", "ops.mean", "ops.mse", "ops.mul", "ops.neg", "ops.pad", "ops.pow", "ops.relu", "ops.reshape",
             "ops.self_attention", "ops.sigmoid", "ops.softmax", "ops.split", "ops.sqrt", "ops.sub", "ops.sum", "ops.tanh", "ops.transpose",
             "ops.upsample_conv2d", "ops.upsample_nearest"}
SOURCE = re.compile(r"(19|20)\d\d")


@pytest.mark.parametrize("where, name, value", [row for row in NAMES if row[0] in ("ops", "nn", "diffusion")],
                         ids=[f"{where}.{name}" for where, name, _ in NAMES if where in ("ops", "nn", "diffusion")])
def test_what_comes_from_a_paper_names_it(where, name, value):
    """In its own docstring, or in that of its file, above it."""
    cited = SOURCE.search(value.__doc__ + inspect.getdoc(inspect.getmodule(value)))
    assert cited or f"{where}.{name}" in UNWRITTEN


@pytest.mark.parametrize("where, name, value", [row for row in NAMES if row[0] not in ("ops", "kernels")],
                         ids=[f"{where}.{name}" for where, name, _ in NAMES if where not in ("ops", "kernels")])
def test_public_signatures_have_all_their_types(where, name, value):
    """So that mypy has something to check. (An op's are those of `primitive`: it takes what forward takes, and returns a Tensor.)"""
    functions = {name: value}
    if inspect.isclass(value):
        functions = {f"{name}.{k}": f for k, f in vars(value).items()
                     if inspect.isfunction(f) and (not k.startswith("_") or k in ("__init__", "__call__")) and f.__module__ == value.__module__}
    for full, function in functions.items():
        signature = inspect.signature(function)
        untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert not untyped, f"{full}: {untyped}"
        assert signature.return_annotation is not signature.empty or full.endswith("__init__"), full


DERIVED = {"kernels/convolution.py": ["dw[i,j]", "dx[n,a,b]"], "kernels/group_norm.py": ["<dxhat xhat>"],
           "kernels/softmax.py": ["dy_i - sum_k dy_k y_k"],
           "kernels/attention.py": ["rowsum(do o)"], "diffusion/posterior.py": ["1 / beta_tilde", "mean / beta_tilde"],
           "diffusion/samplers/ddim.py": ["sigma_s^2 - s_hat^2"], "diffusion/samplers/dpmpp_2m.py": ["e^lambda x_0 d lambda"],
           "kernels/winograd_transforms.py": ["M_p(z) / N_p"]}


@pytest.mark.parametrize("file", DERIVED)
def test_derivations_stand_beside_the_code_with_their_tests(file):
    doc = ast.get_docstring(ast.parse((ROOT / "tinydiff" / file).read_text(encoding="utf-8")))
    assert all(line in doc for line in DERIVED[file])
    assert re.search(r"Checked by|, and (against|the orders)", doc)
    checks = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", doc)
    assert checks
    for path, test in checks:
        assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{file} names {path}::{test}"


KERNEL_FILES = [path for path in MODULES if path.parent.name == "kernels" and "@kernel(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.name)
def test_a_kernel_says_why_it_is_fast_between_the_reference_and_itself(path):
    """What the hardware wants, how it gets that, and the gain, whose figures are those of benchmarks/README.md."""
    text = path.read_text(encoding="utf-8")
    wants, gets, gains = (text.index(f"# {words}") for words in ("What the hardware wants:", "How it gets that:", "What it gains"))
    assert wants < gets < gains < min(text.index(mark) for mark in ("\n@kernel(", "\n@jit", "\n@emitter") if mark in text)
    benchmarks = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    table = benchmarks[benchmarks.index("## The kernels and their references"):benchmarks.index("## Sampling")]
    paragraph = text[gains:text.index("\n\n", gains)]
    for figure in re.findall(r"\d+\.\d x", paragraph):
        assert f"| {figure} |" in table, figure


def test_no_function_needs_scrolling():
    """At most 50 lines below its docstring."""
    for path in (*MODULES, *(ROOT / "examples").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
                assert node.end_lineno - start <= 50, f"{path}: {node.name}"


def test_no_file_is_longer_than_a_reader_likes_without_saying_why():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300 or "one file" in ast.get_docstring(ast.parse(text)), path
