"""Training pictures: an endless series of new scenes, each seeded by stage, step and index."""

from __future__ import annotations

import io
import random

from PIL import Image

from ..make_scenes import split_rng
from ..scenes import COUNTS, Scene, jpeg, make_scene, render

Drawn = tuple[Scene, Image.Image, random.Random]


def draw(stage: str, index: int, counts: tuple[int, int] = COUNTS) -> Drawn:
    """The scene and picture of a training index, and the generator to ask questions with.

    Pictures go through JPEG at varying quality, as the shipped ones have.
    """
    rng = split_rng(f"train-{stage}", index)
    scene = make_scene(rng, counts)
    file = jpeg(render(scene, rng), quality=rng.randint(85, 97))
    return scene, Image.open(io.BytesIO(file)), rng
