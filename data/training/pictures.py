"""Training pictures: fresh scenes without end, every one seeded by its stage, step and place."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..make_scenes import split_rng
from ..scenes import Scene, jpeg, make_scene, render
from .model import PATCH, SIDE, VISUAL_TOKENS, make_image_processor

Drawn = tuple[Scene, Image.Image, random.Random]


def draw(stage: str, index: int, counts: tuple[int, int]) -> Drawn:
    """The scene and picture of a training index, and the generator to ask questions with.

    Pictures go through JPEG at varying quality, as the shipped ones have.
    """
    rng = split_rng(f"train-{stage}", index)
    scene = make_scene(rng, counts)
    file = jpeg(render(scene, rng), quality=rng.randint(85, 97))
    return scene, Image.open(io.BytesIO(file)), rng


def pixel_inputs(images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
    """What the vision tower takes: float32 patches [images x 144, 1176] and the grid [images, 3].

    The same numbers as the image processor gives, for many pictures of 168 x 168 at once.
    """
    processor = make_image_processor()
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float() / 255
    pixels = (pixels - torch.tensor(processor.image_mean)) / torch.tensor(processor.image_std)
    count = len(images)
    patches = pixels.view(count, SIDE, PATCH, SIDE, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
    frames = patches.unsqueeze(4).expand(-1, -1, -1, -1, processor.temporal_patch_size, -1, -1)
    return {
        "hidden_states": frames.reshape(count * VISUAL_TOKENS, -1),
        "grid_thw": torch.tensor([[1, SIDE, SIDE]] * count),
    }
