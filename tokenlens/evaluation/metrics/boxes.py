"""Parsers of boxes in each model family's format; boxes become fractions of the picture."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenlens.samples.sample import Box

if TYPE_CHECKING:
    from tokenlens.models.layout import Layout
    from tokenlens.models.vlm import VLM

_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_CORNER = r"\(\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*\)"
_CORNERS = re.compile(_CORNER + r"\s*,?\s*" + _CORNER)
_NUMBER = r"\s*([0-9]{1,5}(?:\.[0-9]{0,9})?)\s*"
_LINES = re.compile(r"([a-y]) ([a-y]) ([a-y]) ([a-y])")
_LIST = re.compile(r"[\[(]" + ",".join([_NUMBER] * 4) + r"[\])]")


@dataclass(frozen=True)
class Shown:
    """The size and the part of a picture that a model received.

    Attributes:
        size: (width, height) in pixels after resizing; None where the family's tokens do not say.
        view: the part of the original picture that the visual tokens cover, xyxy as fractions.
    """

    size: tuple[int, int] | None = None
    view: Box = _WHOLE

    @classmethod
    def of(cls, vlm: "VLM", layout: "Layout") -> "Shown":
        """Size and view of a sample's only picture, from the layout of its visual tokens."""
        vision = getattr(vlm.model.config, "vision_config", None)
        patch, merge = (getattr(vision, key, None) for key in ("patch_size", "spatial_merge_size"))
        size = None
        if isinstance(patch, int) and isinstance(merge, int) and len(layout.grid) == 1:
            _, rows, columns = layout.grid[0]
            size = (columns * patch * merge, rows * patch * merge)
        if not len(layout.boxes):
            return cls(size)
        x0, y0 = layout.boxes[:, :2].amin(dim=0).tolist()
        x1, y1 = layout.boxes[:, 2:].amax(dim=0).tolist()
        return cls(size, (x0, y0, x1, y1))


BoxFormat = Callable[[str, Shown], Box | None]
BoxReader = Callable[[str], Box | None]
"""From an answer to its box as fractions (x0, y0, x1, y1) of the original picture, or None."""


def parse_box(answer: str, shown: Shown = Shown()) -> Box | None:
    """The first box in an answer of Qwen2-VL, as fractions (x0, y0, x1, y1) of the picture.

    Qwen2-VL writes `(x1,y1),(x2,y2)` in thousandths of the picture; spaces and the special tokens
    around it are optional. None where there is no such box, or it is inverted, empty or outside.

    >>> parse_box("<|box_start|>(125,208),(375,458)<|box_end|>")
    (0.125, 0.208, 0.375, 0.458)
    >>> parse_box("(125, 208) (375, 458)") == parse_box("at (125,208),(375,458).")
    True
    >>> parse_box("(375,458),(125,208)") is parse_box("upper left") is None
    True
    """
    found = _CORNERS.search(answer)
    if found is None:
        return None
    box = _proper(found.groups(), (1000, 1000))
    return None if box is None or max(box) > 1 else _in_picture(box, shown)


def parse_decimals(answer: str, shown: Shown = Shown()) -> Box | None:
    """The first box in an answer of LLaVA: `[x1, y1, x2, y2]` in fractions of its input.

    None where there is no such box, or it is inverted or empty.

    >>> parse_decimals("[0.12, 0.30, 0.45, 0.60]")
    (0.12, 0.3, 0.45, 0.6)
    >>> parse_decimals("[0.0, 0.0, 0.5, 1.0]", Shown(view=(0.25, 0.0, 0.75, 1.0)))
    (0.25, 0.0, 0.5, 1.0)
    """
    found = _LIST.search(answer)
    box = found and _proper(found.groups(), (1, 1))
    return _in_picture(box, shown) if box else None


def parse_pixels(answer: str, shown: Shown) -> Box | None:
    """The first box in an answer of Qwen2.5-VL, in pixels of the *resized* picture.

    It is written as JSON (`{"bbox_2d": [x1, y1, x2, y2], …}`), as a plain list or as two corners.
    None where there is no such box, it is inverted or empty, or the resized size is not known.

    >>> parse_pixels('[{"bbox_2d": [28, 14, 56, 28], "label": "cat"}]', Shown((56, 28)))
    (0.5, 0.5, 1.0, 1.0)
    >>> parse_pixels("(14,7),(28,14)", Shown((56, 28)))
    (0.25, 0.25, 0.5, 0.5)
    """
    found = _LIST.search(answer) or _CORNERS.search(answer)
    if found is None or shown.size is None:
        return None
    box = _proper(found.groups(), shown.size)
    return _in_picture(box, shown) if box else None


def parse_thousandths(answer: str, shown: Shown = Shown()) -> Box | None:
    """The first box in an answer of Qwen3-VL or InternVL, in thousandths of the picture.

    It is written as JSON (`{"bbox_2d": [x1, y1, x2, y2], …}`), as a list (InternVL's
    `<box>[[x1, y1, x2, y2]]</box>`) or as two corners. None where there is no such box, or it is
    inverted, empty or outside.

    >>> parse_thousandths('[{"bbox_2d": [125, 208, 375, 458], "label": "cat"}]')
    (0.125, 0.208, 0.375, 0.458)
    >>> parse_thousandths("<ref>cat</ref><box>[[125, 208, 375, 458]]</box>")
    (0.125, 0.208, 0.375, 0.458)
    """
    found = _LIST.search(answer) or _CORNERS.search(answer)
    if found is None:
        return None
    box = _proper(found.groups(), (1000, 1000))
    return None if box is None or max(box) > 1 else _in_picture(box, shown)


def parse_grid_lines(answer: str, shown: Shown = Shown()) -> Box | None:
    """The box in an answer of `smol-llava`: four letters that name lines of a 24 x 24 grid.

    Letters are a to y, in the order left, top, right, bottom. Each letter is one token of its
    tokenizer. The tokenizer splits numbers into digits, so a box in thousandths would take 17
    tokens. None where
    the answer is anything else, or the box is inverted or empty.

    >>> parse_grid_lines("d f m y")
    (0.125, 0.20833333333333334, 0.5, 1.0)
    >>> parse_grid_lines("m f d y") is parse_grid_lines("a big red box") is None
    True
    """
    found = _LINES.fullmatch(answer.strip())
    if found is None:
        return None
    box = _proper([str(ord(letter) - ord("a")) for letter in found.groups()], (24, 24))
    return _in_picture(box, shown) if box else None


def parse_decimals_or_thousandths(answer: str, shown: Shown = Shown()) -> Box | None:
    """The first box in an answer of a LLaVA: the original's form, `tiny-llava`'s or `smol-llava`'s.

    >>> parse_decimals_or_thousandths("[0.1, 0.2, 0.3, 0.4]")
    (0.1, 0.2, 0.3, 0.4)
    >>> parse_decimals_or_thousandths("(100,200),(300,400)")
    (0.1, 0.2, 0.3, 0.4)
    >>> parse_decimals_or_thousandths("a a m y")
    (0.0, 0.0, 0.5, 1.0)
    """
    return (
        parse_decimals(answer, shown) or parse_box(answer, shown) or parse_grid_lines(answer, shown)
    )


BOX_FORMATS: dict[str, BoxFormat] = {
    "qwen2_vl": parse_box,
    "qwen2_5_vl": parse_pixels,
    "qwen3_vl": parse_thousandths,
    "qwen3_vl_moe": parse_thousandths,
    "internvl": parse_thousandths,
    "llava": parse_decimals_or_thousandths,
    "llava_next": parse_decimals_or_thousandths,
}
"""Form of boxes by model type; every other family is assumed to use Qwen2-VL's."""


def box_reader(vlm: "VLM", layout: "Layout") -> BoxReader:
    """The parser of boxes for a model's answers about the picture with this layout."""
    read, shown = BOX_FORMATS.get(vlm.model.config.model_type, parse_box), Shown.of(vlm, layout)
    return lambda answer: read(answer, shown)


def _proper(numbers: Sequence[str], size: tuple[int, int]) -> Box | None:
    """Four numbers as fractions of a size; None for a box that is inverted or empty."""
    x0, y0, x1, y1 = map(float, numbers)
    box = (x0 / size[0], y0 / size[1], x1 / size[0], y1 / size[1])
    return box if box[0] < box[2] and box[1] < box[3] else None


def _in_picture(box: Box, shown: Shown) -> Box:
    """Convert a box in the picture the model received to a box in the original picture."""
    if shown.view == _WHOLE:
        return box
    left, top, right, bottom = shown.view
    width, height = right - left, bottom - top
    x0, y0, x1, y1 = box
    return (left + x0 * width, top + y0 * height, left + x1 * width, top + y1 * height)
