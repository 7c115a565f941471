"""The architecture of `tiny-qwen2-vl`: a stock Qwen2-VL, small, with one visual token per patch."""

from __future__ import annotations

import torch
from transformers import GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLTextModel,
)

from ..scenes import SIZE
from .tokenizer import END, PAD, vocabulary

PATCH = 14
SIDE = SIZE // PATCH
VISUAL_TOKENS = SIDE * SIDE
INITIAL_STD = 0.06
"""Hugging Face's 0.02 is tiny at this width: nothing is learnt for a long time."""


def make_config(layers: int) -> Qwen2VLConfig:
    """The configuration with the given number of decoder layers."""
    ids = vocabulary()
    text = {
        "vocab_size": len(ids),
        "hidden_size": 128,
        "intermediate_size": 384,
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
        "hidden_size": 128,
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
    return config


def make_model(layers: int) -> Qwen2VLForConditionalGeneration:
    """A model with random float32 weights; draw them with `torch.manual_seed`."""
    model = Qwen2VLForConditionalGeneration._from_config(make_config(layers), dtype=torch.float32)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=model.config.text_config.eos_token_id,
        pad_token_id=model.config.text_config.pad_token_id,
    )
    return model


def make_image_processor() -> Qwen2VLImageProcessorPil:
    """Qwen2-VL's image processor, every picture brought to about 168 x 168 pixels."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=1,
        temporal_patch_size=2,
        size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
    )


def decoder(model: Qwen2VLForConditionalGeneration) -> Qwen2VLTextModel:
    """The text decoder of a model."""
    return model.model.language_model


def tower(model: Qwen2VLForConditionalGeneration) -> Qwen2VisionTransformerPretrainedModel:
    """The vision tower of a model."""
    return model.model.visual
