"""Boxes as each family writes them, and normalised answers of VQA."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image

from tests.support.builders import (
    tiny_image_processor,
    tiny_qwen2_5_vl,
    tiny_qwen2_vl,
    tiny_tokenizer,
)
from tokenlens.evaluation.metrics.answer_forms import letter
from tokenlens.evaluation.metrics.boxes import (
    BOX_FORMATS,
    Shown,
    box_reader,
    parse_decimals,
    parse_pixels,
)
from tokenlens.evaluation.metrics.vqa import normalise_vqa, soft_accuracy
from tokenlens.models.vlm import Layout


@pytest.mark.parametrize(
    "answer",
    [
        "[0.1, 0.2, 0.3, 0.4]",
        "The box is [0.10,0.20,0.30,0.40].",
        "( 0.1, 0.2, 0.3, 0.4 )",
        "[0.1, 0.2, 0.3, 0.4] and [0, 0, 1, 1]",
    ],
)
def test_decimals(answer: str) -> None:
    assert parse_decimals(answer) == pytest.approx((0.1, 0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    "answer", ["", "[0.1, 0.2, 0.3]", "[0.3, 0.2, 0.1, 0.4]", "[0.1, 0.2, 0.1, 0.4]", "left"]
)
def test_no_decimals(answer: str) -> None:
    assert parse_decimals(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n[\n\t{"bbox_2d": [28, 56, 84, 112], "label": "cup"}\n]\n```',
        '{"bbox_2d": [28.0, 56, 84, 112]}',
        "[28, 56, 84, 112]",
        "<|box_start|>(28,56),(84,112)<|box_end|>",
    ],
)
def test_pixels_are_those_of_the_resized_picture(answer: str) -> None:
    assert parse_pixels(answer, Shown((280, 560))) == pytest.approx((0.1, 0.1, 0.3, 0.2))
    assert parse_pixels(answer, Shown((560, 280))) != parse_pixels(answer, Shown((280, 560)))
    assert parse_pixels(answer, Shown(None)) is None


@pytest.mark.parametrize("answer", ["", "[1, 2, 3]", "[9, 9, 3, 3]", '{"bbox_2d": null}'])
def test_no_pixels(answer: str) -> None:
    assert parse_pixels(answer, Shown((280, 560))) is None


def layout(grid: tuple[int, int, int], view: tuple[float, ...]) -> Layout:
    boxes = torch.tensor([view])
    return Layout(torch.tensor([3]), boxes, torch.tensor([0]), (grid,))


class Model:
    """What of a VLM says how its boxes are read."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model


@pytest.mark.parametrize(
    ("build", "answer"),
    [(tiny_qwen2_vl, "(250,500),(500,1000)"), (tiny_qwen2_5_vl, "[8, 8, 16, 16]")],
)
def test_the_family_says_how_its_boxes_are_read(
    build: Callable[..., torch.nn.Module], answer: str
) -> None:
    """2 x 4 tokens of 2 x 2 patches of 4 pixels: the model was shown 32 x 16 pixels."""
    vlm = Model(build(layers=1, merge=2))
    read = box_reader(vlm, layout((1, 2, 4), (0.0, 0.0, 1.0, 1.0)))  # type: ignore[arg-type]
    assert read(answer) == pytest.approx((0.25, 0.5, 0.5, 1.0))
    other = "[8, 8, 16, 16]" if answer.startswith("(") else "(250,500),(500,1000)"
    assert read(other) != pytest.approx((0.25, 0.5, 0.5, 1.0))


def test_a_real_resized_picture_of_qwen2_5_vl() -> None:
    from tokenlens.models.processing import without_video
    from tokenlens.models.vlm import VLM

    assert set(BOX_FORMATS) >= {"qwen2_vl", "qwen2_5_vl", "llava", "llava_next"}
    from transformers import Qwen2_5_VLProcessor

    processor = without_video(Qwen2_5_VLProcessor)(
        tiny_image_processor(merge=2),
        tiny_tokenizer(),
        chat_template=tiny_tokenizer().chat_template,
    )
    vlm = VLM.wrap(tiny_qwen2_5_vl(layers=1), processor)
    inputs = vlm.prepare(Image.new("RGB", (50, 23)), "where ?")
    (found,) = vlm.layout(inputs)
    _, rows, columns = inputs["image_grid_thw"][0].tolist()
    assert Shown.of(vlm, found).size == (columns * 4, rows * 4) != (50, 23)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_vl_moe", "internvl"])
def test_families_that_write_thousandths_in_lists(family: str) -> None:
    read = BOX_FORMATS[family]
    for answer in (
        '```json\n[{"bbox_2d": [125, 250, 500, 1000], "label": "cat"}]\n```',
        "<ref>cat</ref><box>[[125, 250, 500, 1000]]</box>",
        "(125,250),(500,1000)",
    ):
        assert read(answer, Shown((280, 560))) == (0.125, 0.25, 0.5, 1.0)
    for answer in ("", "[500, 250, 125, 1000]", "[0, 0, 500, 1200]", "[1, 2, 3]"):
        assert read(answer, Shown((280, 560))) is None


def test_boxes_in_a_crop_are_boxes_in_the_picture() -> None:
    shown = Shown(view=(0.25, 0.0, 0.75, 1.0))
    assert parse_decimals("[0.5, 0.0, 1.0, 0.5]", shown) == (0.5, 0.0, 0.75, 0.5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Two dogs.", "2 dogs"),
        ("the cat's, a dog", "cat's dog"),
        ("dont", "don't"),
        ("couldn'tve", "couldn't've"),
        ("1,000", "1000"),
        ("3.14 m.", "3.14 m"),
        ("on/off", "on off"),
        ("on / off", "on off"),
        ("\tNone\n", "0"),
        ("lets", "lets"),
    ],
)
def test_vqa_normalisation(answer: str, expected: str) -> None:
    assert normalise_vqa(answer) == expected


@pytest.mark.parametrize("agreeing", range(11))
def test_soft_accuracy_is_the_mean_over_subsets_of_nine(agreeing: int) -> None:
    answers = ["yes"] * agreeing + [f"other {index}" for index in range(10 - agreeing)]
    subsets = [answers[:index] + answers[index + 1 :] for index in range(10)]
    expected = sum(min(1, subset.count("yes") / 3) for subset in subsets) / 10
    assert soft_accuracy("Yes", answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"),
        ("(C) dog", "C"),
        ("B) dog", "B"),
        ("A dog", None),
        ("Answer: D", "D"),
        ("The answer is A.", "A"),
        ("The answer is a cat", None),
        ("Boat", None),
        ("", None),
    ],
)
def test_letters(answer: str, expected: str | None) -> None:
    assert letter(answer) == expected
