"""Each generated picture beside the training picture that it is nearest to: a copy would be seen at once.

Read first: `pictures.py`.
"""
import math

import numpy as np
from PIL import Image, ImageDraw

from tinydiff.report.pictures import CARD, INK, LINE, MARGIN, MUTED, as_rgb, enlarged, label_font

GAP = 18            # pixels of card between two pairs; within a pair there is none, so that it is seen as one


def neighbour_sheet(samples: np.ndarray, neighbours: np.ndarray, distances: np.ndarray, columns: int = 4,
                    scale: int | None = None) -> Image.Image:
    """A sheet of pairs, a sample on the left and its neighbour on the right, below them how far apart they are; the nearest pairs first.

    samples, neighbours: uint8 (N, H, W, C), C 1 or 3: `nearest(samples, training).of(training)` are the neighbours. distances: N numbers,
    root mean square, in grey levels. columns: pairs in a row. scale: by what whole number to enlarge; left out, so that a picture is about
    128 pixels wide. Raises TypeError where the pictures aren't uint8 and ValueError where the shapes don't fit.
    """
    samples, neighbours, distances = as_rgb("neighbour_sheet", samples), as_rgb("neighbour_sheet", neighbours), np.asarray(distances)
    if samples.shape != neighbours.shape or distances.shape != samples.shape[:1]:
        raise ValueError(f"neighbour_sheet: each sample needs one neighbour of its size and one distance (samples {samples.shape}, "
                         f"neighbours {neighbours.shape}, distances {distances.shape})")
    order = np.argsort(distances, kind="stable")
    pairs = enlarged(np.concatenate([samples, neighbours], axis=2)[order], scale or max(1, round(128 / samples.shape[2])))  # (N,H,2W,3), enlarged
    height, width = pairs.shape[1:3]
    columns = min(columns, len(pairs))
    top, down, across = MARGIN + 2 * LINE + 8, height + LINE + GAP, width + GAP
    title = "generated | nearest training picture", "the number: how far apart they are, in grey levels of 255 (root mean square)"
    sheet = Image.new("RGB", (max(2 * MARGIN + columns * across - GAP, 2 * MARGIN + round(label_font().getlength(title[1]))),
                              top + math.ceil(len(pairs) / columns) * down), CARD)
    draw, font = ImageDraw.Draw(sheet), label_font()
    for line, (words, colour) in enumerate(zip(title, (INK, MUTED))):
        draw.text((MARGIN, MARGIN + line * LINE), words, colour, font)
    for i, (pair, distance) in enumerate(zip(pairs, distances[order])):
        row, column = divmod(i, columns)
        x, y = MARGIN + column * across, top + row * down
        sheet.paste(Image.fromarray(pair), (x, y))
        draw.text((x + width / 2, y + height + 2), f"{distance:.1f}", INK, font, anchor="ma")
    return sheet
