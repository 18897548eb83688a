"""What the README says of the toolbox is there: every name resolves, every file exists, and nothing that can be chosen by name is left out."""
import re
from functools import reduce
from pathlib import Path

import tinydiff as td
from tinydiff import diffusion

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = README[README.index("## The toolbox"):README.index("## How it is checked")]
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
    tools = {"Schedule", "Step", "denoiser", "from_x0_eps", "initial_noise", "q_sample", "to_x0_eps", "stratified_times", "training_times",
             "lognormal_times", "simple_weights", "min_snr_weights", "p2_weights", "edm_weights"}
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


def test_files_and_pictures_of_the_readme_exist():
    for path in re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"`((?:tinydiff|examples|tests|benchmarks)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
