"""Visual tokens per picture as published runs count them, by each family's own processor."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from transformers import (
    Idefics3Processor,
    InternVLProcessor,
    LlavaNextProcessor,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    Qwen2VLProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.support.layout_families import END, IMAGE, PICTURE, START, VIDEO, tokenizer
from tokenlens.models.processing import without_video


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _made(kind: Any, images: Any, names: dict[str, str] | None = None, **settings: Any) -> Any:
    words = tokenizer(**(names or {}))
    return without_video(kind)(image_processor=images, tokenizer=words, **settings)


def llava() -> Any:
    images = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=_square(336))
    return _made(
        LlavaProcessor, images, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def llava_next() -> Any:
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336},
        crop_size=_square(336),
        image_grid_pinpoints=[[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    )
    return _made(
        LlavaNextProcessor, images, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def llava_onevision() -> Any:
    pinpoints = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
    images = LlavaOnevisionImageProcessorPil(size=_square(384), image_grid_pinpoints=pinpoints)
    return _made(
        LlavaOnevisionProcessor, images, num_image_tokens=729,
        vision_feature_select_strategy="full", vision_aspect_ratio="anyres_max_9",
    )  # fmt: skip


def qwen2_5_vl() -> Any:
    images = Qwen2VLImageProcessorPil(
        patch_size=14, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 3136, "longest_edge": 12845056},
    )  # fmt: skip
    names = {"image_token": PICTURE, "video_token": VIDEO}
    return _made(Qwen2VLProcessor, images, names)


def internvl3() -> Any:
    images = GotOcr2ImageProcessorPil(
        size=_square(448), crop_to_patches=True, min_patches=1, max_patches=12
    )
    names = {
        "start_image_token": START, "end_image_token": END, "context_image_token": PICTURE,
        "video_token": VIDEO,
    }  # fmt: skip
    return _made(InternVLProcessor, images, names, image_seq_length=256)


def granite_docling() -> Any:
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
    )
    return _made(Idefics3Processor, images, image_seq_len=64)


@pytest.mark.parametrize(
    ("build", "size", "published"),
    [
        (llava, (448, 448), 576),
        (llava, (1100, 808), 576),
        (llava_next, (1100, 808), 2340),
        (llava_onevision, (448, 448), 3699),
        (qwen2_5_vl, (448, 448), 256),
        (internvl3, (1100, 808), 3328),
        (granite_docling, (1000, 1000), 1088),
        (granite_docling, (1200, 900), 832),
        (granite_docling, (1200, 600), 576),
    ],
)
def test_a_picture_becomes_the_published_number_of_tokens(
    build: Callable[[], Any], size: tuple[int, int], published: int
) -> None:
    inputs = build()(images=Image.new("RGB", size), text=f"{PICTURE} what ?", return_tensors="pt")
    assert int((inputs["input_ids"] == IMAGE).sum()) == published
