"""A data set larger than memory: its small pictures in one file, made once, of which the system keeps in memory what is being used.

The file is a .npy of the pictures (N,size,size,3) uint8, with JSON behind the array (what it was made from, names, labels, checksums) and
the length and the CRC-32 of that JSON at the very end. It lies beside the pictures or, where nothing can be written there, in the user's
cache folder. Whatever is wrong with it, or different in the source, it is made again.

Read first: `archives.py`.
"""
import glob
import hashlib
import io
import json
import math
import os
import shutil
import struct
import time
import uuid
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import PIL

from tinydiff.data.archives import list_pictures
from tinydiff.data.decoding import reason
from tinydiff.data.image_set import ImageSet

CACHE_BYTES = 2**28     # sets of which the pictures take more than this are cached
VERSION = 1             # of this format and of all that decides how a picture is cropped and resized
HEADER = 128            # bytes of the .npy header of such an array; NumPy leaves room in it for N to grow
TAIL = struct.Struct("<QI")
MAX_JSON = 2**27        # bytes
STALE = 3600            # seconds after which a half-written file is taken for one that a killed process has left
PIECE = 2**20


def cache_folder() -> Path:
    """Where this user's downloads and caches belong: TINYDIFF_CACHE, else "tinydiff" in the system's own folder for such."""
    if os.environ.get("TINYDIFF_CACHE"):
        return Path(os.environ["TINYDIFF_CACHE"])
    system = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(system) if system else Path("~/.cache").expanduser()) / "tinydiff"


def cache_places(path: Path, size: int, limit: int | None) -> list[Path]:
    """Where the cache of these pictures may lie, the best place first: with TINYDIFF_CACHE only there."""
    path = Path(os.path.abspath(path))
    name = f"{path.name}.{size}px.{'all' if limit is None else limit}.npy"
    elsewhere = cache_folder() / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.{name}"
    return [elsewhere] if os.environ.get("TINYDIFF_CACHE") else [path.with_name(name), elsewhere]


def source_key(path: Path, size: int, limit: int | None) -> dict:
    """What a cache must have been made from to be good: the names, sizes and times of all picture files, or the archive's own."""
    digest = hashlib.sha256()
    with ExitStack() as stack:
        files = [path / name for name in list_pictures(path, stack)] if path.is_dir() else [path]
    for file in files:
        try:
            facts = os.stat(file)
            digest.update(repr((os.fspath(file.relative_to(path)), facts.st_size, facts.st_mtime_ns)).encode())
        except OSError as error:
            digest.update(repr((os.fspath(file.relative_to(path)), error.errno)).encode())
    return {"version": VERSION, "pillow": PIL.__version__, "size": size, "limit": limit, "source": digest.hexdigest()}


def find_cache(places: list[Path], path: Path, size: int, limit: int | None) -> ImageSet | None:
    """The set from the first good cache of these pictures, if there is one."""
    for place in filter(os.path.isfile, places):         # opening a pipe would wait for ever
        cached = open_cache(place, source_key(path, size, limit))
        if cached:
            return cached
    return None


def open_cache(file_name: Path, key: dict) -> ImageSet | None:
    """The set with its pictures mapped, read-only, or None where there is no whole and undamaged cache of what the key describes."""
    try:
        with open(file_name, "rb") as file:
            whole = file.seek(-TAIL.size, os.SEEK_END)
            length, crc32 = TAIL.unpack(file.read())
            if length > min(MAX_JSON, whole):
                return None
            end = file.seek(whole - length)
            text = file.read(length)
            facts = json.loads(text) if zlib.crc32(text) == crc32 else {}
            if facts.get("key") != key:
                return None
            header, shape = _header(len(facts["names"]), key["size"])
            file.seek(0)
            if file.read(HEADER) != header or HEADER + math.prod(shape) != end or _crc32(file, HEADER, math.prod(shape)) != facts["crc32"]:
                return None
            images = np.memmap(file, np.uint8, "r", HEADER, shape)
        labels = None if facts["labels"] is None else np.array(facts["labels"], np.int64)
        skipped = [(name, why) for name, why in facts["skipped"]]
        if not all(isinstance(text, str) for texts in (facts["label_names"], facts["names"], *skipped) for text in texts):
            return None
        return ImageSet(images, labels, facts["label_names"], facts["names"], skipped)
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, struct.error):
        return None


class CacheWriter:
    """Writes a cache under another name; `finish` gives it its own, at once, so that others only ever see a whole one."""

    def __init__(self, places: list[Path], size: int, most: int):
        """places: where it may lie; most: how many pictures of size x size there may be. Raises OSError where none of the places has room."""
        self.row, self.count, self.temporary, problems = size * size * 3, 0, [], []
        for self.place in places:
            try:
                self.place.parent.mkdir(parents=True, exist_ok=True)
                for old in glob.glob(glob.escape(f"{self.place}.") + "*.part"):
                    if time.time() - os.path.getmtime(old) > STALE:
                        os.remove(old)
                free = shutil.disk_usage(self.place.parent).free
                if free < most * self.row:
                    problems.append(f"{self.place.parent} has {free / 1e9:.1f} GB free")
                    continue
                self.file = self._create()
                return
            except OSError as error:
                problems.append(f"{self.place.parent}: {reason(error)}")
        raise OSError(f"load_images: {most:,} pictures need a cache of {most * self.row / 1e9:.1f} GB on disk, but {'; '.join(problems)}. Free some "
                      "space, set TINYDIFF_CACHE to a folder that has it, or use fewer or smaller pictures")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in self.temporary:
            with suppress(OSError):  # of a full disk: closing tries once more to write
                file.close()
            Path(file.name).unlink(missing_ok=True)

    def append(self, picture: np.ndarray) -> None:
        """Adds a picture (size,size,3) uint8. Raises OSError, with what to do, where the disk is full."""
        self._write(self.file, picture.tobytes())
        self.count += 1

    def finish(self, order: list[int], key: dict, facts: dict) -> ImageSet:
        """The set of the pictures in this order. facts: labels, label_names, names, skipped, as JSON has them."""
        if order != sorted(order):
            unordered, self.file = self.file, self._create()
            for i in order:
                unordered.seek(HEADER + i * self.row)
                self._write(self.file, unordered.read(self.row))
        file = self.file
        file.seek(0)
        self._write(file, _header(self.count, key["size"])[0])
        text = json.dumps(facts | {"key": key, "crc32": _crc32(file, HEADER, self.count * self.row)}).encode()
        file.seek(0, os.SEEK_END)
        self._write(file, text + TAIL.pack(len(text), zlib.crc32(text)))
        try:
            os.fsync(file.fileno())
            file.close()
            os.replace(file.name, self.place)
        except PermissionError:
            pass  # Windows, where a file in use can't be replaced: another process has made the same cache meanwhile and reads it
        except OSError as error:
            raise self._failed(error) from error
        found = open_cache(self.place, key)
        if found is None:
            raise OSError(f"load_images: {self.place} was written and can't be read back")
        return found

    def _create(self):
        file = open(f"{self.place}.{uuid.uuid4().hex[:8]}.part", "x+b")
        self.temporary.append(file)
        self._write(file, bytes(HEADER))
        return file

    def _write(self, file, data):
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error):
        return OSError(f"load_images: the pictures' cache {self.place} could not be written ({reason(error)}). Free some space, set TINYDIFF_CACHE "
                       "to a folder that has it, or use fewer or smaller pictures")


def _header(n, size):
    """The first HEADER bytes of the .npy file of n pictures, and the array's shape."""
    shape, header = (n, size, size, 3), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue(), shape


def _crc32(file, start, count):
    """The CRC-32 of count bytes from start on, read piece by piece."""
    file.seek(start)
    crc32 = 0
    for done in range(0, count, PIECE):
        crc32 = zlib.crc32(file.read(min(PIECE, count - done)), crc32)
    return crc32
