"""Draw one cat from its traits: layers from the background to the whiskers, in face units (see CatTraits).

Whatever must end at an outline, such as stripes at the edge of the face, is painted freely on a layer of its own and laid on
through a mask. The numbers are a drawing: nothing but the look of the cats depends on them.

Read first: `cat_traits.py`.
"""
import numpy as np
from PIL import Image

from tinydiff.data.cat_traits import CatTraits, Colour, mix, shade
from tinydiff.data.pen import CIRCLE, Pen, both_sides, circle, ellipse, grown, smooth, stroke

WHITE = (255, 253, 250)
INK = (44, 34, 40)


def draw_cat(cat: CatTraits, size: int) -> Image.Image:
    """The cat as an RGB picture of size x size pixels."""
    pen = Pen(size, cat.tilt, cat.scale, cat.centre)
    canvas = pen.gradient(*cat.background, cat.light_angle)
    head, ears = head_outline(cat), [ear_outline(cat) * (s, 1) for s in (-1, 1)]
    outline = mix(shade(cat.dark, 0.62), INK, 0.3)
    draw_body(pen, canvas, cat, outline)

    fur = Image.new("RGB", canvas.size, cat.base)
    paint_pattern(pen, fur, cat)
    fur.paste(INK, mask=pen.soft([ellipse(0, -0.12, 0.66, 0.62)], blur=7, inside=0, outside=64))
    pen.fill(canvas, outline, *(grown(shape, 0.035) for shape in (head, *ears)))
    canvas.paste(fur, mask=pen.mask([head, *ears]))
    if cat.ears != "folded":
        draw_inner_ears(pen, canvas, cat, head)
    else:
        draw_folds(pen, canvas, cat, outline)

    draw_muzzle(pen, canvas, cat)
    for s, colour in zip((-1, 1), cat.eyes):
        draw_eye(pen, canvas, cat, s, colour)
    draw_nose_and_mouth(pen, canvas, cat)
    draw_whiskers(pen, canvas, cat)
    return pen.finished(canvas)


def head_outline(cat: CatTraits) -> np.ndarray:
    f = cat.fluff
    right = [(0.30, -0.60), (0.56, -0.44), (0.74, -0.12), (0.79, 0.10), (0.76 + f, 0.27 + f / 3), (0.70, 0.33), (0.61 + f, 0.48 + f / 2),
             (0.44, 0.58), (0.21, 0.68)]
    return smooth(both_sides([(0, -0.63), *right, (0, 0.71)])) * (cat.face_width, 1)


def ear_outline(cat: CatTraits) -> np.ndarray:
    """The right ear; the left one is its mirror image."""
    shapes = {
        "pointed": [(0.08, -0.50), (0.25, -0.76), (0.50, -1.02), (0.57, -1.00), (0.66, -0.68), (0.66, -0.30), (0.36, -0.2)],
        "round": [(0.10, -0.50), (0.22, -0.76), (0.40, -0.94), (0.57, -0.92), (0.67, -0.66), (0.66, -0.30), (0.36, -0.2)],
        "wide": [(0.10, -0.50), (0.36, -0.76), (0.66, -0.97), (0.73, -0.94), (0.74, -0.62), (0.70, -0.24), (0.36, -0.2)],
        "folded": [(0.14, -0.54), (0.28, -0.74), (0.48, -0.76), (0.65, -0.60), (0.69, -0.46), (0.66, -0.2), (0.36, -0.2)],
    }
    return (smooth(shapes[cat.ears]) + (cat.ear_spread, 0)) * (cat.face_width, 1)


def draw_body(pen: Pen, canvas: Image.Image, cat: CatTraits, outline: Colour) -> None:
    body = smooth([(0, 0.3), (0.42, 0.5), (0.62, 0.9), (0.7, 1.5), (-0.7, 1.5), (-0.62, 0.9), (-0.42, 0.5)])
    pen.fill(canvas, outline, grown(body, 0.035))
    pen.fill(canvas, mix(cat.base, cat.dark, 0.45), body)
    if cat.pattern == "bicolour":
        pen.fill(canvas, shade(WHITE, 0.9), ellipse(0, 0.95, 0.3, 0.5))
    if cat.collar:
        pen.fill(canvas, shade(cat.collar, 0.6), stroke((-0.56, 0.62), (0, 0.92), (0.56, 0.62), 0.19, tips=0.9))
        pen.fill(canvas, cat.collar, stroke((-0.54, 0.62), (0, 0.92), (0.54, 0.62), 0.13, tips=0.9))
        pen.fill(canvas, (150, 100, 30), ellipse(0, 0.83, 0.095, 0.095))
        pen.fill(canvas, (250, 208, 84), ellipse(0, 0.83, 0.07, 0.07))


def paint_pattern(pen: Pen, fur: Image.Image, cat: CatTraits) -> None:
    if cat.pattern == "tabby":
        crown = [stroke((x * 0.5, -0.2), (x * 0.9, -0.4), (x * 1.1, -0.66), 0.085, tips=0.3) for x in (-0.3, 0, 0.3)]
        cheeks = [stroke((s * 0.84, y), (s * 0.66, y), (s * 0.5, y + 0.08), 0.085, tips=0.25)
                  for s in (-1, 1) for y in np.linspace(0.0, 0.36, cat.stripes)]
        pen.fill(fur, cat.dark, *crown, *cheeks)
    elif cat.pattern == "bicolour":
        b = cat.blaze
        right = [(b * 0.4, -0.5), (b, -0.2), (0.16 + b / 2, 0.1), (0.46, 0.3), (0.5, 0.6), (0.3, 0.8)]
        pen.fill(fur, WHITE, smooth(both_sides(right)))
    elif cat.pattern == "calico":
        for x, y, radius, colour in cat.patches:
            wobble = 1 + 0.16 * np.sin(3 * np.arctan2(CIRCLE[:, 1:], CIRCLE[:, :1]) + 9 * x)   # (32, 1)
            pen.fill(fur, colour, CIRCLE * wobble * (radius, radius * 1.15) + (x, y))
    elif cat.pattern == "siamese":
        points = [ellipse(0, 0.22, 0.44, 0.42), *(ear_outline(cat) * (s, 1) for s in (-1, 1))]
        fur.paste((112, 80, 66), mask=pen.soft(points, blur=3.5))


def draw_inner_ears(pen: Pen, canvas: Image.Image, cat: CatTraits, head: np.ndarray) -> None:
    pink = mix((242, 164, 164), cat.dark, 0.55 if cat.fur == "black" or cat.pattern == "siamese" else 0.18)
    root = np.array((0.40 * cat.face_width + cat.ear_spread, -0.40))
    inner = (ear_outline(cat) - root) * (0.62, 0.74) + root
    dome = head[:len(head) // 5]   # from the crown down to the right cheek, x increasing
    inner[:, 1] = np.minimum(inner[:, 1], np.interp(inner[:, 0], dome[:, 0], dome[:, 1]))   # the head is in front of the ears
    pen.fill(canvas, pink, inner, inner * (-1, 1))


def draw_folds(pen: Pen, canvas: Image.Image, cat: CatTraits, outline: Colour) -> None:
    """A folded ear's tip, hanging over its front."""
    for s in (-1, 1):
        flap = smooth([(0.20, -0.60), (0.46, -0.76), (0.70, -0.48), (0.58, -0.36), (0.44, -0.38)]) * (s * cat.face_width, 1)
        pen.fill(canvas, outline, grown(flap, 0.025))
        pen.fill(canvas, mix(cat.base, cat.dark, 0.35), flap)


def draw_muzzle(pen: Pen, canvas: Image.Image, cat: CatTraits) -> None:
    colour = {"siamese": (140, 106, 88), "bicolour": WHITE, "calico": WHITE}.get(cat.pattern, cat.light)
    pen.fill(canvas, shade(colour, 0.94), ellipse(0, 0.50, 0.13, 0.11))
    pen.fill(canvas, colour, *(ellipse(s * 0.13, 0.38, 0.19, 0.14) for s in (-1, 1)))
    if cat.blush:
        cheeks = [ellipse(s * 0.5, 0.3, 0.13, 0.09) for s in (-1, 1)]
        canvas.paste((250, 140, 150), mask=pen.soft(cheeks, blur=2, inside=150))


def draw_eye(pen: Pen, canvas: Image.Image, cat: CatTraits, s: int, colour: Colour) -> None:
    at = np.array((s * 0.32 * cat.face_width, -0.02))
    if cat.eyes_closed:
        x, y = at
        lid = shade(cat.light, 1.3) if cat.fur == "black" else INK
        pen.fill(canvas, lid, stroke((x - 0.17, y + 0.06), (x, y - 0.16), (x + 0.17, y + 0.06), 0.065, tips=0.5))
        return
    almond = np.array([(1.05, -0.35), (0.62, 0.55), (-0.1, 0.85), (-0.75, 0.62), (-1.05, 0.3), (-0.7, -0.45), (0.0, -0.88), (0.7, -0.85)])
    eye = smooth(almond + cat.eye_roundness * (circle(8) - almond)) * cat.eye_size * (s * 0.19, 0.2)
    pen.fill(canvas, INK, grown(eye, 0.03) + at)
    pen.fill(canvas, shade(colour, 0.8), eye + at)
    pen.fill(canvas, mix(colour, WHITE, 0.18), eye * 0.86 + (0, 0.025) + at)
    looking = at + np.array(cat.gaze) * 0.19
    x, y = looking
    pen.fill(canvas, INK, ellipse(x, y, cat.pupil * 0.17 * cat.eye_size, 0.165 * cat.eye_size))
    pen.fill(canvas, WHITE, ellipse(x - 0.06, y - 0.07, 0.05, 0.055), ellipse(x + 0.055, y + 0.07, 0.024, 0.024))


def draw_nose_and_mouth(pen: Pen, canvas: Image.Image, cat: CatTraits) -> None:
    line = INK if cat.fur != "black" or cat.pattern == "bicolour" else (20, 16, 22)
    if cat.mouth == "open":
        pen.fill(canvas, line, smooth([(-0.1, 0.40), (0.1, 0.40), (0.06, 0.54), (-0.06, 0.54)]))
        pen.fill(canvas, (238, 110, 120), ellipse(0, 0.51, 0.05, 0.04))
    reach = 0.12 if cat.mouth == "small" else 0.2
    pen.fill(canvas, line, stroke((0, 0.26), (0, 0.32), (0, 0.40), 0.035, tips=1),
             *(stroke((0, 0.395), (s * reach * 0.6, 0.50), (s * reach, 0.38), 0.04, tips=0.7) for s in (-1, 1)))
    nose = smooth([(-0.1, 0.20), (0, 0.185), (0.1, 0.20), (0.07, 0.26), (0, 0.31), (-0.07, 0.26)])
    colour = (84, 56, 58) if cat.pattern == "siamese" else cat.nose
    pen.fill(canvas, shade(colour, 0.62), grown(nose, 0.015))
    pen.fill(canvas, colour, nose)
    pen.fill(canvas, mix(colour, WHITE, 0.6), ellipse(-0.03, 0.21, 0.028, 0.014))


def draw_whiskers(pen: Pen, canvas: Image.Image, cat: CatTraits) -> None:
    colour = (236, 232, 230) if sum(cat.base) < 420 else mix(cat.dark, INK, 0.55)
    whiskers = []
    for k in range(cat.whiskers):
        fan = (k - (cat.whiskers - 1) / 2) * 0.1
        y = 0.34 + 0.075 * k
        whisker = stroke((0.24, y), (0.55, y + fan * 0.4 - 0.03), (0.92, y + fan + cat.droop), 0.026, tips=0.5)
        whiskers += [whisker, whisker * (-1, 1)]
    pen.fill(canvas, colour, *whiskers)
