"""Sheets, strips and animated GIFs out of arrays of small pictures.

Everything here takes uint8 pictures, (N, H, W, 3) or grey (N, H, W, 1), and gives a Pillow image: the pictures enlarged by whole
numbers, pixel by pixel, on a dark card which looks the same on a light page and on a dark one.

Read first: `__init__.py`.
"""
import math
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CARD = (23, 25, 31)
INK = (236, 238, 242)
MUTED = (156, 162, 174)
ACCENT = (255, 159, 67)

MARGIN = 10        # pixels of card around the pictures
FONT_SIZE = 17     # legible, too, where a strip of 1,000 pixels is shown at half its size
LINE = 22          # pixels from one line of text to the next
GIF_MIDDLE_MS, GIF_FIRST_MS, GIF_LAST_MS = 130, 700, 2600
LEFT_COLOURS = 80  # of a GIF's 256: enough for noise


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None, gap: int = 4) -> Image.Image:
    """A sheet of pictures, row by row.

    images: uint8 (N, H, W, C), C 1 or 3. columns: how many in a row; left out, about as many as there are rows. scale: by what whole
    number to enlarge; left out, so that a picture is about 128 pixels wide. gap: pixels of card between two pictures.
    Raises TypeError where the pictures aren't uint8 and ValueError where the shape is another.
    """
    images = as_rgb("grid", images)
    columns = columns or _balanced_columns(len(images))
    rows = math.ceil(len(images) / columns)
    images = enlarged(images, scale)
    height, width = images.shape[1:3]
    sheet = Image.new("RGB", (2 * MARGIN + columns * (width + gap) - gap, 2 * MARGIN + rows * (height + gap) - gap), CARD)
    for i, picture in enumerate(images):
        row, column = divmod(i, columns)
        sheet.paste(Image.fromarray(picture), (MARGIN + column * (width + gap), MARGIN + row * (height + gap)))
    return sheet


def strip(images: np.ndarray, captions: Sequence[str], titles: Sequence[str] | None = None, scale: int | None = None) -> Image.Image:
    """Pictures from left to right, a caption under each: the same picture at growing t, say.

    images: uint8 (N, H, W, C), or (R, N, H, W, C) for R rows above each other that share their captions. captions: N strings, a line
    break between their lines. titles: one string for each row, written above it. The left half of a strip of an even number of
    pictures is exactly as wide as the right half, so that a narrow page can fold it between two pictures.
    """
    images = np.asarray(images)
    images = images if images.ndim == 5 else images[None]                                 # (R,N,H,W,C)
    if len(captions) != images.shape[1]:
        raise ValueError(f"strip: {len(captions)} captions for {images.shape[1]} pictures (images {images.shape})")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"strip: {len(titles)} titles for {len(images)} rows of pictures (images {images.shape})")
    rows = [enlarged(as_rgb("strip", row), scale) for row in images]
    height, width = rows[0].shape[1:3]
    cell = width + 8
    title_height = LINE + 6 if titles else 0
    text_height = LINE * max(caption.count("\n") + 1 for caption in captions) + 4
    sheet = Image.new("RGB", (len(captions) * cell, len(rows) * (title_height + height + 8) + text_height + 8), CARD)
    draw, font = ImageDraw.Draw(sheet), label_font()
    y = 8
    for i, row in enumerate(rows):
        if titles:
            draw.text((6, y), titles[i], INK, font)
            y += title_height
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (column * cell + 4, y))
        y += height + 8
    for column, caption in enumerate(captions):
        for i, text in enumerate(caption.split("\n")):
            draw.text((column * cell + cell / 2, y + i * LINE), text, MUTED if i else INK, font, anchor="ma")
    return sheet


def side_by_side(left: Image.Image, right: Image.Image, titles: Sequence[str], caption: str, done: float | None = None) -> Image.Image:
    """Two images next to each other, a title above each, below both a caption, and a bar which is full at done = 1."""
    width, height = left.width + right.width, max(left.height, right.height)
    sheet = Image.new("RGB", (width, height + 2 * LINE + 16), CARD)
    draw, font = ImageDraw.Draw(sheet), label_font()
    for image, title, x in ((left, titles[0], 0), (right, titles[1], left.width)):
        draw.text((x + MARGIN, 8), title, INK, font)
        sheet.paste(image, (x, LINE + 8))
    y = LINE + 8 + height
    draw.text((MARGIN, y - 2), caption, MUTED, font)
    if done is not None:
        start, end = left.width + MARGIN, width - MARGIN
        draw.rectangle((start, y + 7, end, y + 10), (52, 56, 66))
        draw.rectangle((start, y + 7, start + done * (end - start), y + 10), ACCENT)
    return sheet


def denoising_frame(x_t: np.ndarray, x_0: np.ndarray, t: float, done: float) -> Image.Image:
    """One frame of the reverse process: the pictures x_t on the left, the guess of x_0 made from them on the right; uint8 (N,H,W,C).

    t: the time that x_t is at, below 0 at the end. done: how much of the way lies behind, 0 to 1.
    """
    left, right = (grid(pictures, scale=max(1, 64 // np.shape(x_t)[2])) for pictures in (x_t, x_0))
    return side_by_side(left, right, ("x_t", "the guess of x_0"), f"t = {t:.0f}" if t >= 0 else "the end", done)


def gif(frames: Iterable[Image.Image], path: str | Path) -> None:
    """Writes RGB images of one size as an animated GIF that plays for ever: a moment on the first, a good look at the last.

    frames: as denoising_frame makes them, noise in the left half. A GIF has 256 colours a frame; they go where the eye looks.
    """
    frames = list(frames)
    if not frames:
        raise ValueError(f"gif: no frames to write to {path}")
    indexed = [_indexed(frame) for frame in frames]
    durations = [GIF_FIRST_MS] + [GIF_MIDDLE_MS] * (len(frames) - 2) + [GIF_LAST_MS]
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=durations[-len(frames):], loop=0, optimize=False)


def as_rgb(name, images):
    """The pictures with three channels, (N,H,W,3), or an error that names the caller."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"{name}: pictures are uint8, got {images.dtype} (shape {images.shape}); data.to_uint8 converts the network's")
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"{name}: pictures have the shape (N, H, W, 1 or 3), got {images.shape}")
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def enlarged(images, scale):
    """Each pixel as a square of scale x scale: (N,H,W,3) -> (N,H*scale,W*scale,3)."""
    scale = scale or max(1, round(128 / images.shape[2]))
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def _balanced_columns(n):
    """Columns of a sheet of n pictures: near to a square, a little wide and, where some number does it, without an empty place."""
    square = math.ceil(math.sqrt(n))
    return next((columns for columns in range(square, math.isqrt(2 * n) + 1) if n % columns == 0), square)


def _indexed(frame):
    """The frame with a palette for each half of it: one for both would spend its colours on the noise and none on the fur.

    No dithering, because it would look like the noise that the animation is there to show going away.
    """
    middle = frame.width // 2
    left, right = (frame.crop(box).quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for box, colours in (
        ((0, 0, middle, frame.height), LEFT_COLOURS), ((middle, 0, frame.width, frame.height), 256 - LEFT_COLOURS)))
    indexed = Image.fromarray(np.concatenate([np.asarray(left), np.asarray(right) + np.uint8(LEFT_COLOURS)], axis=1)).convert("P")
    indexed.putpalette((left.getpalette() + [0] * 768)[:3 * LEFT_COLOURS] + right.getpalette())
    return indexed


def label_font(size=FONT_SIZE):
    """Pillow's own font, the only one that is there on every machine."""
    return ImageFont.load_default(size)
