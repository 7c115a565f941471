"""Small random-weight models, inputs and model directories, built in-process for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BatchFeature,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tokenlens.samples.sample import Sample

Model = TypeVar("Model", bound=PreTrainedModel)
Grids = Sequence[Sequence[tuple[int, int]]]
"""For every sample of a batch, for each of its pictures: (rows, columns) of visual tokens."""

PAD, UNKNOWN, END, IMAGE = "<|endoftext|>", "<|unknown|>", "<|im_end|>", "<|image_pad|>"
SPECIAL = (
    PAD,
    UNKNOWN,
    "<|im_start|>",
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE,
    "<|video_pad|>",
)
WORDS = """
system user assistant where what colour letter shape how many is are there the a an of on in
red green blue circle square star A B C yes no ? 0 1 2 3 4 5 6 7 8 9
""".split()  # noqa: SIM905
VOCABULARY = {piece: index for index, piece in enumerate((*SPECIAL, *WORDS))}
VOCABULARY_SIZE = 64
PATCH = 4

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message.role }} "
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|> "
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|> "
    "{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)


def tiny_qwen2_vl(
    layers: int = 4,
    hidden: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    merge: int = 1,
    patch: int = PATCH,
) -> Qwen2VLForConditionalGeneration:
    """A random Qwen2-VL in eval mode; attention is far from uniform and no bias is zero."""
    config = Qwen2VLConfig(
        text_config=_text_settings(layers, hidden, heads, kv_heads),
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": hidden,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": patch,
            "spatial_merge_size": merge,
            "temporal_patch_size": 2,
        },
        **_token_ids(),
    )
    return _randomised(Qwen2VLForConditionalGeneration(config), seed, dtype)


def tiny_qwen2_5_vl(
    layers: int = 4,
    hidden: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    merge: int = 2,
    patch: int = PATCH,
) -> Qwen2_5_VLForConditionalGeneration:
    """A random Qwen2.5-VL in eval mode, its tower with one windowed and one full block."""
    config = Qwen2_5_VLConfig(
        text_config=_text_settings(layers, hidden, heads, kv_heads),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "out_hidden_size": hidden,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": patch,
            "spatial_merge_size": merge,
            "temporal_patch_size": 2,
            "window_size": 4 * patch * merge,
            "fullatt_block_indexes": [1],
        },
        **_token_ids(),
    )
    return _randomised(Qwen2_5_VLForConditionalGeneration(config), seed, dtype)


def fake_inputs(
    model: PreTrainedModel,
    grids: Grids = (((3, 4),),),
    *,
    text: Sequence[int] | None = None,
    seed: int = 0,
) -> BatchFeature:
    """Left-padded inputs with random text and random pictures of the given token grids.

    `text[i]` is the number of text tokens after the pictures of sample i; by default 4, 5, 6, …, so
    that a batch is ragged even when its pictures are alike.
    """
    generator = torch.Generator().manual_seed(seed)
    merge = model.config.vision_config.spatial_merge_size
    patch = model.config.vision_config.patch_size
    after = text if text is not None else [4 + index for index in range(len(grids))]

    def words(count: int) -> list[int]:
        return torch.randint(len(SPECIAL), len(VOCABULARY), (count,), generator=generator).tolist()

    rows = []
    for pictures, count in zip(grids, after, strict=True):
        row = words(2)
        for height, width in pictures:
            row += [VOCABULARY["<|vision_start|>"]]
            row += [VOCABULARY[IMAGE]] * (height * width)
            row += [VOCABULARY["<|vision_end|>"], *words(1)]
        rows.append(row + words(count))
    length = max(map(len, rows))
    ids = torch.tensor([[VOCABULARY[PAD]] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    thw = [(1, h * merge, w * merge) for pictures in grids for h, w in pictures]
    patches = sum(t * h * w for t, h, w in thw)
    pixels = torch.randn(patches, 3 * 2 * patch * patch, generator=generator, dtype=model.dtype)
    return BatchFeature(
        {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": (ids == VOCABULARY[IMAGE]).int(),
            "pixel_values": pixels,
            "image_grid_thw": torch.tensor(thw),
        }
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with Qwen2-VL's special tokens and a chat template."""
    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[piece for piece in SPECIAL if piece not in (PAD, UNKNOWN, END)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tiny_image_processor(
    merge: int = 1, pixels: int = 24 * 24, patch: int = PATCH
) -> Qwen2VLImageProcessorPil:
    """Qwen2-VL's image processor for `tiny_qwen2_vl`, pictures brought to at most `pixels`."""
    return Qwen2VLImageProcessorPil(
        patch_size=patch,
        merge_size=merge,
        temporal_patch_size=2,
        size={"shortest_edge": (patch * merge) ** 2, "longest_edge": pixels},
    )


def save_model_directory(
    folder: Path, model: PreTrainedModel | None = None, *, pixels: int = 24 * 24
) -> Path:
    """Write a whole local model directory: weights, configuration, tokenizer, image processor."""
    model = model if model is not None else tiny_qwen2_vl()
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    vision = model.config.vision_config
    tiny_image_processor(vision.spatial_merge_size, pixels, vision.patch_size).save_pretrained(
        folder
    )
    settings_path = folder / "preprocessor_config.json"
    settings = json.loads(settings_path.read_text(encoding="utf-8"))
    settings["image_processor_type"] = "Qwen2VLImageProcessor"
    settings_path.write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _text_settings(layers: int, hidden: int, heads: int, kv_heads: int) -> dict[str, Any]:
    half = hidden // heads // 2
    side = half // 3
    return {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1000.0,
            "mrope_section": [half - 2 * side, side, side],
        },
        "bos_token_id": None,
        "eos_token_id": VOCABULARY[END],
        "pad_token_id": VOCABULARY[PAD],
    }


def _token_ids() -> dict[str, Any]:
    return {
        "image_token_id": VOCABULARY[IMAGE],
        "video_token_id": VOCABULARY["<|video_pad|>"],
        "vision_start_token_id": VOCABULARY["<|vision_start|>"],
        "vision_end_token_id": VOCABULARY["<|vision_end|>"],
        "eos_token_id": VOCABULARY[END],
        "pad_token_id": VOCABULARY[PAD],
    }


def _randomised(model: Model, seed: int, dtype: torch.dtype) -> Model:
    """Draw every parameter anew: matrices above 1/sqrt(width), norms near 1, biases near 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * 1.5 / parameter[0].numel() ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = None
    model.to(dtype)  # type: ignore[arg-type]
    return model.eval()


def counted_samples(count: int) -> list[Sample]:
    """Noise of 24 by 24 pixels and a question that a random model may answer, of two tasks."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
    return [
        Sample(
            id=str(index),
            image=Image.fromarray(pixels[index]),
            question="how many are there ?",
            answers=("1",),
            task=("text", "count")[index % 2],
        )
        for index in range(count)
    ]
