"""The architecture of `tiny-qwen2-vl`: a stock Qwen2-VL, small, with one visual token per patch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ..scenes import SIZE
from .family import INITIAL_STD, PATCH, SIDE, VISUAL_TOKENS, WIDTH, Family
from .tokenizer import END, PAD, vocabulary

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


class Qwen2VL(Family):
    """Qwen2-VL: M-RoPE, grouped-query attention, a tower with two-dimensional rotary positions."""

    name = "tiny-qwen2-vl"
    image_token = "<|image_pad|>"  # noqa: S105 - no password
    before = "<|im_start|>user\n<|vision_start|>"
    behind = "<|vision_end|>"
    suffix = "<|im_end|>\n<|im_start|>assistant\n"
    chat_template = CHAT_TEMPLATE

    def build(self, layers: int) -> Qwen2VLForConditionalGeneration:
        """A Qwen2-VL with `layers` decoder layers."""
        ids = vocabulary()
        text = {
            "vocab_size": len(ids),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "initializer_range": INITIAL_STD,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000.0,
                "mrope_section": [4, 6, 6],
            },
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
        }
        vision = {
            "depth": 4,
            "embed_dim": 128,
            "hidden_size": WIDTH,
            "num_heads": 4,
            "mlp_ratio": 4,
            "hidden_act": "gelu",
            "patch_size": PATCH,
            "spatial_merge_size": 1,
            "temporal_patch_size": 2,
            "initializer_range": INITIAL_STD,
        }
        config = Qwen2VLConfig(
            text_config=text,
            vision_config=vision,
            tie_word_embeddings=True,
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
        config.eos_token_id, config.pad_token_id = ids[END], ids[PAD]
        model: Qwen2VLForConditionalGeneration = Qwen2VLForConditionalGeneration._from_config(
            config, dtype=torch.float32
        )
        return model

    def decoder(self, model: PreTrainedModel) -> Any:
        """The text decoder."""
        return model.model.language_model

    def tower(self, model: PreTrainedModel) -> nn.Module:
        """The vision tower with its merger."""
        tower: nn.Module = model.model.visual
        return tower

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Float32 patches [pictures x 144, 1176] and the grid int64 [pictures, 3]."""
        count, frames = len(images), self.image_processor().temporal_patch_size
        patches = self.normalised(images).view(count, SIDE, PATCH, SIDE, PATCH, 3)
        still = patches.permute(0, 1, 3, 5, 2, 4).unsqueeze(4)
        return {
            "hidden_states": still.expand(-1, -1, -1, -1, frames, -1, -1).reshape(
                count * VISUAL_TOKENS, -1
            ),
            "grid_thw": torch.tensor([[1, SIDE, SIDE]] * count),
        }

    def see(self, model: PreTrainedModel, pixels: dict[str, torch.Tensor]) -> torch.Tensor:
        """Visual tokens [pictures x 144, WIDTH]."""
        tokens: torch.Tensor = self.tower(model)(**pixels).pooler_output
        return tokens

    def positions(self, place: torch.Tensor, start: int) -> torch.Tensor:
        """M-RoPE positions [3, ...]: a picture moves the text behind it on by SIDE."""
        behind = place - (VISUAL_TOKENS - SIDE)
        within = place - start
        axes = [torch.zeros_like(place), within // SIDE, within % SIDE]
        visual = (within >= 0) & (within < VISUAL_TOKENS)
        text = torch.where(within < 0, place, behind)
        return torch.stack([torch.where(visual, start + axis, text) for axis in axes])

    def decoder_mask(self, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Masks by layer type, of which there is one."""
        return {"full_attention": mask}

    def image_processor(self) -> Qwen2VLImageProcessorPil:
        """Qwen2-VL's image processor, every picture brought to about 168 x 168 pixels."""
        return Qwen2VLImageProcessorPil(
            patch_size=PATCH,
            merge_size=1,
            temporal_patch_size=2,
            size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
        )

    def save_processor(self, folder: Path) -> None:
        """Tokenizer and image processor; the whole processor cannot be made without torchvision."""
        self.tokenizer().save_pretrained(folder)
        self.image_processor().save_pretrained(folder)
        # The name under which every installation finds the class its backend can run.
        path = folder / "preprocessor_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["image_processor_type"] = "Qwen2VLImageProcessor"
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
