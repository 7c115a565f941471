"""One prefill under a schedule: the layers' inputs, the scoring, and the disposal of the rest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokenlens.errors import PruningError
from tokenlens.pruning.cache import Join, PrunedLayer, install, window_of
from tokenlens.pruning.cost.accounting import CostAccount
from tokenlens.pruning.deepstack import Deepstack
from tokenlens.pruning.disposal import BypassedTokens, StageDecision
from tokenlens.pruning.frozen import Frozen, Relay, keys_and_values
from tokenlens.pruning.grid import on_grid
from tokenlens.pruning.layer_call import LayerCall
from tokenlens.pruning.narrowing import Narrowing
from tokenlens.pruning.scoring import Prompt, StageContext, counts_of_mass, select
from tokenlens.pruning.session_context import SessionContext
from tokenlens.pruning.stage_scores import StageScores
from tokenlens.pruning.tokens import Counts, Slots, Tokens
from tokenlens.pruning.trace import StageTrace
from tokenlens.registry import DISPOSALS
from tokenlens.schedule import MassKeep, Stage
from tokenlens.schedule.token_counts import keep_count


class Prefill:
    """The state of a prefill between its layers."""

    def __init__(self, context: SessionContext, prompt: Prompt, whole: Slots) -> None:
        self._context = context
        self._prompt = prompt
        self._costs = CostAccount(context.config, context.windows, whole, context.element_size)
        self._whole = whole
        self._slots = whole
        self._deepstack = Deepstack()
        self._scores = StageScores(context, self._costs)
        self._bypassed: BypassedTokens | None = None
        self._frozen: Frozen | None = None
        self._renumbered = False
        self._stages: list[StageTrace] = []
        self._narrowing = Narrowing(context, whole)

    @property
    def whole(self) -> bool:
        """Whether the layer just entered runs on all tokens of the padded input."""
        return self._slots.whole

    def enter_decoder(self, arguments: dict[str, Any]) -> None:
        """Before the decoder: read its keyword arguments."""
        self._deepstack.take_over(arguments)
        self._deepstack.check(self._context.schedule.stages, self._context.featured)

    def leaves_alone(self, _: Mapping[str, Any]) -> bool:
        """Whether a layer may run on the keyword arguments it is given: every one is followed."""
        return False

    def enter(self, call: LayerCall, hidden: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        """Before a layer: prune where a stage says so; return the layer's new input."""
        self._check_turn(call.number)
        if call.number == 1:
            self._look()
            self._scores.choose_rows(self._prompt, hidden, self._whole.visuals)
        self._slots = self._slots.to(hidden.device)
        for stage in self._context.cut_before.get(call.number, ()):
            hidden = self._cut(stage, call, hidden)
        for stage in self._context.read_at.get(call.number, ()):
            self._scores.read_while_running(stage, call, Tokens(hidden, self._slots))
        readable = self._readable
        self._costs.enter(self._slots, readable)
        arguments, join = self._narrowing.arguments(call), self._frozen_joiner(call, hidden.device)
        cache = call.cache
        if cache is not None:
            window = window_of(cache, call.number)
            layer = PrunedLayer(self._context.lease, readable, self._whole.width, window, join)
            install(cache, call.number, layer)
        elif join is not None:
            arguments = {**arguments, "past_key_values": Relay(join)}
        return hidden, arguments

    def leave(self, number: int, hidden: Tensor) -> Tensor:
        """After a layer that is heard or has features: its output as the next one receives it."""
        self._scores.check_heard(number)
        return self._deepstack.add(number, hidden, self._slots)

    def finish(self) -> None:
        """After the last layer: write the trace."""
        self._check_turn(self._context.layers + 1)
        self._context.trace.fill(self._stages, self._costs)

    @property
    def _readable(self) -> Slots:
        """The tokens that the next layer's rows may attend to."""
        return self._slots if self._frozen is None else self._frozen.slots

    def _frozen_joiner(self, call: LayerCall, device: torch.device) -> Join | None:
        """A function that puts the frozen tokens' keys and values among those of the live ones."""
        if self._frozen is None:
            return None
        frozen = self._frozen = self._frozen.to(device)
        places = self._narrowing.of_frozen(call, frozen.tokens.slots)
        key, value = keys_and_values(call, frozen.tokens.hidden, places)

        def join(live_key: Tensor, live_value: Tensor) -> tuple[Tensor, Tensor]:
            return frozen.among(live_key, key), frozen.among(live_value, value)

        return join

    def _check_turn(self, number: int) -> None:
        if self._costs.layers + 1 != number:
            raise PruningError(
                f"decoder layer {number} came after layer {self._costs.layers}: layers were "
                "skipped or repeated, which a schedule cannot follow; run all layers in order"
            )

    def _look(self) -> None:
        """Take the reading of the vision tower, which has run by now."""
        if self._context.tower_reader is not None:
            tower_reading = self._context.tower_reader.take(self._prompt.visual)
            self._costs.tower_read(tower_reading.macs)
            self._prompt = replace(self._prompt, tower_reading=tower_reading)

    def _cut(self, stage: Stage, call: LayerCall, hidden: Tensor) -> Tensor:
        tokens = Tokens(hidden, self._slots)
        if self._bypassed is not None:
            tokens = self._bypassed.rejoin(tokens)
            self._bypassed = self._frozen = None
            if self._renumbered:
                tokens = tokens._replace(slots=tokens.slots.numbered())
        slots = tokens.slots
        keeping = self._keeping(stage, slots)
        scores = self._scores.at(
            stage, call, tokens, self._prompt, StageContext(len(self._stages), keeping)
        )
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
                lengths = merged.slots.lengths
                self._costs.grouped(disposal.macs, rest, lengths, added=disposal.added)
            if disposal.readable and self._bypassed is not None:
                self._frozen = Frozen.beside(tokens, self._bypassed.tokens)
        self._renumbered = stage.positions == "renumber"
        if self._renumbered and self._frozen is None:
            tokens = tokens._replace(slots=tokens.slots.numbered())
        self._stages.append(StageTrace(slots, scores, kept, merged and merged.slots))
        self._slots = tokens.slots
        self._narrowing = Narrowing(self._context, tokens.slots, self._frozen)
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
