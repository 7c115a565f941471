"""Interface of an architecture for the recipe: how it is built, and how it processes a picture.

Both families have the same decoder width and vocabulary, and encode a picture of 168 x 168 pixels
as 144 visual tokens, row by row. Each family's file has everything in which they differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from ..scenes import SIZE
from .tokenizer import END, PAD, make_tokenizer, vocabulary

PATCH = 14
SIDE = SIZE // PATCH
VISUAL_TOKENS = SIDE * SIDE
WIDTH = 128
INITIAL_STD = 0.06
"""Hugging Face's 0.02 is too small at this width: training does not progress for a long time."""


class Family(ABC):
    """One architecture. Models are float32; draw their weights with `torch.manual_seed`."""

    name: str
    """Name of the model that ships."""
    image_token: str
    """The placeholder of a visual token."""
    before: str
    """The prompt up to the first visual token."""
    behind: str
    """The prompt from the last visual token to the question."""
    suffix: str
    """The prompt from the question on."""
    chat_template: str

    @abstractmethod
    def build(self, layers: int) -> PreTrainedModel:
        """A model of so many decoder layers with random weights."""

    @abstractmethod
    def decoder(self, model: PreTrainedModel) -> Any:
        """The text decoder."""

    @abstractmethod
    def tower(self, model: PreTrainedModel) -> nn.Module:
        """The module that computes visual tokens from a picture, projection included."""

    @abstractmethod
    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Input of the tower: the values of the image processor, for many pictures at once."""

    @abstractmethod
    def see(self, model: PreTrainedModel, pixels: dict[str, torch.Tensor]) -> torch.Tensor:
        """Visual tokens as the decoder receives them: float32 [pictures x 144, WIDTH]."""

    @abstractmethod
    def positions(self, place: torch.Tensor, start: int) -> torch.Tensor:
        """Rotary positions of places in a prompt whose picture begins at `start`."""

    @abstractmethod
    def decoder_mask(self, mask: torch.Tensor) -> Any:
        """An additive mask [pictures, 1, length, length] as the decoder takes it."""

    @abstractmethod
    def image_processor(self) -> Any:
        """The image processor that ships."""

    @abstractmethod
    def save_processor(self, folder: Any) -> None:
        """Write tokenizer, chat template and image processor into a model directory."""

    def make_model(self, layers: int) -> PreTrainedModel:
        """A model with its greedy generation config."""
        model = self.build(layers)
        ids = vocabulary()
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=ids[END], pad_token_id=ids[PAD]
        )
        return model

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that ships."""
        return make_tokenizer(self.chat_template)

    def prefix(self) -> str:
        """The prompt up to the question."""
        return self.before + self.image_token * VISUAL_TOKENS + self.behind

    def normalised(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Pixels as the image processor rescales and normalises them: [pictures, SIZE, SIZE, 3]."""
        processor = self.image_processor()
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float() / 255
        mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
        return (pixels - mean) / std
