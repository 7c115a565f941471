"""What a profile keeps of each sample, and the rows that are made of a batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from tokenlens.errors import ProbeError, ProfileError
from tokenlens.models.batch import Batch
from tokenlens.models.greedy import greedy_config
from tokenlens.probing.queries import QueryChoice
from tokenlens.probing.recording import Recording, checked_importance, probe
from tokenlens.probing.sample_columns import SAMPLE_COLUMNS, SEVERAL_COLUMNS
from tokenlens.probing.sample_rows import sample_row, several_row
from tokenlens.samples.sample import Sample
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

QUERIES = ("last", "text", "generated")
"""Whose rows a profile can hold."""
_FLOATS = pa.list_(pa.float32())


@dataclass(frozen=True)
class Kept:
    """What a profile keeps.

    Attributes:
        per_head: every head's rows as well.
        importance: name of the importance.
        queries: whose rows are kept beside the last prompt token's; "last" for none.
        max_new_tokens: after which an answer is cut off, with queries "generated".
        several: whether a sample has several pictures, for which there are more columns.
    """

    per_head: bool = False
    importance: str = "attention"
    queries: str = "last"
    max_new_tokens: int = 32
    several: bool = False

    def check(self) -> None:
        """Raise `ProfileError` or `ProbeError` for what makes no sense, or does not go together."""
        if self.queries not in QUERIES:
            known = one_of(str(self.queries), QUERIES)
            raise ProfileError(f"queries: got {shown(self.queries)}, expected {known}")
        if self.max_new_tokens < 1:
            raise ProfileError(
                f"max_new_tokens: got {self.max_new_tokens}, expected a count from 1"
            )
        checked_importance(self.importance, QueryChoice.of(self.queries), self.per_head)

    def options(self) -> dict[str, Any]:
        """Of the manifest; what goes without saying is left out, as it was before it could be said.

        >>> Kept(per_head=True).options()
        {'per_head': True}
        """
        found: dict[str, Any] = {"per_head": self.per_head}
        if self.importance != "attention":
            found["importance"] = self.importance
        if self.queries != "last":
            found["queries"] = self.queries
        if self.queries == "generated":
            found["max_new_tokens"] = self.max_new_tokens
        return found

    def columns(self) -> dict[str, pa.DataType]:
        """Of the shards."""
        columns = {**SAMPLE_COLUMNS, "importance": _FLOATS}
        if self.several:
            columns |= SEVERAL_COLUMNS
        if self.per_head:
            columns["per_head"] = _FLOATS
        if self.queries != "last":
            columns |= {"queries": pa.list_(pa.int64()), "query_text": pa.list_(pa.string())}
            columns["query_importance"] = _FLOATS
            if self.per_head:
                columns["query_per_head"] = _FLOATS
        return columns

    def queries_of(self, batch: Batch) -> int:
        """How many rows of queries the first sample of a batch has, at most."""
        if self.queries == "generated":
            return self.max_new_tokens
        length = int(batch.inputs["attention_mask"][0].sum())
        return length - 1 - int(batch.layouts[0].positions[-1]) if self.queries == "text" else 0


class RowMaker:
    """Runs batches under the probe, and makes a row of every sample."""

    def __init__(self, vlm: "VLM", kept: Kept, last: Recording, asked: Recording | None) -> None:
        self._vlm = vlm
        self._kept = kept
        self._last = last
        self._asked = asked

    @classmethod
    @contextmanager
    def open(cls, vlm: "VLM", kept: Kept) -> Iterator["RowMaker"]:
        """Probe the model within: once for the last prompt token, once for what else is asked."""
        options: dict[str, Any] = {"per_head": kept.per_head, "importance": kept.importance}
        with ExitStack() as stack:
            last, asked = stack.enter_context(probe(vlm, **options)), None
            if kept.queries != "last":
                asked = stack.enter_context(probe(vlm, queries=kept.queries, **options))
            yield cls(vlm, kept, last, asked)

    def rows(self, batch: Batch) -> list[dict[str, Any]]:
        """Run a batch, and make a row of every sample."""
        self._run(batch)
        padding = batch.inputs["attention_mask"].argmax(dim=1).tolist()
        importance, positions = self._last.importance, self._last.positions
        heads = self._last.per_head if self._kept.per_head else None
        asked = self._of_queries(batch.samples, padding)
        rows = []
        for index, (sample, sizes, layout) in enumerate(
            zip(batch.samples, batch.sizes, batch.layouts, strict=True)
        ):
            if not torch.equal(layout.positions, positions[index] - padding[index]):
                raise ProbeError(
                    f"sample {sample.id!r}: the layout names other visual tokens than ran; use a "
                    "model of a family that `tokenlens models` lists"
                )
            _check_finite(sample, importance[index])
            row = sample_row(sample, sizes, layout) | asked[index]
            if self._kept.several:
                row |= several_row(sample, sizes, layout)
            row["importance"] = importance[index].flatten().numpy()
            if heads is not None:
                row["per_head"] = heads[index].flatten().numpy()
            rows.append(row)
        return rows

    def _run(self, batch: Batch) -> None:
        model = self._vlm.model
        with torch.inference_mode():
            if self._kept.queries == "generated":
                config = greedy_config(self._vlm, self._kept.max_new_tokens)
                model.generate(**batch.inputs, generation_config=config)
            else:
                model(**batch.inputs, use_cache=False, logits_to_keep=1)

    def _of_queries(
        self, samples: Sequence[Sample], padding: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The columns of the other queries, by sample."""
        asked = self._asked
        if asked is None:
            return [{} for _ in samples]
        found: list[dict[str, Any]] = [
            {
                "queries": (places - padding[index]).numpy(),
                "query_text": asked.tokens[index],
                "query_importance": rows.flatten().numpy(),
            }
            for index, (places, rows) in enumerate(
                zip(asked.queries, asked.importance, strict=True)
            )
        ]
        for sample, rows in zip(samples, asked.importance, strict=True):
            _check_finite(sample, rows.flatten(1))
        if self._kept.per_head:
            for row, heads in zip(found, asked.per_head, strict=True):
                row["query_per_head"] = heads.flatten().numpy()
        return found


def _check_finite(sample: Sample, importance: torch.Tensor) -> None:
    finite = importance.isfinite().all(dim=1)
    if not bool(finite.all()):
        layer = int((~finite).nonzero()[0]) + 1
        raise ProbeError(
            f"sample {sample.id!r}: the importance at layer {layer} is not a number, so attention "
            "overflowed there; use --dtype bfloat16 or float32"
        )
