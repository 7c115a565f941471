"""Which box of the original picture every visual token covers, seen from what a bright patch moves.

With the attention of the vision tower silenced a feature depends on its own pixels alone, so that
exactly the visual tokens whose boxes touch the patch may move.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import fake_inputs, save_model_directory, tiny_qwen2_5_vl, tiny_qwen2_vl
from PIL import Image, ImageDraw
from torch import Tensor, nn

from tokenlens.errors import ModelError
from tokenlens.models.layout import Layout
from tokenlens.models.loading import load
from tokenlens.models.structure import decoder
from tokenlens.models.vlm import VLM

PATCH = 14
PIXELS = 140 * 140
SIZES = [(140, 140), (84, 56), (57, 83), (150, 149), (333, 100), (64, 200), (400, 320), (90, 301)]
"""Width, height: multiples of the token's side and not, made larger, smaller and neither."""

Rectangle = tuple[int, int, int, int]


@pytest.fixture(
    scope="module",
    params=[(tiny_qwen2_vl, 1), (tiny_qwen2_vl, 2), (tiny_qwen2_5_vl, 2)],
    ids=["qwen2-vl-merge-1", "qwen2-vl-merge-2", "qwen2.5-vl-merge-2"],
)
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VLM:
    """A model directory, loaded, whose tower's attention adds nothing."""
    build: Callable[..., Any] = request.param[0]
    model = build(layers=1, merge=request.param[1], patch=PATCH)
    folder = save_model_directory(tmp_path_factory.mktemp("model"), model, pixels=PIXELS)
    vlm = load(folder, device="cpu")
    for block in vlm.model.get_encoder(modality="image").blocks:
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.attn.proj.bias)
    return vlm


def embeddings(vlm: VLM, inputs: Any) -> Tensor:
    """What the decoder gets: [batch, length, hidden]."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["inputs_embeds"])

    handle = decoder(vlm.model).register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        vlm.model(**inputs)
    handle.remove()
    return seen[0]


def patch_inside(
    layout: Layout, size: tuple[int, int], image: int, generator: np.random.Generator
) -> Rectangle:
    """A rectangle of whole tokens of one picture, shrunk by the reach of bicubic resizing."""
    _, rows, columns = layout.grid[image]
    top, bottom = sorted(generator.choice(rows + 1, 2, replace=False).tolist())
    left, right = sorted(generator.choice(columns + 1, 2, replace=False).tolist())
    boxes = layout.boxes[layout.image_index == image].reshape(rows, columns, 4)
    x0, y0 = boxes[top, left, :2].tolist()
    x1, y1 = boxes[bottom - 1, right - 1, 2:].tolist()
    side = math.isqrt(PIXELS * 2)
    reach = [2 * max(1.0, length / side * 2) + 1 for length in size]
    width, height = size
    return (
        math.ceil(x0 * width + reach[0]),
        math.ceil(y0 * height + reach[1]),
        math.floor(x1 * width - reach[0]),
        math.floor(y1 * height - reach[1]),
    )


def touching(layout: Layout, size: tuple[int, int], image: int, patch: Rectangle) -> Tensor:
    """Positions of the tokens of one picture whose boxes overlap the patch."""
    boxes = layout.boxes * torch.tensor([*size, *size])
    x0, y0, x1, y1 = boxes.unbind(-1)
    overlap = (x0 < patch[2]) & (x1 > patch[0]) & (y0 < patch[3]) & (y1 > patch[1])
    return layout.positions[overlap & (layout.image_index == image)]


def brightened(size: tuple[int, int], patch: Rectangle) -> Image.Image:
    picture = Image.new("RGB", size, (90, 90, 90))
    ImageDraw.Draw(picture).rectangle((patch[0], patch[1], patch[2] - 1, patch[3] - 1), "white")
    return picture


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_tokens_that_move_are_those_whose_boxes_touch_the_patch(
    local: VLM, size: tuple[int, int]
) -> None:
    generator = np.random.default_rng(sum(size))
    plain = Image.new("RGB", size, (90, 90, 90))
    inputs = local.prepare(plain, "where is the star ?")
    (layout,) = local.layout(inputs)
    before = embeddings(local, inputs)
    seen = set()
    for _ in range(6):
        patch = patch_inside(layout, size, 0, generator)
        assert patch[0] < patch[2]
        assert patch[1] < patch[3]
        after = embeddings(local, local.prepare(brightened(size, patch), "where is the star ?"))
        moved = (before != after).any(dim=-1)[0].nonzero().flatten()
        assert moved.tolist() == touching(layout, size, 0, patch).tolist()
        seen.add(tuple(moved.tolist()))
    assert len(seen) > 1


def test_the_comparison_fails_for_a_layout_read_by_columns(local: VLM) -> None:
    size = (280, 112)
    plain = Image.new("RGB", size, (90, 90, 90))
    inputs = local.prepare(plain, "where is the star ?")
    (layout,) = local.layout(inputs)
    _, rows, columns = layout.grid[0]
    wrong = layout.boxes.reshape(rows, columns, 4).transpose(0, 1).reshape(-1, 4)
    by_columns = Layout(layout.positions, wrong, layout.image_index, layout.grid)
    patch = patch_inside(layout, size, 0, np.random.default_rng(3))
    after = embeddings(local, local.prepare(brightened(size, patch), "where is the star ?"))
    moved = (embeddings(local, inputs) != after).any(dim=-1)[0].nonzero().flatten()
    assert moved.tolist() == touching(layout, size, 0, patch).tolist()
    assert moved.tolist() != touching(by_columns, size, 0, patch).tolist()


def test_several_pictures_in_a_padded_batch(local: VLM) -> None:
    sizes = [(140, 84), (100, 160)]
    plain = [Image.new("RGB", size, (90, 90, 90)) for size in sizes]
    questions = ["where is the star ?", "what colour is the circle in the square ?"]
    pictures = [[plain[0]], plain]
    inputs = local.prepare(pictures, questions)
    one, two = local.layout(inputs)
    assert one.image_index.unique().tolist() == [0]
    assert two.image_index.unique().tolist() == [0, 1]
    assert len(two.grid) == 2
    patch = patch_inside(two, sizes[1], 1, np.random.default_rng(0))
    changed = local.prepare([[plain[0]], [plain[0], brightened(sizes[1], patch)]], questions)
    moved = (embeddings(local, inputs) != embeddings(local, changed)).any(dim=-1)
    assert not moved[0].any()
    assert moved[1].nonzero().flatten().tolist() == touching(two, sizes[1], 1, patch).tolist()


@pytest.mark.parametrize("merge", [1, 2])
def test_boxes_tile_every_picture(merge: int) -> None:
    vlm = VLM.wrap(tiny_qwen2_vl(layers=1, merge=merge))
    inputs = fake_inputs(vlm.model, [[(3, 4)], [(2, 2), (5, 1)]])
    for layout, pictures in zip(vlm.layout(inputs), ([(3, 4)], [(2, 2), (5, 1)]), strict=True):
        assert layout.grid == tuple((1, *grid) for grid in pictures)
        assert layout.boxes.dtype == torch.float32
        assert layout.positions.dtype == layout.image_index.dtype == torch.int64
        for index, (rows, columns) in enumerate(pictures):
            boxes = layout.boxes[layout.image_index == index].double()
            area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            assert len(boxes) == rows * columns
            assert area.sum() == pytest.approx(1)
            assert boxes.min() == 0
            assert boxes.max() == 1


def test_inputs_whose_pictures_and_tokens_disagree_are_refused() -> None:
    vlm = VLM.wrap(tiny_qwen2_vl(layers=1))
    inputs = fake_inputs(vlm.model, [[(3, 4)], [(2, 2)]])
    inputs["image_grid_thw"] = inputs["image_grid_thw"][:1]
    with pytest.raises(ModelError, match="16 visual tokens but their pictures make 12"):
        vlm.layout(inputs)
    inputs["image_grid_thw"] = torch.tensor([[1, 2, 4], [1, 2, 4]])
    with pytest.raises(
        ModelError, match="a sample holds 12 visual tokens but its pictures make 16"
    ):
        vlm.layout(inputs)


def test_a_sample_without_a_picture_has_an_empty_layout() -> None:
    vlm = VLM.wrap(tiny_qwen2_vl(layers=1))
    empty, full = vlm.layout(fake_inputs(vlm.model, [[], [(2, 3)]]))
    assert empty.positions.shape == (0,)
    assert empty.boxes.shape == (0, 4)
    assert empty.grid == ()
    assert len(full.positions) == 6
