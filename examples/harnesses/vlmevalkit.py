"""A model pruned by a schedule for VLMEvalKit: `supported_VLM` gets the name `tokenlens`.

Import this file before VLMEvalKit's `run.py` reads its models, and give `--model tokenlens`.
"""

from functools import partial
from pathlib import Path

from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

import tokenlens as tl


class Pruned(BaseModel):
    """Pictures first, then the texts, as `tokenlens run` asks; unpruned without a schedule."""

    allowed_types = ("text", "image")  # VLMEvalKit's own check refuses videos then

    def __init__(self, pretrained, schedule=None, max_new_tokens=512):
        super().__init__()
        self.vlm, self.most = tl.load(pretrained), max_new_tokens
        self.schedule = schedule and tl.Schedule.load(schedule)

    def generate_inner(self, message, dataset=None):  # noqa: ARG002 - VLMEvalKit passes it
        """The answer to a list of pictures and texts."""
        pictures = [Path(part["value"]) for part in message if part["type"] == "image"]
        question = "\n".join(part["value"] for part in message if part["type"] == "text")
        first, more = (pictures or [None])[0], tuple(pictures[1:])
        sample = tl.Sample("0", first, question, more_images=more, text_only=first is None)
        rows = tl.evaluate(self.vlm, [sample], self.schedule, max_new_tokens=self.most).rows
        return rows["prediction"].iloc[0]


supported_VLM["tokenlens"] = partial(Pruned, pretrained="tiny-qwen2-vl", schedule="out.json")
