"""Occlusion beside full runs in which rows are forbidden to attend to what is left out."""

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.references.importances import answer_without
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.families import RAGGED, case
from tests.support.true_float64 import true_float64
from tokenlens.errors import ProbeError
from tokenlens.evaluation.information.teacher_forcing import ForcedBatch
from tokenlens.evaluation.occlusion import ForcedAnswers, windows
from tokenlens.models.batch import Batch

EXACT, SEEN = 1e-9, 1e-4
FAMILIES = ["Qwen2-VL", "Qwen3-VL", "LLaVA-1.5", "LLaVA-NeXT", "Gemma3", "InternVL", "PaliGemma2"]
LAYERS = 3


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tl.load(
        str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(LAYERS)))
    )


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (48, 32 + 16 * index, 3), dtype=np.uint8))
        for index in range(2)
    ]
    return [
        tl.Sample(id=str(index), image=picture, question="where is A ?" + " red" * index, task="a")
        for index, picture in enumerate(pictures)
    ]


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_left_out_tokens_equal_forbidden_ones(name, layer):
    """A ragged batch with answers of unlike length; other tokens left out are the control."""
    found = case(name, RAGGED)
    answers = [[11, 12, 13], [14], [15, 16]]
    generator = torch.Generator().manual_seed(layer)
    with true_float64(), torch.no_grad():
        forced = ForcedAnswers(
            tl.VLM.wrap(found.model, None), ForcedBatch.of(found.inputs, answers), answers
        )
        gone = []
        for inputs in found.alone:
            count = int((inputs["input_ids"] == found.model.config.image_token_id).sum())
            gone.append(torch.rand(count, generator=generator) < 0.3)
        left, whole = forced.without(gone, layer), forced.log_probabilities()
        for row, inputs in enumerate(found.alone):
            visual = (inputs["input_ids"][0] == found.model.config.image_token_id).nonzero()[:, 0]
            given = (found.model, inputs, answers[row])
            expected = answer_without(*given, visual[gone[row]].tolist(), layer)
            assert (left[row] - expected).abs().max() < EXACT
            assert (whole[row] - answer_without(*given, [], layer)).abs().max() < EXACT
            other = answer_without(*given, visual[~gone[row]].tolist(), layer)
            assert (left[row] - other).abs().max() > SEEN


def test_the_map_is_the_mean_over_windows_of_what_the_answer_loses(vlm, samples):
    """Of a ragged batch, at every layer, by the reference on each sample alone."""
    batch = Batch.of(vlm, samples)
    with torch.inference_mode():
        plain = vlm.model(**batch.inputs).logits
        with tl.probe(vlm, importance="occlusion") as recording:
            probed = vlm.model(**batch.inputs).logits
    assert torch.equal(plain, probed)
    for row, sample in enumerate(samples):
        inputs = vlm.prepare(sample.open_image(), sample.question)
        layout = vlm.layout(inputs)[0]
        answer = ForcedAnswers.of(vlm, inputs).answers[0]
        for layer in range(1, LAYERS + 1):
            given = (vlm.model, dict(inputs), answer)
            whole = answer_without(*given, [], layer).sum()
            values = [[] for _ in layout.positions]
            for x in range(5):
                for y in range(5):
                    low, high = torch.tensor([x, y]) / 6, torch.tensor([x + 2, y + 2]) / 6
                    centres = (layout.boxes[:, :2] + layout.boxes[:, 2:]) / 2
                    inside = ((centres >= low) & (centres < high)).all(1)
                    if not inside.any():
                        continue
                    left = answer_without(*given, layout.positions[inside].tolist(), layer).sum()
                    for place in inside.nonzero()[:, 0].tolist():
                        values[place].append(float(whole - left))
            expected = torch.tensor([float(np.mean(one)) for one in values])
            found = recording.importance[row][layer - 1]
            assert found.shape == expected.shape
            assert (found - expected).abs().max() < 1e-4
            assert (found - expected.roll(1)).abs().max() > SEEN


def test_windows_cover_the_picture_and_every_tile_of_a_place():
    boxes = torch.tensor([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1], [0.2, 0.2, 0.2, 0.2]])
    layout = tl.models.layout.Layout(
        positions=torch.arange(4),
        boxes=boxes,
        image_index=torch.zeros(4, dtype=torch.int64),
        grid=((1, 1, 4),),
    )
    found = torch.stack(windows(layout))
    assert found[:, :3].any(0).all()
    assert not found[:, 3].any()  # it shows nothing


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"per_head": True}, "has no heads"),
        ({"queries": "generated"}, "queries='last'"),
    ],
)
def test_what_occlusion_does_not_have_is_refused_at_once(vlm, options, words):
    with (
        pytest.raises(ProbeError, match=rf"\A[^\n]*{words}[^\n]*\Z"),
        tl.probe(vlm, importance="occlusion", **options),
    ):
        pass


def test_occlusion_needs_places_and_a_plain_forward(vlm, samples):
    inputs = vlm.prepare(samples[0].open_image(), samples[0].question)
    with (
        tl.probe(vlm.model, importance="occlusion"),
        pytest.raises(ProbeError, match=r"\A[^\n]*give tl.probe a VLM[^\n]*\Z"),
        torch.no_grad(),
    ):
        vlm.model(**inputs)
    with (
        tl.probe(vlm, importance="occlusion"),
        pytest.raises(ProbeError, match=r"\A[^\n]*plain forward[^\n]*\Z"),
    ):
        vlm.model.generate(**inputs, max_new_tokens=2)
