"""Feeds mutated pictures and archives to the readers, in a process of its own that can take a gigabyte more than it starts with.

    python tests/data/mutated.py CASES SEED

Each case must give a good value or one of our errors, within DEADLINE. Prints how many were good, how many refused and the growth in MiB.
"""
import faulthandler
import gzip
import io
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, seed, settings, strategies as st
from PIL import Image, features

from tinydiff.data import load_image, load_images

try:
    import resource
except ImportError:     # Windows: the cases run without a limit
    resource = None

GROWTH = 2**30      # bytes of memory that all cases together may take
DEADLINE = 5        # seconds for one case; the slowest of a thousand take 0.1
NUMBERS = [0, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pictures():
    """Name -> a small file of each format, compression and mode that is read."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (19, 23, 3), dtype=np.uint8)).resize((46, 38))
    rgba = rgb.copy()
    rgba.putalpha(90)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "plain.png": saved(rgb, "PNG", exif=exif), "alpha.png": saved(rgba, "PNG", icc_profile=b"no profile" * 20),
        "palette.png": saved(rgb.quantize(9), "PNG", transparency=1),
        "grey16.png": saved(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)), "PNG"),
        "moving.png": saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(9)]),
        "plain.jpg": saved(rgb, "JPEG", exif=exif), "progressive.jpg": saved(rgb, "JPEG", progressive=True),
        "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG"),
        "moving.gif": saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(9)]), "plain.bmp": saved(rgb, "BMP"),
        "palette.bmp": saved(rgb.quantize(9), "BMP"), "plain.tga": saved(rgba, "TGA"), "packed.tga": saved(rgb, "TGA", compression="tga_rle"),
        "binary.ppm": saved(rgb, "PPM"), "plain.ppm": b"P3 2 2 255 " + b"9 20 250 " * 4, "plain.ico": saved(rgba, "ICO", sizes=[(32, 32)]),
        "float.tif": saved(Image.fromarray(rng.random((20, 30), dtype=np.float32)), "TIFF"), "plain.tif": saved(rgb, "TIFF"),
    }
    if features.check("libtiff"):
        files |= {f"{packed}.tif": saved(rgb, "TIFF", compression=packed) for packed in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")}
    if features.check("webp"):
        files |= {"lossy.webp": saved(rgba, "WEBP"), "moving.webp": saved(rgb, "WEBP", lossless=True, save_all=True, append_images=[rgb.rotate(9)])}
    if features.check("avif"):
        files["plain.avif"] = saved(rgb, "AVIF", speed=10)
    if features.check("jpg_2000"):
        files["plain.jp2"] = saved(rgb, "JPEG2000")
    return files


def archives(files):
    """Name -> an archive of some of the files, in two class folders, with a link, a long name and a text."""
    chosen = [("a/1.png", files["plain.png"]), ("b/2.jpg", files["plain.jpg"]), ("b/" + ("long" * 15 + "/") * 2 + "4.gif", files["moving.gif"]),
              ("a/3.png", files["palette.png"]), ("README.txt", b"text")]
    made = {}
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("a/", b"")
            for member, data in chosen:
                archive.writestr(member, data)
        made[name] = file.getvalue()
    for name, format in (("ustar.tar", tarfile.USTAR_FORMAT), ("gnu.tar", tarfile.GNU_FORMAT), ("pax.tar", tarfile.PAX_FORMAT)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=format) as archive:
            for member, data in chosen:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                info.mtime, info.pax_headers = 1.5, {"comment": "c" * 99}
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("a/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "../../etc/passwd"
            archive.addfile(link)
        made[name] = made["inside of " + name + ".gz"] = file.getvalue()[:-8192]     # a tar is filled up with zeros
    made["outside.tar.gz"] = gzip.compress(made["pax.tar"], mtime=0)
    return made


PICTURES = pictures()
BASES = PICTURES | archives(PICTURES)

PLACE = st.one_of(st.integers(0, 200), st.integers(0, 2**16))
COUNT = st.one_of(st.integers(1, 8), st.integers(1, 3000))
MUTATION = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(1, 255)),
    st.tuples(st.just("cut"), PLACE, st.booleans()),
    st.tuples(st.just("delete"), PLACE, COUNT),
    st.tuples(st.just("duplicate"), PLACE, COUNT, st.integers(1, 40)),
    st.tuples(st.just("splice"), PLACE, PLACE, COUNT, st.sampled_from(sorted(BASES))),
    st.tuples(st.just("number"), PLACE, st.sampled_from("<>"), st.sampled_from("BHIQ"), st.sampled_from(NUMBERS)),
    st.tuples(st.just("tar size"), st.integers(0, 12),
              st.sampled_from([b"77777777777\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"00000000000\0", b"-1\0"])),
)


def mutated(data, mutations):
    data = bytearray(data)
    for kind, at, *how in mutations:
        at %= max(1, len(data))
        if kind == "flip" and data:
            data[at] ^= how[0]
        elif kind == "cut":
            del data[at if how[0] else len(data) - at // 16:]
        elif kind == "delete":
            del data[at:at + how[0]]
        elif kind == "duplicate":
            data[at:at] = data[at:at + how[0]] * how[1]
        elif kind == "splice":
            other = BASES[how[2]]
            data[at:at + how[1]] = other[how[0] % len(other):][:how[1]]
        elif kind == "number":
            order, width, number = how
            field = struct.pack(order + width, number % 256 ** struct.calcsize(width))
            data[at:at + len(field)] = field
        elif kind == "tar size":
            data[at * 512 + 124:at * 512 + 136] = how[0]
    return bytes(data)


def mended(data):
    """With the checksums of a PNG's chunks and a tar's headers made right, so that what they guard is looked at."""
    data = bytearray(data)
    if data[:4] == b"\x89PNG":
        at = 8
        while at + 12 <= len(data):
            end = at + 8 + int.from_bytes(data[at:at + 4], "big")
            data[end:end + 4] = zlib.crc32(data[at + 4:end]).to_bytes(4, "big")
            at = end + 4
    for at in range(0, len(data) - 511, 512):
        if data[at + 257:at + 262] == b"ustar":
            data[at + 148:at + 156] = b" " * 8
            data[at + 148:at + 156] = b"%06o\0 " % sum(data[at:at + 512])
    return bytes(data)


def feed(path):
    """Whether the file was read. AssertionError or any other exception where it was neither read nor refused as it should be."""
    read, ours = (load_images, "load_images: ") if path.name.endswith((".zip", ".tar", ".gz")) else (load_image, "load_image: ")
    try:
        value = read(path, 16)
    except ValueError as error:
        assert str(error).startswith(ours) and "\n" not in str(error) and "MemoryError" not in str(error), error
        return False
    if read is load_image:
        assert value.shape == (16, 16, 3) and value.dtype == np.uint8
    else:
        assert value.images.shape == (len(value.names), 16, 16, 3) and len(value) >= 2
        assert not any("MemoryError" in reason for _, reason in value.skipped), value.skipped
    return True


def run(cases, chosen_seed, folder):
    counts = {True: 0, False: 0}

    @seed(chosen_seed)
    @settings(max_examples=cases, deadline=DEADLINE * 1000, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(BASES)), st.lists(MUTATION, max_size=5), st.booleans())
    def mutate_and_feed(name, mutations, mend):
        data = mutated(BASES[name], mutations)
        data = mended(data) if mend else data
        path = folder / name
        path.write_bytes(gzip.compress(data, 1) if name.startswith("inside of ") else data)
        faulthandler.dump_traceback_later(4 * DEADLINE, exit=True)     # a hang ends the process
        counts[feed(path)] += 1
        faulthandler.cancel_dump_traceback_later()

    mutate_and_feed()
    return counts


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) if resource else 0


def main():
    cases, chosen_seed = map(int, sys.argv[1:3])
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GROWTH,) * 2)
    before = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(cases, chosen_seed, Path(folder))
    print(f"{counts[True]} read, {counts[False]} refused, {(peak_bytes() - before) >> 20} MiB more")


if __name__ == "__main__":
    main()
