"""Real photographs, downloaded when they are asked for: the cats of the Oxford-IIIT Pet data set, cropped to their heads.

Parkhi, Vedaldi, Zisserman and Jawahar, Cats and Dogs, CVPR 2012; https://www.robots.ox.ac.uk/~vgg/data/pets/, licence CC BY-SA 4.0.

Read first: `loading.py`, `download.py`.
"""
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from tinydiff.data.archives import MAX_FILE_BYTES
from tinydiff.data.cache import cache_folder
from tinydiff.data.decoding import decode, reason
from tinydiff.data.download import download
from tinydiff.data.image_set import ImageSet
from tinydiff.data.loading import class_by_class


class Source(NamedTuple):
    url: str
    md5: str


IMAGES = Source("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c")
ANNOTATIONS = Source("https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f")
GROWN = 1.3         # side of the square that is kept, over the longer side of the box around the head: ears and whiskers want room
MAX_TEXT = 2**20    # bytes of an annotation


def download_oxford_pets(folder: Path | None = None, say: Callable[[str], None] = print, progress: Callable[[str], None] | None = None,
                         images: Source = IMAGES, annotations: Source = ANNOTATIONS) -> Path:
    """Brings both archives, about 810 MB, to the folder (else "oxford-pets" in `cache_folder`), unless they are there; returns the folder.

    say: what to tell once; progress: what to show while it goes on. Raises OSError, with what to do, where they can't be had.
    """
    folder = folder or cache_folder() / "oxford-pets"
    missing = [source for source in (annotations, images) if not _archive(folder, source).exists()]
    if missing:
        say(f"The Oxford-IIIT Pet photographs (licence CC BY-SA 4.0) are downloaded once, to {folder}.")
    for source in (annotations, images):
        download(source.url, _archive(folder, source), source.md5, progress)
    return folder


def load_oxford_pets(size: int = 64, limit: int | None = None, folder: Path | None = None, say: Callable[[str], None] = print,
                     progress: Callable[[str], None] | None = None, images: Source = IMAGES, annotations: Source = ANNOTATIONS) -> ImageSet:
    """The cats whose heads are annotated, each cropped to a square around its head: (N,size,size,3) uint8, the breeds as labels.

    limit: at most so many, of every breed about as many. The rest is as in `download_oxford_pets`, which is called first.
    Raises OSError where the archives can't be had, ValueError where fewer than 2 cats can be read.
    """
    folder = download_oxford_pets(folder, say, progress, images, annotations)
    with tarfile.open(_archive(folder, annotations), "r|gz") as archive:
        cats, boxes, dogs = read_annotations(archive)
    say(f"Oxford-IIIT Pet: {len(boxes):,} cats with a box around the head; left out: {len(cats) - len(boxes):,} without one and {dogs:,} dogs.")
    breeds = {name: name.rpartition("_")[0].replace("_", " ") for name in boxes}     # British_Shorthair_7 -> British Shorthair
    label_names = sorted(set(breeds.values()))
    wanted = set(class_by_class(sorted(boxes), breeds)[:limit])
    pictures, skipped = {}, []
    with tarfile.open(_archive(folder, images), "r|gz") as archive:
        for member in archive:
            name, _, suffix = PurePosixPath(member.name).name.rpartition(".")
            if name not in wanted or suffix != "jpg" or not member.isfile():
                continue
            try:
                if member.size > MAX_FILE_BYTES:
                    raise ValueError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
                pictures[name] = decode(archive.extractfile(member).read(), size, lambda *sides: square_around(boxes[name], *sides))
            except Exception as error:  # as in load_images
                skipped.append((member.name, reason(error)))
            if progress:
                progress(f"cats read: {len(pictures):,} of {len(wanted):,}")
    if len(pictures) < 2:
        raise ValueError(f"load_oxford_pets: readable cats in {folder}: {len(pictures)}, need at least 2")
    names = sorted(pictures)
    labels = np.array([label_names.index(breeds[name]) for name in names], np.int64)
    return ImageSet(np.stack([pictures[name] for name in names]), labels, label_names, names, skipped)


def read_annotations(archive: tarfile.TarFile) -> tuple[set[str], dict[str, tuple], int]:
    """The names of the cats, the boxes of those that have one, and how many dogs there are.

    list.txt has a line for each picture, NAME CLASS SPECIES BREED, species 1 for a cat; xmls/NAME.xml has the box.
    """
    species, boxes = {}, {}
    for member in archive:
        path = PurePosixPath(member.name)
        text = archive.extractfile(member).read() if member.isfile() and member.size <= MAX_TEXT else b""
        if path.name == "list.txt":
            lines = [line.split() for line in text.decode("ascii", errors="replace").splitlines() if not line.startswith("#")]
            species = {line[0]: line[2] for line in lines if len(line) == 4}
        elif path.suffix == ".xml" and (box := head_box(text)):
            boxes[path.stem] = box
    cats = {name for name, kind in species.items() if kind == "1"}
    return cats, {name: box for name, box in boxes.items() if name in cats}, len(species) - len(cats)


class _NoDocumentType(ElementTree.TreeBuilder):
    """A document type can define entities that unfold to gigabytes."""

    def doctype(self, name, pubid, system):
        raise ValueError("an XML with a document type")


def head_box(xml: bytes) -> tuple[float, ...] | None:
    """left, top, right, bottom of the first object's box, in pixels; None where there is none or the XML is not to be trusted."""
    try:
        box = ElementTree.fromstring(xml, ElementTree.XMLParser(target=_NoDocumentType())).find("object/bndbox")
        left, top, right, bottom = (float(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax"))
    except (ElementTree.ParseError, ValueError, AttributeError, TypeError):
        return None
    return (left, top, right, bottom) if left < right and top < bottom else None


def square_around(box, width: int, height: int) -> tuple[int, int, int]:
    """left, top, side of a square around the box, GROWN and moved into the picture. Raises ValueError for a box that is not within it."""
    left, top, right, bottom = box
    if not (0 <= left < right <= width + 1 and 0 <= top < bottom <= height + 1):
        raise ValueError(f"its box {box} is not within {width} x {height} pixels")
    side = min(round(GROWN * max(right - left, bottom - top)), width, height)
    return (min(max(0, round((left + right - side) / 2)), width - side), min(max(0, round((top + bottom - side) / 2)), height - side), side)


def _archive(folder, source):
    return folder / PurePosixPath(source.url).name
