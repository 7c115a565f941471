"""Measurement of the paths that the preset `tokenlens` chooses from, at some shares of the MACs.

What layers need is measured one layer at a time, and does not always add up (see
`tokenlens.selection.candidate_paths`). So every path is followed along the model's own answers, as
far as each of `SHARES` reaches, one forward pass each. No labels are used.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tokenlens.errors import BudgetError, PruningError, ScheduleError
from tokenlens.evaluation.information.answered import Answered
from tokenlens.evaluation.information.path_losses import KIND, PathLosses
from tokenlens.evaluation.running.cache_key import code_hash
from tokenlens.evaluation.running.generation import Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.shared_features import shared_features
from tokenlens.models.fingerprint import model_identity, require_same
from tokenlens.models.prompt_lengths import typical_prompt
from tokenlens.models.structure import deepstack_layers
from tokenlens.models.vlm import VLM
from tokenlens.progress import progress
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.pruning.engine import prune
from tokenlens.samples.sample import Sample
from tokenlens.schedule import ModelRef, Schedule, Scorer
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.selection.candidate_paths import candidate_paths
from tokenlens.selection.layer_modes import readable_cost
from tokenlens.selection.solve import parse_budget, solved_schedule
from tokenlens.storage.files import hash_json
from tokenlens.storage.run_directory import MANIFEST, find_run
from tokenlens.storage.shards import ShardStore
from tokenlens.workers import Work, Workers

SHARES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
"""Shares of the unpruned prefill's MACs at which paths are measured."""
_SHARD_ROWS = 64
_COLUMNS = {
    "task": pa.string(),
    "kl": pa.list_(pa.float64()),
    "agreement": pa.list_(pa.float64()),
    "same": pa.list_(pa.float64()),
}
"""Lists are [arms]: means over answer tokens, and whether the whole answer stays."""


class PathArm(NamedTuple):
    """A path as far as a share of the MACs reaches."""

    path: str
    share: float
    schedule: Schedule


def path_arms(vlm: VLM, needs: LayerNeeds, sample: Sample) -> list[PathArm]:
    """The paths of a model at every share that they reach; `sample` tries them on the model."""
    model, meter = ModelRef.of(vlm), DecoderMacs.of(vlm)
    n_visual = typical_prompt(vlm).visual
    ready = needs.updated_up_to(deepstack_layers(vlm.model))
    prepared, scorer = Prepared(vlm, [sample]), Scorer(query="uniform")
    arms: list[PathArm] = []
    for name, path in candidate_paths(ready, readable_cost(meter, vlm.layers, n_visual)).items():
        reached: list[PathArm] = []
        for share in SHARES:
            try:
                schedule = solved_schedule(
                    KIND,
                    model,
                    path((), 0.5),
                    parse_budget(f"{share:.0%} MACs"),
                    n_visual=n_visual,
                    scorer=scorer,
                    ratio_rule=path,
                    meter=meter,
                )
            except BudgetError:  # beyond what the path can take
                continue
            reached.append(PathArm(name, share, schedule))
        if reached and _runs(prepared, reached[0].schedule):
            arms += reached
    return arms


def most_arms(vlm: VLM) -> int:
    """The number of arms where every path reaches every share."""
    return len(candidate_paths(LayerNeeds.assumed(vlm.layers), None)) * len(SHARES)


def stored(out: Path) -> int:
    """Number of samples whose rows are in `out`."""
    return len(find_run(out, KIND)) if (out / MANIFEST).is_file() else 0


def fill_paths(
    vlm: VLM,
    samples: Sequence[Sample],
    needs: LayerNeeds,
    identity: Mapping[str, Any],
    out: Path,
    *,
    max_new_tokens: int,
    batch_size: int,
    show_progress: bool = False,
    workers: Workers | None = None,
) -> PathLosses:
    """Store the rows of the paths that are missing in `out`; a run that was cut off continues.

    `identity` is that of the curves which `needs` are of. With `workers` these run the model.
    """
    arms = path_arms(vlm, needs, samples[0])
    schedules = hash_json([arm.schedule.model_dump(mode="json") for arm in arms])
    store = ShardStore.open(
        out,
        KIND,
        {**identity, "paths": schedules},
        pa.schema(_COLUMNS),
        info={"arms": [[arm.path, arm.share] for arm in arms]},
        shard_rows=_SHARD_ROWS,
    )
    running = {**model_identity(vlm), "code": code_hash()}
    with (
        store,
        progress(KIND, len(samples), store.count, show_progress) as advance,
    ):

        def rows_of(batches: Iterator[range]) -> Iterator[Iterable[dict[str, Any]]]:
            taken = (samples[places.start : places.stop] for places in batches)
            if workers is None:
                return (rows_of_batch(vlm, arms, max_new_tokens, batch) for batch in taken)
            start = partial(start_following, workers.load, arms, max_new_tokens, running)
            return workers.map(start, list(taken))

        for _ in store.fill(len(samples), batch_size, rows_of):
            advance(1)
        if not store.complete:
            store.finish()
    return PathLosses.load(out)


def start_following(
    load: Callable[[], VLM],
    arms: Sequence[PathArm],
    max_new_tokens: int,
    identity: Mapping[str, Any],
) -> Work:
    """What a worker does: `rows_of_batch` by a model of its own.

    Raises `ModelError` where that is not the model, or not the code, of `identity`.
    """
    vlm = load()
    require_same({**model_identity(vlm), "code": code_hash()}, identity)
    return partial(rows_of_batch, vlm, arms, max_new_tokens)


def rows_of_batch(
    vlm: VLM, arms: Sequence[PathArm], max_new_tokens: int, samples: Sequence[Sample]
) -> Iterator[dict[str, Any]]:
    """The rows of a batch; its pictures go through the vision tower once for all passes."""
    with shared_features(vlm.model):
        yield from _rows(Answered.of(vlm, samples, max_new_tokens), arms)


def _rows(answered: Answered, arms: Sequence[PathArm]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"task": sample.task, "kl": [], "agreement": [], "same": []} for sample in answered.samples
    ]
    for arm in arms:
        with prune(answered.vlm, arm.schedule):
            changes = answered.changes(f"path {arm.path!r} at {arm.share:.0%} of the MACs")
        for row, change in zip(rows, changes, strict=True):
            row["kl"].append(float(change.kl.mean()))
            row["agreement"].append(float(change.agreement.mean()))
            row["same"].append(float(change.agreement.all()))
    return rows


def _runs(prepared: Prepared, schedule: Schedule) -> bool:
    """Whether the engine runs the schedule on this model at all."""
    try:
        prepared.answer(schedule, RunOptions(max_new_tokens=1))
    except (PruningError, ScheduleError):
        return False
    return True
