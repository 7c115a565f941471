"""Scenes: seeded pictures of coloured shapes with letters; every box is known exactly.

A scene is laid out on a 24 x 24 grid of 7-pixel cells, so a picture is 168 x 168 pixels: 12 x 12
patches of 14 pixels, 144 visual tokens for a Qwen2-VL without spatial merging. The background
carries a horizontal gradient in red and a vertical one in blue, the same in every picture: a vision
tower with rotary positions encodes only relative positions, and can read absolute positions from
the gradients.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GRID = 24
"""Cells along a side of the picture."""
CELL = 7
"""Pixels along a side of a cell."""
SIZE = GRID * CELL
"""Pixels along a side of the picture."""
SIDES = (3, 4)
"""Shortest and longest side of a thing, in cells."""
COUNTS = (12, 16)
"""Fewest and most things in a scene."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 35),
    "orange": (245, 135, 20),
    "yellow": (245, 230, 40),
    "green": (30, 150, 50),
    "cyan": (40, 215, 225),
    "blue": (35, 60, 215),
    "purple": (125, 35, 165),
    "pink": (250, 150, 205),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star")
LETTERS = "ACHKLSTX"
SIGNS: dict[str, str] = dict(zip(LETTERS, COLOURS, strict=True))
"""Read as a sign, a letter points on to a thing of the colour it names: A to a red one."""
LETTER_PIXELS = 14

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """One shape of a scene; `box` is (x0, y0, x1, y1) in cells, the far edges exclusive."""

    colour: str
    shape: str
    letter: str
    box: Box

    @property
    def pixels(self) -> Box:
        """The box in pixels of the picture."""
        x0, y0, x1, y1 = self.box
        return x0 * CELL, y0 * CELL, x1 * CELL, y1 * CELL


@dataclass(frozen=True)
class Scene:
    """Things that do not overlap, no two alike in both colour and shape."""

    things: tuple[Thing, ...]


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share any cell.

    >>> overlap((0, 0, 5, 5), (5, 0, 10, 5)), overlap((0, 0, 5, 5), (4, 4, 9, 9))
    (False, True)
    """
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def make_scene(rng: random.Random, counts: tuple[int, int] = COUNTS) -> Scene:
    """A scene of `counts[0]` to `counts[1]` things; equal generator states give equal scenes."""
    count = rng.randint(*counts)
    looks = rng.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], count)
    boxes = _place(rng, count)
    return Scene(
        tuple(
            Thing(colour, shape, rng.choice(LETTERS), box)
            for (colour, shape), box in zip(looks, boxes, strict=True)
        )
    )


def _place(rng: random.Random, count: int, attempts: int = 40) -> list[Box]:
    """Boxes that do not overlap: rejection sampling, started over when the grid is too full."""
    while True:
        boxes: list[Box] = []
        for _ in range(attempts * count):
            side = rng.randint(*SIDES)
            x, y = rng.randint(0, GRID - side), rng.randint(0, GRID - side)
            box = (x, y, x + side, y + side)
            if not any(overlap(box, other) for other in boxes):
                boxes.append(box)
                if len(boxes) == count:
                    return boxes


def render(scene: Scene, rng: random.Random) -> Image.Image:
    """Paint a scene: an RGB picture of SIZE x SIZE pixels. `rng` gives the noise and the shades."""
    pixels = np.random.default_rng(rng.getrandbits(64))
    picture = Image.fromarray(_background(pixels))
    draw = ImageDraw.Draw(picture)
    for thing in scene.things:
        shade = pixels.integers(-12, 13, size=3)
        red, green, blue = (
            int(v) for v in np.clip(np.array(COLOURS[thing.colour]) + shade, 0, 255)
        )
        draw.polygon(outline(thing), fill=(red, green, blue))
        x, y = _letter_centre(thing)
        bright = 0.3 * red + 0.6 * green + 0.1 * blue > 125
        ink = (0, 0, 0) if bright else (255, 255, 255)
        draw.text((x, y), thing.letter, fill=ink, font=_font(), anchor="mm")
    return picture


def jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    """The picture as a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _background(pixels: np.random.Generator) -> np.ndarray:
    """Gradients in red (to the right) and blue (downwards), plus noise: uint8 [SIZE, SIZE, 3]."""
    ramp = np.linspace(50, 205, SIZE, dtype=np.float32)
    canvas = np.empty((SIZE, SIZE, 3), dtype=np.float32)
    canvas[..., 0] = ramp[None, :]
    canvas[..., 1] = pixels.uniform(100, 150)
    canvas[..., 2] = ramp[:, None]
    canvas += 4 * pixels.standard_normal((SIZE, SIZE, 1), dtype=np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def outline(thing: Thing) -> list[tuple[float, float]]:
    """The thing's outline in pixels: a polygon that touches all four sides of its box."""
    x0, y0, x1, y1 = thing.pixels
    width, height = x1 - x0 - 1, y1 - y0 - 1
    return [(x0 + u * width, y0 + v * height) for u, v in _unit_outline(thing.shape)]


@cache
def _unit_outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Outline of a shape, stretched to fill the unit square."""
    shapes: dict[str, list[tuple[float, float]]] = {
        "circle": _ring(40, (1.0,)),
        "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
        "triangle": [(0.5, 0), (1, 1), (0, 1)],
        "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
        "cross": _cross(0.28),
        "star": _ring(10, (1.0, 0.5)),
    }
    points = shapes[shape]
    lows = [min(axis) for axis in zip(*points, strict=True)]
    spans = [max(axis) - min(axis) for axis in zip(*points, strict=True)]
    return tuple(((x - lows[0]) / spans[0], (y - lows[1]) / spans[1]) for x, y in points)


def _ring(count: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """Points around a centre, first one on top, their radii taken in turn."""
    turns = [2 * math.pi * i / count for i in range(count)]
    return [
        (radii[i % len(radii)] * math.sin(t), -radii[i % len(radii)] * math.cos(t))
        for i, t in enumerate(turns)
    ]


def _cross(arm: float) -> list[tuple[float, float]]:
    """A plus sign whose arms stand `arm` in from the corners of the unit square."""
    near, far = arm, 1 - arm
    return [
        *((near, 0), (far, 0), (far, near), (1, near), (1, far), (far, far)),
        *((far, 1), (near, 1), (near, far), (0, far), (0, near), (near, near)),
    ]


def _letter_centre(thing: Thing) -> tuple[float, float]:
    """Where the letter stands: in the middle, or lower in a triangle, where it is wide enough."""
    x0, y0, x1, y1 = thing.pixels
    depth = 0.64 if thing.shape == "triangle" else 0.5
    return (x0 + x1) / 2, y0 + depth * (y1 - y0)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font, so that no system font is needed."""
    return ImageFont.load_default(LETTER_PIXELS)
