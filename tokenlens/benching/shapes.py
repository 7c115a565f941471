"""Models of published shapes with random weights: speed depends on shapes, not on what was learnt.

The widths are those of the models' published `config.json`.
"""

from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import torch
from transformers import (
    BatchFeature,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from tokenlens.benching.request import SHAPES, Shape
from tokenlens.errors import OptionError

_PAD, _IMAGE, _VIDEO, _START, _END, _WORD = 0, 5, 6, 3, 4, 10
_PATCH, _MERGE, _FRAMES = 14, 2, 2
_HEAD = 128
"""Width of an attention head of every shape."""


@dataclass(frozen=True)
class Scaled:
    """A shape with fewer layers or a smaller width; the vision tower shrinks by the same shares."""

    shape: Shape
    name: str

    @classmethod
    def of(cls, name: str, layers: int | None = None, width: int | None = None) -> "Scaled":
        """The shape called `name`, scaled.

        Args:
            name: one of `SHAPES`.
            layers: decoder layers; None for the published number.
            width: hidden width, a multiple of 128; None for the published one.

        Raises `OptionError` for a width that no heads of 128 fill.

        >>> Scaled.of("qwen2-vl-2b", layers=8, width=768).name
        'qwen2-vl-2b, 8 layers, width 768'
        """
        full = SHAPES[name]
        deep, wide = layers or full.layers, width or full.hidden
        if wide % _HEAD:
            raise OptionError(f"--width: got {wide}, expected a multiple of {_HEAD}: of a head")
        heads, share = wide // _HEAD, wide / full.hidden
        group = full.heads // full.kv_heads
        tower_heads = max(1, round(full.tower_heads * share))
        scaled = replace(
            full,
            layers=deep,
            hidden=wide,
            inner=max(8, round(full.inner * share / 8) * 8),
            heads=heads,
            kv_heads=heads // group if heads % group == 0 else 1,
            vocabulary=max(1024, round(full.vocabulary * share)),
            tower_layers=max(3, round(full.tower_layers * deep / full.layers)),
            tower_width=full.tower_width // full.tower_heads * tower_heads,
            tower_heads=tower_heads,
        )
        words = [name]
        words += [f"{deep} layers"] if deep != full.layers else []
        words += [f"width {wide}"] if wide != full.hidden else []
        return cls(scaled, ", ".join(words))

    def build(self, tokens: int, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
        """The model with random weights (seed 0), for pictures of so many visual tokens."""
        torch.manual_seed(0)
        qwen = self.shape.family == "qwen2_vl"
        config = self._qwen() if qwen else self._llava(_side(tokens))
        kind: Any = Qwen2VLForConditionalGeneration if qwen else LlavaForConditionalGeneration
        with device:
            model: PreTrainedModel = kind._from_config(config, dtype=dtype)
        model.generation_config.pad_token_id = _PAD
        model.generation_config.eos_token_id = None
        model.eval()
        return model

    def inputs(self, model: PreTrainedModel, batch: int, tokens: int, text: int) -> BatchFeature:
        """Prompts of one random picture each: half of the text, the picture, the other half."""
        side, before = _side(tokens), text // 2
        words = [_WORD + place % 500 for place in range(text - 2)]
        picture = [_START, *[_IMAGE] * tokens, _END]
        ids = torch.tensor([[*words[:before], *picture, *words[before:]]] * batch)
        found: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        generator = torch.Generator().manual_seed(0)
        if self.shape.family == "qwen2_vl":
            patches = (batch * tokens * _MERGE**2, 3 * _FRAMES * _PATCH**2)
            found["pixel_values"] = torch.randn(patches, generator=generator)
            found["image_grid_thw"] = torch.tensor([[1, side * _MERGE, side * _MERGE]] * batch)
            found["mm_token_type_ids"] = (ids == _IMAGE).int()
        else:
            pixels = (batch, 3, side * _PATCH, side * _PATCH)
            found["pixel_values"] = torch.randn(pixels, generator=generator)
        found["pixel_values"] = found["pixel_values"].to(model.dtype)
        return BatchFeature(found).to(model.device)

    def _text(self) -> dict[str, Any]:
        shape = self.shape
        return {
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.inner,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": 32768,
            "pad_token_id": _PAD,
            "bos_token_id": None,
            "eos_token_id": None,
        }

    def _qwen(self) -> PreTrainedConfig:
        shape = self.shape
        rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
        return Qwen2VLConfig(
            text_config={**self._text(), "rope_parameters": rotary},
            vision_config={
                "depth": shape.tower_layers,
                "embed_dim": shape.tower_width,
                "hidden_size": shape.hidden,
                "num_heads": shape.tower_heads,
                "mlp_ratio": 4,
                "patch_size": _PATCH,
                "spatial_merge_size": _MERGE,
                "temporal_patch_size": _FRAMES,
            },
            image_token_id=_IMAGE,
            video_token_id=_VIDEO,
            vision_start_token_id=_START,
            vision_end_token_id=_END,
        )

    def _llava(self, side: int) -> PreTrainedConfig:
        shape = self.shape
        return LlavaConfig(
            text_config={"model_type": "llama", **self._text()},
            vision_config={
                "model_type": "clip_vision_model",
                "num_hidden_layers": shape.tower_layers,
                "hidden_size": shape.tower_width,
                "intermediate_size": 4 * shape.tower_width,
                "num_attention_heads": shape.tower_heads,
                "image_size": side * _PATCH,
                "patch_size": _PATCH,
            },
            image_token_index=_IMAGE,
        )


def _side(tokens: int) -> int:
    """Rows of a square picture of so many tokens; `OptionError` where there is none."""
    side = isqrt(tokens)
    if side**2 != tokens:
        raise OptionError(
            f"--tokens: got {tokens}, expected squares, such as 576 (24 x 24) or 2304 (48 x 48): "
            "the pictures are square"
        )
    return side
