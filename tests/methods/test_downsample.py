"""Smaller pictures: how many tokens they become, what those cover, and how answers are scored."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tokenlens as tl
from tests.support.builders import tiny_image_processor, tiny_qwen2_5_vl, tiny_tokenizer
from tests.support.layout_families import FAMILIES, local_vlm
from tests.support.layout_patches import (
    QUESTION,
    brightened,
    embeddings,
    grey,
    moved,
    random_patches,
    touched,
)
from tests.support.restoring import assert_same, snapshot
from tokenlens.errors import BudgetError, ModelError, SampleError, ScheduleError
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import Run
from tokenlens.methods import find_method
from tokenlens.models.adapters.shrinking import nearest_grid
from tokenlens.models.batch import Batch
from tokenlens.models.layout import Layout
from tokenlens.models.structure import visual_mask
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.samples.sample import Sample
from tokenlens.schedule import ModelRef, Schedule, Scorer

SHRINKING = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "mistral3"]
SHRINKING += ["llava, small crop", "llava, padded", "llava, siglip"]
SHARE = 0.4


@pytest.fixture(scope="module", params=SHRINKING)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def vlm(name):
    return local_vlm(FAMILIES[name])


def plan_for(vlm, share=SHARE):
    return Schedule(schema=1, method="m", model=ModelRef.of(vlm), image_scale=share)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.001, 0.999))
def test_the_grid_is_never_larger_and_near_to_the_share(rows, columns, share):
    high, long = nearest_grid(rows, columns, share)
    assert 1 <= high <= rows
    assert 1 <= long <= columns
    goal = share * rows * columns
    assert abs(high * long - goal) <= max(1, (math.sqrt(rows * share) + math.sqrt(columns)) ** 2)
    if min(rows, columns) * math.sqrt(share) >= 1:
        assert abs(high - rows * math.sqrt(share)) < 1
        assert abs(long - columns * math.sqrt(share)) < 1


@pytest.mark.parametrize("size", [(300, 180), (210, 400), (256, 256)], ids=str)
def test_the_tokens_that_move_are_those_whose_boxes_touch(vlm, name, size):
    """The boxes of a smaller picture's tokens are shares of the original one."""
    with tl.prune(vlm, plan_for(vlm)):
        inputs = vlm.prepare(grey(size), QUESTION, image_scale=SHARE)
        (layout,), (whole,) = vlm.layout(inputs), vlm.layout(vlm.prepare(grey(size), QUESTION))
        assert len(layout.positions) < len(whole.positions)
        before, wrong = embeddings(vlm, inputs), 0
        flipped = Layout(
            layout.positions, layout.boxes[:, [1, 0, 3, 2]], layout.image_index, layout.grid
        )
        for patch in random_patches(FAMILIES[name], layout, size, 3):
            after = embeddings(
                vlm, vlm.prepare(brightened(size, patch), QUESTION, image_scale=SHARE)
            )
            assert moved(before, after) == [touched(layout, size, patch)]
            wrong += moved(before, after) != [touched(flipped, size, patch)]
        assert wrong, "the control is not seen"


def test_counts_are_as_near_to_the_share_as_whole_rows_allow(vlm):
    for size in [(300, 180), (210, 400), (256, 256)]:
        (whole,) = vlm.layout(vlm.prepare(grey(size), QUESTION))
        for share in (0.15, 0.33, 0.7, 0.95):
            (layout,) = vlm.layout(vlm.prepare(grey(size), QUESTION, image_scale=share))
            (_, rows, columns), (_, full_rows, full_columns) = layout.grid[0], whole.grid[0]
            assert abs(rows - full_rows * math.sqrt(share)) < 1
            assert abs(columns - full_columns * math.sqrt(share)) < 1
            assert len(layout.positions) == rows * columns


def test_pictures_of_a_batch_shrink_each_by_itself_and_the_trace_says_so(vlm):
    pictures, questions = [grey((300, 180)), grey((210, 400))], [QUESTION, "star ?"]
    plan, before = plan_for(vlm), snapshot(vlm.model)
    with torch.no_grad(), tl.prune(vlm, plan) as trace:
        inputs = vlm.prepare(pictures, questions, image_scale=plan.image_scale)
        vlm.model(**inputs)
    counts = [len(layout.positions) for layout in vlm.layout(inputs)]
    assert trace.tokens_per_layer.tolist() == [[count] * vlm.layers for count in counts]
    assert not trace.stages
    assert (trace.cost.total_macs == trace.cost.unpruned.total_macs).all()
    assert_same(vlm.model, before)
    alone = [
        vlm.layout(vlm.prepare(*pair, image_scale=SHARE))[0]
        for pair in zip(pictures, questions, strict=True)
    ]
    assert [len(layout.positions) for layout in alone] == counts


def test_the_whole_share_changes_nothing(vlm):
    plain, same = (vlm.prepare(grey((300, 180)), QUESTION, image_scale=one) for one in (None, 1.0))
    assert all(torch.equal(plain[key], same[key]) for key in plain)
    with pytest.raises(SampleError, match=r"image_scale: got 1\.5"):
        vlm.prepare(grey((300, 180)), QUESTION, image_scale=1.5)


@pytest.mark.parametrize("name", ["qwen2_vl", "mistral3"])
def test_a_processor_that_does_not_resize_gets_the_share_of_what_it_makes(name):
    vlm = local_vlm(FAMILIES[name])
    vlm.processor.image_processor.do_resize = False
    picture = grey((640, 512))
    (whole,), (layout,) = (
        vlm.layout(vlm.prepare(picture, QUESTION, image_scale=one)) for one in (None, 0.25)
    )
    assert len(layout.positions) == pytest.approx(len(whole.positions) / 4, rel=0.02)


def test_a_square_is_not_cut_out_of_a_picture_that_is_not_resized():
    vlm = local_vlm(FAMILIES["llava"])
    vlm.processor.image_processor.do_resize = False
    with pytest.raises(ModelError, match="does not resize pictures"):
        vlm.prepare(grey((300, 180)), QUESTION, image_scale=0.5)


@pytest.mark.filterwarnings("ignore:Passing `min_pixels` and `max_pixels`:FutureWarning")
def test_limits_that_a_user_sets_on_a_processor_do_not_enlarge_pictures_again():
    vlm = local_vlm(FAMILIES["qwen2_vl"])
    (usual,) = vlm.layout(vlm.prepare(grey((300, 180)), QUESTION))
    processor = vlm.processor.image_processor
    processor.min_pixels = processor.size["longest_edge"]
    processor.max_pixels = 4 * processor.size["longest_edge"]
    (whole,), (layout,) = (
        vlm.layout(vlm.prepare(grey((300, 180)), QUESTION, image_scale=one)) for one in (None, 0.25)
    )
    assert len(whole.positions) > len(usual.positions)
    assert len(layout.positions) == pytest.approx(len(whole.positions) / 4, rel=0.1)


def test_a_square_picture_says_what_the_budget_really_comes_to(vlm):
    plan = Schedule.preset("downsample", vlm, budget="33%")
    square = grey((448, 448))
    (whole,) = vlm.layout(vlm.prepare(square, QUESTION))
    (layout,) = vlm.layout(vlm.prepare(square, QUESTION, image_scale=plan.image_scale))
    reached = len(layout.positions) / len(whole.positions)
    assert plan.budget.average == pytest.approx(reached, abs=1e-4)
    assert plan.budget.n_visual == len(whole.positions)
    assert plan.image_scale == pytest.approx(0.33)
    assert Schedule(**plan.as_json()) == plan


@pytest.mark.parametrize("name", ["paligemma", "gemma3", "internvl", "llava_next"])
def test_families_whose_pictures_do_not_shrink_are_refused_in_a_line(name):
    vlm = local_vlm(FAMILIES[name])
    with pytest.raises(ModelError, match=r"does not become fewer .*'stride'") as caught:
        vlm.prepare(grey((300, 180)), QUESTION, image_scale=0.5)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="does not become fewer"), tl.prune(vlm, plan_for(vlm)):
        pass


def test_a_processor_that_enlarges_does_not_undo_it_and_boxes_are_in_original_coordinates():
    """Qwen2.5-VL writes pixels of what it was shown: the smaller picture."""
    model = tiny_qwen2_5_vl()
    from transformers import Qwen2_5_VLProcessor

    from tokenlens.models.processing import without_video

    processor = without_video(Qwen2_5_VLProcessor)(
        tiny_image_processor(2, 64 * 64), tiny_tokenizer()
    )
    processor.image_processor.size = {"shortest_edge": 64 * 64, "longest_edge": 64 * 64}
    processor.chat_template = processor.tokenizer.chat_template
    vlm = tl.VLM.wrap(model, processor)
    sample = Sample(
        id="a", image=Image.new("RGB", (320, 320)), question="where is the red circle ?"
    )
    whole, small = Batch.of(vlm, [sample]), Batch.of(vlm, [sample], 0.25)
    assert whole.layouts[0].grid == ((1, 8, 8),)
    assert small.layouts[0].grid == ((1, 4, 4),)
    assert small.pictures[0][0].size == (320, 320)
    from tokenlens.evaluation.metrics.boxes import box_reader

    assert box_reader(vlm, small.layouts[0])("[8, 0, 16, 32]") == (0.25, 0.0, 0.5, 1.0)
    assert box_reader(vlm, whole.layouts[0])("[8, 0, 16, 32]") == (0.125, 0.0, 0.25, 0.5)


def test_arms_of_a_run_see_their_own_pictures(tmp_path):
    vlm = local_vlm(FAMILIES["llava"])
    samples = [
        Sample(id=str(index), image=grey(size), question=QUESTION, answers=("star",), task="t")
        for index, size in enumerate([(300, 180), (180, 300), (200, 200)])
    ]
    arms = {tmp_path / "whole": None, tmp_path / "small": plan_for(vlm)}
    run = Run(vlm, samples, RunOptions(batch_size=2, max_new_tokens=2))
    run.check(arms.values())
    whole, small = run.into(arms, tmp_path / "answers")
    for place, sample in enumerate(samples):
        for results, picture in ((whole, None), (small, SHARE)):
            (layout,) = vlm.layout(vlm.prepare(sample.image, QUESTION, image_scale=picture))
            assert results.tokens_per_layer is not None
            tokens = results.rows["tokens_per_layer"].iloc[place]
            assert list(tokens) == [len(layout.positions)] * vlm.layers
    assert small.metrics["tokens"] < whole.metrics["tokens"]


def test_a_schedule_has_stages_or_a_picture():
    content = {"schema": 1, "method": "m", "model": {"architecture": "A", "layers": 4}}
    with pytest.raises(ScheduleError, match=r"stages: got none, expected .* `image_scale`"):
        Schedule(**content)
    for value in (0.0, 1.5, 1, "half", True):
        with pytest.raises(ScheduleError, match=r"image_scale: got .*\(0, 1\]"):
            Schedule(**content, image_scale=value)
    plan = Schedule(**content, image_scale=0.25)
    assert plan.tokens_entering(144, 4) == [36] * 4
    assert Schedule(**plan.as_json()) == plan
    assert (
        "image_scale"
        not in Schedule(
            **content,
            stages=[{"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}],
        ).as_json()
    )


def test_what_the_preset_cannot_do_it_says():
    model = ModelRef(architecture="A", layers=4)
    with pytest.raises(BudgetError, match="can be 1 to 144 tokens"):
        Schedule.preset("downsample", model, budget=145, n_visual=144)
    with pytest.raises(ScheduleError, match="has no layers"):
        Schedule.preset("downsample", model, budget=0.5, layers=[2])
    assert find_method("downsample").smaller_picture


def test_a_budget_in_macs_is_met_to_the_nearest_picture(vlm):
    meter = DecoderMacs.of(vlm)
    whole = Schedule.preset("downsample", vlm, budget="100% MACs")
    n_visual = whole.budget.n_visual
    full = meter.macs((), Scorer(), n_visual)
    assert (whole.image_scale, whole.budget.reached) == (1.0, None)
    plan = Schedule.preset("downsample", vlm, budget="40% MACs")
    wanted = round(plan.image_scale * n_visual)
    miss = [abs(meter.macs((), Scorer(), n) - 0.4 * full) for n in range(1, n_visual + 1)]
    assert miss[wanted - 1] == min(miss)
    tokens = round(plan.budget.average * n_visual)
    inputs = vlm.prepare(grey((448, 448)), "", image_scale=plan.image_scale)
    assert tokens == int(visual_mask(vlm.model, inputs["input_ids"]).sum())
    share = meter.macs((), Scorer(), tokens) / full
    assert plan.budget.reached == pytest.approx(share) or abs(share - 0.4) <= 0.004
    assert (plan.budget.macs, plan.budget.n_text) == (0.4, meter.text)
    number = Schedule.preset("downsample", vlm, budget=f"{0.4 * full / 1e6:.6f} MMACs")
    assert number.image_scale == plan.image_scale
    with pytest.raises(BudgetError, match=r"out of reach: .* of the unpruned prefill's MACs"):
        Schedule.preset("downsample", vlm, budget="1 MACs")
