"""Curriculum: the kinds of questions and the number of things per training step.

Training on all kinds with full scenes does not get above chance; it does where scenes first have
two or three things. Ideal tokens come before real ones only because they show within minutes
whether the decoder learns.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...questions import KINDS, Question, ask
from ...scenes import SIGNS, Scene

COUNTS = ((2, 3), (4, 6), (6, 9), (8, 12), (10, 14), (12, 16))
"""Fewest and most things in a scene, level by level."""
SMALL = (4, 8)
"""Things in half of the pictures once there are questions of two looks."""
PASSED = 0.85
"""What letters and attributes of fresh pictures must reach before scenes grow fuller."""
LOOK_EVERY = 20
"""Steps between two looks at fresh pictures."""
FIRST = ("text", "attribute", "existence")
SECOND = (*FIRST, "localisation", "sign")
LAST = (
    *("text", "attribute", "existence", *["localisation"] * 5),
    *("deep-text", "deep-attribute", "deep-existence") * 2,
    *["deep-localisation"] * 3,
)
"""Kinds of question, stage by stage; named more than once, a kind is asked more often."""
STAGE_STEPS = 120
"""Steps on the second kinds before the last ones come."""


def sign(scene: Scene, rng: random.Random) -> Question:
    """What colour does the red circle lead to ? The step between one look and two."""
    thing = rng.choice(scene.things)
    text = f"what colour does the {thing.colour} {thing.shape} lead to ?"
    return Question(text, SIGNS[thing.letter], "sign", (thing,))


def ask_kind(scene: Scene, task: str, rng: random.Random) -> Question | None:
    """A question of one of the kinds above."""
    return sign(scene, rng) if task == "sign" else ask(scene, task, rng)


@dataclass
class Curriculum:
    """State of training: the level of `COUNTS`, and the step of the first full scenes."""

    level: int = 0
    full_since: int | None = None

    def kinds(self, step: int) -> tuple[str, ...]:
        """Kinds of questions at a step."""
        if self.full_since is None:
            return FIRST
        return SECOND if step < self.full_since + STAGE_STEPS else LAST

    def counts(self, step: int, picture: int, pictures: int) -> tuple[int, int]:
        """Number of things in one of a step's pictures."""
        small = self.kinds(step) is LAST and picture < pictures // 2
        return SMALL if small else COUNTS[self.level]

    def move(self, step: int, right: Mapping[str, float]) -> None:
        """Move to the next level where letters and attributes are right often enough."""
        if min(right.get("text", 0.0), right.get("attribute", 0.0)) <= PASSED:
            return
        if self.level + 1 < len(COUNTS):
            self.level += 1
        elif self.full_since is None:
            self.full_since = step

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"level": self.level, "full_since": self.full_since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.level, self.full_since = state["level"], state["full_since"]


ALL_KINDS = (*KINDS, "sign")
"""Every kind by name."""
