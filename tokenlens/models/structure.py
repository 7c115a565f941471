"""Parts of a vision-language model, found on any bare Hugging Face model.

The probe and the engine use only these functions, which name no family.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tokenlens.errors import ModelError


class HoldsModel(Protocol):
    """An object with a Hugging Face model as its `model`, such as a `VLM`."""

    @property
    def model(self) -> PreTrainedModel:
        """The model."""


def unwrap(vlm_or_model: HoldsModel | PreTrainedModel) -> PreTrainedModel:
    """The Hugging Face model of a `VLM`, or the bare model itself.

    Raises `ModelError` for anything else.
    """
    held = isinstance(vlm_or_model, PreTrainedModel)
    model = vlm_or_model if held else getattr(vlm_or_model, "model", None)
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"expected a tokenlens.VLM or a Hugging Face model, got {type(vlm_or_model).__name__}; "
            "load one with tokenlens.load(...) or wrap yours with tokenlens.VLM.wrap(...)"
        )
    image_token_id(model)
    decoder_layers(model)
    return model


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """The configuration of the text decoder."""
    return model.config.get_text_config(decoder=True)


def decoder(model: PreTrainedModel) -> nn.Module:
    """The text decoder: embeddings, layers and final norm, without vision tower and head."""
    text_decoder: nn.Module = model.get_decoder()
    return text_decoder


def deepstack_layers(model: PreTrainedModel) -> int:
    """Of how many first layers the outputs have visual features added (DeepStack)."""
    vision = getattr(model.config, "vision_config", None)
    return len(getattr(vision, "deepstack_visual_indexes", None) or ())


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of the text decoder, in order of depth. Raises `ModelError` without any."""
    layers = getattr(decoder(model), "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        raise ModelError(
            f"{type(model).__name__} has no list of decoder layers (get_decoder().layers); "
            "expected a decoder-only vision-language model such as Qwen2-VL"
        )
    return layers


def layer_by_module(model: PreTrainedModel) -> dict[nn.Module, int]:
    """The index of the decoder layer, from 0, that each module in one belongs to."""
    layers = enumerate(decoder_layers(model))
    return {module: index for index, layer in layers for module in layer.modules()}


def image_token_id(model: PreTrainedModel) -> int:
    """The token id that marks visual tokens in the prompt. Raises `ModelError` without one."""
    token = getattr(model.config, "image_token_id", None)
    if not isinstance(token, int):
        raise ModelError(
            f"{type(model).__name__} is no vision-language model: its configuration has no "
            "image_token_id; expected one that marks visual tokens in the prompt, such as Qwen2-VL"
        )
    return token


def video_token_id(model: PreTrainedModel) -> int | None:
    """The token id that marks visual tokens of videos in the prompt; None where there is none."""
    token = getattr(model.config, "video_token_id", None)
    return token if isinstance(token, int) else None


def visual_mask(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Which of `input_ids` (int64 [batch, length]) are visual tokens: bool [batch, length].

    Those of pictures and, where the model has a token for them, of videos.
    """
    return marked(input_ids, visual_token_ids(model))


def visual_token_ids(model: PreTrainedModel) -> tuple[int, ...]:
    """The token ids that mark visual tokens: of pictures and, where there is one, of videos."""
    video = video_token_id(model)
    return (image_token_id(model),) if video is None else (image_token_id(model), video)


def marked(input_ids: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """Which of `input_ids` (int64 [batch, length]) are one of `tokens`: bool [batch, length]."""
    first, *others = tokens
    mask = torch.eq(input_ids, first)
    for token in others:
        mask |= torch.eq(input_ids, token)
    return mask


def video_mask(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Which of `input_ids` are visual tokens of videos: bool [batch, length]."""
    token = video_token_id(model)
    return torch.zeros_like(input_ids, dtype=torch.bool) if token is None else input_ids == token
