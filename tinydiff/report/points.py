"""Points in the plane as small pictures: a cloud of them, and arrows on it. For diffusion on two numbers, where all of it can be seen.

Read first: `pictures.py`.
"""
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from tinydiff.report.pictures import CARD, INK

RAINBOW = np.array([(255, 214, 92), (255, 140, 70), (235, 80, 140), (150, 100, 245), (70, 190, 240)])     # yellow to pink to blue
SUPERSAMPLING = 3           # drawn larger, then averaged: smooth edges
DOT, GLOW = 0.95, 3.0       # pixels: a point's radius, and how far its light is spread
HEAD = 0.4, 0.22            # of an arrow's length: its head, and half of the head's width


def point_cloud(points: np.ndarray, along: np.ndarray, size: int = 200, reach: float = 2.8) -> np.ndarray:
    """A picture, (size,size,3) uint8, of points that glow on a dark card.

    points: (n,2), x to the right and y upwards; the picture shows -reach to reach, what lies beyond is left out. along: (n,) from 0 to 1, the
    colour of each, yellow to pink to blue. Raises ValueError for other shapes.
    """
    points, along = _pairs("point_cloud: points", points), np.asarray(along)
    if along.shape != points.shape[:1]:
        raise ValueError(f"point_cloud: along must be one number for each of the {len(points)} points, got {along.shape}")
    places = np.linspace(0, 1, len(RAINBOW))
    colours = np.stack([np.interp(along, places, channel) for channel in RAINBOW.T], axis=1)               # (n,3)
    image = Image.new("RGB", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    for place, colour in zip(_places(points, size, reach), np.rint(colours).astype(int).tolist()):
        draw.circle(place, DOT * SUPERSAMPLING, tuple(colour))
    glow = ImageChops.screen(image, image.filter(ImageFilter.GaussianBlur(GLOW * SUPERSAMPLING)))           # adds light, never beyond white
    return np.asarray(ImageChops.screen(glow, Image.new("RGB", image.size, CARD)).reduce(SUPERSAMPLING))


def arrows(picture: np.ndarray, points: np.ndarray, ways: np.ndarray, reach: float = 2.8) -> np.ndarray:
    """The picture, (size,size,3) uint8 as point_cloud makes it, dimmed, and on it an arrow from each of points (n,2) to points + ways (n,2).

    reach: that of the picture. Raises ValueError where points and ways don't fit each other.
    """
    points, ways = _pairs("arrows: points", points), _pairs("arrows: ways", ways)
    if points.shape != ways.shape:
        raise ValueError(f"arrows: points and ways must have one shape (points {points.shape}, ways {ways.shape})")
    size, below = len(picture), Image.fromarray(picture)
    image = Image.blend(Image.new("RGB", below.size, CARD), below, 0.45).resize((size * SUPERSAMPLING, size * SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    neck, across = points + (1 - HEAD[0]) * ways, HEAD[1] * ways @ [[0, 1], [-1, 0]]                        # across: at a right angle to the way
    for tail, *head in zip(*(_places(corner, size, reach) for corner in (points, points + ways, neck + across, neck - across))):
        draw.line((tail, head[0]), INK, SUPERSAMPLING)
        draw.polygon(head, INK)
    return np.asarray(image.reduce(SUPERSAMPLING))


def _pairs(name, points):
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} must be (n, 2), got {points.shape}")
    return points


def _places(points, size, reach):
    """Where points lie in the large drawing, as Pillow wants it: a list of (x, y) from the upper left corner."""
    return list(map(tuple, (SUPERSAMPLING * size / 2 * (1 + points * (1, -1) / reach)).tolist()))
