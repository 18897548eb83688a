"""Noise schedules as curves side by side: what is left of the picture, how much noise there is, and the ratio of the two, over time.

Read first: `charts.py`.
"""
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tinydiff.report.charts import GRID, SUPERSAMPLING, linear_ticks, log_ticks
from tinydiff.report.pictures import CARD, INK, MUTED, label_font

COLOURS = ((255, 159, 67), (94, 200, 229), (163, 217, 119), (242, 122, 190), (170, 130, 255), (240, 240, 240), (226, 75, 65), (75, 100, 255))
LEFT, GAP, RIGHT, TOP, BOTTOM = 64, 84, 24, 60, 108     # pixels around the panels and between them


class Panel(NamedTuple):
    """One of the three: its title, a curve of heights for each schedule, and the ticks (height, label); all heights from low to high."""
    title: str
    curves: list
    low: float
    high: float
    ticks: list


def panels(schedules) -> list[Panel]:
    """alpha, sigma on a logarithmic scale, and the log SNR. A log SNR of minus infinity lies on the lower edge."""
    schedules = list(schedules)
    for schedule in schedules:
        if schedule.T < 2:
            raise ValueError("schedules_png: a schedule of T = 1 is one point and has no curve to draw")
    alpha = [schedule.alpha for schedule in schedules]
    sigma = [np.log10(schedule.sigma) for schedule in schedules]
    log_snr = [schedule.log_snr for schedule in schedules]
    low, high = _range(sigma)
    sigma_ticks = [tick for tick in log_ticks(10**low, 10**high) if f"{tick:e}"[0] == "1"] or log_ticks(10**low, 10**high)
    bottom, top = _range(log_snr)
    return [Panel("alpha: what is left of the picture", alpha, 0.0, 1.0, [(tick, f"{tick:g}") for tick in linear_ticks(0, 1, 5)]),
            Panel("sigma: the noise, log scale", sigma, low, high, [(np.log10(tick), f"{tick:g}") for tick in sigma_ticks]),
            Panel("log SNR: 2 ln(alpha/sigma)", [np.maximum(curve, bottom) for curve in log_snr], bottom, top,
                  [(tick, f"{tick:g}") for tick in linear_ticks(bottom, top, 6)])]


def schedules_png(schedules: dict, path: str | Path, width: int = 1500, height: int = 600) -> None:
    """Draws alpha, sigma and the log SNR of schedules, a dict of name -> Schedule, into a PNG file: up to 8, each over its own time t.

    Raises ValueError for none or for more, and for a schedule of one time.
    """
    if not 1 <= len(schedules) <= len(COLOURS):
        raise ValueError(f"schedules_png: {len(schedules)} schedules; it draws 1 to {len(COLOURS)} of them, each in a colour of its own")
    s = SUPERSAMPLING
    canvas = Image.new("RGB", (width * s, height * s), CARD)
    draw = ImageDraw.Draw(canvas)

    def text(x, y, words, anchor, colour=MUTED, size=17):
        draw.text((x * s, y * s), words, colour, label_font(size * s), anchor=anchor)

    across, bottom = (width - LEFT - 2 * GAP - RIGHT) / 3, height - BOTTOM
    for i, panel in enumerate(panels(schedules.values())):
        left = LEFT + i * (across + GAP)

        def to_pixels(x, y):
            return s * (left + x * across), s * (bottom - (y - panel.low) / (panel.high - panel.low) * (bottom - TOP))
        text(left, 20, panel.title, "la", INK, 19)
        for tick, label in panel.ticks:
            draw.line((to_pixels(0, tick), to_pixels(1, tick)), GRID, s)
            text(left - 10, to_pixels(0, tick)[1] / s, label, "rm")
        text(left, bottom + 10, "t = 0", "la")
        text(left + across, bottom + 10, "T - 1", "ra")
        for j, (curve, colour) in enumerate(zip(panel.curves, COLOURS)):
            thickness = round(s * (2.5 + 0.65 * (len(schedules) - 1 - j)))      # falls, so that none hides one drawn before it
            points = [to_pixels(x, y) for x, y in zip(np.linspace(0, 1, len(curve)), curve)]
            draw.line(_apart(points, 4 * s), colour, thickness, joint="curve")
    x = LEFT
    for name, colour in zip(schedules, COLOURS):
        draw.circle((x * s, (height - 33) * s), 6 * s, colour)
        text(x + 14, height - 33, name, "lm", INK)
        x += 44 + label_font(17).getlength(name)
    canvas.reduce(s).save(path)


def _range(curves):
    """The least and the greatest finite height of all, with a little room."""
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low, high = float(finite.min()), float(finite.max())
    room = 0.03 * (high - low)
    return low - room, high + room


def _apart(points, least):
    """The points of a curve that lie at least so far from the last one kept, and its end: Pillow draws closer ones with ragged edges."""
    kept = [points[0]]
    for point in points[1:-1]:
        if math.dist(point, kept[-1]) >= least:
            kept.append(point)
    return [*kept, points[-1]]
