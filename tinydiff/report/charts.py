"""The loss of a run as a picture, as SVG inside a page and as text in a terminal, all three from the same axes.

The loss axis is logarithmic: the first epoch divides the loss by ten, the last ones by 1.05, and both should be seen.

Read first: `log.py`, `pictures.py`.
"""
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tinydiff.report.log import RunLog
from tinydiff.report.pictures import ACCENT, CARD, INK, MUTED, label_font

HELD_OUT = (94, 200, 229)
GRID = (48, 52, 62)
MOST_POINTS = 1200         # of a drawn line; a longer run is drawn by the means of neighbours
SUPERSAMPLING = 3          # Pillow's lines have hard edges: draw larger, then average


class Axes(NamedTuple):
    """What the drawings share. steps, loss, smoothed: the curve, at most MOST_POINTS; held_out: (steps, losses); y in log10(loss)."""
    steps: np.ndarray
    loss: np.ndarray
    smoothed: np.ndarray
    held_out: tuple
    low: float
    high: float
    x_ticks: list
    y_ticks: list

    def x(self, step):
        """The place of a step from left, 0, to right, 1."""
        first, last = self.steps[0], self.steps[-1]
        return (np.asarray(step, float) - first) / max(last - first, 1)

    def y(self, loss):
        """The place of a loss from bottom, 0, to top, 1; what lies outside is put on the edge."""
        low, high = math.log10(self.low), math.log10(self.high)
        return np.clip((np.log10(np.maximum(loss, 1e-12)) - low) / (high - low), 0, 1)


def axes(log: RunLog) -> Axes:
    """The curves of a log, thinned, and the range and ticks that show them. Raises ValueError for a log without a step."""
    if len(log.step) == 0:
        raise ValueError("loss chart: the log has no steps yet")
    smoothed = smooth(log.loss)
    shown = np.concatenate([smoothed, log.held_out_points()[1], np.percentile(log.loss, [1, 99])])
    low, high = max(float(shown.min()), 1e-12) / 1.1, max(float(shown.max()), 1e-12) * 1.1
    return Axes(_thin(log.step), _thin(log.loss), _thin(smoothed), log.held_out_points(), low, high,
                x_ticks=linear_ticks(log.step[0], log.step[-1], 6, whole=True), y_ticks=log_ticks(low, high))


def smooth(loss):
    """The mean of each step's neighbourhood, a fortieth of the series wide, cut off at the ends.

    Centred, so that the curve doesn't trail behind the losses that it stands for, as a running average would.
    """
    n = len(loss)
    total = np.concatenate([[0.0], np.cumsum(loss)])                                        # (n + 1,)
    first, end = np.maximum(np.arange(n) - n // 80, 0), np.minimum(np.arange(n) + n // 80 + 1, n)
    return (total[end] - total[first]) / (end - first)


def loss_png(log: RunLog, path: str | Path, width: int = 1200, height: int = 640) -> None:
    """Draws the chart into a PNG file: each step's loss faintly, their moving mean, and the held-out loss of each epoch."""
    a, s = axes(log), SUPERSAMPLING
    left, right, top, bottom = 92, width - 32, 64, height - 84
    canvas = Image.new("RGB", (width * s, height * s), CARD)
    draw = ImageDraw.Draw(canvas)

    def to_pixels(steps, losses):
        return [(s * (left + x * (right - left)), s * (bottom - y * (bottom - top))) for x, y in zip(a.x(steps), a.y(losses))]

    def text(x, y, words, anchor, colour=MUTED):
        draw.text((x * s, y * s), words, colour, label_font(19 * s), anchor=anchor)

    for loss in a.y_ticks:
        (_, y), = to_pixels(a.steps[:1], [loss])
        draw.line((left * s, y, right * s, y), GRID, s)
        text(left - 14, y / s, f"{loss:g}", "rm")
    for step in a.x_ticks:
        (x, _), = to_pixels([step], [a.low])
        draw.line((x, bottom * s, x, (bottom + 6) * s), MUTED, s)
        text(x / s, bottom + 14, f"{step:,}", "ma")
    text(right, height - 18, "optimizer step", "rd")
    for losses, colour, thickness in ((a.loss, tuple((2 * p + q) // 3 for p, q in zip(CARD, ACCENT)), 1), (a.smoothed, ACCENT, 4)):
        draw.line(to_pixels(a.steps, losses), colour, thickness * s, joint="curve")
    for x, y in to_pixels(*a.held_out):
        draw.circle((x, y), 6 * s, HELD_OUT, CARD, 2 * s)
    text(left, 22, "Loss, log scale", "la", INK)
    legend = [("training, each step and its moving mean", ACCENT)] + [("held-out, each epoch", HELD_OUT)] * (len(a.held_out[0]) > 0)
    x = right
    for words, colour in reversed(legend):
        text(x, 22, words, "ra")
        x -= label_font(19).getlength(words) + 18
        draw.circle((x * s, 33 * s), 6 * s, colour)
        x -= 28
    canvas.reduce(s).save(path)


def loss_svg(log: RunLog) -> str:
    """The chart as an <svg> element in the colours of the page: the CSS variables --train, --held-out, --line and --muted."""
    a = axes(log)
    width, height = 720, 360            # of the drawing; the page shows it as wide as there is room
    left, right, top, bottom = 64, width - 14, 16, height - 40

    def points(steps, losses):
        return [(left + x * (right - left), bottom - y * (bottom - top)) for x, y in zip(a.x(steps), a.y(losses))]

    def polyline(losses, style):
        return f'<polyline fill="none" stroke-linejoin="round" style="{style}" points="' + " ".join(
            f"{x:.1f},{y:.1f}" for x, y in points(a.steps, losses)) + '"/>'

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="The loss at each step, on a logarithmic scale">']
    for loss in a.y_ticks:
        (_, y), = points(a.steps[:1], [loss])
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" style="stroke:var(--line)"/>'
                     f'<text x="{left - 8}" y="{y + 4.5:.1f}" text-anchor="end">{loss:g}</text>')
    for step in a.x_ticks:
        (x, _), = points([step], [a.low])
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{step:,}</text>')
    parts.append(polyline(a.loss, "stroke:var(--train);stroke-width:1;opacity:.3"))
    parts.append(polyline(a.smoothed, "stroke:var(--train);stroke-width:2.5"))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" style="fill:var(--held-out);stroke:var(--card);stroke-width:1.5"/>'
              for x, y in points(*a.held_out)]
    return "".join(parts) + "</svg>"


def loss_text(log: RunLog, width: int = 72, height: int = 12, unicode: bool = True) -> str:
    """The chart as lines of text of at most `width` characters: the moving mean as a curve, the held-out losses as points.

    unicode: draw with Braille dots, 2 x 4 to a character; otherwise with ASCII alone.
    """
    a = axes(log)
    columns = max(8, width - 10)
    across, down = (2, 4) if unicode else (1, 1)
    fine = np.linspace(a.steps[0], a.steps[-1], columns * across)
    places = np.rint((1 - a.y(np.interp(fine, a.steps, a.smoothed))) * (height * down - 1)).astype(int)
    dots = np.zeros((height * down, columns * across), bool)
    for i, (here, there) in enumerate(zip(places, [*places[1:], places[-1]])):
        # down or up to where the next column begins, so that a steep fall is a line and not a few separate dots
        dots[min(here, there + (there < here)):max(here, there - (there > here)) + 1, i] = True
    cells = dots.reshape(height, down, columns, across).transpose(0, 2, 1, 3)               # (height, columns, down, across)
    lines = [[_braille(cell) if unicode else " *"[int(cell.any())] for cell in row] for row in cells]
    for x, y in zip(a.x(a.held_out[0]), a.y(a.held_out[1])):
        lines[round((1 - y) * (height - 1))][round(x * (columns - 1))] = "●" if unicode else "o"
    labels = {round((1 - float(a.y(loss))) * (height - 1)): f"{loss:g}" for loss in a.y_ticks}
    wall, corner, floor = "│└─" if unicode else "|+-"
    text = [f"{labels.get(i, ''):>7} {wall}{''.join(line).rstrip(chr(0x2800) + ' ')}" for i, line in enumerate(lines)]
    ends = f"{log.step[0]:,}", f"step {log.step[-1]:,}"
    text.append(" " * 8 + corner + floor * columns)
    text.append(" " * 9 + ends[0] + ends[1].rjust(columns - len(ends[0])))
    held_out = (", ● held-out loss" if unicode else ", o held-out loss") if len(a.held_out[0]) else ""
    text.append(" " * 9 + ("⠒⠒ training loss" if unicode else "** training loss") + held_out)
    return "\n".join(line.rstrip() for line in text)


def _braille(cell):
    """The Braille character of a (4, 2) block of dots: Unicode gives each dot a bit, the first three rows first, then the fourth."""
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    return chr(0x2800 + sum(bit for row, on in zip(bits, cell) for bit, dot in zip(row, on) if dot))


def _thin(values):
    """At most MOST_POINTS means of neighbours, in order."""
    return np.array([part.mean() for part in np.array_split(values.astype(np.float64), min(len(values), MOST_POINTS))])


def log_ticks(low, high):
    """1, 2 and 5 times the powers of ten between two losses; where that gives fewer than three, round numbers between them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0 ** power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0 ** power <= high]
    return ticks if len(ticks) >= 3 else linear_ticks(low, high, 5)


def linear_ticks(low, high, most, whole=False):
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten between low and high."""
    rough = max((high - low) / most, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
    size = max(1, round(size)) if whole else size
    ticks = [k * size for k in range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)]
    return [int(tick) for tick in ticks] if whole else [float(f"{tick:.6g}") for tick in ticks]
