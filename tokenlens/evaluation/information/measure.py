"""Measurement of the curves: one forward pass per arm over prompt and answer, stored per sample."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from tokenlens.errors import ResultsError
from tokenlens.evaluation.capability import SHARE, own_left
from tokenlens.evaluation.information.answered import Answered, Change
from tokenlens.evaluation.information.arms import Arms
from tokenlens.evaluation.information.curves import CURVES, KIND, MEASURES, Information
from tokenlens.evaluation.information.path_losses import FOLDER
from tokenlens.evaluation.information.paths import SHARES, fill_paths, most_arms, stored
from tokenlens.evaluation.information.teacher_forcing import ForcedBatch
from tokenlens.evaluation.running.cache_key import code_hash, sample_key
from tokenlens.evaluation.running.generation import Prepared, answer_tokens
from tokenlens.evaluation.running.shared_features import shared_features
from tokenlens.models.fingerprint import model_identity, require_same
from tokenlens.models.vlm import VLM
from tokenlens.progress import Advance, progress
from tokenlens.pruning.refusals import refuse_model
from tokenlens.samples.dataset import with_pictures
from tokenlens.samples.sample import Sample
from tokenlens.schedule import ModelRef
from tokenlens.storage.files import hash_json
from tokenlens.storage.shards import ShardStore, existing_run
from tokenlens.workers import Work, Workers

_PURPOSE = "the information profile"
_SHARD_ROWS = 64
_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "task": pa.string(),
    "answer_tokens": pa.int32(),
    **{f"{curve}_{name}": pa.list_(pa.float64()) for curve in CURVES for name in MEASURES},
}
"""Lists are [layers * answer tokens], one layer after the other."""


@dataclass(frozen=True)
class Options:
    """Options of the measurement.

    Attributes:
        share: share of the visual tokens kept in the arms that keep some; in (0, 1).
        max_new_tokens: tokens after which an answer is cut off.
        seed: seed of the random arms.
    """

    share: float = SHARE
    max_new_tokens: int = 32
    seed: int = 0

    def check(self, batch_size: int) -> None:
        """Raise `ResultsError` for a value out of range."""
        if not 0 < self.share < 1:
            raise ResultsError(f"share: got {self.share}, expected a share above 0 and below 1")
        for name, value in (("batch_size", batch_size), ("max_new_tokens", self.max_new_tokens)):
            if value < 1:
                raise ResultsError(f"{name}: got {value}, expected at least 1")


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of `information`.

    Attributes:
        arms: forward passes per batch for the curves, the unpruned reference pass included.
        path_arms: the most that there are for the paths, each of them on fewer tokens.
        samples: number of samples of the run.
        done: number of samples whose curves are stored already.
        seconds: time for the other samples, extrapolated from one batch.
    """

    arms: int
    path_arms: int
    samples: int
    done: int
    seconds: float


def information(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path | str | None = None,
    *,
    share: float = SHARE,
    max_new_tokens: int = 32,
    seed: int = 0,
    paths: bool = True,
    batch_size: int = 8,
    show_progress: bool = False,
    workers: Workers | None = None,
) -> Information:
    """Measure without labels how each layer uses the picture (see `information.arms`).

    The model answers greedily, unpruned. Then its next-token distributions along that answer are
    compared with those of every arm, one forward pass each over prompt and answer. Last, so are
    those of the paths that the preset `tokenlens` chooses from (see `information.paths`).

    Args:
        vlm: a model with its processor.
        samples: pictures and questions; answers and boxes are not used. Those without a picture
            are left out, with a warning.
        out: directory of the rows; an interrupted run continues there. None keeps no files.
        share: see `Options`.
        max_new_tokens: see `Options`.
        seed: see `Options`.
        paths: whether the paths are measured as well.
        batch_size: samples per forward pass.
        show_progress: show a bar with an ETA on standard error.
        workers: processes that run the model in place of this one, with the same rows.

    Raises:
        ResultsError: no samples, or an option out of range.
        OutputError: `out` cannot be written to or holds another run.
        SampleError: a picture that cannot be used, or no sample has one.
    """
    options = Options(share, max_new_tokens, seed)
    options.check(batch_size)
    if not samples:
        raise ResultsError("there are no samples to measure; give at least one")
    refuse_model(vlm.model)
    samples = with_pictures(samples, _PURPOSE)
    with TemporaryDirectory() as folder:
        directory = Path(folder) / KIND if out is None else Path(out)
        _fill(vlm, samples, directory, options, batch_size, show_progress, workers)
        found = Information.load(directory)
        if not paths:
            return found
        measured = fill_paths(
            vlm,
            samples,
            found.needs,
            found.identity,
            directory / FOLDER,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            show_progress=show_progress,
            workers=workers,
        )
        return replace(found, paths=measured)


def estimate(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path | str,
    *,
    options: Options = Options(),
    paths: bool = True,
    batch_size: int = 8,
) -> Estimate:
    """Estimate the cost of `information` by answering the first batch and running it once more.

    A pass on a path is taken to cost as much of an unpruned one as its share of the MACs.

    Raises `OutputError` where `out` holds another run.
    """
    options.check(batch_size)
    samples = with_pictures(samples, _PURPOSE)
    found = existing_run(Path(out), KIND, _identity(vlm, samples, options))
    done, passes = len(found) if found else 0, len(CURVES) * vlm.layers + 2
    on_paths = most_arms(vlm) if paths else 0
    walked = stored(Path(out) / FOLDER) if paths else len(samples)
    if done == walked == len(samples):
        return Estimate(passes, on_paths, len(samples), done, 0.0)
    batch = Prepared(vlm, samples[:batch_size]).batch(None)
    began = time.perf_counter()
    answers = answer_tokens(vlm, batch.inputs, options.max_new_tokens)
    answering = time.perf_counter() - began
    forced = ForcedBatch.of(batch.inputs, answers)
    forced.logits(vlm)  # the first pass of a shape is slower than later ones
    began = time.perf_counter()
    forced.logits(vlm)
    forward = time.perf_counter() - began
    seconds = (answering + passes * forward) * (len(samples) - done)
    seconds += (answering + on_paths * mean(SHARES) * forward) * (len(samples) - walked)
    return Estimate(passes, on_paths, len(samples), done, seconds / len(batch.samples))


def _fill(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path,
    options: Options,
    batch_size: int,
    show_progress: bool,
    workers: Workers | None,
) -> None:
    """Store the rows that are missing; batches always group the same samples."""
    store = ShardStore.open(
        out,
        KIND,
        _identity(vlm, samples, options),
        pa.schema(_COLUMNS),
        info={"layers": vlm.layers},
        shard_rows=_SHARD_ROWS,
    )
    passes = len(CURVES) * vlm.layers
    with (
        store,
        progress(KIND, len(samples) * passes, store.count * passes, show_progress) as advance,
    ):

        def rows_of(batches: Iterator[range]) -> Iterator[Iterable[dict[str, Any]]]:
            taken = (samples[places.start : places.stop] for places in batches)
            if workers is None:
                return (rows_of_batch(vlm, options, batch, advance) for batch in taken)
            start = partial(start_measuring, workers.load, options, _running(vlm))
            return workers.map(start, list(taken))

        for _ in store.fill(len(samples), batch_size, rows_of):
            if workers is not None:  # else counted pass by pass
                advance(passes)
        if not store.complete:
            store.finish()


def start_measuring(load: Callable[[], VLM], options: Options, identity: Mapping[str, Any]) -> Work:
    """What a worker does: `rows_of_batch` by a model of its own.

    Raises `ModelError` where that is not the model, or not the code, of `identity`.
    """
    vlm = load()
    require_same(_running(vlm), identity)
    return partial(rows_of_batch, vlm, options)


def rows_of_batch(
    vlm: VLM, options: Options, samples: Sequence[Sample], advance: Advance | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a batch; its pictures go through the vision tower once for all passes."""
    with shared_features(vlm.model):
        yield from _rows(Arms(vlm, options.share, options.seed), samples, options, advance)


def _running(vlm: VLM) -> dict[str, Any]:
    """What must be the same in every worker: the model's identity, and the code that runs it."""
    return {**model_identity(vlm), "code": code_hash()}


def _rows(
    arms: Arms, samples: Sequence[Sample], options: Options, advance: Advance | None
) -> Iterator[dict[str, Any]]:
    """Answer a batch, run every arm along the answers, and make a row of every sample."""
    answered = Answered.of(arms.vlm, samples, options.max_new_tokens)
    choice = own_left(ModelRef.of(arms.vlm), 1, arms.share)
    recorded = Prepared(arms.vlm, samples).recorded(choice) or []
    input_ids = answered.forced.inputs["input_ids"]
    rows: list[dict[str, Any]] = [
        {"id": sample.id, "task": sample.task, "answer_tokens": length}
        for sample, length in zip(samples, answered.forced.lengths, strict=True)
    ]
    for curve in CURVES:
        found: list[list[Change]] = [[] for _ in samples]
        for layer in range(1, arms.vlm.layers + 1):
            with arms.open(curve, layer, input_ids, recorded):
                changes = answered.changes(f"arm {curve} at layer {layer}")
            for place, change in enumerate(changes):
                found[place].append(change)
            if advance is not None:
                advance(len(samples))
        for row, layers in zip(rows, found, strict=True):
            row[f"{curve}_kl"] = np.concatenate([change.kl for change in layers])
            row[f"{curve}_agreement"] = np.concatenate([change.agreement for change in layers])
    yield from rows


def _identity(vlm: VLM, samples: Sequence[Sample], options: Options) -> dict[str, Any]:
    """Identity of a run; the batch size is no part, as it only changes the last bits."""
    keys = [sample_key(sample) for sample in samples]
    ids = [[sample.id, sample.task] for sample in samples]
    return {
        "model": {
            **model_identity(vlm),
            "architecture": vlm.architecture,
            "layers": vlm.layers,
        },
        "data": {
            "source": getattr(samples, "source", None),
            "split": getattr(samples, "split", None),
            "samples": len(samples),
            "hash": hash_json([keys, ids]),
        },
        "options": vars(options),
        "code": code_hash(),
    }
