"""Tasks of a run: a batch of samples and the schedules that answer it, computed in any process."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any

from tokenlens.evaluation.running.answer_cache import Answered
from tokenlens.evaluation.running.cache_key import code_hash
from tokenlens.evaluation.running.generation import Answer, Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.shared_features import shared_features
from tokenlens.models.ahead import prepared_ahead
from tokenlens.models.batch import Batch
from tokenlens.models.fingerprint import model_identity, require_same
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.workers import Work


@dataclass(frozen=True)
class AnswerTask:
    """A batch of samples that every one of some schedules answers.

    Attributes:
        samples: The batch.
        schedules: One or more; None is the unpruned model.
        options: Options of the run.
        warm_up: Whether each schedule answers two tokens first, so that its time holds no start-up.
    """

    samples: Sequence[Sample]
    schedules: Sequence[Schedule | None]
    options: RunOptions
    warm_up: bool = False


def answered_in_turn(vlm: VLM, tasks: Iterable[AnswerTask]) -> Iterator[Iterator[list[Answered]]]:
    """`answers_of` every task; the next one's pictures are prepared while the model answers."""
    prepared = prepared_ahead(vlm, _prepare, tasks)
    return (answers_of(vlm, task, batches) for task, batches in prepared)


def _prepare(vlm: VLM, task: AnswerTask) -> tuple[AnswerTask, dict[float | None, Batch]]:
    """A task, and its batch as its first schedule needs it, by `image_scale`."""
    first = _in_effect(task.schedules[0], task)
    scale = None if first is None else first.image_scale
    return task, {scale: Batch.of(vlm, task.samples, scale)}


def answers_of(
    vlm: VLM, task: AnswerTask, batches: Mapping[float | None, Batch] | None = None
) -> Iterator[list[Answered]]:
    """The answers to the batch, in its order, by one schedule after the other.

    The batch is prepared once, and without times its pictures go through the vision tower once.
    Samples without pictures, which a batch holds alone, are answered unpruned by all of them.
    `batches` are those that are prepared already, by `image_scale`.
    """
    options = task.options
    prepared = Prepared(vlm, task.samples, batches)
    with nullcontext() if options.timed else shared_features(vlm.model):
        for wanted in task.schedules:
            schedule = _in_effect(wanted, task)
            if task.warm_up:
                prepared.answer(schedule, replace(options, max_new_tokens=2))
            answers = prepared.answer(schedule, options)
            yield with_pictures(prepared.batch(schedule), answers, timed=options.timed)


def _in_effect(schedule: Schedule | None, task: AnswerTask) -> Schedule | None:
    return schedule if task.samples[0].pictures else None


def with_pictures(batch: Batch, answers: Sequence[Answer], *, timed: bool) -> list[Answered]:
    """The answers to a batch with its pictures; without their times where they were not `timed`."""
    if not timed:
        answers = [replace(one, prefill_s=nan, decode_s=nan) for one in answers]
    return [
        Answered(sizes, layout, one)
        for sizes, layout, one in zip(batch.sizes, batch.layouts, answers, strict=True)
    ]


def start_answering(load: Callable[[], VLM], identity: Mapping[str, Any]) -> Work:
    """What a worker does: `answers_of` by a model of its own.

    Raises `ModelError` where that is not the model, or not the code, of `identity`.
    """
    vlm = load()
    require_same(answering_identity(model_identity(vlm)), identity)
    return partial(answers_of, vlm)


def answering_identity(model: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in every worker: the model's identity, and the code that answers."""
    return {**model, "code": code_hash()}
