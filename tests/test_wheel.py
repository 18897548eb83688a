"""The wheel: it has the package and its licence and nothing else, and draws pictures in an environment that has only the wheel."""
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

DRAW = """
import numpy as np
import tinydiff as td
model = td.nn.UNet(td.nn.UNetConfig(image_size=8, channels=8, channel_mults=(1,), groups=4, attention_resolutions=()), rng=np.random.default_rng(0))
schedule = td.diffusion.cosine()
x_T = td.diffusion.initial_noise(schedule, (2, 8, 8, 3))
*_, last = td.diffusion.ddim(td.diffusion.denoiser(model.eval(), schedule, "v"), schedule, x_T, steps=5)
td.training.load_pretrained()
print(td.__file__, td.data.to_uint8(last.x).shape)
"""


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_has_what_it_should_and_draws(tmp_path):
    source, outside = tmp_path / "source", tmp_path / "outside"
    outside.mkdir()
    run("git", "clone", "-q", ROOT, source, cwd=tmp_path)            # what is in the repository, without leftovers of other builds
    tracked = {name for name in run("git", "ls-files", "tinydiff", cwd=source).splitlines()}
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", outside, source, cwd=tmp_path)
    wheel, = outside.glob("tinydiff-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("dist-info/")[-1] for name in archive.namelist()}
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert names == tracked | {"METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE"}
    assert "License: MIT" in metadata and "Requires-Python: >=3.11" in metadata

    run(sys.executable, "-m", "venv", "fresh", cwd=outside)
    python = outside / "fresh" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "-q", wheel, cwd=outside)
    file, shape = run(python, "-c", DRAW, cwd=outside).strip().split(" ", 1)
    assert str(outside / "fresh") in file and shape == "(2, 8, 8, 3)"
