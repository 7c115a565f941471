"""Second stage: the adapters learn to answer. The loss is on answers alone, none on attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from ...questions import Question
from ...scenes import GRID, Box
from ..loop import Stateful, run_stage
from ..optimisers import ramp
from ..packing import IGNORE, Packed, Packer
from ..pictures import draw
from .curriculum import LOOK_EVERY, Curriculum, ask_kind
from .family import SmolLlava, plain
from .lora import adapters_of

PICTURES, QUESTIONS = 4, 14
TEST_PICTURES, TEST_QUESTIONS = 6, 18
RATE, WARM = 1e-3, 20
STEPS = 1950


@dataclass(frozen=True)
class Batch:
    """Packed questions of some pictures.

    packed: the token sequences.
    pixels: float32 [pictures, 3, 168, 168].
    tasks: the kind of every question, in the order of the sequences.
    """

    packed: Packed
    pixels: Tensor
    tasks: list[str]


def box_letters(box: Box) -> str:
    """A box as letters of grid lines (left, top, right, bottom), one token each.

    >>> box_letters((3, 5, 12, 24))
    'd f m y'
    """
    if not all(0 <= line <= GRID for line in box):
        raise ValueError(f"box {box}: expected grid lines 0 to {GRID}")
    return " ".join(chr(ord("a") + line) for line in box)


def answer_of(question: Question) -> str:
    """The answer as the model writes it."""
    boxed = question.task.endswith("localisation")
    return box_letters(question.targets[0].box) if boxed else question.answer


def make_batch(
    family: SmolLlava,
    packer: Packer,
    curriculum: Curriculum,
    step: int,
    *,
    stage: str = "smol-answers",
    pictures: int = PICTURES,
    questions: int = QUESTIONS,
) -> Batch:
    """Fresh pictures and questions of a step."""
    rows, images, tasks = [], [], []
    for number in range(pictures):
        fresh = stage != "smol-answers"
        counts = curriculum.counts(step, pictures if fresh else number, pictures)
        scene, image, rng = draw(stage, step * pictures + number, counts)
        kinds = curriculum.kinds(step)
        asked = (ask_kind(scene, rng.choice(kinds), rng) for _ in range(questions))
        found = [question for question in asked if question is not None]
        rows.append([packer.segment(plain(q.text), answer_of(q)) for q in found])
        tasks += [question.task for question in found]
        images.append(image)
    return Batch(packer.pack(rows), family.pixels(images)["pixel_values"], tasks)


def answer_logits(
    model: LlavaForConditionalGeneration, packed: Packed, visual: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits [answer tokens, vocabulary], and which question each belongs to, int64.

    `visual` are visual tokens [pictures, 144, width], put where the placeholders are.
    """
    decoder = model.model.language_model
    embeds = decoder.embed_tokens(packed.ids).clone()
    embeds[:, packed.visual] = visual.to(embeds.dtype)
    states = decoder(
        inputs_embeds=embeds,
        position_ids=packed.positions,
        attention_mask=packed.mask(),
        use_cache=False,
    ).last_hidden_state
    answers = packed.labels != IGNORE
    rows = torch.arange(len(answers), device=answers.device)[:, None]
    asked = (rows * (packed.segment.max() + 1) + packed.segment)[answers]
    return model.lm_head(states[answers]).float(), asked.unique(return_inverse=True)[1]


def mean_over_questions(logits: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """Cross-entropy with the same weight for every question, whatever the length of its answer."""
    loss = functional.cross_entropy(logits, labels, reduction="none")
    return (loss / asked.bincount()[asked]).sum() / (asked.max() + 1)


def shares_right(
    logits: Tensor, labels: Tensor, asked: Tensor, tasks: Sequence[str]
) -> dict[str, float]:
    """Per kind, the share of questions whose every answer token is right, given those before."""
    wrong = (logits.argmax(-1) != labels).long()
    right = torch.zeros(len(tasks), dtype=torch.long, device=wrong.device).index_add(
        0, asked, wrong
    )
    found: dict[str, list[bool]] = {}
    for task, errors in zip(tasks, right.tolist(), strict=True):
        found.setdefault(task, []).append(errors == 0)
    return {task: sum(each) / len(each) for task, each in found.items()}


def train_answers(
    family: SmolLlava,
    model: LlavaForConditionalGeneration,
    folder: Path,
    steps: int = STEPS,
) -> None:
    """Train the adapters in place; continues from the checkpoint in `folder`, if any."""
    packer, curriculum = Packer(family), Curriculum()
    decoder = model.model.language_model
    trained = list(adapters_of(decoder).values())
    optimiser = torch.optim.AdamW(trained, weight_decay=0.0)

    def answered(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            visual = family.see(model, {"pixel_values": batch.pixels.to(model.device)})
        packed = batch.packed.to(model.device)
        visual = visual.view(len(packed.ids), -1, visual.shape[-1])
        with torch.autocast(model.device.type, torch.bfloat16):
            logits, asked = answer_logits(model, packed, visual)
        labels = packed.labels[packed.labels != IGNORE]
        loss = mean_over_questions(logits, labels, asked)
        return loss, shares_right(logits.detach(), labels, asked, batch.tasks)

    def step(index: int) -> dict[str, float]:
        loss, right = answered(make_batch(family, packer, curriculum, index))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = RATE * ramp(index, steps, warm=WARM, hold=0.8, floor=0.05)
        optimiser.step()
        optimiser.zero_grad()
        figures = {"loss": loss.item(), **right, "level": float(curriculum.level)}
        if (index + 1) % LOOK_EVERY == 0:
            test = make_batch(
                family,
                packer,
                curriculum,
                index,
                stage="smol-look",
                pictures=TEST_PICTURES,
                questions=TEST_QUESTIONS,
            )
            with torch.no_grad():
                fresh = answered(test)[1]
            curriculum.move(index + 1, fresh)
            figures |= {f"fresh {task}": share for task, share in fresh.items()}
        return figures

    parts: dict[str, Stateful] = {
        "adapters": _Trained(decoder),
        "optimiser": optimiser,
        "curriculum": curriculum,
    }
    run_stage("smol-answers", folder, steps, parts, step)


class _Trained:
    """The adapters of a decoder as a part of a checkpoint."""

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder = decoder

    def state_dict(self) -> dict[str, Tensor]:
        """The adapters by name."""
        return {name: value.detach() for name, value in adapters_of(self._decoder).items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the adapters by name."""
        for name, value in adapters_of(self._decoder).items():
            value.copy_(state[name])
