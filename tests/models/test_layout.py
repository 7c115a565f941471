"""What every layout keeps to, and what is refused; `test_layout_families` checks the boxes."""

import pytest
import torch

from tests.support.builders import fake_inputs, tiny_qwen2_vl
from tokenlens.errors import ModelError
from tokenlens.models.vlm import VLM


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
