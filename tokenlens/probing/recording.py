"""Recording T–V attention: how much the last prompt token looks at each visual token, per layer."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenlens.errors import ProbeError
from tokenlens.models.structure import decoder_layers, text_config, unwrap, visual_mask
from tokenlens.probing.attention import is_observing, observe_attention
from tokenlens.probing.rows import attention_row, row_bias, scaling_of

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM


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

    Only forwards made in this context are recorded (not those of another thread), and of them the
    latest prefill: a forward on an empty cache. Decoding steps are ignored.

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
        model.register_forward_pre_hook(recording.begin, with_kwargs=True),
    ):
        yield recording


class Recording:
    """What the probe saw in the latest prefill. Read it inside the context or after it."""

    def __init__(self, model: PreTrainedModel, per_head: bool) -> None:
        self._model = model
        self._per_head = per_head
        self._layer_of: dict[nn.Module, int] = {
            module: index
            for index, layer in enumerate(decoder_layers(model))
            for module in layer.modules()
        }
        self._layers = len(decoder_layers(model))
        self._length = 0
        self._last: list[int] = []
        self._positions: list[Tensor] = []
        self._rows: dict[int, list[Tensor]] = {}

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
        """Hook before the model's forward: a prefill starts a new recording."""
        if not is_observing(self.observe):
            return
        given = inspect.signature(self._model.forward).bind_partial(*args, **kwargs).arguments
        input_ids, cache = given.get("input_ids"), given.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            if input_ids is None or input_ids.shape[1] == 1:  # one is what the model itself wrote
                return
            if visual_mask(self._model, input_ids).any():
                raise ProbeError(
                    "visual tokens were fed on top of a filled cache, where one row cannot show "
                    "all of them; run the whole prompt in one forward, without prefill_chunk_size"
                )
            return
        if input_ids is None:
            raise ProbeError(
                "the forward got no input_ids, so its visual tokens are unknown; pass input_ids "
                "and pixel_values instead of inputs_embeds"
            )
        self._length = input_ids.shape[1]
        self._last = _last_tokens(given.get("attention_mask"), input_ids)
        self._positions = [row.nonzero()[:, 0] for row in visual_mask(self._model, input_ids)]
        self._rows = {}

    @torch.no_grad()
    def observe(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Any, options: dict[str, Any]
    ) -> None:
        """Compute the last prompt token's row of one layer, once per prefill."""
        layer = self._layer_of.get(module)
        if layer is None or layer in self._rows or query.shape[2] != self._length:
            return
        for name in ("s_aux", "position_bias"):
            if options.get(name) is not None:
                raise ProbeError(f"attention with {name} cannot be recorded yet")
        causal = options.get("is_causal")
        rows = []
        for sample, (last, positions) in enumerate(zip(self._last, self._positions, strict=True)):
            bias = row_bias(
                mask,
                sample=sample,
                row=last,
                keys=key.shape[2],
                causal=getattr(module, "is_causal", True) if causal is None else causal,
                window=options.get("sliding_window"),
                device=key.device,
            )
            row = attention_row(
                query[sample, :, last],
                key[sample],
                scaling=scaling_of(query, options),
                bias=bias,
                softcap=options.get("softcap"),
            )
            visual = row[:, positions.to(row.device)]
            rows.append(visual if self._per_head else visual.mean(dim=0, keepdim=True))
        self._rows[layer] = rows

    def _check_begun(self) -> None:
        if not self._positions:
            raise ProbeError(
                "nothing was recorded: run the model itself (vlm.model(**inputs) or generate()) "
                "inside the context and in the same thread"
            )

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
