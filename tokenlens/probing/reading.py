"""What is read of a recording: rows of attention, whose they are, and their text."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tokenlens.errors import ProbeError
from tokenlens.models.structure import HoldsModel
from tokenlens.probing.attribution import Written
from tokenlens.probing.decoding import DecodedRows
from tokenlens.probing.queries import QueryChoice
from tokenlens.registry import IMPORTANCE_UNITS, drawing

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel


class RecordedRows:
    """The rows of a recording, per sample of the batch; of a beam search per returned sequence."""

    _reason = ""
    _unit = IMPORTANCE_UNITS["attention"]

    def __init__(
        self,
        source: "HoldsModel | PreTrainedModel",
        choice: QueryChoice,
        per_head: bool,
        layers: int,
    ) -> None:
        self._source = source
        self._choice = choice
        self._per_head = per_head
        self._layers = layers
        self.forget()

    def forget(self) -> None:
        """Let go of all rows."""
        self._prompt: Tensor | None = None
        self._positions: list[Tensor] = []
        self._places: list[list[int]] = []
        self._rows: dict[int, list[Tensor]] = {}
        self._scales: dict[int, list[Tensor]] = {}
        self._decoded: DecodedRows | None = None
        self._written: Callable[[], list[Written]] | None = None
        self._inputs: dict[str, Any] = {}

    @property
    def keeps_heads(self) -> bool:
        """Whether every head's rows are kept (`probe(per_head=True)`)."""
        return self._per_head

    @property
    def holds_attention(self) -> bool:
        """Whether a value is a share of attention, not that of another importance."""
        return self._unit == IMPORTANCE_UNITS["attention"]

    @property
    def unit(self) -> str:
        """What a value is, as the colour bar of a map says it."""
        return self._unit.replace("last prompt token", "query token")

    @property
    def has_text(self) -> bool:
        """Whether `tokens` can be told: the model came with a processor."""
        return self._tokenizer() is not None

    @property
    def importance(self) -> list[Tensor]:
        """Per sample float32 on the CPU; a row of attention sums to at most 1.

        [layers, n_visual] with queries "last", else [layers, queries, n_visual].
        """
        return [self._shaped(rows.mean(dim=1)) for rows in self._stacked()]

    @property
    def per_head(self) -> list[Tensor]:
        """Every head's rows, float32 on the CPU, with `probe(per_head=True)`.

        [layers, heads, n_visual] with queries "last", else [layers, heads, queries, n_visual].
        """
        if not self._per_head:
            raise ProbeError("heads were not recorded; ask for them with probe(..., per_head=True)")
        return [self._shaped(rows) for rows in self._stacked()]

    @property
    def positions(self) -> list[Tensor]:
        """Per sample int64 [n_visual] on the CPU: places in the input's (padded) sequence."""
        self._check_begun()
        return [self._positions[row].cpu() for row in self._samples()]

    @property
    def queries(self) -> list[Tensor]:
        """Per sample int64 [queries] on the CPU: the place of the token whose row it is."""
        self._check_begun()
        if not self._choice.generated:
            return [torch.tensor(places, dtype=torch.int64) for places in self._places]
        return [
            torch.cat([torch.tensor(self._places[path[0]]), self._after_prompt(len(path) - 1)])
            if path
            else torch.empty(0, dtype=torch.int64)
            for path in (one.path for one in self._sequences())
        ]

    @property
    def tokens(self) -> list[list[str]]:
        """Per sample the text of each query: with "generated" of the token it predicted.

        The last of a loop of the user's own is empty: what was made of its row is not known.
        Raises `ProbeError` for a model that was given without a processor.
        """
        self._check_begun()
        tokenizer = self._tokenizer()
        if tokenizer is None:
            raise ProbeError(
                "the text of tokens needs a tokenizer: give tl.probe a VLM with a processor "
                "(tl.load, or tl.VLM.wrap(model, processor))"
            )
        return [
            [
                _text(tokenizer, before, token)
                for before, token in zip(self._before(row), tokens, strict=True)
            ]
            for row, tokens in enumerate(self.token_ids)
        ]

    @property
    def token_ids(self) -> list[list[int | None]]:
        """Per sample the ids of what `tokens` gives the text of."""
        self._check_begun()
        if self._choice.generated:
            return [one.tokens for one in self._sequences()]
        prompt = self._prompt
        return (
            []
            if prompt is None
            else [
                [int(row[place]) for place in places]
                for row, places in zip(prompt, self._places, strict=True)
            ]
        )

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that are no text, such as the end of an answer; none without a processor."""
        return frozenset(getattr(self._tokenizer(), "all_special_ids", ()))

    def to_dataframe(self) -> "pd.DataFrame":
        """One line for every layer, query and visual token (and head, where they are kept).

        Columns: sample (from 0), layer (from 1), head (from 1; only with per_head), query (its
        position), token (its text; None without a processor), visual (from 0), position (of the
        visual token), importance.
        """
        frame: pd.DataFrame = drawing("recording frame")(self)
        return frame

    def plot(
        self,
        *,
        layer: int | None = None,
        query: int | str = -1,
        sample: int = 0,
        head: int | None = None,
        image: int = 0,
        picture: Any = None,
        layout: Any = None,
        ax: Any = None,
    ) -> Any:
        """Draw one map, and return its Matplotlib figure.

        Args:
            layer: counted from 1; None for the mean of all layers.
            query: index of the query, or its text (the first that is so).
            sample: index of the sample.
            head: counted from 1, with per_head; None for the mean of all heads.
            image: which picture of the sample, counted from 0.
            picture: to draw on, a PIL picture or array [height, width, 3].
            layout: where the visual tokens lie (`vlm.layout(inputs)[sample]`); None to work it out,
                or, where that cannot be done, to draw them row by row.
            ax: Matplotlib axes to draw on; None for a new figure.
        """
        return drawing("recording map")(
            self,
            layer=layer,
            query=query,
            sample=sample,
            head=head,
            image=image,
            picture=picture,
            layout=layout,
            ax=ax,
        )

    def explore(self, picture: Any = None) -> Any:
        """The report's explorer in a notebook: every layer, query and token of this recording.

        Args:
            picture: what the model saw: a PIL picture, uint8 array [height, width, 3] or path, or a
                list of them, one for each sample; None shows the maps on plain grey.

        Returns:
            An anywidget, whose `sample` (from 0), `layer` (from 1) and `token` (from 0) can be read
            and set.

        Raises `OptionError` without anywidget (`pip install "tokenlens[notebook]"`), and
        `ProbeError` where nothing was recorded, and for a sample with several pictures.
        """
        return drawing("recording explorer")(self, picture)

    def layouts(self) -> list[Any] | None:
        """Where the visual tokens of each sample lie; None where the probe cannot know it."""
        self._check_begun()
        find = getattr(self._source, "layout", None)
        if find is None or not self._inputs:
            return None
        found = find(self._inputs)
        return [found[row * len(found) // len(self._positions)] for row in self._samples()]

    def _repr_html_(self) -> str:
        html: str = drawing("recording page")(self)
        return html

    def _keep_inputs(self, given: Mapping[str, Any]) -> None:
        """Keep what a layout is worked out from; of pixels their shapes."""
        self._inputs = {
            name: value.detach().to("meta") if value.is_floating_point() else value.detach()
            for name, value in given.items()
            if isinstance(value, Tensor)
        }

    def _tokenizer(self) -> Any:
        processor = getattr(self._source, "processor", None)
        return getattr(processor, "tokenizer", processor)

    def _samples(self) -> list[int]:
        """The row of the batch that each sample is of."""
        if not self._choice.generated:
            return list(range(len(self._positions)))
        written = self._sequences()
        share = max(1, len(written)) / len(self._positions)
        return [
            one.path[0] if one.path else int(index / share) for index, one in enumerate(written)
        ]

    def _before(self, sample: int) -> list[int | None]:
        """The ids of the tokens before those that `tokens` gives the text of."""
        if self._prompt is None:
            return []
        if not self._choice.generated:
            row = self._prompt[sample]
            return [int(row[place - 1]) if place else None for place in self._places[sample]]
        written = self._sequences()[sample]
        last = [int(self._prompt[self._samples()[sample], -1])] if written.path else []
        return [*last, *written.tokens[:-1]]

    def _sequences(self) -> list[Written]:
        if self._written is None:
            raise ProbeError(f"nothing was recorded; {self._reason}")
        return self._written()

    def _after_prompt(self, steps: int) -> Tensor:
        first = 0 if self._prompt is None else self._prompt.shape[1]
        return torch.arange(first, first + steps)

    def _shaped(self, rows: Tensor) -> Tensor:
        return rows.squeeze(-2) if self._choice.single else rows

    def _check_begun(self) -> None:
        if not self._positions:
            raise ProbeError(f"nothing was recorded; {self._reason}")

    def _stacked(self) -> list[Tensor]:
        """Per sample float32 [layers, heads or 1, queries, n_visual]."""
        self._check_begun()
        silent = [layer + 1 for layer in range(self._layers) if layer not in self._rows]
        if silent:
            raise ProbeError(
                f"layers {silent} of {self._layers} recorded no attention for the whole prompt: "
                "the forward was cut short, the layers run on pruned tokens, or their attention "
                "does not go through transformers' attention functions"
            )
        if self._choice.generated:
            return [self._generated_rows(one.path) for one in self._sequences()]
        return [
            torch.stack([self._rows[layer][sample].cpu() for layer in range(self._layers)])
            for sample in range(len(self._positions))
        ]

    def _generated_rows(self, path: list[int]) -> Tensor:
        found = []
        for layer in range(self._layers):
            first = self._rows[layer][path[0] if path else 0].cpu()
            later = [] if self._decoded is None else [self._decoded.rows(layer, path[1:])]
            found.append(torch.cat([first, *later], dim=1)[:, : len(path)])
        return torch.stack(found)


def _text(tokenizer: Any, before: int | None, token: int | None) -> str:
    """What a token adds to the text that ends in the token before it."""
    if token is None:
        return ""
    alone: str = tokenizer.decode([token])
    if before is None:
        return alone
    both, first = tokenizer.decode([before, token]), tokenizer.decode([before])
    return str(both[len(first) :]) if both.startswith(first) else alone
