"""Checkpoints: the round trip, and files that are none."""
import dataclasses
import pickle

import numpy as np
import pytest

from tests.training.runs import RUN, network, trainer
from tinydiff.training import load_checkpoint, save_checkpoint


def test_round_trip(tmp_path):
    run = trainer(tmp_path)
    run.step()
    run.step()
    save_checkpoint(tmp_path / "early.npz", run)
    assert load_checkpoint(tmp_path / "early.npz").weak is None
    run.step()
    save_checkpoint(tmp_path / "c.npz", run)
    saved = load_checkpoint(tmp_path / "c.npz")
    assert saved.step == 3 and saved.config == run.config and saved.data == run.data and saved.model.config == run.model.config
    assert saved.ema.updates == 3
    for loaded, own in ((saved.model, run.model), (saved.ema.model, run.ema.model), (saved.weak, run.weak)):
        assert all(np.array_equal(array, own.state_dict()[name]) for name, array in loaded.state_dict().items())
    for loaded, own in ((saved.adam_m, run.optimizer.m), (saved.adam_v, run.optimizer.v)):
        assert all(np.array_equal(a, b) for a, b in zip(loaded.values(), own, strict=True))


def test_the_gaussian_comes_back(tmp_path):
    run = trainer(tmp_path, dataclasses.replace(RUN, gaussian=True))
    save_checkpoint(tmp_path / "c.npz", run)
    for own, loaded in zip(run.gaussian, load_checkpoint(tmp_path / "c.npz").gaussian, strict=True):
        assert own.dtype == loaded.dtype and np.array_equal(own, loaded)
    arrays = dict(np.load(tmp_path / "c.npz"))
    for name, array in (("directions", arrays["gaussian/directions"][1:]), ("mean", arrays["gaussian/mean"][:1]),
                        ("deviations", np.zeros(1 << 16, np.float32))):
        np.savez(tmp_path / "bad.npz", **arrays | {f"gaussian/{name}": array})
        with pytest.raises(ValueError, match=f"damaged or not a checkpoint of this version of tinydiff: gaussian/{name} (is|has)"):
            load_checkpoint(tmp_path / "bad.npz")


def test_double_precision_stays(tmp_path):
    save_checkpoint(tmp_path / "c.npz", trainer(tmp_path, model=network(dtype=np.float64)))
    assert load_checkpoint(tmp_path / "c.npz").model.conv_in.weight.dtype == np.float64


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    path = tmp_path / "c.npz"
    save_checkpoint(path, run)
    before = path.read_bytes()
    run.step()

    def disk_full(file, **arrays):
        file.write(b"half a checkp")
        raise OSError("no space left")
    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, run)
    assert path.read_bytes() == before and load_checkpoint(path).step == 0


class Bomb:
    """Unpickling this would run code."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def test_pickles_are_refused(tmp_path):
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb()))
    run = trainer(tmp_path)
    save_checkpoint(tmp_path / "good.npz", run)
    arrays = dict(np.load(tmp_path / "good.npz"))
    np.savez(tmp_path / "object.npz", **arrays | {"config": np.array([Bomb()], object)})
    for name in ("pickle.npz", "object.npz"):
        with pytest.raises(ValueError, match=f"{name} is damaged or not a checkpoint"):
            load_checkpoint(tmp_path / name)


def test_files_that_are_no_checkpoint(tmp_path):
    run = trainer(tmp_path)
    save_checkpoint(tmp_path / "good.npz", run)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:5000])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("text", "cut", "empty", "other"):
        with pytest.raises(ValueError, match=f"{name}.npz is damaged or not a checkpoint"):
            load_checkpoint(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.npz")
