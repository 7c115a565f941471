"""Asking what has not been answered yet: which samples of which arms, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import nan

from tokenlens.evaluation.running.answer_cache import AnswerCache, Answered
from tokenlens.evaluation.running.generation import answer
from tokenlens.evaluation.running.preparation import Prepared
from tokenlens.evaluation.running.shared_features import shared_features
from tokenlens.models.vlm import VLM
from tokenlens.progress import progress
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule

Arm = tuple[Schedule | None, AnswerCache]


@dataclass(frozen=True)
class BatchedRun:
    """Samples to be asked of a model, and how.

    Attributes:
        vlm: a model with its processor.
        samples: what is asked.
        keys: of the samples, by which answers are known again.
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off.
        any_model: whether schedules may be made for a model of another id.
        timed: whether answers say how long they took: after a warm-up, and without sharing the
            vision tower.
    """

    vlm: VLM
    samples: Sequence[Sample]
    keys: Sequence[str]
    batch_size: int
    max_new_tokens: int
    any_model: bool
    timed: bool

    def fill(self, arms: Sequence[Arm], show_progress: bool) -> None:
        """Let every arm's store know the answers to all samples.

        A batch is of samples that the same arms have not answered, of one task as far as can be:
        their answers are of like length, so that none is waited for long. It is prepared, and its
        pictures are put through the vision tower, once for all arms.
        """
        asked = len(set(self.keys)) * len(arms)
        waiting = [len(set(self.keys) - store.known) for _, store in arms]
        if not any(waiting):
            return
        done = asked - sum(waiting)
        with ExitStack() as stack:
            for _, store in arms:
                stack.enter_context(store)
            advance = stack.enter_context(progress("answering", asked, done, show_progress))
            if not self.timed:
                stack.enter_context(shared_features(self.vlm.model))
            for number, (wanting, places) in enumerate(self._batches(arms)):
                prepared = Prepared(self.vlm, [self.samples[place] for place in places])
                for arm in wanting:
                    if self.timed and number == 0:
                        self._answer(prepared, arm[0], max_new_tokens=2)
                    for place, answered in zip(
                        places,
                        self._answer(prepared, arm[0], max_new_tokens=self.max_new_tokens),
                        strict=True,
                    ):
                        arm[1].add(self.keys[place], answered)
                    advance(len(places))

    def _batches(self, arms: Sequence[Arm]) -> Iterator[tuple[list[Arm], list[int]]]:
        """Which arms are to answer the samples at which places, each question once."""
        firsts = {key: place for place, key in reversed(list(enumerate(self.keys)))}
        groups: dict[tuple[int, ...], list[int]] = {}
        for key, place in sorted(firsts.items(), key=lambda item: item[1]):
            wanting = tuple(index for index, arm in enumerate(arms) if key not in arm[1].known)
            groups.setdefault(wanting, []).append(place)
        tasks = [sample.task for sample in self.samples]
        order = {task: number for number, task in enumerate(dict.fromkeys(tasks))}
        for wanting, places in groups.items():
            if not wanting:
                continue
            places.sort(key=lambda place: (order[tasks[place]], place))
            for start in range(0, len(places), self.batch_size):
                yield [arms[index] for index in wanting], places[start : start + self.batch_size]

    def _answer(
        self, prepared: Prepared, schedule: Schedule | None, *, max_new_tokens: int
    ) -> list[Answered]:
        batch = prepared.batch(schedule)
        answers = answer(
            self.vlm,
            batch,
            schedule,
            max_new_tokens=max_new_tokens,
            any_model=self.any_model,
            recorded=prepared.recorded(schedule),
        )
        if not self.timed:
            answers = [replace(one, prefill_s=nan, decode_s=nan) for one in answers]
        return [
            Answered(image.size, layout, one)
            for image, layout, one in zip(batch.images, batch.layouts, answers, strict=True)
        ]
