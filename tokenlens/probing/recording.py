"""Recording T–V attention: how much the last prompt token looks at each visual token, per layer."""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenlens.errors import ProbeError
from tokenlens.models.structure import decoder_layers, text_config, unwrap, visual_mask
from tokenlens.probing.attention import is_observing, observe_attention, tokens_are_whole
from tokenlens.probing.generations import Generation, PromptCall, current_generation, watch_generate
from tokenlens.probing.rows import attention_row, row_bias, scaling_of

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM

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


@contextmanager
def probe(
    vlm_or_model: "VLM | PreTrainedModel", *, per_head: bool = False
) -> Iterator["Recording"]:
    """Record importance while the model runs, by a plain forward or by `generate()`.

    Importance is the attention that the last prompt token pays to each visual token, after the
    softmax over all keys of the layer and averaged over heads (SwiftVLM, arXiv 2602.03134, §3.1).
    Only that one row is computed, in float32, beside whatever attention implementation the model
    has; the model's own output is bit for bit what it is without the probe. Leaving the context, by
    an error too, leaves no trace on the model.

    Of `generate()`, however it decodes, the prompt is what it was given; what it writes, drafts and
    runs beside is no part of it. Beams and several answers to a prompt make samples of their own.
    Of a plain forward on an empty cache all it is given is the prompt, and decoding steps of one
    token are ignored. The latest prompt is the one recorded, and only where the model is called in
    the thread or task that opened the context, or in one that it started with a copy of its
    contextvars (`asyncio.to_thread`).

    Args:
        vlm_or_model: A `VLM`, or a bare Hugging Face vision-language model.
        per_head: Keep every head's row too.

    Raises:
        ModelError: What was given is no vision-language model.
        ProbeError: In the forward, where no input ids are given or visual tokens come on top of a
            filled cache.

    Example:
        with tl.probe(vlm) as recording:
            vlm.model(**inputs)
        recording.importance[0]  # [layers, n_visual]
    """
    model = unwrap(vlm_or_model)
    recording = Recording(model, per_head)
    with (
        observe_attention(text_config(model)._attn_implementation, recording.observe),
        watch_generate(model),
        model.register_forward_pre_hook(recording.begin, with_kwargs=True),
        model.register_forward_hook(recording.end, always_call=True),
    ):
        yield recording


class Recording:
    """What the probe saw of the latest prompt. Read it inside the context or after it."""

    def __init__(self, model: PreTrainedModel, per_head: bool) -> None:
        self._model = model
        self._per_head = per_head
        self._layer_of: dict[nn.Module, int] = {
            module: index
            for index, layer in enumerate(decoder_layers(model))
            for module in layer.modules()
        }
        self._layers = len(decoder_layers(model))
        self._cached = self._queries = 0
        self._last: list[int] = []
        self._positions: list[Tensor] = []
        self._rows: dict[int, list[Tensor]] = {}
        self._recording = False
        self._runner: int | None = None
        self._generation: Generation | None = None
        self._awaited = False
        self._reason = _NOTHING

    @property
    def importance(self) -> list[Tensor]:
        """Per sample float32 [layers, n_visual] on the CPU; a row sums to at most 1."""
        return [rows.mean(dim=1) for rows in self._stacked()]

    @property
    def per_head(self) -> list[Tensor]:
        """Per sample float32 [layers, heads, n_visual] on the CPU, with `probe(per_head=True)`."""
        if not self._per_head:
            raise ProbeError("heads were not recorded; ask for them with probe(..., per_head=True)")
        return self._stacked()

    @property
    def positions(self) -> list[Tensor]:
        """Per sample int64 [n_visual] on the CPU: places in the input's (padded) sequence."""
        self._check_begun()
        return [positions.cpu() for positions in self._positions]

    def begin(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hook before the model's forward: one that holds the prompt's end starts a recording."""
        if not is_observing(self.observe):
            return
        self._claim()
        given = inspect.signature(self._model.forward).bind_partial(*args, **kwargs).arguments
        ids, cache = given.get("input_ids"), given.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        mask = given.get("attention_mask")
        generation = current_generation()
        call = None if generation is None else generation.under_way(self._model)
        if generation is None or call is None or (call.ids is None and not call.drafting):
            self._begin_forward(ids, mask, cached)
        else:
            self._begin_generated(generation, call, ids, mask, cached)

    def _claim(self) -> None:
        """Take the recording for this thread: it holds one forward at a time."""
        thread = threading.get_ident()
        if self._runner not in (None, thread):
            raise ProbeError(
                "another thread is running the probed model; a recording serves one at a time"
            )
        self._runner, self._recording = thread, False

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
            self._start(ids, mask, cached, ids.shape[1])
        elif ids is None or ids.shape[1] == 1:  # one is what the model itself wrote
            return
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
        if not self._awaited or call.drafting or prompt is None or ids is None:
            return
        whole = prompt.expanded(len(ids))
        if whole is None or not prompt.ends_in(ids, cached):
            return
        self._awaited = False
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            mask = prompt.attention_mask
        self._start(whole, mask, cached, ids.shape[1])

    def _clear(self, reason: str) -> None:
        self._reason = reason
        self._positions, self._rows = [], {}

    def _start(self, prompt: Tensor, mask: Any, cached: int, queries: int) -> None:
        """Record the row of the last token of `prompt`, among `queries` after `cached` tokens."""
        self._cached, self._queries = cached, queries
        self._last = _last_tokens(mask, prompt)
        if min(self._last) < cached:
            raise ProbeError(
                "the batch is padded on the right and its prompts end in different forwards; pad "
                "on the left (tokenizer.padding_side = 'left')"
            )
        self._positions = [row.nonzero()[:, 0] for row in visual_mask(self._model, prompt)]
        self._rows = {}
        self._recording = True

    @torch.no_grad()
    def observe(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Any, options: dict[str, Any]
    ) -> None:
        """Compute the last prompt token's row of one layer, once per recording."""
        layer = self._layer_of.get(module)
        if layer is None or not self._recording or layer in self._rows or not tokens_are_whole():
            return
        for name in ("s_aux", "position_bias"):
            if options.get(name) is not None:
                raise ProbeError(
                    f"attention with {name} cannot be recorded; use a model without it"
                )
        causal = options.get("is_causal")
        left = max(0, self._cached + self._queries - key.shape[2])  # behind, by a sliding window
        rows = []
        for sample, (last, positions) in enumerate(zip(self._last, self._positions, strict=True)):
            bias = row_bias(
                mask,
                sample=sample,
                row=last - self._cached,
                place=last - left,
                keys=key.shape[2],
                causal=getattr(module, "is_causal", True) if causal is None else causal,
                window=options.get("sliding_window"),
                device=key.device,
            )
            row = attention_row(
                query[sample, :, last - self._cached],
                key[sample],
                scaling=scaling_of(query, options),
                bias=bias,
                softcap=options.get("softcap"),
            )
            positions = positions.to(row.device) - left
            visual = row[:, positions.clamp(min=0)] * (positions >= 0)
            rows.append(visual if self._per_head else visual.mean(dim=0, keepdim=True))
        self._rows[layer] = rows

    def _check_begun(self) -> None:
        if not self._positions:
            raise ProbeError(f"nothing was recorded; {self._reason}")

    def _stacked(self) -> list[Tensor]:
        self._check_begun()
        silent = [layer + 1 for layer in range(self._layers) if layer not in self._rows]
        if silent:
            raise ProbeError(
                f"layers {silent} of {self._layers} recorded no attention for the whole prompt: "
                "the forward was cut short, the layers run on pruned tokens, or their attention "
                "does not go through transformers' attention functions"
            )
        return [
            torch.stack([self._rows[layer][sample].cpu() for layer in range(self._layers)])
            for sample in range(len(self._positions))
        ]


def _last_tokens(attention_mask: Any, input_ids: Tensor) -> list[int]:
    """Place of each sample's last real token, whichever side is padded."""
    batch, length = input_ids.shape
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        return [length - 1] * batch
    places = torch.arange(length, device=attention_mask.device)
    return (attention_mask[:, :length].bool() * places).amax(dim=1).tolist()
