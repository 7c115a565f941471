"""The profile: the importance of every visual token at every layer, for a whole set of samples."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tokenlens.errors import ProbeError, ProfileError
from tokenlens.measures.regions import region_tokens
from tokenlens.models.batch import Batch
from tokenlens.probing.recording import Recording, probe
from tokenlens.probing.sample_rows import SAMPLE_COLUMNS, sample_row
from tokenlens.progress import progress
from tokenlens.samples.sample import Box, Polygon, Sample
from tokenlens.storage.shards import ShardReader, ShardStore, existing_run

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.samples.dataset import Samples

_SHARD_ROWS = 64
_SHARD_ROWS_PER_HEAD = 8

_COLUMNS: dict[str, pa.DataType] = {**SAMPLE_COLUMNS, "importance": pa.list_(pa.float32())}


@dataclass(frozen=True, eq=False)
class ProfileRow:
    """One sample of a profile.

    Attributes:
        id: Of the sample.
        task: Kind of question.
        question: As the model got it.
        answers: Those that count as right.
        image: Path of the picture as given; empty for a picture that was given in memory.
        size: Width and height of the picture in pixels, as displayed.
        region_boxes: Ground truth, xyxy in pixels.
        polygons: Ground-truth outlines in pixels.
        positions: int64 [n_visual], places of the visual tokens in the unpadded prompt.
        boxes: float32 [n_visual, 4], xyxy as shares of the picture's width and height.
        grid: (frames, rows, columns) of visual tokens.
        importance: float32 [layers, n_visual], T–V attention averaged over heads.
        per_head: float32 [layers, heads, n_visual], or None where heads were not asked for.
        region: bool [n_visual], the tokens that the ground truth covers.
    """

    id: str
    task: str
    question: str
    answers: tuple[str, ...]
    image: str
    size: tuple[int, int]
    region_boxes: tuple[Box, ...]
    polygons: tuple[Polygon, ...]
    positions: NDArray[np.int64]
    boxes: NDArray[np.float32]
    grid: tuple[tuple[int, int, int], ...]
    importance: NDArray[np.float32]
    per_head: NDArray[np.float32] | None
    region: NDArray[np.bool_]


class Profile:
    """A finished profile directory, read as a stream.

    Attributes:
        directory: Where it lies.
        manifest: Model, data, options and versions of the run that made it.
        layers: Number of decoder layers.
        heads: Number of attention heads.

    Raises `ProfileError` where the directory holds none, an unfinished one or a damaged one.
    """

    def __init__(self, directory: Path | str) -> None:
        self._reader = ShardReader(directory, "profile")
        self.directory = self._reader.directory
        self.manifest = self._reader.manifest
        if not self._reader.complete:
            raise ProfileError(
                f"the profile {directory} is unfinished: {len(self._reader)} of "
                f"{self.manifest['identity']['data']['samples']} samples; run the same command "
                "again to finish it"
            )
        self.layers: int = self.manifest["layers"]
        self.heads: int = self.manifest["heads"]

    def __len__(self) -> int:
        return len(self._reader)

    def rows(self) -> Iterator[ProfileRow]:
        """Yield the samples in order, one shard in memory at a time."""
        for row in self._reader.rows():
            yield self._row(row)

    def _row(self, row: dict[str, Any]) -> ProfileRow:
        visual = len(row["positions"])
        boxes = row["boxes"].reshape(visual, 4)
        size = (int(row["size"][0]), int(row["size"][1]))
        heads = row.get("per_head")
        return ProfileRow(
            id=row["id"],
            task=row["task"],
            question=row["question"],
            answers=tuple(row["answers"]),
            image=row["image"],
            size=size,
            region_boxes=_tuples(row["region_boxes"]),
            polygons=_tuples(row["polygons"]),
            positions=row["positions"],
            boxes=boxes,
            grid=_tuples(row["grid"]),
            importance=row["importance"].reshape(self.layers, visual),
            per_head=None if heads is None else heads.reshape(self.layers, self.heads, visual),
            region=region_tokens(boxes, size, row["region_boxes"], row["polygons"]),
        )


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
        show_progress: Show a bar with an ETA on standard error.

    Raises:
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
        _identity(vlm, samples, per_head),
        schema,
        info={"layers": vlm.layers, "heads": vlm.decoder_config.num_attention_heads},
        shard_rows=_SHARD_ROWS_PER_HEAD if per_head else _SHARD_ROWS,
    )
    with (
        store,
        probe(vlm, per_head=per_head) as recording,
        progress("profile", len(samples), store.count, show_progress) as advance,
    ):
        first = store.count - store.count % batch_size
        for start in range(first, len(samples), batch_size):
            batch = [samples[i] for i in range(start, min(start + batch_size, len(samples)))]
            done = store.count - start
            if done >= len(batch):
                continue
            for row in _record(vlm, recording, batch, per_head)[done:]:
                store.append(row)
                advance()
        if not store.complete:
            store.finish({"wall_s": round(time.monotonic() - began, 3)})
    return Profile(out)


def estimate_profile(
    vlm: "VLM", samples: "Samples", out: Path | str, *, per_head: bool = False
) -> Estimate:
    """What `profile_samples` would do, from one sample's layout and what `out` holds; runs nothing.

    Raises `OutputError` where `out` holds another run.
    """
    run = existing_run(Path(out), "profile", _identity(vlm, samples, per_head))
    visual = len(Batch.of(vlm, [samples[0]]).layouts[0].positions)
    maps = 1 + (vlm.decoder_config.num_attention_heads if per_head else 0)
    row_bytes = visual * (vlm.layers * maps * 4 + 4 * 4 + 8)
    return Estimate(len(samples), len(run) if run else 0, len(samples) * row_bytes)


def _identity(vlm: "VLM", samples: "Samples", per_head: bool) -> dict[str, Any]:
    """What makes two runs one. Batch size and device only shift the last bits, so they do not."""
    return {
        "model": {
            "id": vlm.id,
            "revision": vlm.revision,
            "architecture": vlm.architecture,
            "layers": vlm.layers,
            "config_hash": vlm.config_hash,
            "dtype": str(vlm.dtype).removeprefix("torch."),
        },
        "data": {
            "source": samples.source,
            "split": samples.split,
            "hash": samples.hash,
            "samples": len(samples),
        },
        "options": {"per_head": per_head},
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
            raise ProbeError(f"sample {sample.id!r}: the layout names other visual tokens than ran")
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


def _tuples(value: Any) -> Any:
    """Nested lists as nested tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
