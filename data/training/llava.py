"""The architecture of `tiny-llava`: a stock LLaVA-1.5, small, over a Llama decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..scenes import SIZE
from .family import INITIAL_STD, PATCH, WIDTH, Family
from .tokenizer import END, PAD, vocabulary

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ message.role | upper }} : {% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|image|>
{% elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}{{ ' ' }}
{%- if message.role == 'assistant' -%}<|im_end|>{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
ASSISTANT :
{%- endif -%}
"""


class Llava(Family):
    """LLaVA-1.5: a CLIP tower with learned positions, full multi-head attention, plain RoPE."""

    name = "tiny-llava"
    image_token = "<|image|>"  # noqa: S105 - no password
    before = "USER : "
    behind = "\n"
    suffix = " ASSISTANT :"
    chat_template = CHAT_TEMPLATE

    def build(self, layers: int) -> LlavaForConditionalGeneration:
        """A LLaVA of `layers` decoder layers; the last tower layer is unused, as in LLaVA."""
        ids = vocabulary()
        text = LlamaConfig(
            vocab_size=len(ids),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            initializer_range=INITIAL_STD,
            rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=ids[END],
            pad_token_id=ids[PAD],
        )
        vision = CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=5,
            num_attention_heads=4,
            image_size=SIZE,
            patch_size=PATCH,
            initializer_range=INITIAL_STD,
        )
        config = LlavaConfig(
            text_config=text,
            vision_config=vision,
            image_token_index=ids["<|image|>"],
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
        model: LlavaForConditionalGeneration = LlavaForConditionalGeneration._from_config(
            config, dtype=torch.float32
        )
        return model

    def decoder(self, model: PreTrainedModel) -> Any:
        """The text decoder."""
        return model.model.language_model

    def tower(self, model: PreTrainedModel) -> nn.Module:
        """The vision tower and the projector."""
        return nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector])

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Float32 [pictures, 3, 168, 168]."""
        return {"pixel_values": self.normalised(images).permute(0, 3, 1, 2).contiguous()}

    def see(self, model: PreTrainedModel, pixels: dict[str, torch.Tensor]) -> torch.Tensor:
        """Visual tokens [pictures x 144, WIDTH]."""
        features = model.model.get_image_features(
            **pixels, vision_feature_layer=-2, vision_feature_select_strategy="default"
        )
        return torch.cat(list(features.pooler_output))

    def positions(self, place: torch.Tensor, start: int) -> torch.Tensor:  # noqa: ARG002
        """The places themselves."""
        return place

    def decoder_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """The mask itself."""
        return mask

    def image_processor(self) -> CLIPImageProcessorPil:
        """CLIP's image processor: the shorter side to 168 pixels, the middle cut out."""
        return CLIPImageProcessorPil(
            size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
        )

    def save_processor(self, folder: Path) -> None:
        """The whole processor."""
        tokenizer = self.tokenizer()
        LlavaProcessor(
            image_processor=self.image_processor(),
            tokenizer=tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            chat_template=self.chat_template,
            image_token=self.image_token,
            num_additional_image_tokens=1,
        ).save_pretrained(folder)
