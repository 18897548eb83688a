"""Folders and archives: what is found, in which order, what is skipped and why, and what is refused."""
import gzip
import io
import os
import re
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import archives, decoding, load_image, load_images

REAL_CASES = Path(__file__).parents[3] / "shared" / "data" / "loader_cases"   # awkward real files, where the developer has them


def picture_bytes(seed, format="PNG", side=24):
    pixels = np.random.default_rng(seed).integers(0, 256, size=(side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def png_header_only(width, height):
    """A PNG that claims a size and ends before its first pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 100) + b"IDAT"


GOOD = {"c/3.png": picture_bytes(3), "b.jpg": picture_bytes(2, "JPEG"), "a.PNG": picture_bytes(1),
        "webp_called.png": picture_bytes(4, "WEBP")}
BAD = {   # name: (contents, reason)
    "bad_empty.jpg": (b"", "the file is empty"),
    "bad_text.jpg": (b"no picture at all", "not a picture that Pillow can read"),
    "bad_phone.heic": (b"\0\0\0\x18ftypheic....", "not a picture that Pillow can read"),
    "bad_truncated.jpg": (picture_bytes(5, "JPEG", 200)[:9000], "truncated"),
    "bad_truncated.png": (picture_bytes(6)[:700], "truncated|broken|incomplete"),
    "c/bad_huge.png": (png_header_only(60000, 60000), "more than .* pixels"),
}
NOT_PICTURES = {"README.txt": b"text", "labels.csv": b"a,b", "LICENSE": b"MIT", ".DS_Store": b"x", "._a.png": b"x",
                "__MACOSX/a.png": b"x", ".thumbnails/a.png": b"x"}


def make_folder(folder):
    contents = {**GOOD, **{name: data for name, (data, _) in BAD.items()}, **NOT_PICTURES}
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()   # a folder, whatever its name
    return folder


@pytest.fixture(params=["made", "real"] if REAL_CASES.is_dir() else ["made"])
def folder(request, tmp_path):
    return REAL_CASES if request.param == "real" else make_folder(tmp_path / "pictures")


def archive_of(folder, path, prefix=""):
    """An archive whose members come in reverse order."""
    files = sorted((file for file in folder.rglob("*")), reverse=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for file in files:
                archive.add(file, prefix + file.relative_to(folder).as_posix(), recursive=False)
    return path


def test_a_folder(tmp_path):
    pictures = load_images(make_folder(tmp_path), size=24)
    assert pictures.names == ["a.PNG", "b.jpg", "c/3.png", "webp_called.png"]   # in order, recursive, the suffix's case ignored
    assert pictures.images.shape == (4, 24, 24, 3) and pictures.images.dtype == np.uint8
    for name, picture in zip(pictures.names, pictures.images):
        np.testing.assert_array_equal(picture, np.asarray(Image.open(io.BytesIO(GOOD[name])).convert("RGB")))
    assert pictures.labels is None and pictures.label_names == []


def test_bad_files_are_named_with_their_reasons_and_others_ignored(tmp_path):
    skipped = load_images(make_folder(tmp_path)).skipped
    assert [name for name, _ in skipped] == sorted(BAD)
    for name, reason in skipped:
        assert re.search(BAD[name][1], reason), (name, reason)
        assert "\n" not in reason and "0x" not in reason   # one line, the same in each run


@pytest.mark.parametrize("archive", ["p.zip", "p.tar", "p.tar.gz", "p.tgz"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_archives_agree_with_the_folder_bit_for_bit(folder, tmp_path, archive, prefix):
    from_folder = load_images(folder, size=32)
    from_archive = load_images(archive_of(folder, tmp_path / archive, prefix), size=32)
    np.testing.assert_array_equal(from_archive.images, from_folder.images)
    assert from_archive.names == from_folder.names and from_archive.skipped == from_folder.skipped
    assert len(from_folder) > 3 and len(from_folder.skipped) > 2


def test_twice_the_same(folder):
    first, second = load_images(folder), load_images(str(folder))
    np.testing.assert_array_equal(first.images, second.images)
    assert first.names == second.names


def test_a_zip_is_not_extracted_to_disk(tmp_path, monkeypatch):
    path = archive_of(make_folder(tmp_path / "pictures"), tmp_path / "p.zip")
    shutil.rmtree(tmp_path / "pictures")
    monkeypatch.setattr(zipfile.ZipFile, "extract", lambda *_: pytest.fail("extracted"))
    monkeypatch.chdir(tmp_path)
    load_images(path)
    assert os.listdir(tmp_path) == ["p.zip"]


def test_a_large_tar_gz_spools_to_a_temporary_file(tmp_path, monkeypatch):
    path = archive_of(make_folder(tmp_path / "pictures"), tmp_path / "p.tgz")
    monkeypatch.setattr(archives, "SPOOL_BYTES", 1000)
    spools, make = [], tempfile.SpooledTemporaryFile
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda size: spools.append(make(size)) or spools[-1])
    assert len(load_images(path)) == 4
    assert len(spools) == 1 and spools[0].closed


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x.txt", "text")
    for name, data in {"a.png": GOOD["a.PNG"], "b.png": GOOD["a.PNG"], "z.zip": inner.getvalue()}.items():
        (tmp_path / name).write_bytes(data)
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        for name in ("a.png", "b.png", "z.zip"):
            archive.add(tmp_path / name, name)
    assert load_images(tmp_path / "p.tar").names == ["a.png", "b.png"]


def test_on_bad_raise_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"bad_empty.jpg in .*: the file is empty"):
        load_images(make_folder(tmp_path), on_bad="raise")


def test_limit_counts_good_pictures_in_order(tmp_path):
    make_folder(tmp_path)
    everything, two = load_images(tmp_path), load_images(tmp_path, limit=2)
    assert two.names == everything.names[:2]
    np.testing.assert_array_equal(two.images, everything.images[:2])
    assert len(load_images(tmp_path, limit=100)) == 4
    assert [name for name, _ in load_images(tmp_path, limit=3).skipped] == sorted(BAD)[:5]   # c/3.png is enough


def save_pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(GOOD["a.PNG"])


def test_folders_are_labels(tmp_path):
    save_pictures(tmp_path, "tabby/1.png", "black/1.png", "black/2.png", "white/1.png")
    pictures = load_images(tmp_path)
    assert pictures.label_names == ["black", "tabby", "white"]
    assert pictures.labels.dtype == np.int64
    assert [pictures.label_names[i] for i in pictures.labels] == ["black", "black", "tabby", "white"]
    assert load_images(tmp_path, limit=2).label_names == ["black", "tabby", "white"]   # a smaller set speaks of the same classes


def test_every_class_has_its_share_of_a_limit(tmp_path):
    save_pictures(tmp_path, *(f"black/{i}.png" for i in range(6)), "tabby/1.png", "white/1.png", "white/2.png", "white/3.png")
    (tmp_path / "tabby/0.png").write_bytes(b"")
    pictures = load_images(tmp_path, limit=6)
    assert pictures.names == ["black/0.png", "black/1.png", "black/2.png", "tabby/1.png", "white/1.png", "white/2.png"]
    assert pictures.labels.tolist() == [0, 0, 0, 1, 2, 2] and [name for name, _ in pictures.skipped] == ["tabby/0.png"]
    assert len(load_images(tmp_path).images) == 10


@pytest.mark.parametrize("archive", ["p.zip", "p.tar", "p.tar.gz"])
def test_labels_below_shared_folders_and_beside_text_files(tmp_path, archive):
    save_pictures(tmp_path, "cats/all/black/1.png", "cats/all/white/1.png")
    (tmp_path / "cats/README.txt").write_text("text")
    for pictures in (load_images(tmp_path), load_images(archive_of(tmp_path / "cats", tmp_path / archive, "./pets/"))):
        assert pictures.label_names == ["black", "white"] and pictures.labels.tolist() == [0, 1]


@pytest.mark.parametrize("names", [("1.png", "2.png"), ("all/1.png", "all/2.png"), ("black/1.png", "white/1.png", "3.png"),
                                   ("train/black/1.png", "test/2.png")])
def test_no_labels_without_one_level_of_folders(tmp_path, names):
    save_pictures(tmp_path, *names)
    assert load_images(tmp_path).labels is None and load_images(tmp_path).label_names == []


def test_pixel_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 24 * 24)
    save_pictures(tmp_path, "1.png", "2.png")
    (tmp_path / "3.png").write_bytes(picture_bytes(0, side=25))
    pictures = load_images(tmp_path)
    assert pictures.names == ["1.png", "2.png"] and pictures.skipped == [("3.png", "more than 576 pixels")]


def test_a_file_of_any_length_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", GOOD["a.PNG"])
        archive.writestr("2.png", GOOD["a.PNG"])
        archive.writestr("3.png", bytes(2**20 + 1))
    assert load_images(tmp_path / "p.zip").skipped == [("3.png", "the file is larger than 1 MiB")]


def test_a_damaged_or_encrypted_member_is_skipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:   # stored: the picture's bytes stand in the file
        for name in ("1.png", "2.png", "damaged.png", "locked.png"):
            archive.writestr(name, picture_bytes(sum(name.encode())))
    data = bytearray((tmp_path / "p.zip").read_bytes())
    data[data.index(b"damaged.png") + 600] ^= 255
    data[data.rindex(b"locked.png") - 46 + 8] |= 1   # the central directory's "encrypted" flag, 46 bytes of header before the name
    (tmp_path / "p.zip").write_bytes(data)
    pictures = load_images(tmp_path / "p.zip")
    assert pictures.names == ["1.png", "2.png"]
    assert [name for name, _ in pictures.skipped] == ["damaged.png", "locked.png"]
    assert "CRC" in pictures.skipped[0][1] and "encrypted" in pictures.skipped[1][1]


def test_a_link_to_nowhere_is_skipped(tmp_path):
    save_pictures(tmp_path, "1.png", "2.png")
    try:
        (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    except OSError:   # Windows without the right to make links: then there is no such file to meet
        return
    assert load_images(tmp_path).skipped == [("gone.png", "No such file or directory")]


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give a folder") as error:
        load_images(tmp_path / "nowhere")
    one_line(error)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="readable pictures in .*: 0, need at least 2. Give a folder") as error:
        load_images(tmp_path)
    one_line(error)


def test_one_picture_is_too_few_and_the_error_says_what_was_wrong_with_the_others(tmp_path):
    save_pictures(tmp_path, "1.png")
    (tmp_path / "2.png").write_bytes(b"")
    expected = "readable pictures in .*: 1, need at least 2; 1 could not be read, the first: 2.png: the file is empty"
    with pytest.raises(ValueError, match=expected) as error:
        load_images(tmp_path)
    one_line(error)


@pytest.mark.parametrize("name, data", [("notes.txt", b"text"), ("cat.png", GOOD["a.PNG"]), ("p.zip", b"no zip"), ("p.tar.gz", b""),
                                        ("p.tgz", gzip.compress(b"no tar in here" * 100))])
def test_a_file_that_is_no_archive(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is neither a folder nor a readable .zip or .tar.*; give a folder") as error:
        load_images(tmp_path / name)
    one_line(error)


def test_a_truncated_archive(tmp_path):
    data = archive_of(make_folder(tmp_path / "pictures"), tmp_path / "p.tar.gz").read_bytes()
    (tmp_path / "p.tar.gz").write_bytes(data[:len(data) // 2])
    with pytest.raises(ValueError, match="p.tar.gz is a damaged archive .*; make or download it again") as error:
        load_images(tmp_path / "p.tar.gz")
    one_line(error)


@pytest.mark.parametrize("error, match, arguments", [
    (ValueError, "size must be at least 1, not 0", dict(size=0)),
    (TypeError, "size must be a whole number, not 64.0", dict(size=64.0)),
    (TypeError, "size must be a whole number, not '64'", dict(size="64")),
    (ValueError, "limit must be at least 2, not 1", dict(limit=1)),
    (TypeError, "limit must be a whole number, not 2.5", dict(limit=2.5)),
    (ValueError, 'on_bad must be "skip" or "raise", not \'ignore\'', dict(on_bad="ignore")),
])
def test_wrong_arguments(tmp_path, error, match, arguments):
    save_pictures(tmp_path, "1.png", "2.png")
    with pytest.raises(error, match=match):
        load_images(tmp_path, **arguments)


def test_numpy_integers_are_whole_numbers(tmp_path):
    save_pictures(tmp_path, "1.png", "2.png", "3.png")
    assert load_images(tmp_path, size=np.int64(8), limit=np.int32(2)).images.shape == (2, 8, 8, 3)


def test_one_picture_is_read_as_load_images_reads_it(tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(wide).save(tmp_path / name)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", 16), load_images(tmp_path, 16).images[0])
    with pytest.raises(FileNotFoundError, match="load_image: there is no file .*c.png"):
        load_image(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes(b"no picture at all")
    with pytest.raises(ValueError, match="load_image: .*c.png: not a picture"):
        load_image(tmp_path / "c.png")
