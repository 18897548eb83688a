"""Read a folder or an archive of pictures, of any kind and size, as one array of small squares.

Read first: `archives.py`, `cache.py`.
"""
import itertools
import operator
import os.path
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import numpy as np

from tinydiff.data.archives import Refused, list_pictures, read_file
from tinydiff.data.cache import CACHE_BYTES, CacheWriter, cache_places, find_cache, source_key
from tinydiff.data.decoding import decode, reason
from tinydiff.data.image_set import ImageSet
from tinydiff.text import one_line


def load_images(path: str | Path, size: int = 64, limit: int | None = None, on_bad: str = "skip",
                progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """The pictures of a folder (searched recursively), a .zip or a .tar[.gz], as (N,size,size,3) uint8.

    Each picture is turned as its EXIF orientation says, laid over white where it is transparent, converted to RGB, cropped to
    the square in its centre and resized. They come in the order of their names, so the same files give the same array from a
    folder, a zip and a tar. Of an animation the first frame counts.

    limit   stop after this many good pictures (at least 2): the first by name or, where there are labels, the first of each class, the
            second of each, ..., so that every class has its share
    on_bad  "skip": a file that cannot be read goes to `.skipped` with its reason; "raise": it is a ValueError
    progress(done, most) is called after each picture that is read; `most` there may be.

    Pictures that take more than CACHE_BYTES are never in memory all at once: they are written to a file beside `path` or in the user's cache
    folder (see `cache`), and `.images` is a read-only memory map of it. The next time nothing is read but that file, unless it is damaged or
    a name, a size or a time of the source has changed.

    Labels: where every picture lies in one of two or more sibling folders, the folders' names are the labels (whatever the
    limit), control characters in them escaped; otherwise `.labels` is None. Hidden files, __MACOSX and files without a picture's suffix
    are ignored.

    The files may be a stranger's: `archives` and `decoding` say what is refused, so that memory grows by less than a gigabyte beside the
    pictures themselves. Links in archives, linked folders and names that lead out of the archive are skipped, bombs are refused.

    Raises FileNotFoundError where path does not exist, ValueError where it is something else than a folder or an archive, can't be read, is
    damaged or a bomb, or holds fewer than 2 readable pictures, TypeError or ValueError for the other arguments, and OSError where there is no
    room for the cache.
    """
    size = _whole_number("size", size, least=1)
    limit = limit if limit is None else _whole_number("limit", limit, least=2)
    if on_bad not in ("skip", "raise"):
        raise ValueError(f'load_images: on_bad must be "skip" or "raise", not {on_bad!r}')
    path = Path(path)
    places = cache_places(path, size, limit)
    cached = find_cache(places, path, size, limit)
    if cached and on_bad == "raise" and cached.skipped:
        raise _bad(path, *cached.skipped[0])
    return cached or _read(path, size, limit, on_bad, progress, places)


def _read(path, size, limit, on_bad, progress, places):
    """What load_images returns, from the pictures' own files; into one of the cache's places where it is large."""
    with ExitStack() as stack:
        files = list_pictures(path, stack)
        folder = _class_folders([name for name, read in files.items() if not isinstance(read, Refused)])
        most = min(len(files), limit or len(files))
        large = most * size * size * 3 > CACHE_BYTES
        key = source_key(path, size, limit) if large else None  # before the files are read: one that changes meanwhile makes the cache stale
        pictures = stack.enter_context(CacheWriter(places, size, most)) if large else []
        names, skipped = [], []
        for name, picture in _decoded(files, class_by_class(files, folder), size, skipped):
            if picture is None and on_bad == "raise":
                raise _bad(path, *skipped[-1])
            if picture is not None:
                pictures.append(picture)
                names.append(name)
                if progress:
                    progress(len(names), most)
            if len(names) == limit:
                break
        skipped.sort()
        if len(names) < 2:
            raise _too_few(path, names, skipped)
        order = sorted(range(len(names)), key=names.__getitem__)
        names.sort()
        index = {label: i for i, label in enumerate(sorted(set(folder.values())))}
        labels = [index[folder[name]] for name in names] if folder else None
        label_names = [one_line(label) for label in index]
        if large:
            return pictures.finish(order, key, {"labels": labels, "label_names": label_names, "names": names, "skipped": skipped})
    labels = np.array(labels, dtype=np.int64) if folder else None
    return ImageSet(np.stack([pictures[i] for i in order]), labels, label_names, names, skipped)


def _decoded(files, names, size, skipped):
    """(name, picture) of each; the picture is None where it can't be read, and why goes to `skipped`."""
    for name in names:
        try:
            picture = decode(files[name](), size)
        except Exception as error:  # decoders answer damaged data with nearly every exception there is
            skipped.append((name, reason(error)))
            picture = None
        yield name, picture


def _bad(path, name, why):
    return ValueError(f"load_images: {one_line(name)} in {path}: {why}")


def _too_few(path, names, skipped):
    first = f"; {len(skipped)} could not be read, the first: {one_line(': '.join(skipped[0]))}" if skipped else ""
    return ValueError(f"load_images: readable pictures in {path}: {len(names)}, need at least 2{first}. "
                      "Give a folder, .zip or .tar[.gz] of pictures (.jpg, .png, ...)")


def load_image(path: str | Path, size: int = 64) -> np.ndarray:
    """The picture in one file, turned, cropped and resized as `load_images` does it: (size,size,3) uint8.

    Raises FileNotFoundError where there is no such file and ValueError where it can't be read as a picture.
    """
    path, size = Path(path), _whole_number("size", size, least=1)
    if not path.is_file():
        raise FileNotFoundError(f"load_image: there is no file {path}")
    try:
        return decode(read_file(path), size)
    except Exception as error:  # as in load_images
        raise ValueError(f"load_image: {path}: {reason(error)}") from error


def _whole_number(argument: str, value, least: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"load_images: {argument} must be a whole number, not {value!r}") from None
    if value < least:
        raise ValueError(f"load_images: {argument} must be at least {least}, not {value}")
    return value


def _class_folders(names: list[str]) -> dict[str, str]:
    """Name -> its folder, where all names are shared/folders/CLASS/file with two classes or more; otherwise {}."""
    parents = [PurePosixPath(name).parent.parts for name in names]
    shared = len(os.path.commonprefix(parents))
    if any(len(parent) != shared + 1 for parent in parents):
        return {}
    return {name: parent[-1] for name, parent in zip(names, parents)}


def class_by_class(names: Iterable[str], folder: dict[str, str]) -> list[str]:
    """The names in the order in which a limit counts them: the first of each class, the second of each, ...; without classes as they are."""
    counts = defaultdict(itertools.count)
    place = {name: next(counts[folder.get(name)]) for name in names}
    return sorted(place, key=place.get)
