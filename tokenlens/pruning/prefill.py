"""One prefill under a schedule: the layers' inputs, the scoring, and the disposal of the rest."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning import masks, positions
from tokenlens.pruning.attention import AttentionInputs, Listener, run_until_attention
from tokenlens.pruning.cache import Join, Lease, PrunedLayer, install, window_of
from tokenlens.pruning.cost.accounting import CostAccount
from tokenlens.pruning.deepstack import Deepstack
from tokenlens.pruning.disposal import BypassedTokens, StageDecision
from tokenlens.pruning.frozen import Frozen, Relay, keys_and_values
from tokenlens.pruning.grid import on_grid
from tokenlens.pruning.layer_call import LayerCall
from tokenlens.pruning.positions import Rotary
from tokenlens.pruning.scoring import (
    DirectScoring,
    Prompt,
    Rows,
    RowScoring,
    Scoring,
    StageContext,
    counts_of_mass,
    importance,
    select,
    strongest_heads,
)
from tokenlens.pruning.tokens import Counts, Slots, Tokens
from tokenlens.pruning.trace import StageTrace, Trace
from tokenlens.pruning.vision_tower import TowerReader
from tokenlens.registry import DISPOSALS, SCORERS
from tokenlens.schedule import MassKeep, Schedule, Stage
from tokenlens.schedule.token_counts import keep_count


@dataclass(frozen=True)
class SessionContext:
    """Values that all forward passes of a pruning context share.

    `flat` says whether the model's attention wants [batch, keys] masks (FlashAttention);
    `tower_reader` reads the vision tower, where the schedule asks for it.
    """

    schedule: Schedule
    layers: int
    listener: Listener
    rotary: Rotary
    lease: Lease
    trace: Trace
    flat: bool
    tower_reader: TowerReader | None = None


class Prefill:
    """The state of a prefill between its layers."""

    def __init__(
        self, context: SessionContext, prompt: Prompt, costs: CostAccount, whole: Slots
    ) -> None:
        self._context = context
        self._prompt = prompt
        self._costs = costs
        self._whole = whole
        self._slots = whole
        self._deepstack = Deepstack()
        self._rows: dict[str, Tensor] = {}
        self._scores: dict[Stage, Tensor] = {}
        self._bypassed: BypassedTokens | None = None
        self._frozen: Frozen | None = None
        self._renumbered = False
        self._stages: list[StageTrace] = []
        self._narrowed: dict[tuple[str, int], tuple[Any, Any]] = {}

    @property
    def whole(self) -> bool:
        """Whether the layer just entered runs on all tokens of the padded input."""
        return self._slots.whole

    def enter_decoder(self, arguments: dict[str, Any]) -> None:
        """Before the decoder: read its keyword arguments."""
        self._deepstack.take_over(arguments)
        self._deepstack.check(self._context.schedule.stages)

    def enter(self, call: LayerCall, hidden: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Before a layer: prune where a stage says so; return the layer's new input."""
        self._check_turn(call.number)
        if call.number == 1:
            self._look()
            self._choose_rows(hidden)
        self._slots = self._slots.to(hidden.device)
        for stage in self._context.schedule.stages:
            if stage.first_layer == call.number:
                hidden = self._cut(stage, call, hidden)
        for stage in self._context.schedule.stages:
            if stage.when == "after" and stage.score_layer == call.number:
                self._score_after(stage, call, hidden)
        self._costs.enter(self._slots, self._readable)
        arguments, join = self._narrow(call), self._frozen_joiner(call, hidden.device)
        if call.cache is not None:
            window = window_of(call.cache, call.number)
            layer = PrunedLayer(
                self._context.lease, self._readable, self._whole.width, window, join
            )
            install(call.cache, call.number, layer)
        elif join is not None:
            arguments["past_key_values"] = Relay(join)
        return hidden, arguments

    def leave(self, number: int, hidden: Tensor) -> Tensor:
        """After a layer: return its output as the next layer receives it."""
        self._check_heard(number)
        return self._deepstack.add(number, hidden, self._slots)

    def finish(self) -> None:
        """After the last layer: write the trace."""
        self._check_turn(self._context.layers + 1)
        costs = self._costs
        self._context.trace.fill(self._stages, costs.tokens(), costs.readable(), costs.cost())

    @property
    def _readable(self) -> Slots:
        """The tokens that the next layer's rows may attend to."""
        return self._slots if self._frozen is None else self._frozen.slots

    def _frozen_joiner(self, call: LayerCall, device: torch.device) -> Join | None:
        """A function that puts the frozen tokens' keys and values among those of the live ones."""
        if self._frozen is None:
            return None
        frozen = self._frozen = self._frozen.to(device)
        embeddings = self._once(
            "frozen embeddings",
            call.arguments.get("position_embeddings"),
            lambda embeddings: self._positions(embeddings, frozen.tokens.slots),
        )
        key, value = keys_and_values(call, frozen.tokens.hidden, embeddings)

        def join(live_key: Tensor, live_value: Tensor) -> tuple[Tensor, Tensor]:
            return frozen.among(live_key, key), frozen.among(live_value, value)

        return join

    def _check_turn(self, number: int) -> None:
        if self._costs.layers + 1 != number:
            raise PruningError(
                f"decoder layer {number} came after layer {self._costs.layers}: layers were "
                "skipped or repeated, which a schedule cannot follow; run all layers in order"
            )

    def _check_heard(self, number: int) -> None:
        if self._context.listener.forget():
            raise PruningError(
                f"layer {number} did not call its attention through transformers' attention "
                "interface as it was when the context was entered, so it cannot be scored; set "
                "the implementation before, score another layer, or use query 'random'"
            )

    def _look(self) -> None:
        """Take the reading of the vision tower, which has run by now."""
        if self._context.tower_reader is not None:
            tower_reading = self._context.tower_reader.take(self._prompt.visual)
            self._costs.tower_read(tower_reading.macs)
            self._prompt = replace(self._prompt, tower_reading=tower_reading)

    def _choose_rows(self, embeddings: Tensor) -> None:
        for query in dict.fromkeys(scorer.query for scorer in self._context.schedule.scorers):
            scoring = SCORERS[query]
            if isinstance(scoring, RowScoring):
                self._rows[query] = scoring.rows(self._prompt, embeddings)
                self._account(scoring, self._whole.visuals)

    def _account(self, scoring: Scoring, candidates: Counts) -> None:
        """Count the MACs of scoring the candidates, beside reading attention."""
        if scoring.macs is not None:
            text = tuple(self._prompt.text_after().sum(1).tolist())
            self._costs.scored(scoring.macs, candidates, text)

    def _cut(self, stage: Stage, call: LayerCall, hidden: Tensor) -> Tensor:
        tokens = Tokens(hidden, self._slots)
        if self._bypassed is not None:
            tokens = self._bypassed.rejoin(tokens)
            self._bypassed = self._frozen = None
            if self._renumbered:
                tokens = tokens._replace(slots=tokens.slots.numbered())
        slots = tokens.slots
        keeping = self._keeping(stage, slots)
        scores = self._scores_at(stage, call, tokens, keeping)
        if isinstance(stage.keep, MassKeep):
            keeping = counts_of_mass(scores, slots.visual, stage.keep, self._whole.visuals)
        rest = tuple(n - k for n, k in zip(slots.visuals, keeping, strict=True))
        kept, merged = select(scores, slots.visual, keeping, self._grid_of(stage, slots)), None
        if any(rest):
            disposal = DISPOSALS[stage.disposal]
            if disposal.readable and stage.positions == "renumber":
                tokens = tokens._replace(slots=slots.numbered())
            merging = tuple(disposal.merged(stage.merge, count) for count in rest)
            tokens, merged, self._bypassed = disposal.apply(
                StageDecision(tokens, kept, keeping, merging, scores, self._prompt.tower_reading)
            )
            if merged is not None:
                self._costs.grouped(disposal.macs, rest, merged.slots.lengths)
            if disposal.readable and self._bypassed is not None:
                self._frozen = Frozen.beside(tokens, self._bypassed.tokens)
        self._renumbered = stage.positions == "renumber"
        if self._renumbered and self._frozen is None:
            tokens = tokens._replace(slots=tokens.slots.numbered())
        self._stages.append(StageTrace(slots, scores, kept, merged and merged.slots))
        self._slots = tokens.slots
        self._narrowed.clear()
        return tokens.hidden

    def _keeping(self, stage: Stage, slots: Slots) -> Counts:
        """Tokens that the stage selects of each sample; the upper limit where it keeps by mass."""
        keep = stage.keep.most if isinstance(stage.keep, MassKeep) else stage.keep
        return tuple(
            min(keep_count(keep, original), candidates)
            for original, candidates in zip(self._whole.visuals, slots.visuals, strict=True)
        )

    def _grid_of(self, stage: Stage, slots: Slots) -> Tensor | None:
        """The slots that are selected whatever their scores: bool [batch, width]."""
        if stage.stride is None:
            return None
        grid = on_grid(self._whole.visual, stage.stride).to(slots.index.device)
        return grid.gather(1, slots.index)  # [batch, length] to [batch, width]

    def _scores_at(self, stage: Stage, call: LayerCall, tokens: Tokens, keeping: Counts) -> Tensor:
        scorer, device = self._context.schedule.scorer_of(stage), tokens.hidden.device
        scoring = SCORERS[scorer.query]
        if isinstance(scoring, DirectScoring):
            self._account(scoring, tokens.slots.visuals)
            context = StageContext(len(self._stages), keeping)
            return scoring.scores(self._prompt, tokens, context, scorer).to(device)
        if stage.when == "before":
            self._score_now(stage, call, tokens)
        return self._scores.pop(stage).to(device)

    def _score_after(self, stage: Stage, call: LayerCall, hidden: Tensor) -> None:
        scorer = self._context.schedule.scorer_of(stage)
        if isinstance(SCORERS[scorer.query], DirectScoring):
            return
        if not scorer.rotary:
            self._score_now(stage, call, Tokens(hidden, self._slots))
            return
        self._context.listener.expect(call.attention, self._reader(stage, call, self._slots))

    def _score_now(self, stage: Stage, call: LayerCall, tokens: Tokens) -> None:
        """Score by a layer before it runs, with queries and keys computed only for the scores."""
        slots, arguments = tokens.slots, dict(call.arguments)
        embeddings = self._positions(arguments.get("position_embeddings"), slots)
        if not self._context.schedule.scorer_of(stage).rotary:
            embeddings = positions.without_rotation(embeddings)
        arguments["position_embeddings"] = embeddings
        arguments["position_ids"] = None
        reader = self._reader(stage, call, slots)
        self._context.listener.expect(call.attention, reader, halt=True)
        run_until_attention(call.layer, tokens.hidden, **arguments)
        self._costs.projected(slots)
        self._check_heard(call.number)

    def _reader(
        self, stage: Stage, call: LayerCall, slots: Slots
    ) -> Callable[[AttentionInputs], None]:
        scorer = self._context.schedule.scorer_of(stage)
        listed = [head for layer, head in scorer.listed_heads if layer == stage.score_layer]

        def read(inputs: AttentionInputs) -> None:
            here = slots.to(inputs.query.device)
            rows = Rows.among(here, self._rows[scorer.query].to(inputs.query.device))
            self._costs.compared(rows.counts, here)
            heads: list[int] | int | None = listed or None
            if isinstance(scorer.heads, int | float):
                heads = strongest_heads(scorer.heads, inputs.query.shape[1])
            decay = None
            if scorer.decay is not None:
                embeddings = self._positions(call.arguments.get("position_embeddings"), here)
                decay = positions.decay(embeddings, inputs.query.shape[-1])
                self._costs.weighed(rows.counts, here, 2 * embeddings[0].shape[-1])

            def visible(order: Tensor) -> Tensor:
                places = here.index.gather(1, order)  # [batch, rows]
                return masks.visible(
                    call.mask, places, here.index, here.present, causal=call.causal
                )

            self._scores[stage] = importance(
                inputs,
                rows,
                here.visual,
                visible,
                heads=heads,
                softmax=scorer.softmax,
                decay=decay,
            )

        return read

    def _narrow(self, call: LayerCall) -> dict[str, Any]:
        """The layer's own arguments, for the tokens that are left."""
        slots, arguments = self._slots, dict(call.arguments)
        if not slots.whole:
            arguments["attention_mask"] = self._once(
                f"mask, causal {call.causal}",
                call.mask,
                lambda mask: self._narrowed_mask(mask, call.causal),
            )
            arguments["position_ids"] = self._once(
                "ids",
                call.arguments.get("position_ids"),
                lambda ids: None if self._context.flat else positions.gather_ids(ids, slots.index),
            )
        if not slots.whole or slots.number is not None:
            arguments["position_embeddings"] = self._once(
                "embeddings",
                call.arguments.get("position_embeddings"),
                lambda embeddings: self._positions(embeddings, slots),
            )
        return arguments

    def _narrowed_mask(self, mask: Tensor | None, causal: bool) -> Tensor | None:
        if self._frozen is not None:
            return masks.narrow_among(mask, self._slots, self._frozen.slots, causal=causal)
        return masks.narrow(mask, self._slots, causal=causal, flat=self._context.flat)

    def _positions(self, embeddings: positions.Embeddings, slots: Slots) -> positions.Embeddings:
        if slots.number is not None:
            return self._context.rotary.renumber(embeddings, slots.number)
        return embeddings if slots.whole else positions.gather(embeddings, slots.index)

    def _once(self, name: str, value: Any, make: Callable[[Any], Any]) -> Any:
        """`make(value)`, made once for all layers that are given the same `value`."""
        key = (name, id(value))
        if key not in self._narrowed:
            self._narrowed[key] = (value, make(value))
        return self._narrowed[key][1]
