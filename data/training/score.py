"""Score a model directory on shipped scenes: `python -m tokenlens.data.training.score [DIR]`.

Greedy decoding by stock transformers, the weights loaded in float32 as they were saved.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from .model import VISUAL_TOKENS

DATA = Path(__file__).parent.parent
BATCH = 24
BOX = re.compile(r"\((\d+),(\d+)\),\((\d+),(\d+)\)")


@dataclass(frozen=True)
class Reader:
    """A saved model with what it needs to answer questions about pictures of 168 x 168."""

    model: Any
    tokenizer: Any
    images: Qwen2VLImageProcessorPil

    @classmethod
    def load(cls, folder: Path) -> Reader:
        """Load a model directory in float32."""
        return cls(
            Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval(),
            AutoTokenizer.from_pretrained(folder),
            Qwen2VLImageProcessorPil.from_pretrained(folder),
        )

    def inputs(
        self, pictures: Sequence[Image.Image], questions: list[str]
    ) -> dict[str, torch.Tensor]:
        """A left-padded batch, each question about the picture in the same place."""
        prompts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
                add_generation_prompt=True,
                tokenize=False,
            ).replace("<|image_pad|>", "<|image_pad|>" * VISUAL_TOKENS)
            for text in questions
        ]
        text = self.tokenizer(
            prompts, padding=True, return_tensors="pt", return_token_type_ids=False
        )
        visual = text["input_ids"] == self.model.config.image_token_id
        seen = self.images(list(pictures), return_tensors="pt")
        return {**text, **seen, "mm_token_type_ids": visual.int()}

    @torch.inference_mode()
    def answer(self, pictures: Sequence[Image.Image], questions: list[str]) -> list[str]:
        """Greedy answers."""
        inputs = self.inputs(pictures, questions)
        output = self.model.generate(**inputs, max_new_tokens=8)
        return self.tokenizer.batch_decode(
            output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )


def right(task: str, given: str, wanted: str) -> bool:
    """Whether an answer is right: a box at an IoU of 0.5 or more, any other word for word.

    >>> right("localisation", "(0,0),(500,500)", "(0,0),(500,458)"), right("text", "K", "K")
    (True, True)
    """
    if task != "localisation":
        return given == wanted
    found = BOX.fullmatch(given)
    return found is not None and iou(found, BOX.fullmatch(wanted)) >= 0.5


def iou(first: re.Match[str], second: re.Match[str] | None) -> float:
    """Intersection over union of two boxes as matched by BOX; 0 for an inverted one."""
    if second is None:
        raise ValueError("the wanted answer is no box")
    a, b = ([int(v) for v in match.groups()] for match in (first, second))
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    areas = sum(max(0, x1 - x0) * max(0, y1 - y0) for x0, y0, x1, y1 in (a, b))
    return shared / (areas - shared) if areas > shared else 0.0


def score(reader: Reader, rows: list[dict[str, Any]], folder: Path) -> dict[str, list[bool]]:
    """Which of a manifest's questions are answered right, by task."""
    found: dict[str, list[bool]] = {}
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        pictures = [Image.open(folder / row["image"]) for row in batch]
        given = reader.answer(pictures, [row["question"] for row in batch])
        for row, text in zip(batch, given, strict=True):
            found.setdefault(row["task"], []).append(right(row["task"], text, row["answer"]))
    return found


def main() -> None:
    """Print the scores per task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=DATA / "tiny-qwen2-vl")
    parser.add_argument("--manifest", type=Path, default=DATA / "scenes" / "held-out.jsonl")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.manifest.read_text("utf-8").splitlines()]
    began = time.monotonic()
    found = score(Reader.load(arguments.model), rows, arguments.manifest.parent)
    found["all"] = [mark for marks in found.values() for mark in marks]
    for task, marks in found.items():
        share = 100 * sum(marks) / len(marks)
        sys.stdout.write(f"{task:14}{sum(marks):4} of {len(marks):4}{share:8.1f} %\n")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
