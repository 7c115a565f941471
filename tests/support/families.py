"""Prompts with real pictures for the models of `family_models`, alone and as a ragged batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel

from tests.support.family_models import (
    BREAK,
    BUILDERS,
    END,
    FIRST_WORD,
    IMAGE,
    PAD,
    PATCH,
    SIDE,
    START,
    TILE,
    VOCABULARY,
    random_model,
)

ONE = ((0,),)
TWO_PICTURES = ((1, 0),)
RAGGED = ((0,), (1, 2), (2,))
"""For every sample the sizes (0 to 2) of its pictures."""


@dataclass(frozen=True)
class Picture:
    """A picture's place in the prompt and what the model is given for it."""

    ids: list[int]
    given: dict[str, Tensor]


Draw = Callable[..., Tensor]
"""Random numbers of a shape."""


def _image(*count: int) -> list[int]:
    return [IMAGE] * torch.Size(count).numel()


def _fixed(side: int, tokens: int) -> Callable[[PreTrainedModel, int, Draw], Picture]:
    """One square, whatever the picture's size."""

    def picture(_model: PreTrainedModel, _size: int, draw: Draw) -> Picture:
        return Picture(_image(tokens), {"pixel_values": draw(1, 3, side, side)})

    return picture


def _qwen(_model: PreTrainedModel, size: int, draw: Draw) -> Picture:
    rows, columns = [(3, 4), (4, 5), (2, 3)][size]
    pixels = draw(4 * rows * columns, 3 * 2 * PATCH**2)
    grid = torch.tensor([[1, 2 * rows, 2 * columns]])
    return Picture(
        [START, *_image(rows, columns), END], {"pixel_values": pixels, "image_grid_thw": grid}
    )


def _any_resolution(model: PreTrainedModel, size: int, draw: Draw) -> Picture:
    """A view of the whole picture, and its tiles without padding, rows ended by a newline."""
    given = {
        "pixel_values": draw(1, 5, 3, 16, 16),  # more tiles than some sizes need: padding
        "image_sizes": torch.tensor([[(12, 32), (32, 20), (30, 30)][size]]),
    }
    with torch.no_grad():
        (features,) = model.get_image_features(**given).pooler_output
    return Picture(_image(len(features)), given)


def _tiles(_model: PreTrainedModel, size: int, draw: Draw) -> Picture:
    """Tiles of 16 tokens in a row of the prompt (InternVL)."""
    tiles = [1, 2, 1][size]
    return Picture([START, *_image(16 * tiles), END], {"pixel_values": draw(tiles, 3, TILE, TILE)})


def _named_tiles(_model: PreTrainedModel, size: int, draw: Draw) -> Picture:
    """Tiles of 16 tokens with text that names each between them (SmolVLM, Idefics3)."""
    tiles = [1, 2, 1][size]
    ids = [token for tile in range(tiles) for token in (START, FIRST_WORD + tile, *_image(16))]
    return Picture([*ids, END], {"pixel_values": draw(tiles, 3, TILE, TILE)})


def _broken_rows(merge: int) -> Callable[[PreTrainedModel, int, Draw], Picture]:
    """Rows ended by a break token (Mistral3, Pixtral); pictures of a batch are padded alike."""

    def picture(_model: PreTrainedModel, size: int, draw: Draw) -> Picture:
        rows, columns = [(3, 4), (4, 5), (2, 3)][size]
        height, width = rows * merge * PATCH, columns * merge * PATCH
        pixels = torch.zeros(1, 3, 4 * merge * PATCH, 5 * merge * PATCH, dtype=torch.float64)
        pixels[:, :, :height, :width] = draw(1, 3, height, width)
        ids = [*_image(columns), BREAK] * (rows - 1) + [*_image(columns), END]
        return Picture(
            ids, {"pixel_values": pixels, "image_sizes": torch.tensor([[height, width]])}
        )

    return picture


def _joined(samples: Sequence[Sequence[Picture]]) -> dict[str, Tensor]:
    pictures = [picture.given for sample in samples for picture in sample]
    return {name: torch.cat([given[name] for given in pictures]) for name in pictures[0]}


def _by_sample(samples: Sequence[Sequence[Picture]]) -> dict[str, Tensor]:
    """[samples, most tiles of one, …]; a tile of zeros is none (SmolVLM, Idefics3)."""
    rows = [torch.cat([picture.given["pixel_values"] for picture in sample]) for sample in samples]
    return {"pixel_values": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)}


def _nothing(_ids: Tensor) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class Family:
    """What building a prompt takes, beside the model.

    Attributes:
        picture: of one of three sizes.
        join: the pictures of all samples, as the model is given them.
        beside: what else the model wants to know of the token ids.
        merges_from: the first layer after which merging is allowed.
        window: whether some layers see less than the whole prompt.
    """

    picture: Callable[[PreTrainedModel, int, Draw], Picture]
    join: Callable[[Sequence[Sequence[Picture]]], dict[str, Tensor]] = _joined
    beside: Callable[[Tensor], dict[str, Tensor]] = _nothing
    merges_from: int = 1
    window: bool = False


def _kinds(ids: Tensor) -> dict[str, Tensor]:
    return {"mm_token_type_ids": (ids == IMAGE).int()}


_SQUARE = _fixed(SIDE * PATCH, SIDE**2)
FAMILIES: dict[str, Family] = {
    "Qwen2-VL": Family(_qwen, beside=_kinds),
    "Qwen2.5-VL": Family(_qwen, beside=_kinds),
    "Qwen3-VL": Family(_qwen, beside=_kinds, merges_from=2),
    "LLaVA-1.5": Family(_SQUARE),
    "LLaVA-NeXT": Family(_any_resolution),
    "LLaVA-OneVision": Family(_any_resolution),
    "InternVL": Family(_tiles),
    "SmolVLM": Family(_named_tiles, join=_by_sample),
    "Idefics3": Family(_named_tiles, join=_by_sample),
    "Gemma3": Family(
        _fixed(TILE, 16), beside=lambda ids: {"token_type_ids": (ids == IMAGE).int()}, window=True
    ),
    "Mistral3": Family(_broken_rows(2)),
    "Pixtral": Family(_broken_rows(1)),
    "PaliGemma": Family(_SQUARE, beside=lambda ids: {"token_type_ids": torch.zeros_like(ids)}),
    "PaliGemma2": Family(_SQUARE, beside=lambda ids: {"token_type_ids": torch.zeros_like(ids)}),
    "LLaVA + sliding Mistral": Family(_SQUARE, window=True),
    "LLaVA + Qwen3": Family(_SQUARE),
    "LLaVA + Phi3": Family(_SQUARE),
    "LLaVA + Olmo2": Family(_SQUARE),
}
assert list(FAMILIES) == list(BUILDERS)


@dataclass(frozen=True)
class Case:
    """A family's model with a batch, and every sample of it alone and unpadded."""

    name: str
    family: Family
    model: PreTrainedModel
    inputs: BatchFeature
    alone: tuple[BatchFeature, ...]

    @property
    def offsets(self) -> list[int]:
        """Padding before each sample in its batch."""
        return (self.inputs["attention_mask"] == 0).sum(1).tolist()


@cache
def model_of(name: str) -> PreTrainedModel:
    """The family's random model, shared by all tests: none may change it."""
    return random_model(name)


def case(name: str, sizes: Sequence[Sequence[int]] = RAGGED, seed: int = 3) -> Case:
    """The family's model with prompts whose pictures have the given sizes."""
    model, family = model_of(name), FAMILIES[name]
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).double()

    def words(count: int) -> list[int]:
        shape = (count,)
        return torch.randint(FIRST_WORD, VOCABULARY, shape, generator=generator).tolist()

    prompts: list[tuple[list[int], list[Picture]]] = []
    for number, sample in enumerate(sizes):
        ids, pictures = words(2), []
        for size in sample:
            pictures.append(family.picture(model, size, draw))
            ids += [*pictures[-1].ids, *words(2)]
        prompts.append((ids + words(4 + number), pictures))
    return Case(
        name,
        family,
        model,
        _inputs(family, prompts),
        tuple(_inputs(family, [prompt]) for prompt in prompts),
    )


def _inputs(family: Family, prompts: Sequence[tuple[list[int], list[Picture]]]) -> BatchFeature:
    length = max(len(ids) for ids, _ in prompts)
    rows = torch.tensor([[PAD] * (length - len(ids)) + ids for ids, _ in prompts])
    mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids, _ in prompts])
    given: dict[str, Any] = {"input_ids": rows, "attention_mask": mask, **family.beside(rows)}
    return BatchFeature(given | family.join([pictures for _, pictures in prompts]))
