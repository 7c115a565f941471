"""What the analyses compute, and that their figures can be trusted: order, scale, determinism."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import synthetic
from tokenlens.analyses import (
    importance_maps,
    kept_tokens,
    rank_correlation,
    region_overlap,
    retained,
    shallow_deep_overlap,
    tokens_per_layer,
)
from tokenlens.analyses.drawing.finished import render
from tokenlens.analyses.drawing.style import DARK, LIGHT, layer_ticks
from tokenlens.analyses.drawing.token_raster import few_colours, lay_over, rasterise
from tokenlens.analyses.importance_maps import Scale
from tokenlens.analyses.kept_tokens import Fate, token_fates
from tokenlens.errors import ProfileError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.measures.correlation import rank_correlation as measured_correlation
from tokenlens.measures.overlap import region_overlap as measured_overlap
from tokenlens.measures.overlap import shallow_deep_overlap as measured_shallow_deep
from tokenlens.probing.profile import Profile
from tokenlens.schedule import Stage

SAMPLES = 12


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [synthetic.sample(index, folder) for index in range(SAMPLES)]


@pytest.fixture(scope="module")
def profile(tmp_path_factory, samples):
    return Profile(synthetic.write_profile(tmp_path_factory.mktemp("profile"), samples))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, samples):
    arms = {"swiftvlm": synthetic.schedule(), "a $ \\frac{1}{ <b>": synthetic.schedule()}
    folder = tmp_path_factory.mktemp("results")
    return Comparison.load(synthetic.write_results(folder, samples, arms))


def test_matrices_are_the_measures_over_all_samples(profile):
    importance = [synthetic.importance(index) for index in range(SAMPLES)]
    layers = list(range(1, synthetic.LAYERS + 1))
    for analysis, measure in (
        (rank_correlation, measured_correlation),
        (shallow_deep_overlap, measured_shallow_deep),
    ):
        frame = analysis.compute(profile)
        assert frame.index.tolist() == frame.columns.tolist() == layers
        np.testing.assert_allclose(frame.to_numpy(), measure(importance), atol=1e-12)


def test_region_overlap_is_taken_over_samples_with_a_region_per_task(profile):
    frame = region_overlap.compute(profile, metric="iou", top=0.3)
    rows = list(profile.rows())
    assert frame["task"].unique().tolist() == [region_overlap.ALL, "where", "what"]
    for task, part in frame.groupby("task"):
        group = [row for row in rows if task in (row.task, region_overlap.ALL)]
        expected = measured_overlap(
            [row.importance for row in group],
            [row.region for row in group],
            metric="iou",
            top=0.3,
        )
        np.testing.assert_allclose(part["mean"], expected, atol=1e-12)
        assert (part["samples"] == sum(row.region.any() for row in group)).all()
        assert (part["low"] <= part["mean"]).all()
        assert (part["mean"] <= part["high"]).all()


def test_region_overlap_of_one_task_is_not_said_twice(tmp_path, samples):
    alike = [{**sample, "task": "where"} for sample in samples]
    frame = region_overlap.compute(Profile(synthetic.write_profile(tmp_path, alike)))
    assert frame["task"].unique().tolist() == ["where"]


def test_region_overlap_without_regions_is_empty(tmp_path, samples):
    bare = [{**sample, "region_boxes": []} for sample in samples]
    assert region_overlap.compute(Profile(synthetic.write_profile(tmp_path, bare))).empty


def test_retained_and_costs_are_shares_of_the_first_arm(comparison):
    frame = retained.compute(comparison)
    first = frame[frame["arm"] == "unpruned"]
    assert (first[["retained", "tokens", "macs"]] == 1).all(axis=None)
    arm = frame[(frame["arm"] == "swiftvlm") & (frame["task"] == "all")].iloc[0]
    table = comparison.table()
    rows = table[table["task"] == "all"].set_index("arm")
    assert arm["retained"] == rows.loc["swiftvlm", "score"] / rows.loc["unpruned", "score"]
    assert arm["macs"] == rows.loc["swiftvlm", "macs"] / rows.loc["unpruned", "macs"]
    tokens = tokens_per_layer.compute(comparison)
    mean = tokens[tokens["arm"] == "swiftvlm"]["tokens"].mean()
    assert arm["tokens"] == pytest.approx(mean / 36)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_tokens_on_a_grid_are_laid_out_row_by_row(across, down, seed):
    values = np.random.default_rng(seed).random((2, across * down))
    rows, columns = np.divmod(np.arange(across * down), across)
    corners = np.stack([columns, rows, columns + 1, rows + 1], axis=1)
    boxes = (corners / [across, down, across, down]).astype(np.float32)
    np.testing.assert_array_equal(rasterise(boxes, values), values.reshape(2, down, across))


def test_tokens_that_overlap_are_averaged_and_gaps_are_not_numbers():
    boxes = np.array([[0, 0, 0.5, 1], [0, 0, 0.5, 0.5], [0.5, 0, 0.9, 0.5]])
    raster = rasterise(boxes, np.array([1.0, 3.0, 5.0]))
    height, width = raster.shape
    assert raster[height // 4, width // 4] == 2
    assert raster[3 * height // 4, width // 4] == 1
    assert raster[height // 4, 3 * width // 4] == 5
    assert np.isnan(raster[3 * height // 4, 3 * width // 4])


def test_few_colours_keep_the_one_brightest_token_of_a_map():
    noise = np.random.default_rng(0).integers(40, 90, (84, 84, 3), dtype=np.uint8)
    noise[7:14, 7:14] = (238, 214, 88)
    few = np.asarray(few_colours(Image.fromarray(noise)))
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 48
    assert np.abs(few[10, 10].astype(int) - (238, 214, 88)).max() <= 16


def test_importance_maps_of_some_layers_are_those_layers(profile):
    rows = list(profile.rows())[:1]
    frame = importance_maps.compute(rows)
    picture = {rows[0].id: Image.open(rows[0].image)}
    figure = importance_maps.plot(frame, picture, layers=[5, 2], scale="layer")
    sheet = figure.axes[0]
    captions = [text.get_text() for text in sheet.texts]
    assert [one.split("\n")[0] for one in captions[1:]] == ["picture", "layer 5", "layer 2"]
    with pytest.raises(ProfileError, match=r"got \[0\], expected layers from 1 to 6"):
        importance_maps.plot(frame, picture, layers=[0])
    whole = importance_maps.plot(frame, picture, scale="layer").axes[0]
    for shown, layer in ((1, 5), (2, 2)):
        one, other = sheet.images[shown].get_array(), whole.images[layer].get_array()
        np.testing.assert_array_equal(one, other)


def test_one_scale_paints_equal_importance_alike_and_more_of_it_brighter():
    low, high = np.array([[0.0, 0.01]]), np.array([[0.04, 0.01]])
    scale = Scale.shared([low, high])
    painted_low, painted_high = scale.paint(low), scale.paint(high)
    np.testing.assert_array_equal(painted_low[0, 1], painted_high[0, 1])
    ramp = scale.paint(np.linspace(0, scale.top, 32)).astype(float)
    ground = np.full((32, 3), 60.0)
    seen = ground + (ramp[:, :3] - ground) * ramp[:, 3:] / 255
    lightness = seen @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness[1:]) > 0).all()
    assert (scale.paint(np.array([np.nan]))[:, 3] == 0).all()
    np.testing.assert_array_equal(scale.paint(np.array([9.0])), scale.paint(np.array([scale.top])))


def test_a_scale_of_nothing_paints_nothing():
    scale = Scale.shared([np.zeros((2, 4))])
    assert (scale.paint(np.zeros((2, 4)))[..., 3] == 0).all()


def test_colours_are_laid_over_each_token_as_one_flat_field():
    colours = np.zeros((2, 2, 4), dtype=np.uint8)
    colours[0, 1] = (255, 0, 0, 255)
    pixels = np.asarray(lay_over(Image.new("RGB", (10, 10), "white"), colours))
    assert (pixels[:5, 5:] == (255, 0, 0)).all()
    assert (pixels[5:] == 255).all()
    assert (pixels[:5, :5] == 255).all()


@st.composite
def runs(draw):
    """Stages, and for each the tokens it selected of those it could select from."""
    n_visual, count = draw(st.integers(2, 30)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    disposals = [draw(st.sampled_from(["drop", "merge", "bypass"])) for _ in range(count - 1)]
    stages, selected, candidates = [], [], np.arange(n_visual)
    for layer, disposal in enumerate([*disposals, "drop"], start=1):
        merge = 0 if disposal == "drop" else draw(st.sampled_from([0, 1, 3, 0.2]))
        stage = Stage(score_layer=layer, when="before", keep=1, disposal=disposal, merge=merge)
        kept = np.sort(rng.permutation(candidates)[: draw(st.integers(1, len(candidates)))])
        fates = token_fates([*stages, stage], [*selected, kept], n_visual)
        stages.append(stage)
        selected.append(kept)
        if disposal != "bypass":
            seeds = np.flatnonzero(fates[-1] == Fate.SEED)
            candidates = np.union1d(kept, seeds)
    return stages, selected, n_visual


@given(runs())
def test_fates_follow_the_stages(run):
    stages, selected, n_visual = run
    fates = token_fates(stages, selected, n_visual)
    gone = np.zeros(n_visual, dtype=bool)
    for index, (stage, kept) in enumerate(zip(stages, selected, strict=True)):
        fate = fates[index]
        np.testing.assert_array_equal(np.flatnonzero(fate <= Fate.BACK), kept)
        assert (fate[gone] == Fate.GONE).all()
        if stage.disposal == "bypass":
            assert ((fate == Fate.GONE) == gone).all()
        else:
            assert not (fate == Fate.ASIDE).any()
            gone = fate == Fate.GONE
        before = stages[index - 1].disposal if index else "drop"
        back = fate == Fate.BACK
        if before != "bypass":
            assert not back.any()
        else:
            earlier = fates[index - 1]
            np.testing.assert_array_equal(
                back, (fate <= Fate.BACK) & np.isin(earlier, [Fate.ASIDE, Fate.SEED])
            )


def test_fates_of_results_are_read_by_position(samples, comparison):
    rows = comparison.arms["swiftvlm"].rows
    frame = kept_tokens.compute([rows.iloc[0]], synthetic.schedule())
    last = frame[frame["stage"] == 3]
    kept = last[last["fate"] <= Fate.BACK]["token"].to_numpy()
    expected = np.argsort(-synthetic.importance(0)[5], kind="stable")[:4]
    assert sorted(kept) == sorted(expected)
    assert frame["where"].unique().tolist() == ["after layer 3", "before layer 5", "before layer 6"]


def test_figures_are_the_same_every_time_and_have_no_date(profile):
    frame = rank_correlation.compute(profile)
    first, second = (render(rank_correlation.plot(frame, chosen=[3]), ".svg") for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_figure_can_be_drawn_whatever_its_labels_say(profile, comparison, samples, theme):
    overlap = region_overlap.compute(profile)
    overlap["task"] = overlap["task"].replace("what", "$\\frac{ </svg><script>\n\x07")
    rows = list(profile.rows())[:1]
    pictures = {row.id: Image.open(row.image) for row in rows}
    kept = kept_tokens.compute([comparison.arms["swiftvlm"].rows.iloc[0]], synthetic.schedule())
    matrix = rank_correlation.compute(profile)
    figures = [
        region_overlap.plot(overlap, theme=theme),
        region_overlap.plot(overlap, chosen=[3], theme=theme),
        shallow_deep_overlap.plot(matrix.abs(), chosen=[3, 5], theme=theme),
        tokens_per_layer.plot(tokens_per_layer.compute(comparison), chosen=[3], theme=theme),
        retained.plot(retained.compute(comparison), theme=theme),
        importance_maps.plot(importance_maps.compute(rows), pictures, chosen=[3], theme=theme),
        kept_tokens.plot(kept, pictures, theme=theme),
    ]
    for figure in figures:
        svg = render(figure, ".svg")
        assert b"<script>" not in svg
        assert theme.paper.encode() in svg


@pytest.mark.parametrize(
    ("layers", "chosen", "shown"),
    [
        (6, [3], ["1", "2", "3", "4", "5", "6"]),
        (32, [3, 16], ["1", "3", "16"]),
        (80, [10, 11, 40], ["10", "40"]),
    ],
)
def test_layers_are_counted_from_1_and_the_chosen_ones_stand_out(layers, chosen, shown):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    layer_ticks(axes, range(1, layers + 1), chosen, LIGHT, "x")
    labels = {label.get_text(): label for label in axes.get_xticklabels()}
    assert set(shown) - {"1"} <= set(labels)
    assert "0" not in labels
    for layer in chosen:
        if str(layer) in labels:
            assert labels[str(layer)].get_color() == LIGHT.accent
