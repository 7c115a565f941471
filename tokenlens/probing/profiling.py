"""Making a profile: the importance of every visual token of a data set, recorded and stored."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tokenlens.errors import ProfileError
from tokenlens.models.ahead import prepared_ahead
from tokenlens.models.batch import Batch
from tokenlens.models.fingerprint import model_identity, require_same
from tokenlens.probing.profile import Profile
from tokenlens.probing.profile_rows import Kept, RowMaker
from tokenlens.probing.profiled_pictures import KEY as PICTURES
from tokenlens.probing.profiled_pictures import hashes_of, same_pictures
from tokenlens.progress import progress
from tokenlens.samples.dataset import Samples, with_pictures
from tokenlens.samples.sample import Sample
from tokenlens.storage.shards import ShardStore, existing_run
from tokenlens.workers import Work, Workers

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

_PURPOSE = "the profile"
_SHARD_ROWS = 64
_FEW_ROWS = 8
"""In a shard where each is large: with every head's, or other queries'."""


@dataclass(frozen=True)
class Estimate:
    """What a profile will take, before it is made.

    Attributes:
        samples: Rows of the finished profile.
        done: Rows that are there already.
        size_bytes: Rough size of the finished profile, from the first sample's visual tokens.
        text_only: Samples without a picture, which get no row.
    """

    samples: int
    done: int
    size_bytes: int
    text_only: int = 0


def profile_samples(
    vlm: "VLM",
    samples: Samples,
    out: Path | str,
    *,
    batch_size: int = 8,
    per_head: bool = False,
    importance: str = "attention",
    queries: str = "last",
    max_new_tokens: int = 32,
    show_progress: bool = False,
    workers: Workers | None = None,
) -> Profile:
    """Record the importance of every visual token of `samples`, and store it under `out`.

    One prefill per batch, or a whole answer with queries "generated", under `probe`. A run that was
    interrupted, killed or stopped by a bad picture or a full disk continues where it was when
    called again; batches always group the same samples, so that the finished profile is the one an
    uninterrupted run makes. Samples without a picture have no visual tokens: they get no row, and
    a warning and the profile (`Profile.text_only`) say how many they are.

    Args:
        vlm: The model, with a processor.
        samples: Questions about pictures.
        out: Directory of the profile; made where missing.
        batch_size: Prompts in one forward.
        per_head: Store every head's attention as well; `heads` times as large.
        importance: What is recorded, by name; see `tokenlens.probe`.
        queries: Whose rows are stored beside the last prompt token's: "text" for the prompt's
            tokens after the picture, "generated" for the greedy answer's; "last" for no others.
        max_new_tokens: Of such an answer, at most.
        show_progress: Show a bar with an ETA on standard error.
        workers: Processes that run the model in place of this one, with the same rows.

    Raises:
        ProbeError: There is no importance of that name, or it has no such queries.
        OutputError: `out` cannot be written to, or holds another run or one of other pictures.
        SampleError: A picture that cannot be used; what came before it is kept. No sample has one.
    """
    if batch_size < 1:
        raise ProfileError(f"batch_size is {batch_size}; expected at least 1")
    kept = Kept(per_head, importance, queries, max_new_tokens)
    kept.check()
    began = time.monotonic()
    identity = _identity(vlm, samples, kept)
    pictured = with_pictures(samples, _PURPOSE)
    kept = replace(kept, several=any(sample.more_images for sample in pictured))
    with (
        _opened(vlm, pictured, out, identity, kept) as store,
        progress("profile", len(pictured), store.count, show_progress) as advance,
    ):
        for _ in store.fill(
            len(pictured), batch_size, partial(_record, vlm, pictured, kept, workers)
        ):
            advance()
        if not store.complete:
            store.finish({"wall_s": round(time.monotonic() - began, 3)})
    return Profile(out)


def _opened(
    vlm: "VLM",
    samples: Sequence[Sample],
    out: Path | str,
    identity: Mapping[str, Any],
    kept: Kept,
) -> ShardStore:
    """The store of a profile of these samples; its rows are of the pictures as they are now."""
    large, pictures = kept.per_head or kept.queries != "last", hashes_of(samples)
    heads = vlm.decoder_config.num_attention_heads
    store = ShardStore.open(
        out,
        "profile",
        identity,
        pa.schema(kept.columns()),
        info={"layers": vlm.layers, "heads": heads, PICTURES: pictures},
        shard_rows=_FEW_ROWS if large else _SHARD_ROWS,
    )
    try:
        store.note(**same_pictures(store.found, samples, pictures))
    except BaseException:
        store.release()
        raise
    return store


def _record(
    vlm: "VLM",
    samples: Sequence[Sample],
    kept: Kept,
    workers: Workers | None,
    batches: Iterator[range],
) -> Iterator[Iterable[dict[str, Any]]]:
    """The rows of every batch of indices, by the workers where there are some."""
    taken = ([samples[place] for place in places] for places in batches)
    if workers is None:
        return (record_batch(vlm, kept, batch) for batch in prepared_ahead(vlm, Batch.of, taken))
    start = partial(start_recording, workers.load, kept, model_identity(vlm))
    return workers.map(start, list(taken))


def start_recording(load: Callable[[], "VLM"], kept: Kept, identity: Mapping[str, Any]) -> Work:
    """What a worker does: `record_batch` by a model of its own; `ModelError` for another model."""
    vlm = load()
    require_same(model_identity(vlm), identity)
    return lambda samples: record_batch(vlm, kept, Batch.of(vlm, samples))


def record_batch(vlm: "VLM", kept: Kept, batch: Batch) -> Iterator[dict[str, Any]]:
    """The rows of one batch, of one prefill under `probe`."""
    with RowMaker.open(vlm, kept) as maker:
        yield from maker.rows(batch)


def estimate_profile(
    vlm: "VLM",
    samples: Samples,
    out: Path | str,
    *,
    per_head: bool = False,
    importance: str = "attention",
    queries: str = "last",
    max_new_tokens: int = 32,
) -> Estimate:
    """What `profile_samples` would do, from one sample's layout and what `out` holds; runs nothing.

    Raises `OutputError` where `out` holds another run, or one of other pictures.
    """
    kept = Kept(per_head, importance, queries, max_new_tokens)
    kept.check()
    run = existing_run(Path(out), "profile", _identity(vlm, samples, kept))
    pictured = with_pictures(samples, _PURPOSE)
    if run:
        same_pictures(run, pictured, hashes_of(pictured))
    batch = Batch.of(vlm, [pictured[0]])
    visual = len(batch.layouts[0].positions)
    maps = 1 + (vlm.decoder_config.num_attention_heads if per_head else 0)
    maps *= 1 + kept.queries_of(batch)
    row_bytes = visual * (vlm.layers * maps * 4 + 4 * 4 + 8)
    count = len(pictured)
    return Estimate(
        count, len(run) if run else 0, count * row_bytes, text_only=len(samples) - count
    )


def _identity(vlm: "VLM", samples: Samples, kept: Kept) -> dict[str, Any]:
    """What makes two runs one. Batch size and device only shift the last bits, so they do not."""
    text_only = sum(sample.text_only for sample in samples)
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
            **({"text_only": text_only} if text_only else {}),
        },
        "options": kept.options(),
    }
