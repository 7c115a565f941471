"""Write the shipped scenes: `python -m tokenlens.data.make_scenes [--out DIR]`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

from .questions import KINDS, ask
from .scenes import Scene, jpeg, make_scene, render

SPLITS = {"calibration": 60, "held-out": 160}
"""Pictures per split."""


def split_rng(split: str, index: int) -> random.Random:
    """The generator of one picture; every split, training's included, has seeds of its own."""
    return random.Random(f"tokenlens scenes/{split}/{index}")


def rows(split: str, index: int) -> tuple[Scene, list[dict[str, Any]], random.Random]:
    """A picture's scene, its rows (one question per task), and the generator to paint it with."""
    rng = split_rng(split, index)
    scene = make_scene(rng)
    name = f"{split}-{index:04d}"
    found: list[dict[str, Any]] = []
    for task in KINDS:
        if question := ask(scene, task, rng):
            found.append(
                {
                    "id": f"{name}-{task}",
                    "image": f"images/{name}.jpg",
                    "question": question.text,
                    "answer": question.answer,
                    "task": task,
                    "boxes": [list(thing.pixels) for thing in question.targets],
                    "anchors": [list(thing.pixels) for thing in question.anchors],
                }
            )
    return scene, found, rng


def write_split(split: str, folder: Path) -> Path:
    """Write a split's pictures and its manifest under `folder`; returns the manifest's path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(SPLITS[split]):
        scene, found, rng = rows(split, index)
        (folder / found[0]["image"]).write_bytes(jpeg(render(scene, rng)))
        lines += [json.dumps(row) for row in found]
    manifest = folder / f"{split}.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def main() -> None:
    """Write every split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "scenes")
    folder = parser.parse_args().out
    for split in SPLITS:
        sys.stdout.write(f"{write_split(split, folder)}\n")


if __name__ == "__main__":
    main()
