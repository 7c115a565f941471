"""Run of schedules over samples: missing answers are generated, and every arm's rows written."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

from tokenlens.errors import ModelError, ResultsError, SampleError
from tokenlens.evaluation.metrics.boxes import box_reader
from tokenlens.evaluation.metrics.sample_metrics import find_metric
from tokenlens.evaluation.running.answer_cache import AnswerCache, Answered
from tokenlens.evaluation.running.cache_key import code_hash, generation_identity, sample_key
from tokenlens.evaluation.running.generation import Answer
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.result_rows import result_row
from tokenlens.evaluation.running.results import KIND, ROW_SCHEMA, Results
from tokenlens.evaluation.running.tasks import (
    AnswerTask,
    answered_in_turn,
    answering_identity,
    start_answering,
    with_pictures,
)
from tokenlens.models.batch import Batch
from tokenlens.models.fingerprint import model_identity
from tokenlens.models.vlm import VLM
from tokenlens.progress import progress
from tokenlens.pruning.refusals import refuse_model, refuse_schedule
from tokenlens.samples.sample import Sample, check_regions
from tokenlens.schedule import Schedule, require_schedule
from tokenlens.storage.files import hash_json
from tokenlens.storage.shards import ShardStore, existing_run
from tokenlens.workers import Workers

Arm = tuple[Schedule | None, AnswerCache]
Keep = Callable[[Path, Batch, Sequence[Answer]], None]
"""Is given the answers to a batch, of the arm of a directory."""
_SMALL = 1_000_000_000
"""Number of parameters below which a model takes large batches."""


def many_at_once(vlm: VLM) -> int:
    """Samples per batch for a run of many arms: 32 for a model of less than 1 B parameters, else 8.

    Small models are limited by overhead between computations, large ones by memory.
    """
    return 32 if sum(weight.numel() for weight in vlm.model.parameters()) < _SMALL else 8


@dataclass(frozen=True)
class Run:
    """A model, the samples it answers, and the options.

    Attributes:
        vlm: a model with its processor.
        samples: at least one.
        options: options for answering them.
        apart: batches, by the samples' places, that are answered as they are, and after all others.
    """

    vlm: VLM
    samples: Sequence[Sample]
    options: RunOptions
    apart: Sequence[Sequence[int]] = ()

    def check(self, schedules: Iterable[Schedule | None]) -> None:
        """Raise errors for schedules that cannot run, before anything is computed or written."""
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
            value = getattr(self.options, name)
            if value < 1:
                raise ResultsError(f"{name}: got {value}, expected at least 1")
        for schedule in schedules:
            if schedule is not None:
                require_schedule(schedule).check(self.vlm, any_model=self.options.any_model)
                refuse_model(self.vlm.model)
                refuse_schedule(schedule, self.vlm.model)

    def into(
        self,
        arms: Mapping[Path, Schedule | None],
        answers: Path,
        first: Callable[[Keep], None] | None = None,
    ) -> list[Results]:
        """Answer all samples by every schedule (None: unpruned), each into a directory of its own.

        Answers already in the cache `answers`, from any run, are not generated again. New answers
        are written there first, so that an interrupted run continues. Raises `OutputError`, before
        anything is generated, where a directory holds another run or is being written to.

        Where anything is left to do, `first` is called before, with what keeps answers that it
        comes to: they are not generated again.
        """
        with ExitStack() as stack:
            stores = {
                directory: stack.enter_context(
                    ShardStore.open(
                        directory,
                        KIND,
                        self.identity(schedule),
                        ROW_SCHEMA,
                        info={"schedule": schedule and schedule.as_json()},
                    )
                )
                for directory, schedule in arms.items()
            }
            unfinished = {
                directory: schedule
                for directory, schedule in arms.items()
                if not stores[directory].complete
            }
            if unfinished:
                self._finish(unfinished, stores, answers, first)
        return [Results.load(directory) for directory in arms]

    def _finish(
        self,
        arms: Mapping[Path, Schedule | None],
        stores: Mapping[Path, ShardStore],
        answers: Path,
        first: Callable[[Keep], None] | None,
    ) -> None:
        """Generate the answers that any store lacks, and write the rows."""
        count = len(self.samples)
        lacking = {row for place in arms for rows in stores[place].missing(count) for row in rows}
        rows: dict[str, int] = {}  # equal questions are answered once, for the first such sample
        for row in sorted(lacking):
            rows.setdefault(self._keys[row], row)
        asked: dict[Path, Arm] = {}
        kept: dict[Path, AnswerCache] = {}
        for directory, schedule in arms.items():
            store = AnswerCache(answers, self._answering(schedule))
            # Arms with the same effect are run once.
            kept[directory] = asked.setdefault(store.directory, (schedule, store))[1]
        if first is not None:
            with ExitStack() as stack:
                for _, store in asked.values():
                    stack.enter_context(store)
                first(partial(_keep, kept))
        self._fill(list(asked.values()), rows)
        for directory in arms:
            self._write(stores[directory], kept[directory])

    def _fill(self, arms: Sequence[Arm], rows: Mapping[str, int]) -> None:
        """Add the missing answers of all samples, given by key and row, to every arm's cache.

        A batch holds samples that the same arms have not answered, of one task where possible:
        their answers have similar lengths, so few samples wait for longer answers; those without
        a picture are apart, as they are not pruned. The batch is
        prepared, and its pictures go through the vision tower, once for all arms.
        """
        waiting = [len(rows.keys() - store.known) for _, store in arms]
        if not any(waiting):
            return
        asked = len(rows) * len(arms)
        options = self.options
        with ExitStack() as stack:
            for _, store in arms:
                stack.enter_context(store)
            advance = stack.enter_context(
                progress("answering", asked, asked - sum(waiting), options.show_progress)
            )
            every = list(self.samples)
            asking = {key: every[row] for key, row in rows.items()}
            apart = [[self._keys[row] for row in batch] for batch in self.apart]
            batches = list(_batches(arms, asking, options.batch_size, apart))
            tasks = (
                AnswerTask(
                    [self.samples[rows[key]] for key in keys],
                    [schedule for schedule, _ in wanting],
                    replace(options, workers=None),
                    warm_up=options.timed and number == 0,
                )
                for number, (wanting, keys) in enumerate(batches)
            )
            for (wanting, keys), found in zip(batches, self._answer(tasks), strict=True):
                for (_, store), answers in zip(wanting, found, strict=True):
                    for key, answered in zip(keys, answers, strict=True):
                        store.add(key, answered)
                    advance(len(keys))

    def _answer(self, tasks: Iterable[AnswerTask]) -> Iterator[Iterable[list[Answered]]]:
        """The answers to every task, by the workers where there are some."""
        workers = self.options.workers
        if workers is None:
            return answered_in_turn(self.vlm, tasks)
        start = partial(start_answering, workers.load, answering_identity(self._model))
        return workers.map(start, list(tasks))

    def answered(self, arms: Mapping[Path, Schedule | None], answers: Path) -> int:
        """The number of answers, of samples times arms, that `into` would find in the cache.

        Raises `OutputError` where a directory holds another run.
        """
        keys = self._keys
        found = 0
        for directory, schedule in arms.items():
            there = existing_run(directory, KIND, self.identity(schedule))
            if there is not None and there.complete:
                found += len(keys)
                continue
            identity = self._answering(schedule)
            known = AnswerCache(answers, identity).known
            found += sum(key in known for key in keys)
        return found

    def _write(self, store: ShardStore, kept: AnswerCache) -> None:
        """Score the answers to the samples whose rows a store lacks, and write the rows."""
        for rows in store.missing(len(self.samples)):
            store.begin(rows.start)
            samples, keys = self.samples[rows.start : rows.stop], self._keys[rows.start : rows.stop]
            for sample, answered in zip(samples, kept.read(keys), strict=True):
                for index, size in enumerate(answered.sizes):
                    check_regions(sample, size, index)
                reader = box_reader(self.vlm, answered.layout)
                store.append(result_row(sample, answered, reader))
        store.finish()

    @cached_property
    def _model(self) -> dict[str, Any]:
        """The model's identity, hashed once, when the run begins."""
        return model_identity(self.vlm)

    @cached_property
    def _keys(self) -> list[str]:
        """Cache keys of the samples."""
        return [sample_key(sample) for sample in self.samples]

    def _answering(self, schedule: Schedule | None) -> dict[str, Any]:
        workers = self.options.workers
        device = workers.device_type if isinstance(workers, Workers) else self.vlm.device.type
        return generation_identity(self.vlm, schedule, self.generation, self._model, device)

    @property
    def generation(self) -> dict[str, Any]:
        """The generation options, as JSON values."""
        return {"decoding": "greedy", "max_new_tokens": self.options.max_new_tokens}

    def identity(self, schedule: Schedule | None) -> dict[str, Any]:
        """Identity of a run: model, data, generation, the schedule's effect, and the code.

        It does not contain the batch size, which does not change the answers, nor the origin of the
        schedule.
        """
        notes = {"why", "budget"}
        return {
            "model": self._model,
            "data": {
                "source": getattr(self.samples, "source", None),
                "split": getattr(self.samples, "split", None),
                "samples": len(self.samples),
                "hash": getattr(self.samples, "hash", None) or _hash(self.samples),
                "pictures": hash_json(self._keys),
            },
            "generation": self.generation,
            "schedule": schedule
            and {key: value for key, value in schedule.as_json().items() if key not in notes},
            "code": code_hash(),
        }


def _keep(
    kept: Mapping[Path, AnswerCache], directory: Path, batch: Batch, answers: Sequence[Answer]
) -> None:
    """Add the answers to samples that the cache of a directory's arm does not know."""
    store = kept.get(directory)
    if store is None or not batch.samples[0].pictures:
        return
    found = with_pictures(batch, answers, timed=False)
    for sample, answered in zip(batch.samples, found, strict=True):
        if (key := sample_key(sample)) not in store.known:
            store.add(key, answered)


def _batches(
    arms: Sequence[Arm],
    asking: Mapping[str, Sample],
    batch_size: int,
    apart: Sequence[Sequence[str]],
) -> Iterator[tuple[list[Arm], list[str]]]:
    """Batches of keys with the arms that must answer them, each question once; samples by key.

    The keys in `apart` are the last ones, each batch by itself and in its own order.
    """
    places = {key: place for place, keys in enumerate(apart, start=1) for key in keys}
    groups: dict[tuple[int, bool, tuple[int, ...]], list[str]] = {}
    for key, sample in asking.items():
        wanting = tuple(index for index, arm in enumerate(arms) if key not in arm[1].known)
        group = places.get(key, 0), sample.image is None, wanting
        groups.setdefault(group, []).append(key)
    tasks = dict.fromkeys(sample.task for sample in asking.values())
    order = {task: number for number, task in enumerate(tasks)}
    turns = {key: turn for turn, key in enumerate(chain.from_iterable(apart))}
    for (_, _, wanting), keys in sorted(groups.items(), key=lambda group: group[0][0]):
        if not wanting:
            continue
        keys.sort(key=lambda key: turns.get(key, order[asking[key].task]))
        for start in range(0, len(keys), batch_size):
            yield [arms[index] for index in wanting], keys[start : start + batch_size]


def _hash(samples: Sequence[Sample]) -> str:
    """Hash of samples that do not come from a data set; their pictures are not hashed."""
    return hash_json(
        [
            {key: held for key, held in vars(sample).items() if key not in ("image", "more_images")}
            for sample in samples
        ]
    )
