"""Recording T–V attention: how much a query token looks at each visual token, per layer."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenlens.errors import ProbeError
from tokenlens.models.structure import text_config, unwrap
from tokenlens.probing.attention import is_observing, observe_attention, tokens_are_whole
from tokenlens.probing.attention_call import AttentionCall
from tokenlens.probing.attribution import Written, attribute, beams_of, own_loop, refuse_assisted
from tokenlens.probing.following import FollowedPrompt
from tokenlens.probing.generations import PromptCall, current_generation, watch_generate
from tokenlens.probing.importances.importance import (
    Importance,
    PromptRun,
    RowImportance,
    RunImportance,
    Scale,
    importance_named,
)
from tokenlens.probing.queries import Queries, QueryChoice, attended_tokens
from tokenlens.probing.waiting_layers import WaitingLayers

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM


@contextmanager
def probe(
    vlm_or_model: "VLM | PreTrainedModel",
    *,
    queries: Queries = "last",
    per_head: bool = False,
    importance: str = "attention",
) -> Iterator["Recording"]:
    """Record importance while the model runs, by a plain forward or by `generate()`.

    Importance is the attention that a query token pays to each visual token, after the softmax
    over all keys of the layer and averaged over heads (SwiftVLM, arXiv 2602.03134, §3.1, whose
    query is the last prompt token). Only the rows asked for are computed, in float32, beside
    whatever attention implementation the model has; the model's own output is bit for bit what it
    is without the probe. Leaving the context, by an error too, leaves no trace on the model.

    Of `generate()`, however it decodes, the prompt is what it was given; what it writes, drafts and
    runs beside is no part of it. Beams and several answers to a prompt make samples of their own.
    Of a plain forward on an empty cache all it is given is the prompt, and decoding steps of one
    token are ignored, but for "generated". The latest prompt is the one recorded, and only where
    the model is called in the thread or task that opened the context, or in one that it started
    with a copy of its contextvars (`asyncio.to_thread`).

    Args:
        vlm_or_model: A `VLM`, or a bare Hugging Face vision-language model.
        queries: Whose rows. "last": the last prompt token, so that importance has no dimension of
            queries. "text": the prompt's tokens after its last visual token. "generated": for each
            generated token the row that predicted it (the first is the last prompt token's), of
            the returned sequences: greedy, sampling and beam search, or a loop of your own that
            feeds one token at a time and does not reorder its cache. Positions in the (padded)
            prompt, the same for every sample, negative ones from its end. Or a function that is
            given a sample's token ids, int64 [length], and gives positions or a bool mask.
        per_head: Keep every head's row too.
        importance: What is recorded, by name (`tokenlens.registry.IMPORTANCES`): "attention", or
            "value-weighted" (times the norm of the projected value), "gradient" (times its gradient
            for the next token, which takes a forward and a backward pass more; queries "last"), or
            "occlusion" (what the answer loses without the place: layers · 25 passes; queries
            "last", a plain forward, and a VLM whose layout is known).

    Raises:
        ModelError: What was given is no vision-language model.
        ProbeError: Queries or an importance of another kind. In the forward, where no input ids
            are given, visual tokens come on top of a filled cache, or a query is padding, outside
            of the prompt or not in the forward that ends it. In `generate()`, for "generated" with
            drafts.

    Example:
        with tl.probe(vlm, queries="generated") as recording:
            vlm.model.generate(**inputs)
        recording.importance[0]  # [layers, queries, n_visual]; with "last" [layers, n_visual]
    """
    model = unwrap(vlm_or_model)
    choice = QueryChoice.of(queries)
    kind = checked_importance(importance, choice, per_head)
    recording = Recording(vlm_or_model, choice, per_head, kind)
    follower = recording if choice.generated else None
    with (
        observe_attention(text_config(model)._attn_implementation, recording.observe),
        watch_generate(model, recording.check if choice.generated else None, follower),
        model.register_forward_pre_hook(recording.begin, with_kwargs=True),
        model.register_forward_hook(recording.end, always_call=True),
    ):
        yield recording


def checked_importance(name: str, choice: QueryChoice, per_head: bool) -> Importance:
    """The importance of that name. Raises `ProbeError` for none, and for what it does not have."""
    kind = importance_named(name)
    if isinstance(kind, RunImportance) and not choice.single:
        raise ProbeError(
            f"importance {name!r} is of the token that the prompt makes the model write, expected "
            "queries='last'; for other queries use 'attention' or 'value-weighted'"
        )
    if per_head and not kind.by_head:
        raise ProbeError(f"importance {name!r} has no heads to be kept apart; leave per_head out")
    return kind


class Recording(FollowedPrompt):
    """What the probe saw of the latest prompt. Read it inside the context or after it."""

    def __init__(
        self,
        vlm_or_model: "VLM | PreTrainedModel",
        choice: QueryChoice,
        per_head: bool,
        kind: Importance,
    ) -> None:
        super().__init__(vlm_or_model, choice, per_head)
        self._kind, self._unit = kind, kind.unit
        self._run: PromptRun | None = None
        self._measuring = False

    def forget(self) -> None:
        """Let go of all rows, those that still wait included."""
        super().forget()
        self._waiting: WaitingLayers | None = None

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hook before the model's forward; those that measure are not recorded."""
        if not self._measuring:
            super().begin(model, args, kwargs)

    def end(self, _model: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Hook after the model's forward: measure what its rows alone do not tell."""
        if self._measuring:
            return
        if self._runner == threading.get_ident():
            self._read_waiting()
        recorded = self._recording and not self._step and len(self._rows) == self._layers
        super().end()
        run, self._run = self._run, None
        if (
            output is None
            or run is None
            or not recorded
            or not isinstance(self._kind, RunImportance)
        ):
            return
        self._measuring = True
        try:
            with run.apart():
                measured = self._kind.measure(run)
        finally:
            self._measuring = False
        for layer in self._rows:
            found = [sample[layer][:, None] for sample in measured]
            kept = found if self._per_head else [rows.mean(dim=0, keepdim=True) for rows in found]
            self._rows[layer] = kept

    def _keep_inputs(self, given: Mapping[str, Any]) -> None:
        super()._keep_inputs(given)
        if self._scale is None:
            self._waiting = WaitingLayers.of(self._places, self._positions, per_head=self._per_head)
        if not isinstance(self._kind, RunImportance) or self._prompt is None:
            return
        if self._cached:
            raise ProbeError(
                "this importance runs the prompt again, which was given in pieces; run the whole "
                "prompt in one forward, without prefill_chunk_size"
            )
        self._run = PromptRun.of(
            self._source,
            given,
            ids=self._prompt,
            attended=attended_tokens(given.get("attention_mask"), self._prompt),
            positions=self._positions,
        )

    def check(self, given: PromptCall) -> None:
        """Refuse a `generate()` whose rows could not be told from each other."""
        if is_observing(self.observe):
            refuse_assisted(given, self._model)

    def wants_beams(self, given: PromptCall) -> bool:
        """Whether each token's beam must be known: in a beam search of this context."""
        return (
            is_observing(self.observe)
            and not own_loop(given)
            and not given.drafting
            and beams_of(given, self._model) > 1
        )

    def ended(self, given: PromptCall, result: Any) -> None:
        """A `generate()` is over: from now on it is known which rows wrote what it returns."""
        decoded, prompt = self._decoded, self._prompt
        ours = self._generation is not None and current_generation() is self._generation
        if not ours or given.drafting or decoded is None or prompt is None:
            return
        decoded.flush()
        try:
            written = attribute(given, self._model, result, prompt, decoded)
        except ProbeError as error:
            self._clear(str(error))
        else:
            self._written = _known(written)

    def observe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        options: dict[str, Any],
    ) -> None:
        """Compute the wanted rows of one layer, once per forward."""
        layer = self._layer_of.get(module)
        if layer is None or not self._recording or not tokens_are_whole():
            return
        if self._step and self._decoded is not None:
            self._decoded.observe(layer, module, query, key, value, mask, options, self._cached)
        elif layer not in self._rows:
            call = AttentionCall.of(module, query, key, value, mask, options, self._cached)
            if not self._waits(layer, call):
                self._observe_prompt(layer, call)

    @property
    def _scale(self) -> Scale | None:
        """What rows are multiplied by, of an importance that has it."""
        return self._kind.scale if isinstance(self._kind, RowImportance) else None

    def _waits(self, layer: int, call: AttentionCall) -> bool:
        """Whether the layer's rows are computed later, together with those of others."""
        waiting = self._waiting
        if waiting is None:
            return False
        if layer in waiting:
            return True
        done = waiting.take(layer, call)
        if done is None:
            return False
        self._rows |= done
        return True

    @torch.no_grad()
    def _observe_prompt(self, layer: int, call: AttentionCall) -> None:
        scale = self._scale
        if scale is not None:
            self._scales[layer] = [
                scale(call, sample, positions) for sample, positions in enumerate(self._positions)
            ]
        self._rows[layer] = call.rows_of_all(
            self._places, self._positions, per_head=self._per_head, scales=self._scales.get(layer)
        )

    @torch.no_grad()
    def _read_waiting(self) -> None:
        """Compute the rows of the layers that still wait."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._rows |= waiting.finish()

    def _stacked(self) -> list[Tensor]:
        self._read_waiting()  # an interrupted forward has not come to its end
        return super()._stacked()


def _known(written: list[Written]) -> Callable[[], list[Written]]:
    return lambda: written
