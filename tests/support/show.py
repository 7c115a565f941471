"""Answers about photographs that no model gave, for the page of `tokenlens show`."""

import numpy as np
from PIL import Image

from tokenlens.reports.shown_answer import ShownAnswer

HOSTILE = (
    "</script></style><img src=http://x.invalid/ onerror=window.harmed=1>\"'>"
    "<svg onload=window.harmed=1>"
)


def made_up(
    *, words=3, layers=6, heads=2, tokens=36, text=None, answer=None, image=None, scale=0.05
) -> ShownAnswer:
    """A random answer: `tokens` on a square grid, the mean of `heads` first."""
    side = int(tokens**0.5)
    rows, columns = np.divmod(np.arange(side * side), side)
    boxes = np.stack([columns, rows, columns + 1, rows + 1], axis=1) / side
    random = np.random.default_rng(1)
    maps = random.random((words, layers, max(1, heads), side * side), dtype=np.float32) * scale
    if heads:
        maps = np.concatenate([maps.mean(axis=2, keepdims=True), maps], axis=2)
    names = tuple(text or f"word{number}" for number in range(words))
    return ShownAnswer(
        name=text or "photo.jpg",
        question=text or "what is it ?",
        image=image or Image.new("RGB", (640, 480), "#7a9cc6"),
        boxes=boxes,
        answer=" ".join(names) if answer is None else answer,
        words=names,
        maps=maps,
    )
