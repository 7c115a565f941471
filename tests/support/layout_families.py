"""A small random model of every family with its real processor, for the layout tests.

The towers' attention adds nothing, so that a feature depends on its own pixels alone. Pictures are
resized bilinearly whatever a family's own filter is: its reach is short and the boxes are the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tokenlens.models.pixtral import PixtralPictureProcessor
from tokenlens.models.processing import without_video
from tokenlens.models.vlm import VLM

BILINEAR = 2
PAD, UNKNOWN, FIRST, LAST = "<pad>", "<unk>", "<s>", "</s>"
PICTURE, VIDEO, START, END, BREAK = "<image>", "<video>", "<start>", "<end>", "<break>"
SPECIAL = (PAD, UNKNOWN, FIRST, LAST, PICTURE, VIDEO, START, END, BREAK)
WORDS = ("what", "where", "is", "the", "star", "circle", "?", "\n", "user", "assistant")
IDS = {piece: index for index, piece in enumerate((*SPECIAL, *WORDS))}
IMAGE = IDS[PICTURE]
TEXT = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
GEMMA = {**TEXT, "head_dim": 16}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEMPLATE = (
    "{% for message in messages %}user {% for part in message.content %}"
    "{% if part.type == 'image' %}PLACEHOLDER {% else %}{{ part.text }} {% endif %}"
    "{% endfor %}{% endfor %}assistant"
)
PROJECTIONS = ("out_proj", "o_proj", "attn.proj", "projection_layer")


@dataclass(frozen=True)
class Family:
    """How a family is built.

    Attributes:
        build: the model and its processor.
        token_px: pixels along a token's side, after resizing.
        passes: how often the picture is resized on its way into a tile.
        scale: how many times larger its pictures are, where blur would leave no room for a patch.
        pads_first: whether padding is put around a picture before it is resized, so that the
            picture's own border blurs into it.
    """

    build: Callable[[], tuple[PreTrainedModel, ProcessorMixin]]
    token_px: int
    passes: int = 1
    scale: int = 1
    pads_first: bool = False


def local_vlm(family: Family) -> VLM:
    """The family's model, random, its tower's attention silenced."""
    torch.manual_seed(0)
    model, processor = family.build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + ("norm" in name and name.endswith("weight")))
        silenced = 0
        for name, module in model.named_modules():
            vision = "vision" in name or "visual" in name
            if vision and name.endswith(PROJECTIONS) and isinstance(module, nn.Linear):
                silenced += 1
                for parameter in module.parameters():
                    parameter.zero_()
    assert silenced == 2, f"{silenced} attentions silenced"
    return VLM.wrap(model, processor)


def tokenizer(placeholder: str = PICTURE, **extra: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel(IDS, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=FIRST,
        eos_token=LAST,
        extra_special_tokens=extra,
        chat_template=TEMPLATE.replace("PLACEHOLDER", placeholder),
        clean_up_tokenization_spaces=False,
    )


def _processor(
    kind: Any,
    image_processor: Any,
    placeholder: str = PICTURE,
    extra: Any = None,
    **settings: Any,
) -> ProcessorMixin:
    words = tokenizer(placeholder, **(extra or {}))
    return without_video(kind)(
        image_processor=image_processor,
        tokenizer=words,
        chat_template=words.chat_template,
        **settings,
    )


def _clip(side: int, patch: int = 8) -> dict[str, Any]:
    return {**TOWER, "model_type": "clip_vision_model", "image_size": side, "patch_size": patch}


def _siglip(side: int, patch: int = 8) -> dict[str, Any]:
    return {**_clip(side, patch), "model_type": "siglip_vision_model", "vision_use_head": False}


def _llama(kind: str = "llama") -> dict[str, Any]:
    return {**TEXT, "model_type": kind}


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def llava(image_processor: Any, vision: Mapping[str, Any], strategy: str = "default") -> Any:
    config = LlavaConfig(
        vision_config=dict(vision),
        text_config=_llama(),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy=strategy,
    )
    processor = _processor(
        LlavaProcessor,
        image_processor,
        patch_size=vision["patch_size"],
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=int(strategy == "default"),
    )
    return LlavaForConditionalGeneration(config), processor


def llava_cropped(**settings: Any) -> Any:
    shape = {"size": {"shortest_edge": 48}, "crop_size": _square(48), **settings}
    return llava(CLIPImageProcessorPil(resample=BILINEAR, **shape), _clip(48))


def llava_padded() -> Any:
    shape = {"size": {"shortest_edge": 48}, "crop_size": _square(48), "do_pad": True}
    return llava(LlavaImageProcessorPil(resample=BILINEAR, **shape), _clip(48))


def llava_siglip() -> Any:
    image_processor = SiglipImageProcessorPil(resample=BILINEAR, size=_square(50))
    return llava(image_processor, _siglip(50), "full")


PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]


def llava_next() -> Any:
    config = LlavaNextConfig(
        vision_config=_clip(32),
        text_config=_llama("mistral"),
        image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-1,
    )
    image_processor = LlavaNextImageProcessorPil(
        resample=BILINEAR,
        size={"shortest_edge": 32},
        crop_size=_square(32),
        image_grid_pinpoints=PINPOINTS,
    )
    processor = _processor(
        LlavaNextProcessor,
        image_processor,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return LlavaNextForConditionalGeneration(config), processor


def llava_onevision(aspect: str = "anyres_max_9") -> Any:
    side = 34  # 2 pixels of each tile are in no patch
    pinpoints = [[side * rows, side * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
    config = LlavaOnevisionConfig(
        vision_config=_siglip(side),
        text_config=_llama("qwen2"),
        image_token_index=IMAGE,
        video_token_index=IDS[VIDEO],
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio=aspect,
        vision_feature_layer=-1,
    )
    image_processor = LlavaOnevisionImageProcessorPil(
        resample=BILINEAR, size=_square(side), image_grid_pinpoints=pinpoints
    )
    processor = _processor(
        LlavaOnevisionProcessor,
        image_processor,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=aspect,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def internvl() -> Any:
    config = InternVLConfig(
        vision_config={**TOWER, "image_size": [32, 32], "patch_size": [4, 4]},
        text_config=_llama("qwen2"),
        image_token_id=IMAGE,
        image_seq_length=16,
    )
    names = {
        "start_image_token": START,
        "end_image_token": END,
        "context_image_token": PICTURE,
        "video_token": VIDEO,
    }
    image_processor = GotOcr2ImageProcessorPil(
        resample=BILINEAR, size=_square(32), min_patches=1, max_patches=6
    )
    processor = _processor(InternVLProcessor, image_processor, extra=names, image_seq_length=16)
    return InternVLForConditionalGeneration(config), processor


def idefics3(
    config_type: Any = Idefics3Config,
    model_type: Any = Idefics3ForConditionalGeneration,
    image_processor_type: Any = Idefics3ImageProcessorPil,
    processor_type: Any = Idefics3Processor,
    parts: Any = None,
    **settings: Any,
) -> Any:
    config = config_type(
        vision_config={**TOWER, "image_size": 64, "patch_size": 8},
        text_config=_llama(),
        image_token_id=IMAGE,
        scale_factor=2,
    )
    image_processor = image_processor_type(
        resample=BILINEAR,
        size={"longest_edge": 192},
        max_image_size={"longest_edge": 64},
        **settings,
    )
    return model_type(config), _processor(
        processor_type, image_processor, image_seq_len=16, **(parts or {})
    )


def smolvlm() -> Any:
    return idefics3(
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
        SmolVLMProcessor,
        {"video_processor": None},
    )


def gemma3() -> Any:
    config = Gemma3Config(
        vision_config=_siglip(50, 4),
        text_config={**GEMMA, "model_type": "gemma3_text", "query_pre_attn_scalar": 16},
        image_token_index=IMAGE,
        mm_tokens_per_image=16,
    )
    names = {"boi_token": START, "eoi_token": END, "image_token": PICTURE}
    processor = _processor(
        Gemma3Processor,
        Gemma3ImageProcessorPil(resample=BILINEAR, size=_square(50)),
        START,
        names,
        image_seq_length=16,
    )
    return Gemma3ForConditionalGeneration(config), processor


def paligemma() -> Any:
    config = PaliGemmaConfig(
        vision_config=_siglip(40),
        text_config={**GEMMA, "model_type": "gemma"},
        image_token_index=IMAGE,
        projection_dim=32,
    )
    image_processor = SiglipImageProcessorPil(resample=BILINEAR, size=_square(40))
    image_processor.image_seq_length = 25
    words = tokenizer(image_token=PICTURE)
    words.chat_template = None
    processor = PaliGemmaProcessor(image_processor=image_processor, tokenizer=words)
    return PaliGemmaForConditionalGeneration(config), processor


def mistral3(patch: Any = 8) -> Any:
    config = Mistral3Config(
        vision_config={
            **TOWER,
            "model_type": "pixtral",
            "image_size": 128,
            "patch_size": 8,
            "head_dim": 16,
        },
        text_config=_llama("mistral"),
        image_token_index=IMAGE,
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    processor = _processor(
        PixtralPictureProcessor,
        PixtralImageProcessorPil(resample=BILINEAR, size={"longest_edge": 128}, patch_size=patch),
        patch_size=patch,
        spatial_merge_size=2,
        image_token=PICTURE,
        image_break_token=BREAK,
        image_end_token=END,
    )
    return Mistral3ForConditionalGeneration(config), processor


def _qwen(config: Any, model_type: Any, processor_type: Any = Qwen2VLProcessor) -> Any:
    names = {
        "image_token": PICTURE,
        "video_token": VIDEO,
        "vision_start_token": START,
        "vision_end_token": END,
    }
    image_processor = Qwen2VLImageProcessorPil(
        resample=BILINEAR,
        patch_size=8,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 32**2, "longest_edge": 128**2},
    )
    placeholder = START + PICTURE + END
    return model_type(config), _processor(processor_type, image_processor, placeholder, names)


def _qwen_config(config_type: Any, vision: Mapping[str, Any], rope: Any) -> Any:
    return config_type(
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 8, **vision},
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=IDS[VIDEO],
        vision_start_token_id=IDS[START],
        vision_end_token_id=IDS[END],
    )


_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}


def qwen2_vl() -> Any:
    vision = {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    config = _qwen_config(Qwen2VLConfig, vision, _ROPE)
    return _qwen(config, Qwen2VLForConditionalGeneration)


def qwen2_5_vl() -> Any:
    vision = {
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    config = _qwen_config(Qwen2_5_VLConfig, vision, _ROPE)
    return _qwen(config, Qwen2_5_VLForConditionalGeneration)


def qwen3_vl() -> Any:
    vision = {
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }
    config = _qwen_config(Qwen3VLConfig, vision, _ROPE)
    return _qwen(config, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)


FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(qwen2_vl, 16),
    "qwen2_5_vl": Family(qwen2_5_vl, 16),
    "qwen3_vl": Family(qwen3_vl, 16),
    "llava": Family(llava_cropped, 8),
    "llava, small crop": Family(lambda: llava_cropped(size={"shortest_edge": 60}), 8),
    "llava, padded": Family(llava_padded, 8, pads_first=True),
    "llava, siglip": Family(llava_siglip, 8),
    "llava_next": Family(llava_next, 8),
    "llava_onevision": Family(llava_onevision, 8),
    "llava_onevision, interpolated": Family(lambda: llava_onevision("anyres_max_3"), 8),
    "internvl": Family(internvl, 8),
    "smolvlm": Family(smolvlm, 16, passes=3, scale=3),
    "idefics3": Family(idefics3, 16, passes=3, scale=3),
    "idefics3, whole": Family(lambda: idefics3(do_image_splitting=False), 16, passes=2),
    "gemma3": Family(gemma3, 12),
    "paligemma": Family(paligemma, 8),
    "mistral3": Family(mistral3, 16),
    "mistral3, sides": Family(lambda: mistral3({"height": 8, "width": 8}), 16),
}
"""By `config.model_type`, with the settings that differ."""
