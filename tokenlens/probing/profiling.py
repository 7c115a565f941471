"""Making a profile: the importance of every visual token of a data set, recorded and stored."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from tokenlens.errors import ProbeError, ProfileError
from tokenlens.models.batch import Batch
from tokenlens.models.fingerprint import model_identity
from tokenlens.probing.profile import Profile
from tokenlens.probing.recording import Recording, probe
from tokenlens.probing.sample_rows import SAMPLE_COLUMNS, sample_row
from tokenlens.progress import progress
from tokenlens.samples.sample import Sample
from tokenlens.storage.shards import ShardStore, existing_run

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.dataset import Samples

_SHARD_ROWS = 64
_SHARD_ROWS_PER_HEAD = 8

_COLUMNS: dict[str, pa.DataType] = {**SAMPLE_COLUMNS, "importance": pa.list_(pa.float32())}


@dataclass(frozen=True)
class Estimate:
    """What a profile will take, before it is made.

    Attributes:
        samples: Rows of the finished profile.
        done: Rows that are there already.
        size_bytes: Rough size of the finished profile, from the first sample's visual tokens.
    """

    samples: int
    done: int
    size_bytes: int


def profile_samples(
    vlm: "VLM",
    samples: "Samples",
    out: Path | str,
    *,
    batch_size: int = 8,
    per_head: bool = False,
    importance: str = "attention",
    show_progress: bool = False,
) -> Profile:
    """Record the importance of every visual token of `samples`, and store it under `out`.

    One prefill per batch, under `probe`. A run that was interrupted, killed or stopped by a bad
    picture or a full disk continues where it was when called again; batches always group the same
    samples, so that the finished profile is the one an uninterrupted run makes.

    Args:
        vlm: The model, with a processor.
        samples: Questions about pictures.
        out: Directory of the profile; made where missing.
        batch_size: Prompts in one forward.
        per_head: Store every head's attention as well; `heads` times as large.
        importance: What is recorded, by name; see `tokenlens.probe`.
        show_progress: Show a bar with an ETA on standard error.

    Raises:
        ProbeError: There is no importance of that name.
        OutputError: `out` cannot be written to or holds another run.
        SampleError: A picture that cannot be used; what came before it is kept.
    """
    if batch_size < 1:
        raise ProfileError(f"batch_size is {batch_size}; expected at least 1")
    began = time.monotonic()
    schema = pa.schema(_COLUMNS | ({"per_head": pa.list_(pa.float32())} if per_head else {}))
    store = ShardStore.open(
        out,
        "profile",
        _identity(vlm, samples, per_head, importance),
        schema,
        info={"layers": vlm.layers, "heads": vlm.decoder_config.num_attention_heads},
        shard_rows=_SHARD_ROWS_PER_HEAD if per_head else _SHARD_ROWS,
    )
    with (
        store,
        probe(vlm, per_head=per_head, importance=importance) as recording,
        progress("profile", len(samples), store.count, show_progress) as advance,
    ):
        for rows in store.missing(len(samples)):
            store.begin(rows.start)
            for start in range(rows.start - rows.start % batch_size, rows.stop, batch_size):
                batch = [samples[i] for i in range(start, min(start + batch_size, len(samples)))]
                for place, row in enumerate(_record(vlm, recording, batch, per_head), start):
                    if place in rows:
                        store.append(row)
                        advance()
        if not store.complete:
            store.finish({"wall_s": round(time.monotonic() - began, 3)})
    return Profile(out)


def estimate_profile(
    vlm: "VLM",
    samples: "Samples",
    out: Path | str,
    *,
    per_head: bool = False,
    importance: str = "attention",
) -> Estimate:
    """What `profile_samples` would do, from one sample's layout and what `out` holds; runs nothing.

    Raises `OutputError` where `out` holds another run.
    """
    run = existing_run(Path(out), "profile", _identity(vlm, samples, per_head, importance))
    visual = len(Batch.of(vlm, [samples[0]]).layouts[0].positions)
    maps = 1 + (vlm.decoder_config.num_attention_heads if per_head else 0)
    row_bytes = visual * (vlm.layers * maps * 4 + 4 * 4 + 8)
    return Estimate(len(samples), len(run) if run else 0, len(samples) * row_bytes)


def _identity(vlm: "VLM", samples: "Samples", per_head: bool, importance: str) -> dict[str, Any]:
    """What makes two runs one. Batch size and device only shift the last bits, so they do not.

    Attention goes without saying, as in the profiles that could hold nothing else.
    """
    other = {} if importance == "attention" else {"importance": importance}
    return {
        "model": {
            **model_identity(vlm),
            "architecture": vlm.architecture,
            "layers": vlm.layers,
        },
        "data": {
            "source": samples.source,
            "split": samples.split,
            "hash": samples.hash,
            "samples": len(samples),
        },
        "options": {"per_head": per_head, **other},
    }


def _record(
    vlm: "VLM", recording: Recording, samples: Sequence[Sample], per_head: bool
) -> list[dict[str, Any]]:
    """Run one prefill and make a row of every sample."""
    batch = Batch.of(vlm, samples)
    with torch.inference_mode():
        vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    padding = batch.inputs["attention_mask"].argmax(dim=1).tolist()
    importance, positions = recording.importance, recording.positions
    heads = recording.per_head if per_head else None
    rows = []
    for index, (sample, image, layout) in enumerate(
        zip(batch.samples, batch.images, batch.layouts, strict=True)
    ):
        if not torch.equal(layout.positions, positions[index] - padding[index]):
            raise ProbeError(
                f"sample {sample.id!r}: the layout names other visual tokens than ran; use a model "
                "of a family that `tokenlens models` lists"
            )
        _check_finite(sample, importance[index])
        row = sample_row(sample, image.size, layout)
        row["importance"] = importance[index].flatten().numpy()
        if heads is not None:
            row["per_head"] = heads[index].flatten().numpy()
        rows.append(row)
    return rows


def _check_finite(sample: Sample, importance: torch.Tensor) -> None:
    finite = importance.isfinite().all(dim=1)
    if not bool(finite.all()):
        layer = int((~finite).nonzero()[0]) + 1
        raise ProbeError(
            f"sample {sample.id!r}: the importance at layer {layer} is not a number, so attention "
            "overflowed there; use --dtype bfloat16 or float32"
        )
