"""Following a prompt: which forward passes are part of it, and which come after it."""

import inspect
import threading
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from tokenlens.errors import ProbeError
from tokenlens.models.structure import (
    HoldsModel,
    decoder_layers,
    layer_by_module,
    unwrap,
    visual_mask,
)
from tokenlens.probing.attention import is_observing
from tokenlens.probing.attribution import attribute_loop, beams_of, own_loop
from tokenlens.probing.decoding import TOGETHER, DecodedRows
from tokenlens.probing.generations import (
    Generation,
    PromptCall,
    arguments_by_name,
    current_generation,
)
from tokenlens.probing.queries import QueryChoice, attended_tokens
from tokenlens.probing.reading import RecordedRows

_NOTHING = (
    "run the model itself (vlm.model(**inputs) or generate()) inside the context and in the thread "
    "that opened it"
)
_NO_END = (
    "generate() ran no forward that holds the last of the input_ids it was given; give it the "
    "whole sequence as input_ids, what its cache holds included"
)
_ONLY_DRAFTED = (
    "the model only drafted for another's generate(), which shows it no pictures; run its own "
    "forward or generate()"
)
_NOT_ENDED = "generate() did not come to its end, so that it is not known which tokens it returns"
_NOT_ON = (
    "a decoding step did not go on from the one before it (a cache that was cut or filled between "
    "them); run generate(), or feed one token at a time"
)


class FollowedPrompt(RecordedRows):
    """The latest prompt of a model, and the decoding steps after it where they are asked for."""

    def __init__(
        self, vlm_or_model: "HoldsModel | PreTrainedModel", choice: QueryChoice, per_head: bool
    ) -> None:
        model = unwrap(vlm_or_model)
        super().__init__(vlm_or_model, choice, per_head, len(decoder_layers(model)))
        self._model = model
        self._layer_of = layer_by_module(model)
        self._cached = 0
        self._step = self._recording = False
        self._runner: int | None = None
        self._generation: Generation | None = None
        self._awaited = False
        self._reason = _NOTHING

    def observe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        options: dict[str, Any],
    ) -> None:
        """Take one layer's attention call; a recording says what of it is kept."""
        raise NotImplementedError

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self._model.forward)

    def begin(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hook before the model's forward: one that holds the prompt's end starts a recording."""
        if not is_observing(self.observe):
            return
        self._claim()
        given = arguments_by_name(self._signature, args, kwargs) if args else dict(kwargs)
        ids, cache = given.get("input_ids"), given.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        mask = given.get("attention_mask")
        generation = current_generation()
        call = None if generation is None else generation.under_way(self._model)
        if generation is None or call is None or (call.ids is None and not call.drafting):
            self._begin_forward(ids, mask, cached)
        else:
            self._begin_generated(generation, call, ids, mask, cached)
        if self._recording and not self._step:
            self._keep_inputs(given)
            self._follow(call, cache)

    def _claim(self) -> None:
        """Take the recording for this thread: it holds one forward at a time."""
        thread = threading.get_ident()
        if self._runner not in (None, thread):
            raise ProbeError(
                "another thread is running the probed model; a recording serves one at a time"
            )
        self._runner, self._recording, self._step = thread, False, False

    def end(self, *_: Any) -> None:
        """Hook after the model's forward, whether it succeeded or not."""
        if self._runner == threading.get_ident():
            self._runner, self._recording = None, False

    def _begin_forward(self, ids: Tensor | None, mask: Any, cached: int) -> None:
        """A forward that no `generate()` makes: the prompt is all that it is given."""
        if cached == 0:
            if ids is None:
                raise ProbeError(
                    "the forward got no input_ids, so its visual tokens are unknown; pass "
                    "input_ids and pixel_values instead of inputs_embeds"
                )
            self._generation = None
            self._start(ids, mask, cached)
        elif ids is None or ids.shape[1] == 1:  # one is what the model itself wrote
            self._go_on(ids, cached)
        elif visual_mask(self._model, ids).any():
            raise ProbeError(
                "visual tokens were fed on top of a filled cache, where one row cannot show "
                "all of them; run the whole prompt in one forward, without prefill_chunk_size"
            )
        else:
            self._clear(
                f"{ids.shape[1]} tokens were fed at once on top of a filled cache, which may be "
                "the rest of a prompt or drafts; read the recording before, run the whole prompt "
                "in one forward, or let generate() do it"
            )

    def _begin_generated(
        self,
        generation: Generation,
        call: PromptCall,
        ids: Tensor | None,
        mask: Any,
        cached: int,
    ) -> None:
        """A forward of a `generate()`: of all it makes, the first that holds the prompt's end."""
        if self._generation is not generation:
            self._generation, self._awaited = generation, True
            self._clear(_NO_END)
        prompt = generation.prompts.get(self._model)
        if prompt is None:
            self._reason = _ONLY_DRAFTED
        if call.drafting or prompt is None or ids is None:
            return
        if not self._awaited:
            if self._decoded is not None and self._decoded.follows(ids, cached):
                self._go_on(ids, cached)
            return
        whole = prompt.expanded(len(ids))
        if whole is None or not prompt.ends_in(ids, cached):
            return
        self._awaited = False
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            mask = prompt.expanded_mask(len(ids))
        self._start(whole, mask, cached)

    def _clear(self, reason: str) -> None:
        self._reason = reason
        self.forget()

    def _start(self, prompt: Tensor, mask: Any, cached: int) -> None:
        """Record the rows of the query tokens of `prompt`, of which `cached` ran before."""
        self.forget()
        visual = visual_mask(self._model, prompt)
        places = self._choice.places(prompt, attended_tokens(mask, prompt), visual)
        if any(place < cached for sample in places for place in sample):
            raise ProbeError(
                "the batch is padded on the right and its prompts end in different forwards; pad "
                "on the left (tokenizer.padding_side = 'left')"
                if self._choice.wanted in ("last", "generated")
                else "some of the query tokens are in the cache already, or in an earlier piece of "
                "the prompt; run the whole prompt in one forward, without prefill_chunk_size"
            )
        self._cached, self._prompt, self._places = cached, prompt, places
        self._positions = [row.nonzero()[:, 0] for row in visual]
        self._recording = True

    def _follow(self, call: PromptCall | None, cache: Any) -> None:
        """Be ready for the steps after the prompt, where they are asked for."""
        if not self._choice.generated or self._prompt is None:
            return
        plain = call is not None and not own_loop(call) and beams_of(call, self._model) == 1
        together = TOGETHER if plain and type(cache) is DynamicCache else 1
        length = self._prompt.shape[1]
        self._decoded = DecodedRows(
            layers=self._layers,
            positions=self._positions,
            per_head=self._per_head,
            together=together,
            fixed=call is None,
            length=length,
            scales=self._scales,
        )
        self._reason = _NOT_ENDED
        self._written = None if call else partial(attribute_loop, self._decoded)

    def _go_on(self, ids: Tensor | None, cached: int) -> None:
        """A forward after the prompt's: a decoding step, where those are followed."""
        if self._decoded is None:
            return
        if ids is None or not self._decoded.follows(ids, cached):
            self._clear(_NOT_ON)
            return
        self._decoded.fed.append(ids[:, -1])
        self._cached, self._recording, self._step = cached, True, True
