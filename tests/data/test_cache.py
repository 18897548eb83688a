"""The memory-mapped cache of a large set: the same pictures, made once, made again when it must be, whatever happens on the way."""
import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.data.test_hostile import as_a_plain_user, picture, posix
from tinydiff.data import cache, load_images, loading

ROOT = Path(__file__).parents[2]
FILES = {f"{coat}/{i}.png": picture(17 * i + len(coat)) for i in range(3) for coat in ("black", "grey", "tabby")}
BAD = {"grey/0a.png": b"", "tabby/9.jpg": b"no picture"}


@pytest.fixture(autouse=True)
def every_set_is_large(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(loading, "CACHE_BYTES", 0)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("TINYDIFF_CACHE", raising=False)


def make_folder(folder):
    for name, data in (FILES | BAD).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (FILES | BAD).items():
            archive.writestr(name, data)
    return path


def in_memory(*arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "CACHE_BYTES", 2**40)
        patch.setattr(loading, "cache_places", lambda *_: [])
        return load_images(*arguments, **options)


def same(a, b):
    np.testing.assert_array_equal(a.images, b.images)
    assert (a.names, a.label_names, a.skipped) == (b.names, b.label_names, b.skipped)
    np.testing.assert_array_equal(a.labels, b.labels)
    return True


def read_without_decoding(*arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "decode", lambda *_: pytest.fail("a picture was read"))
        return load_images(*arguments, **options)


@pytest.mark.parametrize("make, name", [(make_folder, "pictures"), (make_zip, "p.zip")])
@pytest.mark.parametrize("limit", [None, 5])
def test_a_cache_holds_the_same_as_memory(tmp_path, make, name, limit):
    """With a limit the pictures are read class by class: they have to be brought into the order of their names."""
    path, done = make(tmp_path / name), []
    first = load_images(path, 16, limit, progress=lambda *counts: done.append(counts))
    assert isinstance(first.images, np.memmap) and first.images.mode == "r" and not first.images.flags.writeable
    assert done[-1] == (5, 5) if limit else done == [(i, len(FILES) + len(BAD)) for i in range(1, len(FILES) + 1)]
    assert same(first, in_memory(path, 16, limit))
    assert same(read_without_decoding(path, 16, limit), first)
    file = tmp_path / f"{name}.16px.{limit or 'all'}.npy"
    assert sorted(tmp_path.iterdir()) == sorted([path, file])
    np.testing.assert_array_equal(np.load(file, allow_pickle=False), first.images)      # any NumPy reads it


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_in_the_place_of_a_cache_is_not_waited_for(tmp_path):
    path = make_zip(tmp_path / "p.zip")
    place = cache.cache_places(path, 8, None)[0]
    os.mkfifo(place)
    same(load_images(path, 8), in_memory(path, 8))
    assert place.is_file()


def touch(folder):
    os.utime(folder / "black/1.png", ns=(1, 1))


def replace_bytes(folder):
    """Another picture of the same name and time, and of another length."""
    facts = os.stat(folder / "black/1.png")
    (folder / "black/1.png").write_bytes(picture(99) + b" ")
    os.utime(folder / "black/1.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))


CHANGES = {"a file's time": touch, "a file's length": replace_bytes, "a file more": lambda folder: (folder / "black/8.png").write_bytes(picture(8)),
           "a file less": lambda folder: (folder / "tabby/2.png").unlink(),
           "a name": lambda folder: (folder / "tabby/2.png").rename(folder / "tabby/3.png"),
           "a bad file mended": lambda folder: (folder / "grey/0a.png").write_bytes(picture(70))}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_source_is_read_again(tmp_path, what):
    folder = make_folder(tmp_path / "pictures")
    load_images(folder, 16)
    CHANGES[what](folder)
    with pytest.raises(pytest.fail.Exception, match="a picture was read"):
        read_without_decoding(folder, 16)
    assert same(load_images(folder, 16), in_memory(folder, 16))
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_a_changed_archive_other_sizes_limits_and_versions(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "p.zip")
    load_images(path, 16)
    assert load_images(path, 8).images.shape[1] == 8 and len(load_images(path, 16, 4)) == 4 and len(read_without_decoding(path, 16)) == 9
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("black/7.png", picture(7))
    assert len(load_images(path, 16)) == 10
    for module, name, value in ((cache, "VERSION", 2), (cache.PIL, "__version__", "0.1"), (cache, "MAX_JSON", 10)):
        with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception, match="a picture was read"):
            patch.setattr(module, name, value)
            read_without_decoding(path, 16)
    assert len(read_without_decoding(path, 16)) == 10


def test_on_bad_raise_is_obeyed_by_a_cache(tmp_path):
    folder = make_folder(tmp_path / "pictures")
    load_images(folder, 16)
    with pytest.raises(ValueError, match="load_images: grey/0a.png in .*: the file is empty"):
        load_images(folder, 16, on_bad="raise")


def test_a_damaged_cache_is_never_taken_for_a_good_one(tmp_path):
    """Also one whose writing was cut off, and one of which the file system has lost a block."""
    path, file = make_zip(tmp_path / "p.zip"), tmp_path / "p.zip.8px.all.npy"
    expected = in_memory(path, 8)
    load_images(path, 8)
    key, whole = cache.source_key(path, 8, None), file.read_bytes()
    place = st.one_of(st.integers(0, len(whole) - 1), st.integers(0, 200), st.integers(len(whole) - 100, len(whole) - 1))

    @settings(max_examples=300, deadline=None, database=None)
    @given(st.dictionaries(place, st.integers(1, 255), max_size=3), st.one_of(st.none(), place),
           st.one_of(st.none(), st.tuples(place, st.integers(1, 999))))
    def damage(flips, cut, lost):
        data = bytearray(whole)
        for at, change in flips.items():
            data[at] ^= change
        if lost:
            data[lost[0]:sum(lost)] = bytes(len(data[lost[0]:sum(lost)]))
        del data[cut:]
        file.write_bytes(data)
        assert (cache.open_cache(file, key) is None) == (data != whole)

    damage()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        assert cache.open_cache(file, key) is None, at
    for data in (b"", whole[:-1], whole[:3000], whole[:1000] + b"?" + whole[1001:]):
        file.write_bytes(data)
        assert same(load_images(path, 8), expected) and file.read_bytes() == whole


def forged(key, shape, facts, data=b""):
    """A cache whose checksums are right, whatever it says."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    text = json.dumps(facts | {"key": key, "crc32": zlib.crc32(data)}).encode() if isinstance(facts, dict) else facts
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data + text + struct.pack("<QI", len(text), zlib.crc32(text))


def test_a_forged_cache_is_looked_at_before_memory_is_taken(tmp_path):
    path = make_zip(tmp_path / "p.zip")
    key, data = cache.source_key(path, 8, None), bytes(2 * 8 * 8 * 3)
    facts = {"labels": None, "label_names": [], "names": ["a", "b"], "skipped": []}
    file = tmp_path / "p.zip.8px.all.npy"
    file.write_bytes(forged(key, (2, 8, 8, 3), facts, data))
    assert load_images(path, 8).names == ["a", "b"]                     # the forger knows his trade
    good = (2, 8, 8, 3)
    for shape, other in [((10**17, 8, 8, 3), facts), ((2, 8, 8, 4), facts), ((2, 8, 8), facts), ((-2, 8, 8, 3), facts), ("open('x')", facts),
                         (good, facts | {"names": ["a"]}), (good, facts | {"names": [1, 2]}), (good, facts | {"labels": [0, 3]}),
                         (good, facts | {"skipped": [["a", "b", "c"]]}), (good, b"[" * 100_000), (good, b"[]")]:
        file.write_bytes(forged(key, shape, other, data))
        assert cache.open_cache(file, key) is None, (shape, other)
    file.write_bytes(forged(key, (2, 8, 8, 3), facts, data)[:-12] + struct.pack("<QI", 2**62, 0))
    assert cache.open_cache(file, key) is None


# ----- where it lies, and when there is no room

@posix
def test_beside_a_source_that_is_not_ones_own_nothing_is_written():
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)
        top.chmod(0o755)
        (top / "theirs").mkdir()
        path = make_zip(top / "theirs" / "p.zip")
        (top / "home").mkdir()
        for folder, mode in (("theirs", 0o555), ("home", 0o777)):
            (top / folder).chmod(mode)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(top / "home"))
            with as_a_plain_user():
                assert same(load_images(path, 16), in_memory(path, 16)) and same(read_without_decoding(path, 16), in_memory(path, 16))
            (file,) = (top / "home" / "tinydiff").iterdir()
            assert file.name.endswith(".p.zip.16px.all.npy") and os.listdir(top / "theirs") == ["p.zip"]
            shutil.rmtree(top / "home" / "tinydiff")
            (top / "home").chmod(0o555)
            with as_a_plain_user(), pytest.raises(OSError, match="need a cache of .*theirs: Permission denied; .*tinydiff: Permission denied. Free"):
                load_images(path, 16)
            for folder in ("theirs", "home"):
                (top / folder).chmod(0o755)


def test_a_folder_of_ones_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYDIFF_CACHE", str(tmp_path / "chosen"))
    (tmp_path / "source").mkdir()
    path = make_zip(tmp_path / "source" / "p.zip")
    load_images(path, 16)
    assert len(list((tmp_path / "chosen").iterdir())) == 1 and os.listdir(tmp_path / "source") == ["p.zip"]


def test_too_little_room_is_seen_before_anything_is_read(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "p.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9000, 1000, 8000))
    monkeypatch.setattr(loading, "decode", lambda *_: pytest.fail("a picture was read"))
    with pytest.raises(OSError, match="11 pictures need a cache of 0.0 GB on disk, but .* has 0.0 GB free; .*TINYDIFF_CACHE") as error:
        load_images(path, 16)
    assert "\n" not in str(error.value)


@posix
def test_a_disk_that_gets_full(tmp_path):
    """A limit on the length of files does the same as a disk's last free block."""
    import resource
    path = make_zip(tmp_path / "p.zip")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError, match="p.zip.16px.all.npy could not be written .File too large.. Free some space") as error:
            load_images(path, 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value) and error.value.__cause__.errno == errno.EFBIG
    assert os.listdir(tmp_path) == ["p.zip"]


def test_an_interrupted_one_leaves_nothing(tmp_path):
    path = make_zip(tmp_path / "p.zip")

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_images(path, 16, progress=interrupt)
    assert os.listdir(tmp_path) == ["p.zip"]


MAKE = ("import sys, time; sys.path.insert(0, sys.argv[1]); from tinydiff.data import load_images, loading; loading.CACHE_BYTES = 0\n"
        "def slowly(done, most):\n    print(done, flush=True); time.sleep(float(sys.argv[3]))\n"
        "print(load_images(sys.argv[2], 16, progress=slowly).images.sum())")


def start(path, pause):
    return subprocess.Popen([sys.executable, "-c", MAKE, str(ROOT), str(path), str(pause)], stdout=subprocess.PIPE, text=True)


def test_several_processes_at_once(tmp_path):
    path = make_zip(tmp_path / "p.zip")
    processes = [start(path, 0.02) for _ in range(3)]
    sums = {process.communicate(timeout=100)[0].split()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0] * 3 and sums == {str(in_memory(path, 16).images.sum())}
    assert sorted(os.listdir(tmp_path)) == ["p.zip", "p.zip.16px.all.npy"]


def test_a_killed_process_leaves_no_cache_and_its_rest_is_cleared_away(tmp_path):
    path = make_zip(tmp_path / "p.zip")
    process = start(path, 60)
    process.stdout.readline()
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate()
    (rest,) = tmp_path.glob("*.part")
    assert same(load_images(path, 16), in_memory(path, 16)) and rest.exists()      # it could be that of a process that still goes on
    (tmp_path / "p.zip.16px.all.npy").unlink()
    os.utime(rest, (time.time() - 2 * cache.STALE,) * 2)
    load_images(path, 16)
    assert sorted(os.listdir(tmp_path)) == ["p.zip", "p.zip.16px.all.npy"]


# ----- in numbers

TRAIN = """
import resource, sys; sys.path.insert(0, sys.argv[1])
import numpy as np
from tinydiff.data import drawn_cats, load_images, loading
from tinydiff.training import TrainConfig, Trainer
from tinydiff.nn import UNet, UNetConfig
path, out, most, train = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] == "train"
loading.CACHE_BYTES = 2**24
def trainer(images, epochs):
    model = UNet(UNetConfig(image_size=64, channels=8, channel_mults=(1, 1)), rng=np.random.default_rng(0))
    return Trainer(model, images, TrainConfig(epochs=epochs, batch=8), out)
if train:
    trainer(drawn_cats(20), 1).step()                                   # the kernels are compiled
data = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + most, -1))             # memory of its own, files that are mapped not counted
for again in range(2):
    images = load_images(path)
    run = trainer(images, 1)
    for _ in range(3 if train else 0):
        run.step()
print(len(images), type(images.images).__name__, len(run.train_images))
try:
    np.array(images.images)
except MemoryError:
    print("too large for memory")
"""


def train_within(tmp_path, n, most, train):
    """n pictures through a cache and a trainer, in a process that may take `most` bytes more than before, which all pictures do not fit into."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        different = [picture(i) for i in range(50)]
        for i in range(n):
            archive.writestr(f"{i:06}.png", different[i % 50])
    done = subprocess.run([sys.executable, "-c", TRAIN, str(ROOT), str(path), str(tmp_path / "run"), str(most), "train" if train else ""],
                          capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{n} memmap {n - round(0.1 * n)}", "too large for memory"]


linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")


@linux
def test_a_set_larger_than_memory(tmp_path):
    train_within(tmp_path, 3000, 2**24 + 2**23, train=False)            # 37 MB of pictures


@linux
@pytest.mark.slow
def test_a_hundred_thousand_pictures_are_trained_on(tmp_path):
    train_within(tmp_path, 100_000, 300 * 2**20, train=True)            # 1.2 GB of pictures
