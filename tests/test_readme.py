"""What the README says is there: every name resolves, every file exists, its code runs, and nothing that can be chosen by name is left out."""
import ast
import re
from functools import reduce
from pathlib import Path

from PIL import Image

import tinydiff as td
from tinydiff import diffusion

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = README[README.index("## The toolbox"):README.index("## Your own pictures")]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("|")][2:]
BY_NAME = [diffusion.SCHEDULES, diffusion.TARGETS, diffusion.WEIGHTS, diffusion.TIME_SAMPLINGS, diffusion.SPACINGS, diffusion.SAMPLERS]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_all_that_is_chosen_by_name_has_a_row():
    told = {name for row in ROWS for name in names(row[1])}
    for choices in BY_NAME:
        assert set(choices) <= told


def test_every_public_function_has_a_row():
    """But for the tools that the others are used with, and the functions behind a name of WEIGHTS or TIME_SAMPLINGS."""
    tools = {"Gaussian", "Schedule", "Step", "denoiser", "fit_gaussian", "from_x0_eps", "initial_noise", "q_sample", "to_x0_eps",
             "stratified_times", "training_times", "lognormal_times", "simple_weights", "min_snr_weights", "p2_weights", "edm_weights"}
    told = {name for row in ROWS for name in names(row[1])}
    assert {name for name in diffusion.__all__ if not name.isupper()} - told == tools


def test_every_row_leads_to_its_code():
    for row in ROWS:
        assert len(row) == 5, row
        file, = names(row[4])
        source = (ROOT / "tinydiff" / file).read_text(encoding="utf-8")
        for name in names(row[1]):
            if name.startswith("td."):
                assert reduce(getattr, name.partition("(")[0].split(".")[1:], td)
            else:
                assert name in source or name in ("linear_zero_snr", "cosine_zero_snr", "sigmoid_zero_snr"), (name, file)


def test_every_paper_is_named_in_its_file():
    for row in ROWS:
        for number in re.findall(r"arXiv (\d{4}\.\d{5})", row[3]):
            assert number in (ROOT / "tinydiff" / names(row[4])[0]).read_text(encoding="utf-8"), (number, row)


def reading_path():
    """[(files of tinydiff, as paths from there; the question; what to run beside them)] from the table, in order."""
    section = README[README.index("## Reading path"):README.index("Shapes are written")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")][2:]
    path = []
    for files, question, beside in rows:
        folder, full = None, []
        for name in names(files):
            folder = Path(name).parent if "/" in name else folder       # the others of a row are its neighbours
            full.append((folder / Path(name).name).relative_to("tinydiff").as_posix())
        path.append((full, question, names(beside)))
    return path


def test_the_reading_path_passes_every_module_once():
    files = [file for row, _, _ in reading_path() for file in row]
    modules = [path.relative_to(ROOT / "tinydiff").as_posix() for path in (ROOT / "tinydiff").rglob("*.py")]
    assert sorted(files) == sorted(modules)


def test_the_reading_path_has_a_question_and_something_to_run_for_each():
    for files, question, beside in reading_path():
        assert question.endswith("?") and beside, files
        for command in beside:
            assert (ROOT / command).is_file() and command.startswith(("tests/", "examples/", "benchmarks/")), command
            source = (ROOT / command).read_text(encoding="utf-8")
            assert "\ndef test_" in source if command.startswith("tests/") else '__name__ == "__main__"' in source, command


def test_what_a_module_says_to_read_first_comes_before_it():
    """So that the path can be walked from its beginning, file by file, with nothing used that wasn't seen."""
    seen = []
    for file in (file for row, _, _ in reading_path() for file in row):
        if file != "__init__.py":
            first, = re.findall(r"^Read first: (.+(?:\n.+)*)\.$", module_docstring(file), re.MULTILINE)
            for name in names(first):
                before = next(path for path in ((Path(file).parent / name).as_posix(), name) if (ROOT / "tinydiff" / path).exists())
                assert before in seen, f"{file} says to read {before} first, which comes later"
            assert names(first) or first.startswith("nothing"), file
        seen.append(file)


def module_docstring(file):
    return ast.get_docstring(ast.parse((ROOT / "tinydiff" / file).read_text(encoding="utf-8")))


def test_files_pictures_and_parts_of_the_readme_exist():
    links = re.findall(r"\]\((?!https://)([^)]+)\)", README)
    parts = {"#" + re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^## (.+)", README, re.MULTILINE)}
    assert {link for link in links if link.startswith("#")} <= parts
    paths = [link for link in links if not link.startswith("#")]
    for path in paths + re.findall(r"`((?:tinydiff|examples|tests|benchmarks)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path


def test_every_file_of_the_tables_can_be_clicked():
    """The reading path, the toolbox and the examples: a name in a table is a link to the file that it names."""
    for line in README.splitlines():
        if line.startswith("|"):
            assert not re.search(r"(?<!\[)`[\w/]+\.py`", line), line
            for name, path in re.findall(r"\[`([\w./]+)`\]\(([^)]+)\)", line):
                assert path.endswith(name) or name.startswith("test_"), line      # a test's file is looked into below


def test_what_is_derived_is_linked():
    """From the README to a formula in one step."""
    derived = README[README.index("What is derived"):README.index("Shapes are written")]
    for path in re.findall(r"\]\(([^)]+)\)", derived):
        assert len(module_docstring(Path(path).relative_to("tinydiff")).splitlines()) > 15, path


def test_the_fifteen_lines_train_and_draw(tmp_path, monkeypatch):
    """As they stand, but for their numbers."""
    code, = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 15
    for large, small in (("1000)  ", "8, 16)"), ("image_size=64", "image_size=16, channels=8"), ("epochs=20", "epochs=1"),
                         ("(16, 64, 64, 3)", "(2, 16, 16, 3)"), ("steps=50", "steps=2")):
        assert code.count(large) == 1
        code = code.replace(large, small)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with Image.open("new_cats.png") as sheet:
        assert sheet.width > 16
    assert Path("runs/mine/checkpoint.npz").exists() and Path("runs/mine/log.csv").exists()


def test_every_promise_of_a_run_that_lasts_has_its_tests():
    section = README[README.index("## Runs that last"):README.index("## More than one machine")]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    for row in rows:
        proofs = re.findall(r"\[`(test_\w+)`\]\(([\w/.]+)\)", row)
        assert proofs, row
        for name, path in proofs:
            assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), (name, path)
    assert len(rows) == 13
