"""A pen for cartoons: smooth shapes as polygons of points (n,2), x to the right and y down, filled on an enlarged canvas.

Read first: `cat_drawing.py`.
"""
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

SUPERSAMPLING = 4   # drawn this many times larger and averaged down, which smooths the edges
PER_SIDE = 7        # points of a smooth curve from one control point to the next
SOFT = 64           # side of the masks that are blurred: soft edges need no resolution


class Pen:
    """Fills shapes on square canvases that reach from -1 to 1: turned by `tilt` radians, scaled, and moved to `centre`."""

    def __init__(self, size: int, tilt: float, scale: float, centre: tuple[float, float]):
        self.size, self.side = size, size * SUPERSAMPLING
        cos, sin = np.cos(tilt), np.sin(tilt)
        self.turn = scale / 2 * np.array([[cos, sin], [-sin, cos]])
        self.shift = (np.array(centre) + 1) / 2

    def fill(self, canvas: Image.Image, colour, *shapes: np.ndarray) -> None:
        draw = ImageDraw.Draw(canvas)
        for shape in shapes:
            pixels = (shape @ self.turn + self.shift) * canvas.width
            draw.polygon(pixels.ravel().tolist(), fill=colour)

    def finished(self, canvas: Image.Image) -> Image.Image:
        """The canvas averaged down to size x size."""
        return canvas.reduce(SUPERSAMPLING)

    def mask(self, shapes: list[np.ndarray]) -> Image.Image:
        mask = Image.new("L", (self.side, self.side))
        self.fill(mask, 255, *shapes)
        return mask

    def soft(self, shapes: list[np.ndarray], blur: float, inside: int = 255, outside: int = 0) -> Image.Image:
        """A mask of two opacities, its edges blurred over about `blur` 64ths of the picture."""
        mask = Image.new("L", (SOFT, SOFT), outside)
        self.fill(mask, inside, *shapes)
        return self.enlarged(mask.filter(ImageFilter.GaussianBlur(blur)).resize((self.size, self.size), Image.Resampling.BILINEAR))

    def gradient(self, start: Colour, end: Colour, angle: float) -> Image.Image:
        """A canvas that goes from start to end in the direction `angle`: four corners, and all between them interpolated."""
        corners = np.array([-1, 1, -1, 1]) * np.cos(angle) + np.array([-1, -1, 1, 1]) * np.sin(angle)
        share = (corners - corners.min()) / np.ptp(corners)
        colours = np.rint(np.outer(1 - share, start) + np.outer(share, end)).astype(np.uint8).reshape(2, 2, 3)
        box = (0.5, 0.5, 1.5, 1.5)   # from the centre of one pixel to the centre of the other
        return self.enlarged(Image.fromarray(colours).resize((self.size, self.size), Image.Resampling.BILINEAR, box))

    def enlarged(self, image: Image.Image) -> Image.Image:
        """To the canvas's size by repeating pixels: the quickest way, and in the end they are averaged again."""
        return image.resize((self.side, self.side), Image.Resampling.NEAREST)


def circle(n: int) -> np.ndarray:
    """n points of the unit circle."""
    angle = np.arange(n) * (2 * np.pi / n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


CIRCLE = circle(32)
U = np.linspace(0, 1, 12)
BEZIER = np.stack([(1 - U) ** 2, 2 * U * (1 - U), U ** 2], axis=1)               # (12, 3): the curve's points from its three controls
BEZIER_SLOPE = np.stack([2 * U - 2, 2 - 4 * U, 2 * U], axis=1)
SWELL = np.sin(np.pi * U)[:, None]


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    return CIRCLE * (rx, ry) + (x, y)


def smooth(points) -> np.ndarray:
    """A closed curve through the points (Catmull and Rom 1974)."""
    return _catmull_rom(len(points)) @ np.asarray(points, dtype=np.float64)


@lru_cache
def _catmull_rom(n: int) -> np.ndarray:
    """(n * PER_SIDE, n): what each of n control points adds to each point of the closed curve."""
    u = np.arange(PER_SIDE) / PER_SIDE
    weights = np.array([u * (u * (2 - u) - 1), u * u * (3 * u - 5) + 2, u * (u * (4 - 3 * u) + 1), u * u * (u - 1)]) / 2
    basis = np.zeros((n, PER_SIDE, n))
    for i in range(n):
        for k in range(4):
            basis[i, :, (i + k - 1) % n] += weights[k]
    return basis.reshape(n * PER_SIDE, n)


def stroke(start, bend, end, width: float, tips: float = 0.0) -> np.ndarray:
    """A curved stroke from start to end, pulled towards bend; full width in the middle, `tips` of it at the ends."""
    controls = np.array([start, bend, end])
    line, along = BEZIER @ controls, BEZIER_SLOPE @ controls
    offset = width / 2 * (tips + (1 - tips) * SWELL) * _normal(along)
    return np.concatenate([line + offset, (line - offset)[::-1]])


def grown(shape: np.ndarray, by: float) -> np.ndarray:
    """The shape with its edge moved outwards."""
    beyond = np.concatenate([shape[1:], shape[:1]])
    along = beyond - np.concatenate([shape[-1:], shape[:-1]])
    twice_area = np.sum(shape[:, 0] * beyond[:, 1] - shape[:, 1] * beyond[:, 0])
    return shape - np.sign(twice_area) * by * _normal(along)


def _normal(along: np.ndarray) -> np.ndarray:
    """Unit vectors at a right angle to directions (n,2)."""
    length = np.sqrt(np.sum(along * along, axis=1, keepdims=True))
    return along[:, ::-1] * (-1, 1) / np.maximum(length, 1e-9)


def both_sides(right: list) -> list:
    """Points down the right side, and their mirror images up the left; points on the middle line are there once."""
    return right + [(-x, y) for x, y in reversed(right) if x]
