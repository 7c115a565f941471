"""Capability by re-runs: how well the model answers with the tokens that each layer ranks highest.

This is the selection-capability profile of SwiftVLM (arXiv 2602.03134, Fig. 4). The importance of
the unpruned model is recorded. Then the model is run once per layer, with all visual tokens in
layers 1 and 2 and only the fifth that this layer ranks highest from layer 3 on. The score of such a
run, relative to the unpruned score, is
the layer's capability; `tokenlens.selection.criteria` normalises and averages it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tokenlens.errors import ResultsError, SelectionError
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.evaluation.metrics.agreement import rows_agreement, unscored_tasks
from tokenlens.evaluation.running.answer_cache import own_answers
from tokenlens.evaluation.running.cache_key import sample_key
from tokenlens.evaluation.running.estimate import Estimate, estimate_arms
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.models.vlm import VLM
from tokenlens.samples.dataset import with_pictures
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Keep, ModelRef, Schedule, Scorer, Stage
from tokenlens.selection.criteria import Capability
from tokenlens.storage.files import hash_json
from tokenlens.storage.output_paths import same_model, slug
from tokenlens.workers import Workers

if TYPE_CHECKING:
    from tokenlens.probing.profile import Profile
    from tokenlens.samples.dataset import Samples

SHARE = 0.2
"""What stays of the visual tokens; V in the paper."""
FIRST_PRUNED = 3
"""The first layer that runs on a layer's own choice; the paper keeps layers 1 and 2 whole."""
_PURPOSE = "the choice of layers by re-runs"
_MAX_NEW_TOKENS = 32


def left_from(model: ModelRef, layer: int, keep: Keep, scorer: Scorer) -> Schedule:
    """Schedule by which only the tokens of `keep` and `scorer` enter `layer` (from 2) and later."""
    stage = Stage(score_layer=layer - 1, when="after", keep=keep, disposal="drop")
    return Schedule(schema=1, method="knock-out", model=model, scorer=scorer, stages=[stage])


def own_left(model: ModelRef, layer: int, share: float = SHARE) -> Schedule:
    """Schedule by which only the tokens that `layer` ranks highest enter layer 3 and later ones."""
    return left_from(model, FIRST_PRUNED, share, Scorer(query="recorded", layer=layer))


def reruns(model: ModelRef) -> dict[str, Schedule]:
    """Schedules of the re-runs, one per layer, layers 1 and 2 included.

    Layer 2's capability is the one before the first stage.
    """
    return {_arm(layer): own_left(model, layer) for layer in range(1, model.layers + 1)}


def _arm(layer: int) -> str:
    return f"layer {layer}"


def measure(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path | str,
    *,
    batch_size: int = 8,
    show_progress: bool = False,
    workers: Workers | None = None,
) -> Comparison:
    """Answer all samples unpruned and once per layer, in layers + 1 runs; see `compare`.

    An interrupted run continues where it stopped. Samples without a picture are left out, with a
    warning.
    """
    return compare(
        vlm,
        with_pictures(samples, _PURPOSE),
        reruns(ModelRef.of(vlm)),
        out,
        batch_size=batch_size,
        max_new_tokens=_MAX_NEW_TOKENS,
        show_progress=show_progress,
        timed=False,
        workers=workers,
    )


def rerun_scores(comparison: Comparison) -> pd.DataFrame:
    """Scores of the re-runs of `measure`: one row per sample with ground truth, indexed by its id.

    A task without ground truth has a row per sample: the score is then the agreement with the
    unpruned model's answers (`evaluation.metrics.agreement`). Columns: `task`, `unpruned`, and the
    number of every layer, counted
    from 1.
    """
    whole = comparison.arms[UNPRUNED].rows
    by_reference = whole["task"].isin(unscored_tasks(whole))

    def scores_of(arm: str) -> pd.Series:
        rows = comparison.arms[arm].rows
        return rows["score"].mask(by_reference, rows_agreement(rows, whole))

    layers = range(1, len(comparison.arms))
    scores = pd.DataFrame({layer: scores_of(_arm(layer)) for layer in layers})
    scores.insert(0, "task", whole["task"])
    scores.insert(1, "unpruned", scores_of(UNPRUNED))
    return scores.set_index(whole["id"]).dropna()


def capability_of(comparison: Comparison, data: str) -> Capability:
    """The scores of the re-runs of `measure` in the form selection uses; `data` names their source.

    Raises `SelectionError` where the unpruned model scores in no task at all.
    """
    tasks = {str(task): rows for task, rows in rerun_scores(comparison).groupby("task")}
    unpruned = {task: float(rows["unpruned"].mean()) for task, rows in tasks.items()}
    counted = [task for task, mean in unpruned.items() if mean > 0]
    if not counted:
        raise SelectionError(
            f"criterion 'capability' is relative to the unpruned model's score on {data}, and that "
            "is 0 or unknown in every task; give samples with answers that the model gets right"
        )
    return Capability(
        scores={
            task: tasks[task].drop(columns=["task", "unpruned"]).to_numpy(np.float64)
            for task in counted
        },
        unpruned={task: unpruned[task] for task in counted},
        data=data,
        left_out=tuple(task for task in unpruned if task not in counted),
    )


def finished(out: Path | str, profile: "Profile", samples: "Samples") -> Comparison | None:
    """The finished re-runs in `out` of a profile's model over `samples`; no model is loaded.

    None where one of them is missing, unfinished, or of another model or other samples. `measure`
    then continues them or raises the error.
    """
    try:
        comparison = Comparison.load(out)
    except ResultsError:
        return None
    model = profile.manifest["identity"]["model"]
    schedules = reruns(ModelRef(**{key: model[key] for key in ModelRef.model_fields}))
    wanted: dict[str, Schedule | None] = {UNPRUNED: None, **schedules}
    if list(comparison.arms) != list(wanted):
        return None
    pictures = hash_json([sample_key(sample) for sample in samples if sample.pictures])
    for name, schedule in wanted.items():
        found = comparison.arms[name].identity
        same = (
            same_model(found["model"], model)
            and all(found["model"][key] == model[key] for key in ("id", "revision"))
            and found["data"]["hash"] == samples.hash
            and found["data"].get("pictures", pictures) == pictures
            and found["schedule"] == (schedule and schedule.as_json())
        )
        if not same:
            return None
    return comparison


def estimate(
    vlm: VLM,
    samples: Sequence[Sample],
    out: Path | str,
    batch_size: int = 8,
    workers: Workers | None = None,
) -> Estimate:
    """Estimate the cost of `measure` from the first batch, which every run answers once.

    In `measure` the runs share the vision tower's output, which offsets the time for other work.
    The recording is one more pass; a profile takes one.
    """
    arms: dict[str, Schedule | None] = {UNPRUNED: None, **reruns(ModelRef.of(vlm))}
    samples = with_pictures(samples, _PURPOSE)
    places = {Path(out) / slug(name): schedule for name, schedule in arms.items()}
    options = RunOptions(batch_size=batch_size, max_new_tokens=_MAX_NEW_TOKENS, workers=workers)
    found = estimate_arms(vlm, samples, places, own_answers(Path(out)), options)
    return replace(found, passes=1 + found.passes)
