"""The architecture of `smol-llava`: the tower of `tiny-llava` before a pretrained SmolLM2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from ..family import PATCH
from ..llava import Llava

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
Picture:<image>
{% elif part.type == 'text' -%}
{%- set asked = part.text | replace(' ?', '?') | replace(' :', ':') -%}
{{ asked[:1] | upper }}{{ asked[1:] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
"""SmolLM2's own, with a picture; a question is written as people write it, however it comes."""


def plain(question: str) -> str:
    """A question of the scenes as the chat template writes it.

    >>> plain("where is the red circle ?")
    'Where is the red circle?'
    """
    asked = question.replace(" ?", "?").replace(" :", ":")
    return asked[:1].upper() + asked[1:]


class SmolLlava(Llava):
    """A LLaVA-1.5 over SmolLM2; the tokenizer is the base's, with the picture's token in it."""

    name = "smol-llava"
    image_token = "<image>"  # noqa: S105 - no password
    before = "<|im_start|>user\nPicture:"
    behind = "\n"
    suffix = "<|im_end|>\n<|im_start|>assistant\n"
    chat_template = CHAT_TEMPLATE

    def __init__(self, tokenizer_folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_folder)

    def tokenizer(self) -> Any:
        """The base's tokenizer."""
        return self._tokenizer

    def assemble(self, text: LlamaConfig) -> LlavaForConditionalGeneration:
        """A model with random weights whose decoder has the given configuration."""
        vision: Any = super().build(1).config.vision_config
        config = LlavaConfig(
            text_config=text,
            vision_config=vision,
            image_token_index=self._tokenizer.convert_tokens_to_ids(self.image_token),
            image_seq_length=(vision.image_size // PATCH) ** 2,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
        model: LlavaForConditionalGeneration = LlavaForConditionalGeneration._from_config(
            config, dtype=torch.float32
        )
        return model

    def save_processor(self, folder: Path) -> None:
        """The processor without its tokenizer, which is the base's and not ours to ship."""
        processor = LlavaProcessor(
            image_processor=self.image_processor(),
            tokenizer=self._tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            chat_template=self.chat_template,
            image_token=self.image_token,
            num_additional_image_tokens=1,
        )
        processor.save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).unlink()
