"""Manifests of one to three pictures, of which one has a bright patch, and of text alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenlens.models.batch import Batch
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample

PATCHES = ((0, 0, 8, 8), (8, 8, 16, 16), (16, 0, 24, 8))
QUESTION = "where is the red circle ?"


def write_pictures(
    folder: Path, name: str, count: int, bright: int, *, size: int, patch: tuple[int, ...]
) -> list[str]:
    """`count` black pictures with the white `patch` (xyxy in pixels) in the one called `bright`."""
    names = [f"{name}-{index}.png" for index in range(count)]
    for index, path in enumerate(names):
        picture = Image.new("RGB", (size, size))
        if index == bright:
            picture.paste((255, 255, 255), patch)
        picture.save(folder / path)
    return names


def write_manifest(
    folder: Path, *, size: int = 24, patch: tuple[int, ...] = (8, 0, 16, 8), repeats: int = 1
) -> Path:
    """Rows `s1`, `s2`, `s3` with so many pictures (`s3` as frames), and `t`, which has none.

    The second picture, or the only one, is bright where its box is.
    """
    rows: list[dict[str, Any]] = []
    for turn in range(repeats):
        end = f"-{turn}" if turn else ""
        for count in (1, 2, 3):
            bright = min(1, count - 1)
            names = write_pictures(folder, f"{count}{end}", count, bright, size=size, patch=patch)
            row: dict[str, Any] = {"id": f"s{count}{end}", "question": QUESTION, "answer": "A"}
            row |= {"image": names[0]} if count == 1 else {}
            row |= {"images": names} if count == 2 else {}
            row |= {"frames": names} if count == 3 else {}
            rows.append({**row, "boxes": [list(patch) if count == 1 else [bright, *patch]]})
        rows.append({"id": f"t{end}", "question": "what colour ?", "answer": "red"})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_bright(folder: Path, owners: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Rows as of `write_manifest`, whose every picture has a white patch and a box of its own.

    The box of the patch of picture `i` is said to be of picture `owners[i]`.
    """
    rows: list[dict[str, Any]] = [{"id": "t", "question": "what colour ?", "answer": "red"}]
    for count in (1, 2, 3):
        names = [
            write_pictures(folder, f"{count}-{index}", 1, 0, size=24, patch=PATCHES[index])[0]
            for index in range(count)
        ]
        boxes = [[owners[index], *PATCHES[index]] for index in range(count)]
        row = {"id": f"s{count}", "question": QUESTION, "answer": "A"}
        rows.append({**row, "images": names, "boxes": boxes})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def bright_tokens(vlm: VLM, sample: Sample) -> NDArray[np.bool_]:
    """The visual tokens that get white pixels only; no layout is read."""
    pixels = Batch.of(vlm, [sample]).inputs["pixel_values"].float()
    if pixels.ndim == 4:  # whole pictures, cut into the patches of the tower
        side = vlm.model.config.vision_config.patch_size
        cut = pixels.unfold(2, side, side).unfold(3, side, side)
        pixels = cut.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    else:  # patches, of which a token joins some
        merge: int = vlm.model.config.vision_config.spatial_merge_size
        pixels = pixels.reshape(len(pixels) // merge**2, -1)
    return (pixels.flatten(1).amin(dim=1) > 0).numpy()
