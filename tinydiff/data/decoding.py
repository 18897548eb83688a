"""One picture file, as bytes from anyone, to one small square, within bounded memory and time.

A decoder makes room for what a file claims to hold, so claims are checked first. With the limits below the worst of files, of whatever
format, takes less than a gigabyte: at most two copies of 2^26 pixels of 4 bytes, what the decoder itself needs, and the file.

Read first: `image_set.py`.
"""
import functools
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**26      # 8,192 x 8,192
HEAVY = {"WEBP": 2, "AVIF": 2, "JPEG2000": 4}   # formats whose decoders take several times the picture's memory: part of MAX_PIXELS, for them
MAX_SIDE = 2**16 - 1    # as in a JPEG
MAX_SCANS = 100         # of a JPEG: each is a pass over the whole picture, and a few bytes can ask for one; progressive JPEGs have about ten
STRIP_PIXELS = 2**20    # of a picture that are worked on at once where that takes many bytes a pixel

# What is opened, whatever a file is called. Pillow knows some fifty formats, one of which (EPS) starts another program.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "HEIF")


def decode(data: bytes, size: int, square=None) -> np.ndarray:
    """The bytes of a picture file -> (size,size,3) uint8: turned as its EXIF orientation says, over white where it is transparent, a square
    of it resized.

    square(width, height) -> left, top, side of the square, in pixels of the turned picture; left out, the square in its centre.
    Whatever is wrong with the data comes out as one of the many exceptions that decoders have; `reason` puts them into words.
    """
    if not data:
        raise ValueError("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files; what it can't read raises
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
                raise ValueError(f"a JPEG of more than {MAX_SCANS} scans")
            _check_pixels(image)
            if square is None:
                image.draft(None, (2 * size, 2 * size))  # a large JPEG: let the decoder itself shrink it by 2, 4 or 8
            image.load()
            _check_pixels(image)  # an icon's size is that of the picture within
            ImageOps.exif_transpose(image, in_place=True)
        image = _to_rgb(image)
    left, top, side = (square or _centre)(*image.size)
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3))


def reason(error: Exception) -> str:
    """Why a file could not be read, in one line without memory addresses."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(MAX_PIXELS)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]


@functools.cache
def _formats():
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_pixels(image):
    """Raises ValueError for a picture that would take too much memory."""
    most = MAX_PIXELS // HEAVY.get(image.format, 1)
    shapes = [image.size]
    if image.format == "TIFF":  # its decoder makes room for a whole tile (tags 322 and 323), however small the picture is
        shapes.append((image.tag_v2.get(322, 0), image.tag_v2.get(323, 0)))
    for width, height in shapes:
        if width * height > most:
            raise ValueError(_too_large(most))
        if max(width, height) > MAX_SIDE:
            raise ValueError(f"more than {MAX_SIDE:,} pixels wide or high")


def _too_large(most):
    return f"more than {most:,} pixels"


def _centre(width, height):
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, alpha over white, strip by strip: all at once, the steps between would take several times the picture's memory."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    # Whole numbers are 16-bit grey, also where Pillow keeps them in 32. Floats have no agreed white: stretch to their range.
    low, high = image.getextrema() if image.mode == "F" else (0, 65535)
    rgb = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.mode == "F" or image.mode.startswith("I"):  # convert() would clip these at 255
            values = np.asarray(strip, dtype=np.float64)
            grey = np.clip((values - low) / max(high - low, np.finfo(np.float64).tiny) * 255, 0, 255)
            strip = Image.fromarray(np.rint(np.nan_to_num(grey)).astype(np.uint8))
        elif image.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        rgb.paste(strip.convert("RGB"), (0, top))
    return rgb
