"""Videos: their tokens are visual ones, frame by frame: for layout, probe and engine."""

import pytest
import torch

import tokenlens as tl
from tests.pruning.test_recorded_scorer import hidden_from
from tests.support.builders import PATCH, VOCABULARY, tiny_qwen2_5_vl, tiny_qwen2_vl
from tests.support.engine_support import LAYERS, run, schedule, stage, tokens_for
from tokenlens.errors import ModelError

FRAMES, ROWS, COLUMNS = 2, 3, 4
VIDEO, IMAGE = VOCABULARY["<|video_pad|>"], VOCABULARY["<|image_pad|>"]
START, END = VOCABULARY["<|vision_start|>"], VOCABULARY["<|vision_end|>"]


def inputs_of(model, *, video_first=True):
    """A prompt with a video of 2 frames of 3 x 4 tokens and a picture of 2 x 2."""
    merge = model.config.vision_config.spatial_merge_size
    video = [START, *[VIDEO] * (FRAMES * ROWS * COLUMNS), END]
    picture = [START, *[IMAGE] * 4, END]
    visual = [*video, 20, *picture] if video_first else [*picture, 20, *video]
    ids = torch.tensor([[11, 12, *visual, 21, 22, 23]])
    generator = torch.Generator().manual_seed(3)

    def pixels(*grid):
        count, width = torch.tensor(grid).prod().item(), 3 * 2 * PATCH * PATCH
        return torch.randn(count, width, generator=generator, dtype=model.dtype)

    still, moving = (1, 2 * merge, 2 * merge), (FRAMES, ROWS * merge, COLUMNS * merge)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int(),
        "pixel_values": pixels(*still),
        "image_grid_thw": torch.tensor([still]),
        "pixel_values_videos": pixels(*moving),
        "video_grid_thw": torch.tensor([moving]),
    }


@pytest.fixture
def model():
    return tiny_qwen2_vl(layers=LAYERS, dtype=torch.float64)


@pytest.mark.parametrize("make", [tiny_qwen2_vl, tiny_qwen2_5_vl])
@pytest.mark.parametrize("video_first", [True, False])
def test_every_token_has_its_frame_and_its_cell(make, video_first):
    vlm = tl.VLM.wrap(make())
    inputs = inputs_of(vlm.model, video_first=video_first)
    (layout,) = vlm.layout(inputs)
    ids = inputs["input_ids"][0]
    assert layout.positions.tolist() == ((ids == VIDEO) | (ids == IMAGE)).nonzero()[:, 0].tolist()
    film, still = ((ids[layout.positions] == token) for token in (VIDEO, IMAGE))
    video, picture = (0, 1) if video_first else (1, 0)
    assert layout.image_index[film].unique().tolist() == [video]
    assert layout.image_index[still].unique().tolist() == [picture]
    assert layout.grid[video] == (FRAMES, ROWS, COLUMNS)
    assert layout.grid[picture] == (1, 2, 2)
    assert layout.frame[film].tolist() == [0] * 12 + [1] * 12
    assert layout.frame[still].tolist() == [0] * 4
    boxes = layout.boxes[film]
    assert torch.equal(boxes[:12], boxes[12:])
    assert boxes[5].tolist() == pytest.approx([1 / 4, 1 / 3, 2 / 4, 2 / 3])
    assert layout.boxes[still][3].tolist() == [0.5, 0.5, 1, 1]


def test_grids_that_do_not_fit_are_refused():
    vlm = tl.VLM.wrap(tiny_qwen2_vl())
    inputs = inputs_of(vlm.model)
    inputs["video_grid_thw"] = torch.tensor([[1, ROWS, COLUMNS]])
    with pytest.raises(ModelError, match="24 visual tokens of videos but their videos make 12"):
        vlm.layout(inputs)


@torch.no_grad()
def test_the_probe_sees_frames_as_eager_attention_does(model):
    inputs = inputs_of(model)
    with tl.probe(model) as recording:
        model(**inputs)
    model.set_attn_implementation("eager")
    maps = model(**inputs, output_attentions=True).attentions
    visual = recording.positions[0]
    assert len(visual) == FRAMES * ROWS * COLUMNS + 4
    for layer, rows in enumerate(maps):
        expected = rows[0, :, -1].mean(0)[visual]
        assert (recording.importance[0][layer] - expected).abs().max() < 1e-5


def test_frames_are_pruned_like_pictures(model):
    """Against the model at full length with the keys hidden; keeping all changes no bit."""
    inputs = inputs_of(model)
    tokens = tokens_for(inputs, 3)
    expected = run(model, inputs, tokens)
    with tl.prune(model, schedule(stage(2, "after", 1.0))):
        found = run(model, inputs, tokens)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    with tl.prune(model, schedule(stage(2, "after", 9))) as trace:
        first, later, _ = run(model, inputs, tokens)
    assert trace.tokens_per_layer.tolist() == [[28, 28, *[9] * (LAYERS - 2)]]
    gone = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    gone &= (inputs["input_ids"] == VIDEO) | (inputs["input_ids"] == IMAGE)
    gone[0, trace.stages[0].selected[0]] = False
    reference = hidden_from(model, inputs, tokens, 3, gone)
    assert (first - reference[0]).abs().max() < 1e-10
    assert (later - reference[1]).abs().max() < 1e-10
    control = hidden_from(model, inputs, tokens, 3, gone.roll(1, dims=1))
    assert (first - control[0]).abs().max() > 1e-6
