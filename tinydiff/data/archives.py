"""What a folder or an archive, perhaps a stranger's, holds: the names of its picture files, and a function for each that reads it.

Nothing from an archive is written under its own name, no link in one is followed, and what would take much memory or time is refused by
what it claims, before any is taken. A single bad file is `Refused`, to be named and skipped; an archive that is bad as a whole is a ValueError.

Read first: `decoding.py`.
"""
import gzip
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from tinydiff.data.decoding import reason

# Files that claim to be pictures. Others (README.txt, labels.csv) are nobody's lost picture and are passed over in silence.
# Pillow does not read .heic without a plugin: listed so that a phone's photographs are reported, not passed over.
PICTURE_SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .apng .gif .bmp .webp .avif .tif .tiff .ppm .pgm .pbm .pnm .tga .ico "
                             ".jp2 .heic .heif".split())
MAX_FILE_BYTES = 2**27      # of one picture file
MAX_ENTRIES = 1_000_000     # files and folders in all
MAX_NAME = 1024             # characters of a file's name, its folders included
MAX_NAMES = 2**25           # characters of all pictures' names
MAX_TAR_HEADER = 2**16      # bytes of what a tar says about one file
MAX_ZIP_DIRECTORY = 2**25   # bytes of what a zip says about all files
MAX_RATIO, FREE_BYTES = 20, 2**30   # an archive may unpack to 20 times its size and a gigabyte; photographs hardly shrink at all
SPOOL_BYTES = 2**26         # an unpacked .tar.gz is kept in memory up to this size, in an unnamed temporary file beyond
PIECE = 2**20

ADVICE = "give a folder, .zip or .tar[.gz] of pictures"


class RefusedArchive(ValueError):
    """An archive that is whole but must not be unpacked."""


@dataclass(frozen=True)
class Refused:
    """In place of the function that would read a file: the reason why there is none."""
    reason: str

    def __call__(self):
        raise ValueError(self.reason)


class Unlisted(Refused):
    """A folder whose files are not even known."""


def list_pictures(path: Path, stack: ExitStack) -> dict[str, Callable[[], bytes]]:
    """Name -> a function that reads that file, or Refused; sorted by name. `stack` closes the archive in the end.

    Raises FileNotFoundError where there is no such path, ValueError where it can't be read, is no archive, a damaged one or a bomb.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"load_images: {path} does not exist; {ADVICE}")
    listing = Listing()
    try:
        if path.is_dir():
            _list_folder(path, listing)
        elif not (path.is_file() and (_list_tar(path, stack, listing) or _list_zip(path, stack, listing))):
            # tar before zip: a tar may well end with a zip, a zip never starts like a tar
            raise RefusedArchive(f"is neither a folder nor a readable .zip or .tar[.gz]; {ADVICE}")
    except RefusedArchive as error:
        raise ValueError(f"load_images: {path} {error}") from error
    except (OSError, MemoryError) as error:
        raise ValueError(f"load_images: {path} can't be read ({reason(error)})") from error
    except Exception as error:  # tarfile and zipfile answer damaged headers with nearly every exception there is
        raise ValueError(f"load_images: {path} is a damaged archive ({reason(error)}); make or download it again") from error
    return dict(sorted(listing.files.items()))


class Listing:
    """The pictures that were found, and how much has been listed."""

    def __init__(self):
        self.files: dict[str, Callable[[], bytes]] = {}
        self.entries = self.letters = 0

    def add(self, name: str, read: Callable[[], bytes] | None) -> None:
        """Counts an entry and, if it claims to be a picture, keeps it; read: None for a folder."""
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise RefusedArchive(f"is refused: it has more than {MAX_ENTRIES:,} entries")
        windows = PureWindowsPath(name)  # it knows the separators and roots of all systems
        if read is None or any(part.startswith(".") and part != ".." or part == "__MACOSX" for part in windows.parts):
            return
        if windows.suffix.lower() not in PICTURE_SUFFIXES and not isinstance(read, Unlisted):
            return
        if len(name) > MAX_NAME:
            name, read = name[:MAX_NAME // 8] + "...", Refused(f"its name has more than {MAX_NAME:,} characters")
        elif windows.anchor or ".." in windows.parts:
            read = Refused("its name leads out of the archive")
        else:
            name = str(PurePosixPath(name))  # ./a.jpg is a.jpg
        self.letters += len(name)
        if self.letters > MAX_NAMES:
            raise RefusedArchive(f"is refused: the names in it have more than {MAX_NAMES:,} characters")
        self.files[name] = read


def _list_folder(path, listing):
    def inside(file):
        return Path(file).relative_to(path).as_posix()

    def unreadable(error):
        if Path(error.filename) == path:
            raise error
        listing.add(f"{inside(error.filename)}/*", Unlisted(f"the folder can't be read: {reason(error)}"))

    for folder, folders, files in os.walk(path, onerror=unreadable):
        for name in folders:
            link = os.path.islink(os.path.join(folder, name))
            listing.add(f"{inside(folder)}/{name}/*", Unlisted("a link to a folder, which is not followed") if link else None)
        for name in files:
            listing.add(f"{inside(folder)}/{name}", partial(read_file, os.path.join(folder, name)))


def read_file(path) -> bytes:
    """The bytes of a file in a folder. Raises OSError or ValueError where they can't be had."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        return _read_whole(file)


def _list_tar(path, stack, listing) -> bool:
    """False, and nothing done, where the file is no tar."""
    file = stack.enter_context(_unpacked(path))
    try:
        archive = stack.enter_context(tarfile.open(fileobj=Sips(file, MAX_TAR_HEADER), mode="r:"))
    except tarfile.ReadError:
        return False
    before = -1
    while (member := archive.next()) is not None:
        if archive.offset <= before:
            raise ValueError("its headers lead back")
        before = archive.offset
        archive.members = []  # or it would keep them all, at a kilobyte each
        if member.isdir():
            read = None
        elif member.issym() or member.islnk():
            read = Refused("a link, which is not followed")
        elif not member.isfile() or member.issparse():
            read = Refused("not a regular file")
        else:
            read = partial(_read_at, file, member.offset_data, member.size)
        listing.add(member.name, read)
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes any block that is no header for the end
        raise ValueError(f"no header where one should be, at byte {archive.offset}")
    return True


def _read_at(file, offset, size):
    if size > MAX_FILE_BYTES:
        raise _too_long()
    file.seek(offset)
    return file.read(size)


def _unpacked(path: Path) -> BinaryIO:
    """A .tar as it is; a .tar.gz unpacked first, because each step back in a gzip stream would unpack it again from the start."""
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return open(path, "rb")
    most = MAX_RATIO * os.path.getsize(path) + FREE_BYTES
    spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)
    try:
        with gzip.open(path) as packed:
            while piece := packed.read(PIECE):
                if spool.tell() + len(piece) > most:
                    raise _too_much()
                spool.write(piece)
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool


def _list_zip(path, stack, listing) -> bool:
    """False, and nothing done, where the file is no zip."""
    if not zipfile.is_zipfile(path):
        return False
    archive = stack.enter_context(zipfile.ZipFile(Sips(stack.enter_context(open(path, "rb")), MAX_ZIP_DIRECTORY)))
    packed, unpacked, size = 0, 0, os.path.getsize(path)
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        packed += member.compress_size
        if member.is_dir():
            read = None
        elif kind == stat.S_IFLNK:
            read = Refused("a link, which is not followed")
        elif kind not in (0, stat.S_IFREG):
            read = Refused("not a regular file")
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            read = Refused("packed in another way than zip's usual one (deflate)")
        elif member.file_size > MAX_FILE_BYTES:
            read = Refused(str(_too_long()))
        else:
            read = partial(_read_member, archive, member)
            unpacked += member.file_size
        listing.add(member.filename, read)
    if packed > size:
        raise RefusedArchive("is refused: its entries overlap, as they do in a bomb")
    if unpacked > MAX_RATIO * size + FREE_BYTES:
        raise _too_much()
    return True


def _read_member(archive, member):
    with archive.open(member) as file:
        return _read_whole(file)


def _read_whole(file):
    """The file's bytes, read piece by piece, because a claim of its length is only a claim."""
    data = bytearray()
    while piece := file.read(PIECE):
        data += piece
        if len(data) > MAX_FILE_BYTES:
            raise _too_long()
    return bytes(data)


def _too_long():
    return ValueError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")


def _too_much():
    return RefusedArchive(f"is refused: it unpacks to more than {MAX_RATIO} times its size, as a bomb does; if you trust it, unpack it yourself "
                          "and give the folder")


class Sips:
    """A file for tarfile and zipfile that gives so many bytes at once, at most: they read a header of any length that a file claims."""

    def __init__(self, file, most):
        self.file, self.most = file, most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size=-1):
        if size < 0:  # all that is left
            here = self.file.tell()
            size = self.file.seek(0, os.SEEK_END) - here
            self.file.seek(here)
        if size > self.most:
            raise ValueError(f"a header of more than {self.most:,} bytes")
        return self.file.read(size)
