"""Read a folder or an archive of pictures, of any kind and size, as one array of small squares.

Read first: `image_set.py`.
"""
import gzip
import io
import itertools
import operator
import os.path
import shutil
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tinydiff.data.image_set import ImageSet

# Files that claim to be pictures. Others (README.txt, labels.csv) are nobody's lost picture and are passed over in silence.
# Pillow does not read .heic without a plugin: listed so that a phone's photographs are reported, not passed over.
PICTURE_SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .apng .gif .bmp .webp .avif .tif .tiff .ppm .pgm .pbm .pnm .tga .ico "
                             ".jp2 .heic .heif".split())
MAX_FILE_BYTES = 2**29  # a few zipped bytes can unpack to any length; no picture that Pillow accepts needs more than 512 MiB
SPOOL_BYTES = 2**28     # an unpacked .tar.gz is kept in memory up to this size, in an unnamed temporary file beyond


def load_images(path: str | Path, size: int = 64, limit: int | None = None, on_bad: str = "skip") -> ImageSet:
    """The pictures of a folder (searched recursively), a .zip or a .tar[.gz], as (N,size,size,3) uint8.

    Each picture is turned as its EXIF orientation says, laid over white where it is transparent, converted to RGB, cropped to
    the square in its centre and resized. They come in the order of their names, so the same files give the same array from a
    folder, a zip and a tar. Of an animation the first frame counts.

    limit   stop after this many good pictures (at least 2): the first by name or, where there are labels, the first of each class, the
            second of each, ..., so that every class has its share
    on_bad  "skip": a file that cannot be read goes to `.skipped` with its reason; "raise": it is a ValueError

    Labels: where every picture lies in one of two or more sibling folders, the folders' names are the labels (whatever the
    limit); otherwise `.labels` is None. Hidden files, __MACOSX and files without a picture's suffix are ignored.

    Raises FileNotFoundError where path does not exist, ValueError where it is something else than a folder or an archive, is
    damaged, or holds fewer than 2 readable pictures, and TypeError or ValueError for the other arguments.
    """
    size = _whole_number("size", size, least=1)
    limit = limit if limit is None else _whole_number("limit", limit, least=2)
    if on_bad not in ("skip", "raise"):
        raise ValueError(f'load_images: on_bad must be "skip" or "raise", not {on_bad!r}')
    path = Path(path)
    images, skipped = {}, []
    with ExitStack() as stack:
        files = _list_pictures(path, stack)
        folder = _class_folders(list(files))
        for name in _class_by_class(files, folder):
            if len(images) == limit:
                break
            try:
                images[name] = _read(files[name], size)
            except Exception as error:  # decoders answer damaged data with nearly every exception there is
                if on_bad == "raise":
                    raise ValueError(f"load_images: {name} in {path}: {_reason(error)}") from error
                skipped.append((name, _reason(error)))
    names, skipped = sorted(images), sorted(skipped)
    if len(images) < 2:
        first = f"; {len(skipped)} could not be read, the first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise ValueError(f"load_images: readable pictures in {path}: {len(images)}, need at least 2{first}. "
                         "Give a folder, .zip or .tar[.gz] of pictures (.jpg, .png, ...)")
    label_names = sorted(set(folder.values()))
    labels = np.array([label_names.index(folder[name]) for name in names], dtype=np.int64) if folder else None
    return ImageSet(np.stack([images[name] for name in names]), labels, label_names, names, skipped)


def load_image(path: str | Path, size: int = 64) -> np.ndarray:
    """The picture in one file, turned, cropped and resized as `load_images` does it: (size,size,3) uint8.

    Raises FileNotFoundError where there is no such file and ValueError where it can't be read as a picture.
    """
    path, size = Path(path), _whole_number("size", size, least=1)
    if not path.is_file():
        raise FileNotFoundError(f"load_image: there is no file {path}")
    try:
        return _read(partial(open, path, "rb"), size)
    except Exception as error:  # as in load_images
        raise ValueError(f"load_image: {path}: {_reason(error)}") from error


def _whole_number(argument: str, value, least: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"load_images: {argument} must be a whole number, not {value!r}") from None
    if value < least:
        raise ValueError(f"load_images: {argument} must be at least {least}, not {value}")
    return value


def _list_pictures(path: Path, stack: ExitStack) -> dict[str, Callable[[], BinaryIO]]:
    """Name -> a function that opens that file, sorted by name; `stack` closes the archive in the end."""
    if not path.exists():
        raise FileNotFoundError(f"load_images: {path} does not exist; give a folder, .zip or .tar[.gz] of pictures")
    try:
        if path.is_dir():
            files = {file.relative_to(path).as_posix(): partial(open, file, "rb") for file in path.rglob("*") if not file.is_dir()}
        elif tarfile.is_tarfile(path):  # before zip: a tar may well end with a zip, a zip never starts like a tar
            archive = stack.enter_context(tarfile.open(fileobj=stack.enter_context(_unpacked(path))))
            files = {member.name: partial(archive.extractfile, member) for member in archive.getmembers() if member.isfile()}
        elif zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            files = {member.filename: partial(archive.open, member) for member in archive.infolist() if not member.is_dir()}
        else:
            raise ValueError(f"load_images: {path} is neither a folder nor a readable .zip or .tar[.gz]; "
                             "give a folder or an archive of pictures")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"load_images: {path} is a damaged archive ({error}); make or download it again") from error
    files = {str(PurePosixPath(name)): open_file for name, open_file in files.items()}  # ./a.jpg is a.jpg
    return {name: files[name] for name in sorted(files) if _claims_to_be_a_picture(PurePosixPath(name))}


def _unpacked(path: Path) -> BinaryIO:
    """A .tar as it is; a .tar.gz unpacked first, because each step back in a gzip stream would unpack it again from the start."""
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return open(path, "rb")
    spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)
    try:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, spool)
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool


def _claims_to_be_a_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return not hidden and name.suffix.lower() in PICTURE_SUFFIXES


def _class_folders(names: list[str]) -> dict[str, str]:
    """Name -> its folder, where all names are shared/folders/CLASS/file with two classes or more; otherwise {}."""
    parents = [PurePosixPath(name).parent.parts for name in names]
    shared = len(os.path.commonprefix(parents))
    if any(len(parent) != shared + 1 for parent in parents):
        return {}
    return {name: parent[-1] for name, parent in zip(names, parents)}


def _class_by_class(names: Iterable[str], folder: dict[str, str]) -> list[str]:
    """The names in the order in which a limit counts them: the first of each class, the second of each, ...; without classes as they are."""
    counts = defaultdict(itertools.count)
    place = {name: next(counts[folder.get(name)]) for name in names}
    return sorted(place, key=place.get)


def _read(open_file: Callable[[], BinaryIO], size: int) -> np.ndarray:
    """One file -> (size,size,3) uint8."""
    with open_file() as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if not data:
        raise ValueError("the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files; what it can't read raises
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (2 * size, 2 * size))  # a large JPEG: let the decoder itself shrink it by 2, 4 or 8
            image = _to_rgb(ImageOps.exif_transpose(image))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, alpha over white."""
    if image.mode == "F" or image.mode.startswith("I"):  # convert() would clip these at 255
        values = np.asarray(image, dtype=np.float64)
        # Whole numbers are 16-bit grey, also where Pillow keeps them in 32. Floats have no agreed white: stretch to their range.
        low, high = (values.min(), values.max()) if image.mode == "F" else (0, 65535)
        grey = np.clip((values - low) / max(high - low, np.finfo(np.float64).tiny) * 255, 0, 255)
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """Why a file could not be read, in one line without memory addresses."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's limit"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
