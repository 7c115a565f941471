"""Running schedules over samples: batch by batch, side by side, and on from where a run stopped."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenlens.errors import ModelError, ResultsError, SampleError
from tokenlens.evaluation.answering import answer
from tokenlens.evaluation.boxes import box_reader
from tokenlens.evaluation.metrics import find_metric
from tokenlens.evaluation.results import KIND, ROW_SCHEMA, Results, result_row
from tokenlens.files import hash_json
from tokenlens.models.batch import Batch
from tokenlens.models.vlm import VLM
from tokenlens.probing.recording import probe
from tokenlens.progress import progress
from tokenlens.pruning.refusals import refuse_model, refuse_schedule
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule, require_schedule
from tokenlens.store import ShardStore


@dataclass(frozen=True)
class Run:
    """Samples to be answered by a model, and how.

    Attributes:
        vlm: a model with its processor.
        samples: at least one.
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off.
        any_model: whether schedules may be made for a model of another id.
        show_progress: whether to show a bar with an ETA on standard error.
    """

    vlm: VLM
    samples: Sequence[Sample]
    batch_size: int
    max_new_tokens: int
    any_model: bool
    show_progress: bool

    def check(self, schedules: Iterable[Schedule | None]) -> None:
        """Refuse, before anything is computed or written, what could not be run."""
        if not isinstance(self.vlm, VLM):
            raise ModelError(
                f"got a {type(self.vlm).__name__}, expected a model with its processor: "
                "tokenlens.VLM.wrap(model, processor)"
            )
        if isinstance(self.samples, str) or not isinstance(self.samples, Sequence):
            raise SampleError(
                f"got a {type(self.samples).__name__} for the samples, expected a list of them: "
                "tokenlens.load_samples(...)"
            )
        if not self.samples:
            raise SampleError("there are no samples to answer; give at least one")
        for sample in self.samples:
            find_metric(sample)
        for name in ("batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ResultsError(f"{name}: got {getattr(self, name)}, expected at least 1")
        for schedule in schedules:
            if schedule is not None:
                require_schedule(schedule).check(self.vlm, any_model=self.any_model)
                refuse_model(self.vlm.model)
                refuse_schedule(schedule, self.vlm.model)

    def into(self, arms: Mapping[Path, Schedule | None]) -> list[Results]:
        """Answer all samples by every schedule (None: unpruned), each into a directory of its own.

        What a directory holds already of the same run is not answered again. Raises `OutputError`,
        before anything is answered, where one holds another run.
        """
        with ExitStack() as stack:
            stores = [
                stack.enter_context(
                    ShardStore.open(
                        directory,
                        KIND,
                        self.identity(schedule),
                        ROW_SCHEMA,
                        info={"schedule": schedule and schedule.as_json()},
                    )
                )
                for directory, schedule in arms.items()
            ]
            self._answer(list(zip(arms.values(), stores, strict=True)))
            for store in stores:
                if not store.complete:
                    store.finish()
        return [Results.load(directory) for directory in arms]

    def identity(self, schedule: Schedule | None) -> dict[str, Any]:
        """What makes a run this one: model, data, generation options and what the schedule does.

        The batch size is not among it: it does not change the answers. Nor is why the schedule was
        chosen.
        """
        notes = {"why", "budget"}
        return {
            "model": {
                "id": self.vlm.id,
                "revision": self.vlm.revision,
                "config_hash": self.vlm.config_hash,
                "dtype": str(self.vlm.dtype).removeprefix("torch."),
            },
            "data": {
                "source": getattr(self.samples, "source", None),
                "split": getattr(self.samples, "split", None),
                "samples": len(self.samples),
                "hash": getattr(self.samples, "hash", None) or _hash(self.samples),
            },
            "generation": {"decoding": "greedy", "max_new_tokens": self.max_new_tokens},
            "schedule": schedule
            and {key: value for key, value in schedule.as_json().items() if key not in notes},
        }

    def _answer(self, arms: Sequence[tuple[Schedule | None, ShardStore]]) -> None:
        """Fill the arms' stores.

        Every batch is prepared once and answered by the arms in turn, in the opposite order from
        one batch to the next, after a warm-up: the arms' times can be compared though the machine's
        speed drifts. Batches always group the same samples, so that a continued run answers as an
        uninterrupted one.
        """
        total, size = len(self.samples), self.batch_size
        done = sum(store.count for _, store in arms)
        if done == total * len(arms):
            return
        start = min(store.count for _, store in arms) // size * size
        with progress("answering", total * len(arms), done, self.show_progress) as advance:
            self._warm_up(start, [schedule for schedule, _ in arms])
            for first in range(start, total, size):
                prepared = self._prepared(first, [schedule for schedule, _ in arms])
                for schedule, store in arms if first // size % 2 == 0 else reversed(arms):
                    batch, recorded = prepared[_picture(schedule)]
                    known = store.count - first
                    if known >= len(batch.samples):
                        continue
                    answers = answer(
                        self.vlm,
                        batch,
                        schedule,
                        max_new_tokens=self.max_new_tokens,
                        any_model=self.any_model,
                        recorded=recorded,
                    )
                    readers = [box_reader(self.vlm, layout) for layout in batch.layouts]
                    rows = list(
                        map(
                            result_row,
                            batch.samples,
                            batch.images,
                            batch.layouts,
                            answers,
                            readers,
                        )
                    )
                    for row in rows[known:]:
                        store.append(row)
                    advance(len(rows) - known)

    def _prepared(
        self, first: int, schedules: Sequence[Schedule | None]
    ) -> dict[float | None, tuple[Batch, list[Tensor] | None]]:
        """The batch from `first` on and what is recorded of it, for every size of pictures."""
        places = range(first, min(first + self.batch_size, len(self.samples)))
        samples = [self.samples[place] for place in places]
        prepared = {}
        for picture in dict.fromkeys(map(_picture, schedules)):
            batch = Batch.of(self.vlm, samples, picture)
            shown = [one for one in schedules if _picture(one) == picture]
            prepared[picture] = batch, self._record(batch, shown)
        return prepared

    def _record(self, batch: Batch, schedules: Sequence[Schedule | None]) -> list[Tensor] | None:
        """The unpruned model's importance of every sample, where a schedule asks for it."""
        if all(schedule is None or schedule.scorer.query != "recorded" for schedule in schedules):
            return None
        with probe(self.vlm) as recording, torch.inference_mode():
            self.vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
        return recording.importance

    def _warm_up(self, first: int, schedules: Sequence[Schedule | None]) -> None:
        prepared = self._prepared(first, schedules)
        for schedule in schedules:
            batch, recorded = prepared[_picture(schedule)]
            answer(
                self.vlm,
                batch,
                schedule,
                max_new_tokens=2,
                any_model=self.any_model,
                recorded=recorded,
            )


def _picture(schedule: Schedule | None) -> float | None:
    """The share of its tokens that pictures are shrunk to for an arm."""
    return None if schedule is None else schedule.picture


def _hash(samples: Sequence[Sample]) -> str:
    """Hash of samples that come from no data set, without their pictures."""
    return hash_json(
        [
            [sample.id, sample.question, sample.answers, sample.task, sample.boxes]
            for sample in samples
        ]
    )
