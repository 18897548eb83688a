"""Pictures and archives made to do harm: each is skipped or refused, by name, before it takes memory or time."""
import gzip
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import archives, decoding, load_image, load_images

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, or links only for administrators")


def picture(seed=0, format="PNG", side=12, **options):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, format, **options)
    return file.getvalue()


def png(*chunks):
    """A PNG file of these chunks: (type, data) each."""
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_header(width, height):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def tar_member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def write_tar(path, *members, format=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path, *members, method=zipfile.ZIP_DEFLATED):
    """members: (name, data) or (name, data, the file's mode)."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data, *mode in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = (mode[0] if mode else stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return path


GOOD = [("good1.png", picture(1)), ("good2.png", picture(2))]
GOOD_TAR = [tar_member(*file) for file in GOOD]

# Names that would lead out of an archive, whatever system it is unpacked on: name -> reason.
WAYS_OUT = {"/etc/evil.png": "its name leads out of the archive", "../evil.png": "its name leads out of the archive",
            "a/../../evil.png": "its name leads out of the archive", "C:\\evil.png": "its name leads out of the archive",
            "..\\evil.png": "its name leads out of the archive", "\\\\server\\share\\evil.png": "its name leads out of the archive"}


def test_a_tars_ways_out_and_links_are_skipped(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "p.tar", *GOOD_TAR, *(tar_member(name, picture(3)) for name in WAYS_OUT),
                     tar_member("soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
                     tar_member("hard.png", type=tarfile.LNKTYPE, linkname="good1.png"),
                     tar_member("device.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5), tar_member("pipe.png", type=tarfile.FIFOTYPE))
    monkeypatch.chdir(tmp_path)
    pictures = load_images(path, 12)
    assert pictures.names == ["good1.png", "good2.png"]
    assert dict(pictures.skipped) == WAYS_OUT | {"soft.png": "a link, which is not followed", "hard.png": "a link, which is not followed",
                                                 "device.png": "not a regular file", "pipe.png": "not a regular file"}
    assert os.listdir(tmp_path) == ["p.tar"]


def test_a_zips_ways_out_and_links_are_skipped(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "p.zip", *GOOD, *((name, picture(3)) for name in WAYS_OUT), ("soft.png", b"/etc/passwd", stat.S_IFLNK | 0o777),
                     ("device.png", b"", stat.S_IFCHR | 0o666))
    monkeypatch.chdir(tmp_path)
    pictures = load_images(path, 12)
    assert pictures.names == ["good1.png", "good2.png"]
    assert dict(pictures.skipped) == WAYS_OUT | {"soft.png": "a link, which is not followed", "device.png": "not a regular file"}
    assert os.listdir(tmp_path) == ["p.zip"]


def test_ways_out_do_not_spoil_the_classes(tmp_path):
    path = write_zip(tmp_path / "p.zip", ("black/1.png", picture(1)), ("white/2.png", picture(2)), ("/etc/evil.png", picture(3)))
    assert load_images(path).label_names == ["black", "white"]
    with pytest.raises(ValueError, match="load_images: /etc/evil.png in .*: its name leads out of the archive"):
        load_images(path, on_bad="raise")


def refused(path, match):
    with pytest.raises(ValueError, match=match) as error:
        load_images(path)
    assert str(error.value).startswith(f"load_images: {path} ") and "\n" not in str(error.value)


@pytest.mark.parametrize("write, members", [(write_zip, GOOD), (write_tar, GOOD_TAR)])
def test_many_entries(tmp_path, monkeypatch, write, members):
    path = write(tmp_path / ("p.zip" if write is write_zip else "p.tar"), *members)
    assert len(load_images(path)) == 2
    monkeypatch.setattr(archives, "MAX_NAMES", 17)
    refused(path, "is refused: the names in it have more than 17 characters")
    monkeypatch.setattr(archives, "MAX_ENTRIES", 1)
    refused(path, "is refused: it has more than 1 entries")


def test_a_long_name_is_not_shown_whole(tmp_path):
    path = write_tar(tmp_path / "p.tar", *GOOD_TAR, tar_member("x" * 5000 + ".png", picture(3)))
    assert load_images(path).skipped == [("x" * 128 + "...", "its name has more than 1,024 characters")]


def test_a_zips_directory_of_any_length_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ZIP_DIRECTORY", 70000)      # more than the 64 KiB in which zipfile looks for its beginning
    refused(write_zip(tmp_path / "p.zip", *((f"{i:0200}.txt", b"") for i in range(400))), "damaged archive .a header of more than 70,000 bytes")


def test_overlapping_entries_of_a_zip(tmp_path):
    """One packed picture, named by a hundred entries of the directory."""
    data = write_zip(tmp_path / "p.zip", ("1.png", picture())).read_bytes()
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry, tail = data[start:end], bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 100, 100, 100 * len(entry))
    (tmp_path / "p.zip").write_bytes(data[:start] + entry * 100 + tail)
    refused(tmp_path / "p.zip", "its entries overlap")


def test_a_zip_of_bombs(tmp_path, monkeypatch):
    """Each entry is within bounds, all together are not."""
    path = write_zip(tmp_path / "p.zip", *((f"{i}.png", bytes(200_000)) for i in range(20)))
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    refused(path, "unpacks to more than 20 times its size")


def test_a_zip_that_claims_or_holds_too_much(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "p.zip", *GOOD, ("claims.png", b"x" * 50), ("holds.png", bytes(2**21)))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"claims.png") - 46                # its entry in the directory
    struct.pack_into("<I", data, at + 24, 2**32 - 2)    # the unpacked size
    path.write_bytes(data)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**20)
    assert dict(load_images(path).skipped) == dict.fromkeys(["claims.png", "holds.png"], "the file is larger than 1 MiB")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_not_unpacked(tmp_path, method):
    """LZMA's header alone can ask for four gigabytes."""
    path = write_zip(tmp_path / "p.zip", *GOOD, method=method)
    with pytest.raises(ValueError, match="0, need at least 2; 2 could not be read, the first: good1.png: packed in another way"):
        load_images(path)


@pytest.mark.parametrize("name", ["p.tar.xz", "p.tar.bz2"])
def test_other_archives_are_not_unpacked(tmp_path, name):
    with tarfile.open(tmp_path / name, "w:" + name[6:]) as archive:
        archive.addfile(GOOD_TAR[0][0], io.BytesIO(GOOD_TAR[0][1]))
    refused(tmp_path / name, "is neither a folder nor a readable .zip or .tar")


def test_a_tar_gz_that_unpacks_to_far_more(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 2**22)
    refused(write_tar(tmp_path / "p.tar.gz", *GOOD_TAR, tar_member("0.txt", bytes(2**23))), "unpacks to more than 20 times its size")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_huge_header_of_a_tar(tmp_path, kind):
    refused(write_tar(tmp_path / "p.tar.gz", *GOOD_TAR, tar_member("header", bytes(2**24), type=kind), *GOOD_TAR),
            "a damaged archive .a header of more than 65,536 bytes")


def test_a_tar_that_leads_back(tmp_path):
    """A negative size, in the binary notation that GNU tar has for large ones: its end lies before its beginning."""
    data = bytearray(write_tar(tmp_path / "p.tar", *GOOD_TAR).read_bytes())
    second = data.index(b"good2.png")
    data[second + 124:second + 136] = (-1024).to_bytes(12, "big", signed=True)
    data[second + 148:second + 156] = b" " * 8
    data[second + 148:second + 156] = b"%06o\0 " % sum(data[second:second + 512])
    (tmp_path / "p.tar").write_bytes(data)
    refused(tmp_path / "p.tar", "a damaged archive .its headers lead back")


def test_a_tar_that_is_damaged_in_the_middle_is_not_taken_for_a_shorter_one(tmp_path):
    path = write_tar(tmp_path / "p.tar", *GOOD_TAR, tar_member("third.png", picture(3)), tar_member("fourth.png", picture(4)))
    data = bytearray(path.read_bytes())
    data[data.index(b"third.png")] ^= 1
    path.write_bytes(data)
    refused(path, "a damaged archive .no header where one should be, at byte")


PIXELS = (b"IDAT", zlib.compress(bytes(4 * 13)))                       # of 4 x 4
BOMBS = {   # name: (contents, part of the reason)
    "pixels.png": (png(png_header(100_000, 100_000), PIXELS), "more than 67,108,864 pixels"),
    "wide.png": (png(png_header(100_000, 10), PIXELS), "more than 65,535 pixels wide or high"),
    "pixels.ppm": (b"P6 100000 100000 255\n" + bytes(100), "more than 67,108,864 pixels"),
    "pixels.bmp": (b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) +
                   struct.pack("<IiiHHIIiiII", 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100),
                   "more than 67,108,864 pixels"),
    "text.png": (png(png_header(4, 4), (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8))), PIXELS, (b"IEND", b"")), "too large"),
    "profile.png": (png(png_header(4, 4), (b"iCCP", b"name\0\0" + zlib.compress(bytes(10**8))), PIXELS, (b"IEND", b"")), ""),
    "scans.jpg": (picture(side=40, format="JPEG", progressive=True).replace(b"\xff\xd9", b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 200 + b"\xff\xd9"),
                  "a JPEG of more than 100 scans"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", "not a picture that Pillow can read"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_is_a_bomb(tmp_path, name):
    data, words = BOMBS[name]
    (tmp_path / name).write_bytes(data)
    with Image.open(io.BytesIO(picture())):      # Pillow's plugins are loaded
        pass
    before = peak_rss()
    try:
        load_image(tmp_path / name, 8)
        assert name == "profile.png"             # a profile that is too large is left out, and the picture is good
    except ValueError as error:
        assert words in str(error) and "\n" not in str(error)
    assert peak_rss() - before < 30 * 2**20


def test_a_tiled_tiff_whose_tile_is_a_bomb(tmp_path):
    tags = {256: 4, 257: 4, 258: 8, 259: 8, 262: 1, 277: 1, 322: 2**16, 323: 2**16, 324: 200, 325: 50}      # 8: deflate; 322, 323: the tile
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    (tmp_path / "t.tif").write_bytes(data.ljust(200, b"\0") + zlib.compress(bytes(1000)).ljust(50, b"\0"))
    with pytest.raises(ValueError, match="more than 67,108,864 pixels"):
        load_image(tmp_path / "t.tif")


@pytest.mark.parametrize("format", ["GIF", "PNG"])
def test_of_a_thousand_frames_one_is_decoded(tmp_path, format):
    frames = [Image.new("RGB", (8, 8), (i % 256, i // 256, 9)) for i in range(1000)]
    data = io.BytesIO()
    frames[0].save(data, format, save_all=True, append_images=frames[1:])
    whole = data.getvalue()
    for i in range(1, 3):
        (tmp_path / f"{i}.{format.lower()}").write_bytes(whole[:len(whole) // i])      # the second ends in the middle of a later frame
    assert (load_images(tmp_path, 8).images == (0, 0, 9)).all()


# ----- folders

def test_a_long_file_is_not_read_whole(tmp_path, monkeypatch):
    for name, data in GOOD:
        (tmp_path / name).write_bytes(data)
    with open(tmp_path / "long.png", "wb") as file:
        file.truncate(2**24)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**20)
    assert load_images(tmp_path).skipped == [("long.png", "the file is larger than 1 MiB")]


def test_a_file_that_is_removed_while_the_others_are_read(tmp_path, monkeypatch):
    for name, data in (*GOOD, ("good3.png", picture(3))):
        (tmp_path / name).write_bytes(data)
    from tinydiff.data import loading
    monkeypatch.setattr(loading, "decode", lambda data, size: (tmp_path / "good3.png").unlink(missing_ok=True) or decoding.decode(data, size))
    pictures = load_images(tmp_path)
    assert pictures.names == ["good1.png", "good2.png"] and pictures.skipped == [("good3.png", "No such file or directory")]


@posix
def test_links_and_pipes_in_a_folder(tmp_path):
    for name, data in GOOD:
        (tmp_path / name).write_bytes(data)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "link.png").symlink_to("good1.png")            # in one's own folder a link is as good as the file
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    pictures = load_images(tmp_path)
    assert pictures.names == ["good1.png", "good2.png", "link.png"]
    assert dict(pictures.skipped) == {"loop/*": "a link to a folder, which is not followed", "loop.png": "Too many levels of symbolic links",
                                      "pipe.png": "not a regular file", "device.png": "not a regular file"}
    refused(tmp_path / "pipe.png", "is neither a folder nor")


@contextmanager
def as_a_plain_user():
    """The superuser may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@posix
def test_what_may_not_be_read():
    with tempfile.TemporaryDirectory() as folder:             # tmp_path is closed to other users
        folder = Path(folder)
        folder.chmod(0o755)
        for name, data in (*GOOD, ("secret.png", picture(3)), ("closed/4.png", picture(4)), (".hidden/5.png", picture(5))):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        write_zip(folder / "p.zip", *GOOD)
        for name in ("secret.png", "closed", ".hidden", "p.zip"):
            (folder / name).chmod(0)
        with as_a_plain_user():
            pictures = load_images(folder)
            refused(folder / "closed", r"can't be read .Permission denied.")
            refused(folder / "p.zip", r"can't be read .Permission denied.")
        for name in ("closed", ".hidden"):
            (folder / name).chmod(0o755)
    assert pictures.names == ["good1.png", "good2.png"]
    assert pictures.skipped == [("closed/*", "the folder can't be read: Permission denied"), ("secret.png", "Permission denied")]


def test_labels_are_one_line(tmp_path):
    path = write_tar(tmp_path / "p.tar", tar_member("a\n\x1b[2J/1.png", picture(1)), tar_member("b/2.png", picture(2)))
    pictures = load_images(path)
    assert pictures.label_names == ["a\\n\\x1b[2J", "b"] and pictures.names[0] == "a\n\x1b[2J/1.png"
    with pytest.raises(ValueError, match="the first: a.n.png: the file is empty") as error:
        load_images(write_tar(tmp_path / "q.tar", tar_member("a\n.png")))
    assert "\n" not in str(error.value)


# ----- in numbers

def peak_rss():
    """The largest memory of this process so far, in bytes."""
    try:
        import resource
    except ImportError:      # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_mutated(cases, seed):
    done = subprocess.run([sys.executable, "-W", "error", "-X", "faulthandler", ROOT / "tests" / "data" / "mutated.py", str(cases), str(seed)],
                          capture_output=True, text=True, timeout=60 + cases / 10, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    read, _, refused, _, growth, *_ = done.stdout.split()
    assert int(read) > cases / 20 and int(refused) > cases / 5 and int(growth) < 1024, done.stdout


def test_mutated_pictures_and_archives_are_read_or_refused():
    run_mutated(150, 1)


@pytest.mark.slow
def test_very_many_mutated_pictures_and_archives_are_read_or_refused():
    run_mutated(5000, 2)


def large_picture(folder, mode, format, **options):
    side = int((decoding.MAX_PIXELS // decoding.HEAVY.get(format, 1)) ** 0.5) // 2 * 2
    Image.new(mode, (side, side), 90).save(folder / "1.png", format, **options)


def large_tar_gz(folder):
    with gzip.open(folder / "p.tar.gz", "wb", compresslevel=1) as file:
        for info, data in GOOD_TAR:
            file.write(info.tobuf() + data.ljust(-(-len(data) // 512) * 512, b"\0"))
        file.write(tar_member("0.txt", size=2**40)[0].tobuf(tarfile.GNU_FORMAT))
        for _ in range(1200):
            file.write(bytes(2**20))


LARGE = {
    "PNG with alpha": lambda folder: large_picture(folder, "RGBA", "PNG", compress_level=1),
    "PNG of 16 bits": lambda folder: large_picture(folder, "I;16", "PNG", compress_level=1),
    "progressive JPEG": lambda folder: large_picture(folder, "CMYK", "JPEG", progressive=True),
    "GIF": lambda folder: large_picture(folder, "P", "GIF"),
    "WebP": lambda folder: large_picture(folder, "RGBA", "WEBP", lossless=True, method=0),
    "JPEG 2000": lambda folder: large_picture(folder, "RGBA", "JPEG2000"),
    "a tar.gz of a terabyte, as it says": large_tar_gz,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LARGE)
def test_the_largest_of_all_take_less_than_a_gigabyte(tmp_path, what, monkeypatch):
    pytest.importorskip("resource")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    LARGE[what](tmp_path)
    (file,) = tmp_path.iterdir()
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from tests.data.test_hostile import peak_rss\n"
            "from tinydiff.data import load_image, load_images\n"
            "before = peak_rss()\n"
            "try: print(load_image(sys.argv[2]).shape if sys.argv[2].endswith('png') else load_images(sys.argv[2]))\n"
            "except ValueError as error: print(error)\n"
            "print((peak_rss() - before) >> 20)")
    done = subprocess.run([sys.executable, "-c", code, str(ROOT), str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result, growth = done.stdout.splitlines()
    assert ("more than 20 times" if file.suffix == ".gz" else "(64, 64, 3)") in result and int(growth) < 1024, (result, growth)
