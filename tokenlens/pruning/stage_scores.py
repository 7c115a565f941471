"""Scoring of the stages of one prefill."""

from collections.abc import Callable

from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning import masks, positions
from tokenlens.pruning.attention import AttentionInputs, run_until_attention
from tokenlens.pruning.attention_rows import ChosenRows, Rows, importance
from tokenlens.pruning.cost.accounting import CostAccount
from tokenlens.pruning.layer_call import LayerCall
from tokenlens.pruning.narrowing import ids_of, positions_of
from tokenlens.pruning.projections import for_scores
from tokenlens.pruning.scoring import (
    DirectScoring,
    Prompt,
    RowScoring,
    Scoring,
    StageContext,
    strongest_heads,
)
from tokenlens.pruning.session_context import SessionContext
from tokenlens.pruning.tokens import Counts, Slots, Tokens
from tokenlens.registry import SCORERS
from tokenlens.schedule import Stage


class StageScores:
    """The importance of the candidates at each stage.

    Rows to read are chosen once; those of a stage "after" a layer are read while it runs, those of
    one "before" a layer from queries and keys that are computed for it alone.
    """

    def __init__(self, context: SessionContext, costs: CostAccount) -> None:
        self._context, self._costs = context, costs
        self._rows: dict[str, ChosenRows] = {}
        self._found: dict[Stage, Tensor] = {}

    def choose_rows(self, prompt: Prompt, embeddings: Tensor, candidates: Counts) -> None:
        """Before layer 1: the rows that each of the schedule's scorers reads."""
        for query in dict.fromkeys(scorer.query for scorer in self._context.schedule.scorers):
            scoring = SCORERS[query]
            if isinstance(scoring, RowScoring):
                self._rows[query] = _chosen(scoring, prompt, embeddings)
                self._account(scoring, prompt, candidates)

    def _account(self, scoring: Scoring, prompt: Prompt, candidates: Counts) -> None:
        """Count the MACs of scoring the candidates, beside reading attention."""
        if scoring.macs is not None:
            self._costs.scored(scoring.macs, candidates, prompt.text_counts)

    def at(
        self, stage: Stage, call: LayerCall, tokens: Tokens, prompt: Prompt, context: StageContext
    ) -> Tensor:
        """The importance of every candidate at a stage: floats [batch, width]."""
        scorer, device = self._context.schedule.scorer_of(stage), tokens.hidden.device
        scoring = SCORERS[scorer.query]
        if isinstance(scoring, DirectScoring):
            self._account(scoring, prompt, tokens.slots.visuals)
            return scoring.scores(prompt, tokens, context, scorer).to(device)
        if stage.when == "before":
            self._score_now(stage, call, tokens)
        return self._found.pop(stage).to(device)

    def read_while_running(self, stage: Stage, call: LayerCall, tokens: Tokens) -> None:
        """Score a stage "after" a layer that is about to run on `tokens`."""
        if not self._context.schedule.scorer_of(stage).rotary:
            self._score_now(stage, call, tokens)
            return
        rows = self._rows_at(stage, tokens.slots)
        reader = self._reader(stage, call, tokens.slots, rows)
        self._context.listener.expect(call.attention, reader)

    def _rows_at(self, stage: Stage, slots: Slots) -> Rows:
        return self._rows[self._context.schedule.scorer_of(stage).query].among(slots)

    def check_heard(self, number: int) -> None:
        """Raise `PruningError` where a layer ran whose attention was not heard."""
        if self._context.listener.forget():
            raise PruningError(
                f"layer {number} did not call its attention through transformers' attention "
                "interface as it was when the context was entered, so it cannot be scored; set "
                "the implementation before, score another layer, or use query 'random'"
            )

    def _score_now(self, stage: Stage, call: LayerCall, tokens: Tokens) -> None:
        """Score by a layer before it runs, with queries and keys computed only for the scores."""
        slots, arguments = tokens.slots, dict(call.arguments)
        embeddings = positions_of(self._context, arguments.get("position_embeddings"), slots)
        if not self._context.schedule.scorer_of(stage).rotary:
            embeddings = positions.without_rotation(embeddings)
        arguments["position_embeddings"] = embeddings
        arguments["position_ids"] = ids_of(arguments.get("position_ids"), slots)
        rows = self._rows_at(stage, slots)
        reader = self._reader(stage, call, slots, rows)
        self._context.listener.expect(call.attention, reader, halt=True)
        few = rows.order if 2 * rows.order.shape[1] < slots.width else None
        with for_scores(call.attention, few) as spared:
            run_until_attention(call.place.layer, tokens.hidden, **arguments)
        queries = slots.lengths if few is None else rows.counts
        self._costs.projected(slots, queries if spared else None)
        self.check_heard(call.number)

    def _reader(
        self, stage: Stage, call: LayerCall, slots: Slots, rows: Rows
    ) -> Callable[[AttentionInputs], None]:
        scorer = self._context.schedule.scorer_of(stage)
        listed = [head for layer, head in scorer.listed_heads if layer == stage.score_layer]

        def read(inputs: AttentionInputs) -> None:
            here = slots.to(inputs.query.device)
            self._costs.compared(rows.counts, here)
            heads: list[int] | int | None = listed or None
            if isinstance(scorer.heads, int | float):
                heads = strongest_heads(scorer.heads, inputs.query.shape[1])
            decay = None
            if scorer.decay is not None:
                embeddings = positions_of(
                    self._context, call.arguments.get("position_embeddings"), here
                )
                decay = positions.decay(embeddings, inputs.query.shape[-1])
                self._costs.weighed(rows.counts, here, 2 * embeddings[0].shape[-1])

            def visible(order: Tensor) -> Tensor | None:
                if rows.final and call.mask is None and not here.ragged:
                    return None  # the last of all tokens sees them all
                places = here.index.gather(1, order)  # [batch, rows]
                return masks.visible(
                    call.mask, places, here.index, here.present, causal=call.place.causal
                )

            self._found[stage] = importance(
                inputs,
                rows.to(inputs.query.device),
                here.visual,
                visible,
                heads=heads,
                softmax=scorer.softmax,
                decay=decay,
            )

        return read


def _chosen(scoring: RowScoring, prompt: Prompt, embeddings: Tensor) -> ChosenRows:
    if scoring.final and prompt.ends_in_text:
        return ChosenRows.of_last(prompt.attended)
    return ChosenRows.of(scoring.rows(prompt, embeddings), prompt.visual, prompt.attended)
