"""What makes one drawn cat differ from the next: its colours, pattern, ears, eyes, expression and pose, drawn at random.

Read first: `drawn_cats.py`.
"""
from dataclasses import dataclass

import numpy as np

from tinydiff.data.pen import Colour

# Each coat's main colour, its stripes and shadows, its muzzle.
FURS: dict[str, tuple[Colour, Colour, Colour]] = {
    "black": ((58, 55, 66), (30, 28, 36), (98, 93, 106)),
    "grey": ((142, 150, 166), (92, 100, 118), (204, 209, 218)),
    "white": ((246, 243, 238), (206, 200, 194), (255, 255, 255)),
    "ginger": ((236, 150, 70), (188, 96, 36), (255, 218, 170)),
    "brown": ((150, 108, 76), (90, 60, 42), (216, 182, 146)),
    "cream": ((240, 216, 178), (202, 166, 122), (255, 245, 228)),
    "calico": ((246, 243, 238), (206, 200, 194), (255, 255, 255)),   # white, with patches of ginger and black
}
# How likely each pattern is on each coat; repeats are weights.
PATTERNS: dict[str, tuple[str, ...]] = {
    "black": ("solid", "bicolour"),
    "grey": ("solid", "tabby", "tabby", "bicolour"),
    "white": ("solid",),
    "ginger": ("solid", "tabby", "tabby", "tabby", "bicolour"),
    "brown": ("tabby", "tabby", "tabby", "bicolour"),
    "cream": ("siamese", "siamese", "tabby", "solid"),
    "calico": ("calico",),
}
EYES: tuple[Colour, ...] = ((112, 190, 92), (240, 190, 52), (226, 140, 44), (92, 176, 220), (150, 204, 130))
BLUE_EYE: Colour = (92, 176, 230)
NOSES: tuple[Colour, ...] = ((232, 128, 138), (214, 108, 112), (242, 158, 160))
BACKGROUNDS: tuple[Colour, ...] = ((106, 178, 182), (136, 186, 226), (238, 160, 168), (244, 204, 110), (150, 192, 136), (178, 160, 216),
                                   (92, 112, 158), (222, 124, 104))
COLLARS: tuple[Colour, ...] = ((206, 62, 68), (62, 112, 190), (70, 150, 110), (150, 84, 170))


@dataclass(frozen=True)
class CatTraits:
    """One cat. Lengths are in face units: the face's centre is (0, 0), x runs right, y down, its cheeks reach x = +-0.75."""
    fur: str
    pattern: str
    base: Colour
    dark: Colour
    light: Colour
    patches: tuple[tuple[float, float, float, Colour], ...]  # (x, y, radius, colour) of a calico's patches
    stripes: int
    blaze: float            # width of a bicolour's white blaze between the eyes
    nose: Colour
    blush: bool
    fluff: float            # length of the tufts on the cheeks
    face_width: float
    ears: str               # pointed, round, wide or folded
    ear_spread: float
    eyes: tuple[Colour, Colour]
    eye_size: float
    eye_roundness: float    # 0 almond, 1 circle
    eyes_closed: bool
    pupil: float            # its width as a part of the eye's: a slit to nearly all of it
    gaze: tuple[float, float]
    mouth: str              # smile, open or small
    whiskers: int           # on each side
    droop: float            # how far the whiskers' ends hang
    collar: Colour | None
    background: tuple[Colour, Colour]
    light_angle: float      # direction of the background's gradient, radians
    tilt: float             # radians
    scale: float
    centre: tuple[float, float]


def sample_traits(rng: np.random.Generator) -> CatTraits:
    """A random cat whose parts suit each other: a Siamese has blue eyes, a fur never vanishes against its background."""
    fur = pick(rng, tuple(FURS))
    pattern = pick(rng, PATTERNS[fur])
    tint = (rng.uniform(0.93, 1.07) * rng.uniform(0.98, 1.02, size=3)).tolist()
    base, dark, light = (tinted(colour, tint) for colour in FURS[fur])
    eye = BLUE_EYE if pattern == "siamese" else pick(rng, EYES)
    odd_eyed = fur == "white" and rng.random() < 0.15
    background = pick(rng, [colour for colour in BACKGROUNDS if distance(colour, base) > 90])
    return CatTraits(
        fur, pattern, base, dark, light,
        patches=tuple(_sample_patches(rng)) if pattern == "calico" else (),
        stripes=int(rng.integers(2, 4)),
        blaze=rng.uniform(0.06, 0.22),
        nose=pick(rng, NOSES),
        blush=fur not in ("black", "brown") and rng.random() < 0.4,
        fluff=rng.uniform(0.03, 0.15),
        face_width=rng.uniform(0.94, 1.06),
        ears=pick(rng, ("pointed", "pointed", "pointed", "round", "round", "wide", "wide", "folded")),
        ear_spread=rng.uniform(-0.05, 0.06),
        eyes=(eye, BLUE_EYE) if odd_eyed else (eye, eye),
        eye_size=rng.uniform(0.9, 1.2),
        eye_roundness=rng.uniform(0.2, 1.0),
        eyes_closed=rng.random() < 0.06,
        pupil=pick(rng, (0.22, 0.45, 0.7)) * rng.uniform(0.9, 1.1),
        gaze=(rng.uniform(-0.16, 0.16), rng.uniform(-0.1, 0.12)),
        mouth=pick(rng, ("smile", "smile", "open", "small")),
        whiskers=int(rng.integers(2, 4)),
        droop=rng.uniform(-0.06, 0.14),
        collar=pick(rng, COLLARS) if rng.random() < 0.5 else None,
        background=(background, mix(background, (255, 255, 255), rng.uniform(0.3, 0.55))),
        light_angle=rng.uniform(0, 2 * np.pi),
        tilt=float(np.clip(rng.normal(0, 0.1), -0.25, 0.25)),
        scale=rng.uniform(0.88, 0.98),
        centre=(rng.uniform(-0.05, 0.05), rng.uniform(0.10, 0.16)),
    )


def _sample_patches(rng: np.random.Generator):
    """A calico's ginger and dark patches: one over each ear and eye, so that they never agree, and perhaps one on a cheek."""
    ginger, dark = FURS["ginger"][0], FURS["black"][0]
    colours = (ginger, dark) if rng.random() < 0.5 else (dark, ginger)
    for side, colour in zip((-1, 1), colours):
        yield side * rng.uniform(0.34, 0.56), rng.uniform(-0.6, -0.3), rng.uniform(0.34, 0.5), colour
    if rng.random() < 0.6:
        yield pick(rng, (-1, 1)) * rng.uniform(0.6, 0.72), rng.uniform(0.25, 0.5), rng.uniform(0.16, 0.26), pick(rng, colours)


def pick(rng: np.random.Generator, choices):
    return choices[rng.integers(len(choices))]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour a with `share` (0..1) of colour b in it."""
    red, green, blue = (round((1 - share) * x + share * y) for x, y in zip(a, b))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """A darker colour (factor < 1) or a lighter one."""
    return tinted(colour, (factor, factor, factor))


def tinted(colour: Colour, factors) -> Colour:
    """Each channel times its own factor."""
    return tuple(min(255, round(c * f)) for c, f in zip(colour, factors))


def distance(a: Colour, b: Colour) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5
