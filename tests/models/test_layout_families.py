"""Every family: the visual tokens that a bright patch moves are those whose boxes touch it.

The towers' attention is silenced, so that a feature depends on its own pixels alone; centre crop,
padding, tiles, merging, pooling and interpolation are the family's own.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.layout_families import FAMILIES, local_vlm
from tests.support.layout_patches import (
    QUESTION,
    Rectangle,
    Size,
    brightened,
    embeddings,
    grey,
    moved,
    random_patches,
    touched,
)
from tokenlens.models.adapters import ADAPTERS, grid_boxes
from tokenlens.models.layout import Layout
from tokenlens.models.loading import load
from tokenlens.models.vlm import VLM

SIZES: list[Size] = [
    (64, 64), (100, 60), (60, 100), (53, 127), (150, 50), (50, 150), (200, 190), (301, 90),
    (97, 256), (128, 128), (131, 66), (80, 240), (240, 80), (64, 96), (96, 64), (70, 71),
    (180, 120), (57, 57), (310, 301), (145, 220), (222, 99),
]  # fmt: skip
"""Width, height: larger and smaller than what the families make of them, flat, square and tall."""
PATCHES = 2


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def vlm(name: str) -> VLM:
    return local_vlm(FAMILIES[name])


def bright_tokens(vlm: VLM, size: Size, patch: Rectangle) -> list[int]:
    """The positions that a patch of one picture moves."""
    pictures = (grey(size), brightened(size, patch))
    before, after = (embeddings(vlm, vlm.prepare(picture, QUESTION)) for picture in pictures)
    return moved(before, after)[0]


def changed(layout: Layout, boxes: torch.Tensor) -> Layout:
    return Layout(layout.positions, boxes, layout.image_index, layout.grid)


def test_every_adapter_is_tried() -> None:
    assert {name.split(",")[0] for name in FAMILIES} == set(ADAPTERS)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_tokens_that_move_are_those_whose_boxes_touch(vlm: VLM, name: str, size: Size) -> None:
    size = (size[0] * FAMILIES[name].scale, size[1] * FAMILIES[name].scale)
    inputs = vlm.prepare(grey(size), QUESTION)
    (layout,) = vlm.layout(inputs)
    assert (layout.boxes >= 0).all()
    assert (layout.boxes <= 1).all()
    before = embeddings(vlm, inputs)
    for patch in random_patches(FAMILIES[name], layout, size, PATCHES):
        after = embeddings(vlm, vlm.prepare(brightened(size, patch), QUESTION))
        assert moved(before, after) == [touched(layout, size, patch)]


def test_the_comparison_fails_for_boxes_with_x_and_y_exchanged(vlm: VLM, name: str) -> None:
    size = (180, 120)
    inputs = vlm.prepare(grey(size), QUESTION)
    (layout,) = vlm.layout(inputs)
    wrong = changed(layout, layout.boxes[:, [1, 0, 3, 2]])
    patches = random_patches(FAMILIES[name], layout, size, 6)
    found = [bright_tokens(vlm, size, patch) for patch in patches]
    assert found == [touched(layout, size, patch) for patch in patches]
    assert found != [touched(wrong, size, patch) for patch in patches]
    assert len({tuple(positions) for positions in found}) > 1


def test_pictures_of_a_padded_batch_stay_apart(vlm: VLM, name: str) -> None:
    sizes = [(140, 84), (100, 160)]
    plain = [grey(size) for size in sizes]
    questions = [QUESTION, "where is the circle ? where is the star ?"]
    inputs = vlm.prepare([[plain[0]], plain], questions)
    one, two = vlm.layout(inputs)
    assert one.image_index.unique().tolist() == [0]
    assert two.image_index.unique().tolist() == [0, 1]
    assert len(two.grid) == 2
    before = embeddings(vlm, inputs)
    for image, size in enumerate(sizes):
        for patch in random_patches(FAMILIES[name], two, size, PATCHES, image, inside=True):
            pair = [*plain]
            pair[image] = brightened(size, patch)
            after = embeddings(vlm, vlm.prepare([[plain[0]], pair], questions))
            assert moved(before, after) == [[], touched(two, size, patch, image)]


def test_text_between_pictures_is_text(vlm: VLM, name: str) -> None:
    sizes = [(140, 84), (100, 160)]
    processor: Any = vlm.processor
    together = vlm.prepare([grey(size) for size in sizes], QUESTION)
    (expected,) = vlm.layout(together)
    token = getattr(processor, "boi_token", None) or processor.image_token
    wrapped = f"<start>{token}<end>" if name.startswith("qwen") else token
    inputs = processor(
        text=[f"{wrapped} where is {wrapped} the circle ?"],
        images=[[grey(size) for size in sizes]],
        return_tensors="pt",
    )
    inputs.pop("labels", None)
    (layout,) = vlm.layout(inputs, sizes=sizes)
    assert torch.equal(layout.boxes, expected.boxes)
    assert torch.equal(layout.image_index, expected.image_index)
    words = processor.tokenizer.convert_tokens_to_ids(["where", "is"])
    ids = inputs["input_ids"][0].tolist()
    middle = ids.index(words[0])
    assert ids[middle : middle + 2] == words
    assert not set(layout.positions.tolist()) & {middle, middle + 1}
    first = layout.image_index == 0
    assert layout.positions[first].max() < middle < layout.positions[~first].min()
    assert embeddings(vlm, inputs).isfinite().all()


@pytest.mark.parametrize(
    "name",
    ["internvl", "llava_onevision", "mistral3, sides", "paligemma", "smolvlm"],
    indirect=True,
)
def test_a_saved_directory_gives_the_same_inputs_and_boxes(
    vlm: VLM, name: str, tmp_path: Path
) -> None:
    processor: Any = vlm.processor
    vlm.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = load(tmp_path, device="cpu")
    picture = brightened((140, 84), (20, 30, 50, 60))
    here, there = (one.prepare(picture, QUESTION) for one in (vlm, loaded))
    assert set(here) == set(there)
    for key in here:
        assert torch.equal(here[key], there[key]), key
    assert torch.equal(vlm.layout(here)[0].boxes, loaded.layout(there)[0].boxes)


@pytest.mark.parametrize("name", ["internvl"], indirect=True)
def test_a_processor_may_have_defaults_of_its_users_own(vlm: VLM) -> None:
    whole = brightened((140, 84), (20, 30, 50, 60))
    tiled = vlm.layout(vlm.prepare(whole, QUESTION))[0]
    processor: Any = vlm.processor
    processor.images_kwargs = {"crop_to_patches": False}
    (layout,) = vlm.layout(vlm.prepare(whole, QUESTION))
    assert tiled.grid != layout.grid == ((1, 4, 4),)


@pytest.mark.parametrize(
    ("name", "naive"),
    [("llava", (6, 6)), ("llava, padded", (6, 6)), ("llava_next", None), ("mistral3", (1, 28))],
    indirect=["name"],
)
def test_the_comparison_fails_for_boxes_that_forget_crop_or_padding(
    vlm: VLM, name: str, naive: tuple[int, int] | None
) -> None:
    size = (100, 60)
    inputs = vlm.prepare(grey(size), QUESTION)
    (layout,) = vlm.layout(inputs)
    boxes = layout.boxes.clone()
    if naive is None:
        boxes[16:, 1::2] = boxes[16:, 1::2] * 0.9
    else:
        boxes = grid_boxes(*naive)
    patches = random_patches(FAMILIES[name], layout, size, 12)
    found = [bright_tokens(vlm, size, patch) for patch in patches]
    wrong = changed(layout, boxes)
    assert found == [touched(layout, size, patch) for patch in patches]
    assert found != [touched(wrong, size, patch) for patch in patches]
