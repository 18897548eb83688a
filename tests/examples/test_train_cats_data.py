"""What the main job does with pictures of all origins: a stranger's archive, a set larger than memory, the photographs to download."""
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.data.test_hostile import GOOD_TAR, tar_member, write_tar
from tests.data.test_oxford_pets import Server

ROOT = Path(__file__).parents[2]
TINY = ["--size", "16", "--channels", "8", "--epochs", "1", "--batch", "4", "--steps", "2", "--held-out", "0.3"]


def train_cats(before, *flags, **env):
    """The job after some other lines of Python."""
    code = (f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = sys.argv[1:]\n{before}\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    return subprocess.run([sys.executable, "-c", code, str(ROOT / "examples" / "train_cats.py"), *TINY, *map(str, flags)],
                          capture_output=True, text=True, timeout=300, encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"} | env)


def test_a_strangers_archive_read_through_a_cache(tmp_path):
    path = write_tar(tmp_path / "p.tar", *GOOD_TAR, tar_member("evil\n4. Generate: done\x1b[2J.png"), tar_member("\u202egnp.txt.png"),
                     tar_member("byte\udcff.png"), tar_member("/etc/evil.png", GOOD_TAR[0][1]), *(
                         tar_member(f"more{i}.png", data) for i, (_, data) in enumerate(GOOD_TAR * 2)))
    out = tmp_path / "run"
    done = train_cats("from tinydiff.data import loading; loading.CACHE_BYTES = 0", "--data", path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout) & {"\x1b", "\r", "\u202e"} and done.stdout.count("\n4. ") == 1
    shown = ["/etc/evil.png: its name leads out of the archive", "byte\\udcff.png: the file is empty",
             "evil\\n4. Generate: done\\x1b[2J.png: the file is empty", "\\u202egnp.txt.png: the file is empty"]
    assert (out / "skipped.txt").read_text(encoding="utf-8").splitlines() == sorted(shown, key=lambda line: line.startswith("\\u202e"))
    for line in shown:
        assert f"\n  {line}\n" in done.stdout and line in (out / "report.html").read_text(encoding="utf-8")
    assert f"They stay on the disk, in {path}.16px.1000.npy" in done.stdout
    assert "1. Input: 6 images" in done.stdout and "with fewer than 500, the model will tend to repeat them" in done.stdout
    facts = json.loads((out / "neighbours.json").read_text())
    assert len(facts["samples"]) == 64 and len(facts["held_out"]) == 2 and np.all(np.array(facts["samples"]) > 0)
    again = train_cats("from tinydiff.data import loading; loading.CACHE_BYTES = 2**40; loading.cache_places = lambda *_: []",
                       "--data", path, "--out", tmp_path / "memory")
    assert again.returncode == 0, again.stderr
    assert (out / "samples.png").read_bytes() == (tmp_path / "memory" / "samples.png").read_bytes()      # the same run, from memory


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="no such signal here")
def test_a_cache_that_is_cut_off_while_it_is_read_does_not_end_the_run_in_silence(tmp_path):
    """Nothing can be saved then: the last checkpoint, of the epoch before, stays."""
    folder, out = tmp_path / "pictures", tmp_path / "run"
    folder.mkdir()
    for i in range(40):                                     # of 768 bytes each: 8 pages, of which the first will be left
        (folder / f"{i}.png").write_bytes(GOOD_TAR[0][1])
    cut = ("import os; from tinydiff.data import loading; loading.CACHE_BYTES = 0\n"
           "from tinydiff.training import Trainer; step = Trainer.step\n"
           "def cutting(self):\n"
           "    if self.epoch == 1 and self.global_step % self.steps_per_epoch == 0:\n"
           "        os.truncate(self.train_images.images.filename, 200)\n"
           "    return step(self)\n"
           "Trainer.step = cutting")
    done = train_cats(cut, "--epochs", 3, "--data", folder, "--out", out)
    assert done.returncode == -signal.SIGBUS and "Fatal Python error: Bus error" in done.stderr
    again = train_cats("from tinydiff.data import loading; loading.CACHE_BYTES = 0", "--out", out, "--resume", "--epochs", 3)
    assert again.returncode == 0 and "Going on after step 7 of 21" in again.stdout, again.stderr


def test_an_error_about_a_strangers_file_is_one_line(tmp_path):
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a\n\x1b[2Jb.png"), io.BytesIO())
    done = train_cats("", "--data", tmp_path / "p.tar", "--out", tmp_path / "run")
    assert done.returncode == 2 and "a\\n\\x1b[2Jb.png: the file is empty" in done.stderr and len(done.stderr.splitlines()) == 1


def test_photographs_on_request(tmp_path):
    """Downloaded from a local server in the place of Oxford's; --resume knows the word, and then nothing is downloaded again."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        images, annotations = server.source("images.tar.gz"), server.source("annotations.tar.gz")
        local = ("import functools; from tinydiff.data import oxford_pets as o\n"
                 f"images, annotations = o.Source(*{tuple(images)}), o.Source(*{tuple(annotations)})\n"
                 "o.load_oxford_pets = functools.partial(o.load_oxford_pets, images=images, annotations=annotations)")
        flags = ["--out", tmp_path / "run", "--held-out", "0"]
        done = train_cats(local, "--data", "oxford-pets", "--classes", *flags, TINYDIFF_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr
        for words in ("(licence CC BY-SA 4.0) are downloaded once, to " + str(tmp_path / "cache" / "oxford-pets"),
                      "4 cats with a box around the head; left out: 1 without one and 2 dogs.", "1. Input: 4 images x 16 x 16 x 3",
                      "left out 10% of the time: Bombay, Maine Coon"):
            assert words in done.stdout
        asked = len(server.ranges)
        again = train_cats(local, *flags, "--resume", TINYDIFF_CACHE=str(tmp_path / "cache"))
        server.shutdown()
    assert again.returncode == 0 and "1. Input: 4 images" in again.stdout and len(server.ranges) == asked == 2, again.stderr


def test_offline_the_photographs_are_one_clear_line(tmp_path):
    nowhere = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = train_cats("", "--data", "oxford-pets", "--out", tmp_path / "run", TINYDIFF_CACHE=str(tmp_path / "cache"), no_proxy="", **nowhere)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "annotations.tar.gz can't be had" in done.stderr and "Are you online? The file may also be fetched in another way" in done.stderr
    assert not (tmp_path / "run").exists()
