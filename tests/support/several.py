"""Manifests of one to three pictures, of which one has a bright patch, and of text alone."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

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
