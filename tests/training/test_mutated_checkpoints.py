"""Checkpoints are files from strangers: whatever is in them, they are read to a good value or to one of our errors, in little memory."""
import io
import json
import os
import struct
import tracemalloc
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.training.runs import network, pictures, trainer
from tinydiff.training import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """(a folder, the bytes of a checkpoint, what it holds)."""
    folder = tmp_path_factory.mktemp("checkpoint")
    run = trainer(folder, model=network(num_classes=2), image_set=pictures(labels=np.arange(13) % 2))
    for _ in range(3):                                      # with a quarter of its steps done, it also has .weak
        run.step()
    save_checkpoint(folder / "good.npz", run)
    with np.load(folder / "good.npz") as arrays:
        return folder, (folder / "good.npz").read_bytes(), dict(arrays)


def read(folder, data):
    """The checkpoint in these bytes, or None where they are refused as a checkpoint must be: by a ValueError that names the file."""
    path = folder / "mutated.npz"
    path.write_bytes(data)
    try:
        return load_checkpoint(path)
    except ValueError as error:
        assert str(error).startswith(f"{path} is damaged or not a checkpoint")
        return None


def same(found, arrays):
    config = json.loads(arrays["config"].tobytes())
    groups = {"model": found.model.state_dict(), "ema": found.ema.model.state_dict(), "adam_m": found.adam_m, "adam_v": found.adam_v,
              "weak": found.weak.state_dict()}
    return (found.step == arrays["step"] and json.loads(json.dumps(asdict(found.config))) == config["train"] and found.data == config["data"]
            and all(np.array_equal(arrays[f"{group}/{name}"], array) for group, named in groups.items() for name, array in named.items()))


@st.composite
def damage(draw, data):
    """The bytes after what happens to files: bytes changed, cut off, lost, or written twice; more often in the directory at the end."""
    data, n = bytearray(data), len(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.one_of(st.integers(0, n - 1), st.integers(max(0, n - 4000), n - 1)))
        kind = draw(st.sampled_from(["flip", "bytes", "cut", "lose", "twice", "zeros"]))
        size = draw(st.integers(1, 300))
        if kind == "flip":
            data[at % len(data)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "bytes":
            data[at:at + 4] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut":
            del data[at:]
        elif kind == "lose":
            del data[at:at + size]
        elif kind == "twice":
            data[at:at] = data[at:at + size]
        else:
            data[at:at + size] = bytes(size)
        data = data or bytearray(1)
    return bytes(data)


def check_damage(good, draw):
    folder, data, arrays = good
    mutated = draw.draw(damage(data))
    found = read(folder, mutated)
    assert found is None or same(found, arrays)             # a byte that no one reads, or it is noticed


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 5), st.sampled_from([10**9, 10**15, -10**30, 2**63, 1e308, -0.0, 0.5]),
                   st.text(max_size=5), st.lists(st.integers(-1, 10**6), max_size=4), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))

OTHER_ARRAYS = [np.zeros(0), np.zeros((1, 2, 3), np.float32), np.array(["cat"]), np.zeros(16, complex), np.asfortranarray(np.ones((3, 3))),
                np.zeros((3, 3, 3, 16)), np.zeros((3, 3, 3, 16), np.float32), np.float32(1), np.zeros(16, np.int64)]


def check_settings(good, draw):
    """A checkpoint that is whole, but says of itself what its author likes: other settings, other shapes, arrays more or less."""
    folder, _, arrays = good
    arrays, config = dict(arrays), json.loads(arrays["config"].tobytes())
    for _ in range(draw.draw(st.integers(1, 2))):
        kind = draw.draw(st.sampled_from(["value", "value", "value", "shape", "drop", "add", "step"]))
        name = draw.draw(st.sampled_from(sorted(arrays)))
        if kind == "value":
            part = config[draw.draw(st.sampled_from(sorted(config)))]
            part[draw.draw(st.sampled_from([*sorted(part), "new"]))] = draw.draw(VALUES)
        elif kind == "shape":
            arrays[name] = OTHER_ARRAYS[draw.draw(st.integers(0, len(OTHER_ARRAYS) - 1))]
        elif kind == "drop":
            arrays.pop(name)
        elif kind == "add":
            arrays[draw.draw(st.sampled_from(["model/x", "../../etc/passwd", "/abs", "model/conv_in.weight/", "\x00"]))] = np.zeros(2)
        else:
            arrays["step"] = np.array(draw.draw(st.sampled_from([-1, 0, 5, 2**62])))
    if "config" in arrays and arrays["config"].dtype == np.uint8:
        arrays["config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    found = read_in_little_memory(folder, file.getvalue())
    assert found is None or isinstance(found, Checkpoint)


def read_in_little_memory(folder, data):
    tracemalloc.start()
    try:
        found = read(folder, data)
        assert tracemalloc.get_traced_memory()[1] < 50e6    # a good one has 0.9 MB
        return found
    finally:
        tracemalloc.stop()


def test_bombs_are_not_unpacked(good):
    """A compressed array of a gigabyte in a megabyte, and one array under the names of a thousand."""
    folder, data, arrays = good
    packed, overlapping = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("config.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (10**9,)})
        for _ in range(1000):
            member.write(bytes(10**6))
    assert read_in_little_memory(folder, packed.getvalue()) is None and len(packed.getvalue()) < 2e6
    with zipfile.ZipFile(overlapping, "w") as archive:
        archive.writestr("config.npy", bytes(10**6))
        first = archive.filelist[0]
        archive.filelist += [first] * 1000
    assert read_in_little_memory(folder, overlapping.getvalue()) is None


def test_a_directory_of_a_million_entries_is_not_read(good):
    """Each of its 47 bytes would take some 700 in memory."""
    n, entry = 10**6, struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, *[0] * 8, 1, *[0] * 6) + b"a"
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, n, n, n * len(entry), 0) + struct.pack("<4sLQL", b"PK\6\7", 0, n * len(entry), 1)
    assert read_in_little_memory(good[0], entry * n + end + struct.pack("<4s4H2LH", b"PK\5\6", *[2**16 - 1] * 4, *[2**32 - 1] * 2, 0)) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "checkpoint.npz")
    with pytest.raises(ValueError, match="checkpoint.npz is not a regular file"):
        load_checkpoint(tmp_path)


def test_names_of_a_stranger_do_not_reach_the_terminal_as_they_are(good, tmp_path, capsys):
    folder, data, arrays = good
    with zipfile.ZipFile(tmp_path / "checkpoint.npz", "w") as archive:
        for name, array in (arrays | {"\x1b[2J\n" + "x" * 60_000: np.zeros(2)}).items():
            with archive.open(name + ".npy", "w") as member:
                np.lib.format.write_array(member, array)
    (tmp_path / "checkpoint.previous.npz").write_bytes(data)
    load_checkpoint(tmp_path)
    told = capsys.readouterr().err
    assert "wrong arrays" in told and "taking the one before it" in told and told.count("\n") == 1 and "\x1b" not in told and len(told) < 1000


@settings(max_examples=40, deadline=2000)
@given(st.data())
def test_damage_is_noticed(good, draw):
    check_damage(good, draw)


@settings(max_examples=40, deadline=2000)
@given(st.data())
def test_settings_of_a_stranger(good, draw):
    check_settings(good, draw)


@pytest.mark.slow
@settings(max_examples=800, deadline=2000)
@given(st.data())
def test_much_damage_is_noticed(good, draw):
    check_damage(good, draw)


@pytest.mark.slow
@settings(max_examples=500, deadline=2000)
@given(st.data())
def test_many_settings_of_strangers(good, draw):
    check_settings(good, draw)
