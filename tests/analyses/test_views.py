"""What recordings, traces and layouts show of themselves: tables, figures and notebook views."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import ExifTags, Image

import tokenlens as tl
from tokenlens.analyses import importance_maps, kept_by_method, kept_tokens, stage_map
from tokenlens.errors import ProbeError, PruningError
from tokenlens.models.layout import Layout


@pytest.fixture(scope="module")
def vlm():
    return tl.load("tiny-qwen2-vl", device="cpu")


@pytest.fixture(scope="module")
def inputs(vlm):
    sample = tl.load_samples("scenes")[0]
    return vlm.prepare(sample.open_image(), sample.question)


@pytest.fixture(scope="module")
def recording(vlm, inputs):
    with tl.probe(vlm, queries="generated", per_head=True) as recording:
        vlm.model.generate(**inputs, max_new_tokens=4)
    return recording


def test_a_recording_as_a_table(recording):
    frame = recording.to_dataframe()
    layers, heads, queries, visual = recording.per_head[0].shape
    assert len(frame) == layers * heads * queries * visual
    line = frame[
        (frame["layer"] == 9) & (frame["head"] == 2) & (frame["query"] == 157)
        & (frame["visual"] == 7)
    ]  # fmt: skip
    assert line["importance"].item() == recording.per_head[0][8, 1, 1, 7]
    assert line["token"].item() == recording.tokens[0][1]
    assert line["position"].item() == recording.positions[0][7]


def test_a_recording_of_last_tokens_has_no_heads_in_its_table(vlm, inputs):
    with tl.probe(vlm) as recording:
        vlm.model(**inputs)
    frame = recording.to_dataframe()
    assert "head" not in frame
    assert np.array_equal(frame["importance"], recording.importance[0].numpy().ravel())


def test_a_recording_is_drawn_by_layer_query_and_head(vlm, inputs, recording):
    figure = recording.plot(layer=9, query=0)
    drawn = figure.axes[0].images[0].get_array()
    assert np.allclose(drawn.ravel(), recording.importance[0][8, 0])
    assert figure.axes[0].get_title(loc="left") == "“(83,” · layer 9"
    again = recording.plot(layer=9, query="(83,", head=2, layout=vlm.layout(inputs)[0])
    drawn = again.axes[0].images[0].get_array()
    assert np.allclose(drawn.ravel(), recording.per_head[0][8, 1, 0])
    axes = Figure().subplots()
    assert recording.plot(ax=axes, picture=np.zeros((4, 6, 3), np.uint8)) is axes.figure
    for wrong in ({"layer": 0}, {"layer": 25}, {"query": 9}, {"query": "no"}, {"sample": 1}):
        with pytest.raises(ProbeError, match=r"\A[^\n]*got [^\n]*\Z"):
            recording.plot(**wrong)
    with pytest.raises(ProbeError, match="head: got 5"):
        recording.plot(head=5)


def test_a_model_without_a_processor_is_drawn_row_by_row(vlm, inputs):
    with tl.probe(vlm.model, queries=[-1, -2]) as recording:
        vlm.model(**inputs)
    drawn = recording.plot(layer=3, query=1).axes[0].images[0].get_array()
    assert np.allclose(drawn.ravel(), recording.importance[0][2, 1])
    assert recording.to_dataframe()["token"].isna().all()


def test_a_trace_says_what_became_of_every_token(vlm, inputs):
    schedule = tl.Schedule.preset("swiftvlm", vlm, budget="33%", layers=[6, 9, 15])
    with tl.prune(vlm, schedule) as trace:
        with pytest.raises(PruningError, match="nothing was pruned"):
            trace.to_dataframe()
        vlm.model.generate(**inputs, max_new_tokens=2)
    frame = trace.to_dataframe()
    assert len(frame) == 3 * 144
    for number, stage in enumerate(trace.stages, start=1):
        part = frame[frame["stage"] == number]
        kept = part[part["fate"].isin(["kept", "brought back"])]
        assert kept["position"].tolist() == stage.selected[0].tolist()
        seeds = part[part["fate"] == "place of a merged token"]
        assert seeds["position"].tolist() == stage.merged[0].tolist()
    before, after = (set(stage.selected[0].tolist()) for stage in trace.stages[:2])
    back = frame[(frame["stage"] == 2) & (frame["fate"] == "brought back")]["position"]
    assert set(back) == after - before != set()
    assert not (frame[frame["stage"] == 1]["fate"] == "gone").any(), "a bypass loses none"
    figure = trace.plot(stage=2, layout=vlm.layout(inputs)[0])
    assert f"brought back: {len(back)}" in [
        text.get_text() for text in figure.axes[0].get_legend().get_texts()
    ]
    with pytest.raises(PruningError, match="expected one of 3 stages"):
        trace.plot(stage=4)
    assert "brought back" in trace._repr_html_()


def test_a_layout_as_a_table_and_a_figure(vlm, inputs):
    (layout,) = vlm.layout(inputs)
    frame = layout.to_dataframe()
    assert np.allclose(frame[["x0", "y0", "x1", "y1"]], layout.boxes)
    assert frame["position"].tolist() == layout.positions.tolist()
    assert len(layout.plot().axes[0].collections[0].get_paths()) == 144
    assert "1 x 12 x 12" in layout._repr_html_()


@pytest.fixture(scope="module")
def of_two(vlm):
    """The inputs of a question about two pictures of unequal shape."""
    first = tl.load_samples("scenes")[0].open_image()
    return vlm.prepare([first, first.resize((168, 336))], "where is the red circle ?")


def test_of_several_pictures_one_is_drawn(vlm, of_two):
    with tl.probe(vlm) as recording:
        vlm.model(**of_two)
    (layout,) = vlm.layout(of_two)
    for image, shape in enumerate([(12, 12), (16, 8)]):
        figure = recording.plot(layer=3, image=image)
        drawn = figure.axes[0].images[0].get_array()
        own = recording.importance[0][2][layout.image_index == image]
        assert drawn.shape == shape
        assert np.allclose(drawn.ravel(), own)
        assert f"picture {image + 1} of 2" in figure.axes[0].get_title(loc="left")
    with pytest.raises(ProbeError, match=r"\Aimage: got 2, expected 0 to 1"):
        recording.plot(image=2)
    with pytest.raises(ProbeError, match="sample 0 has 2 pictures"):
        recording.explore()


def test_a_stage_shows_one_of_several_pictures(vlm, of_two):
    schedule = tl.Schedule.preset("swiftvlm", vlm, budget="33%", layers=[6, 9, 15])
    with tl.prune(vlm, schedule) as trace:
        vlm.model(**of_two)
    (layout,) = vlm.layout(of_two)
    axes = trace.plot(image=1, layout=layout).axes[0]
    assert axes.images[0].get_array().shape[:2] == (16, 8)
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sum(int(text.split(": ")[1]) for text in said) == 128
    with pytest.raises(PruningError, match=r"\Aimage: got 2, expected 0 to 1"):
        trace.plot(image=2, layout=layout)


def test_a_picture_is_drawn_as_the_model_got_it(vlm):
    picture = Image.new("L", (336, 224), 200)
    picture.getexif()[ExifTags.Base.Orientation] = 6
    inputs = vlm.prepare(picture, "what is it ?")
    (layout,) = vlm.layout(inputs)
    with tl.prune(vlm, tl.Schedule.preset("fastv", vlm, budget="33%")) as trace:
        vlm.model(**inputs)
    with tl.probe(vlm) as recording:
        vlm.model(**inputs)
    for figure in (
        recording.plot(picture=picture),
        trace.plot(picture=picture, layout=layout),
        layout.plot(picture=picture),
    ):
        assert figure.axes[0].images[0].get_array().shape == (336, 224, 3)
        assert figure.axes[0].get_aspect() == pytest.approx(1.5)


def test_sheets_of_pictures_are_of_what_the_model_got():
    """A picture of 30 x 20 pixels that is shown upright is 20 wide and 30 high."""
    picture = Image.new("L", (30, 20), 200)
    picture.getexif()[ExifTags.Base.Orientation] = 6
    places = dict(zip(("x0", "y0", "x1", "y1"), (0.0, 0.0, 1.0, 1.0), strict=True))
    about = {"id": "a", "question": "what ?", "token": 0, **places}
    frames = {
        importance_maps: {"layer": 1, "importance": 0.5},
        kept_tokens: {"stage": 1, "where": "after layer 1", "fate": 0},
        kept_by_method: {"method": "fastv", "kept": True, "score": 1.0},
    }
    for analysis, more in frames.items():
        figure = analysis.plot(pd.DataFrame([{**about, **more}]), {"a": picture})
        for drawn in figure.axes[0].images:
            across, down = drawn.get_extent()[:2], drawn.get_extent()[2:]
            assert abs(down[1] - down[0]) == pytest.approx(1.5 * abs(across[1] - across[0]))
            assert drawn.get_array().shape[:2] == (30, 20)


def test_tokens_that_overlap_mix_their_colours(vlm, inputs):
    """Half of a mean of numbers would be the colour of another fate."""
    with tl.prune(vlm, tl.Schedule.preset("fastv", vlm, budget="33%")) as trace:
        vlm.model(**inputs)
    (positions,) = trace.stages[0].candidates
    kept = np.isin(positions, trace.stages[0].selected[0])
    overview = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    boxes = torch.cat([vlm.layout(inputs)[0].boxes[:-1], overview])
    index = torch.zeros(len(positions), dtype=torch.int64)
    pixels = trace.plot(layout=Layout(positions, boxes, index, ((1, 12, 12),))).axes[0].images[0]
    drawn = pixels.get_array().reshape(-1, 4)[:-1, :3]
    green, black = (np.array(to_rgb(stage_map._COLOURS[fate])) for fate in (0, 4))
    colours = np.where(kept[:, None], green, black)
    assert np.allclose(drawn, (colours[:-1] + colours[-1]) / 2)


def test_another_importance_is_no_share_of_attention(vlm, inputs):
    with tl.probe(vlm, importance="gradient") as recording:
        vlm.model(**inputs)
    bar = recording.plot().axes[1]
    assert (
        bar.get_ylabel() == "the query token's attention times its gradient for the token it writes"
    )
    assert not any("%" in label.get_text() for label in bar.get_yticklabels())


def test_notebooks_show_what_is_there_or_why_it_is_not(vlm, recording):
    text = recording._repr_html_()
    assert text.count("<img") == 1
    assert "(83," in text
    with tl.probe(vlm) as empty:
        assert "nothing was recorded" in empty._repr_html_()
