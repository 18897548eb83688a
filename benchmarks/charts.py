"""Charts of measured figures, drawn with Pillow alone: lines and points on two axes, each linear or logarithmic."""
import math

from PIL import Image, ImageDraw

from tinydiff.report.charts import GRID
from tinydiff.report.pictures import ACCENT, CARD, INK, MUTED, label_font

COLOURS = [ACCENT, (94, 200, 229), (158, 206, 106), (231, 111, 140), (187, 154, 247), (224, 205, 120), (140, 150, 170)]
SCALE = 3                                   # Pillow's lines have hard edges: draw larger, then average


class Chart:
    """One chart in the box (left, top, right, bottom) of a picture. ranges and ticks in the units of the data."""

    def __init__(self, draw, box, x_range, y_range, x_log=True, y_log=True):
        self.draw, self.box, self.ranges, self.logs = draw, box, (x_range, y_range), (x_log, y_log)

    def place(self, x, y) -> tuple[float, float]:
        """Data -> pixels of the large picture."""
        left, top, right, bottom = self.box
        across, up = (self._part(value, *self.ranges[axis], self.logs[axis]) for axis, value in enumerate((x, y)))
        return SCALE * (left + across * (right - left)), SCALE * (bottom - up * (bottom - top))

    @staticmethod
    def _part(value, low, high, log):
        return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)

    def axes(self, title, x_name, y_name, x_ticks, y_ticks):
        left, top, right, bottom = self.box
        for y in y_ticks:
            self.draw.line((*self.place(self.ranges[0][0], y), *self.place(self.ranges[0][1], y)), GRID, SCALE)
            self.text(left - 10, self.place(self.ranges[0][0], y)[1] / SCALE, f"{y:g}", "rm")
        for x in x_ticks:
            at = self.place(x, self.ranges[1][0])[0] / SCALE
            self.draw.line((at * SCALE, bottom * SCALE, at * SCALE, (bottom + 6) * SCALE), MUTED, SCALE)
            self.text(at, bottom + 12, f"{x:g}", "ma")
        self.text(left, top - 54, title, "la", INK, 21)
        self.text(left, top - 26, y_name, "la")
        self.text(right, bottom + 38, x_name, "ra")

    def text(self, x, y, words, anchor, colour=MUTED, size=16):
        self.draw.text((x * SCALE, y * SCALE), words, colour, label_font(size * SCALE), anchor=anchor)

    def line(self, points, colour, thickness=3, dashed=False):
        places = [self.place(*point) for point in points]
        if not dashed:
            self.draw.line(places, colour, thickness * SCALE, joint="curve")
            return
        for (x0, y0), (x1, y1) in zip(places, places[1:]):
            pieces = max(1, round(math.hypot(x1 - x0, y1 - y0) / (9 * SCALE)))
            for i in range(0, pieces, 2):
                self.draw.line((x0 + (x1 - x0) * i / pieces, y0 + (y1 - y0) * i / pieces,
                                x0 + (x1 - x0) * (i + 1) / pieces, y0 + (y1 - y0) * (i + 1) / pieces), colour, thickness * SCALE)

    def point(self, x, y, colour, hollow=False, radius=6):
        fill, outline = (CARD, colour) if hollow else (colour, CARD)
        self.draw.circle(self.place(x, y), radius * SCALE, fill, outline, (2 if hollow else 1) * SCALE)

    def legend(self, entries, x, y):
        """Rows of (words, colour, hollow) from (x, y) of the picture downwards."""
        for row, (words, colour, hollow) in enumerate(entries):
            middle = ((x + 8) * SCALE, (y + 24 * row + 9) * SCALE)
            self.draw.circle(middle, 6 * SCALE, CARD if hollow else colour, colour, 2 * SCALE)
            self.text(x + 24, y + 24 * row + 9, words, "lm")


def canvas(width, height):
    """A large picture to draw into, and what draws."""
    image = Image.new("RGB", (width * SCALE, height * SCALE), CARD)
    return image, ImageDraw.Draw(image)


def save(image, path):
    image.reduce(SCALE).save(path)


def powers(low, high, base=10):
    """The powers of a number within a range."""
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    return [base ** k for k in range(first, last + 1)]
