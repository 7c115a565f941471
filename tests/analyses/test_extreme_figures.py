"""Every figure from extreme inputs, at both widths of a paper: no text runs into another."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.figure_texts import faults
from tokenlens.analyses import (
    attention_sinks,
    importance_maps,
    information,
    kept_by_method,
    kept_tokens,
    knock_out,
    layers_by_method,
    merged_change,
    methods_at_budgets,
    quality_against_cost,
    rank_correlation,
    region_heads,
    region_overlap,
    retained,
    selection_fidelity,
    shallow_deep_overlap,
    tokens_per_layer,
    tuning_front,
)
from tokenlens.analyses.drawing.canvas import single
from tokenlens.analyses.drawing.layer_grid import layer_frame
from tokenlens.analyses.drawing.style import LIGHT, SERIF
from tokenlens.analyses.kept_tokens import Fate
from tokenlens.evaluation.information.curves import MEASURES

COLUMN, PAGE = replace(LIGHT, width=3.25, font=SERIF), replace(LIGHT, width=6.75)
LAYERS, SIDE, TASKS = 80, 96, 40
NAMES = ["图片里的红色圆圈在哪里请回答", "a-task-with-a-very-long-name-of-its-own", "W" * 40, "x"]
themes = pytest.mark.parametrize("theme", [COLUMN, PAGE], ids=["column", "page"])


@pytest.fixture(autouse=True)
def _boxes_for_missing_letters():
    """No Chinese font need be installed: boxes stand in, and are as wide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tasks(count):
    return [f"{NAMES[number % len(NAMES)]} {number}" for number in range(count)]


def curves(count, layers):
    parts = [
        pd.DataFrame({"layer": np.arange(1, layers + 1), "mean": 0.0, "low": 0.0, "high": 0.0})
        for _ in range(count)
    ]
    for name, part in zip(tasks(count), parts, strict=True):
        part.insert(0, "task", name)
        part["samples"] = 1
    return pd.concat(parts, ignore_index=True)


def boxes():
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    return np.stack([columns, rows, columns + 1, rows + 1], axis=1) / SIDE


def qualities(arms, count, retained_share):
    return pd.DataFrame(
        [
            {
                "task": task,
                "arm": arm,
                "samples": 1,
                "retained": retained_share,
                "retained_low": retained_share,
                "retained_high": retained_share,
                "quality": "score retained",
                "tokens": 0.3,
                "macs": 1.0 if arm == arms[0] else 0.3,
            }
            for task in tasks(count)
            for arm in arms
        ]
    )


@themes
@pytest.mark.parametrize("layers", [1, 24, LAYERS])
@pytest.mark.parametrize("chosen", [(3, 4, 5), (10, 40, 79)])
def test_layers_by_layers(theme, layers, chosen):
    frame = layer_frame(np.zeros((layers, layers)))
    assert not faults(rank_correlation.plot(frame, chosen=chosen, theme=theme))
    if layers > 1:
        assert not faults(shallow_deep_overlap.plot(frame, chosen=chosen, theme=theme))


@themes
@pytest.mark.parametrize(("count", "layers"), [(1, 1), (3, 12), (9, LAYERS), (TASKS, LAYERS)])
def test_region_overlap(theme, count, layers):
    chosen = [layer for layer in (3, 4, 40) if layer <= layers]
    assert not faults(region_overlap.plot(curves(count, layers), chosen=chosen, theme=theme))


@themes
@pytest.mark.parametrize("share", [0.0, float("nan"), 3.0])
@pytest.mark.parametrize(("arms", "count"), [(2, 1), (8, 9), (3, TASKS)])
def test_quality_against_cost(theme, share, arms, count):
    figure = retained.plot(qualities(tasks(arms), count, share), theme=theme)
    assert not faults(figure)
    assert figure.axes[0].get_ylim()[0] == 0


@pytest.mark.parametrize("macs", [0.3, 1.4])
def test_an_arm_that_costs_more_than_the_unpruned_model_is_on_the_figure(macs):
    frame = qualities(tasks(2), 1, 0.9)
    frame.loc[1, "macs"] = macs
    assert retained.plot(frame).axes[0].get_xlim()[1] == pytest.approx(max(1.06, macs + 0.06))


@themes
@pytest.mark.parametrize("arms", [2, 22])
def test_tokens_per_layer(theme, arms):
    frame = pd.concat(
        pd.DataFrame({"arm": name, "layer": np.arange(1, LAYERS + 1), "tokens": 9216.0})
        for name in tasks(arms)
    )
    assert not faults(tokens_per_layer.plot(frame, chosen=[3, 4, 40], theme=theme))


@themes
@pytest.mark.parametrize("share", [0.0, 3.0])
@pytest.mark.parametrize(("methods", "budgets"), [(1, 1), (22, 2)])
def test_methods_at_budgets(theme, share, methods, budgets):
    rows = [
        {"budget": f"{10 * budget}%", "method": method}
        for budget in range(1, budgets + 1)
        for method in tasks(methods)
    ]
    values = {"retained": share, "low": share, "high": share, "best": False}
    frame = pd.concat(
        pd.DataFrame(rows).assign(average=average, **values)
        for average in ("localisation average", "other average")
    )
    assert not faults(methods_at_budgets.plot(frame, theme=theme))
    wide = pd.DataFrame([{**row, "layer": n, "share": 0.0} for row in rows for n in range(1, 81)])
    assert not faults(layers_by_method.plot(wide, theme=theme))


@themes
@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [0.0, 1.0]])
@pytest.mark.parametrize(("methods", "budgets"), [(1, 1), (22, 2)])
def test_selection_fidelity(theme, values, methods, budgets):
    frame = pd.DataFrame(
        [
            (f"{10 * budget}%", method, f"sample {number}", "task", top, value, 1.0)
            for budget in range(1, budgets + 1)
            for method in tasks(methods)
            for top in selection_fidelity.SHARES
            for number, value in enumerate(values)
        ],
        columns=["budget", "method", "sample", "task", "top", "overlap", "kept"],
    )
    assert not faults(selection_fidelity.plot(frame, layer=LAYERS, theme=theme))


@themes
@pytest.mark.parametrize("scale", [None, "layer"])
@pytest.mark.parametrize("layers", [1, 4])
def test_importance_maps(theme, scale, layers):
    part = pd.DataFrame(np.tile(boxes(), (layers, 1)), columns=["x0", "y0", "x1", "y1"])
    part.insert(0, "id", "one")
    part["question"] = NAMES[0] * 9
    part["layer"] = np.repeat(np.arange(1, layers + 1), SIDE * SIDE)
    part["importance"] = 0.0
    outline = [((1, 1), (20, 1), (20, 20))]
    figure = importance_maps.plot(
        part,
        {"one": Image.new("RGB", (60, 40))},
        regions={"one": outline},
        scale=scale,
        theme=theme,
    )
    assert not faults(figure)


@themes
@pytest.mark.parametrize("stages", [1, 3])
def test_kept_tokens(theme, stages):
    part = pd.DataFrame(np.tile(boxes(), (stages, 1)), columns=["x0", "y0", "x1", "y1"])
    part.insert(0, "id", "one")
    part["question"] = NAMES[1] * 9
    part["stage"] = np.repeat(np.arange(1, stages + 1), SIDE * SIDE)
    part["where"] = "before the decoder"
    part["fate"] = np.tile(np.arange(SIDE * SIDE) % len(Fate), stages)
    figure = kept_tokens.plot(part, {"one": Image.new("RGB", (40, 60))}, theme=theme)
    assert not faults(figure)


@themes
def test_kept_by_method(theme):
    part = pd.DataFrame(np.tile(boxes(), (3, 1)), columns=["x0", "y0", "x1", "y1"])
    part.insert(0, "id", "one")
    part["question"] = NAMES[0] * 9
    part["method"] = np.repeat(tasks(3), SIDE * SIDE)
    part["kept"], part["score"] = False, 1 / 3
    outline = [((1, 1), (20, 1), (20, 20))]
    figure = kept_by_method.plot(
        part,
        {"one": Image.new("RGB", (40, 60))},
        regions={"one": outline},
        budget="22.2 % MACs",
        theme=theme,
    )
    assert not faults(figure)


@themes
@pytest.mark.parametrize("share", [0.0, 3.0])
@pytest.mark.parametrize(("methods", "budgets"), [(1, 1), (22, 2)])
def test_quality_against_costs(theme, share, methods, budgets):
    sides = ("retained", "retained_low", "retained_high", "share", "share_low", "share_high")
    frame = pd.DataFrame(
        [
            {"average": average, "cost": cost, "budget": f"{10 * budget} % MACs", "method": method}
            for average in ("localisation average", "other average")
            for cost in quality_against_cost.COSTS
            for budget in range(1, budgets + 1)
            for method in tasks(methods)
        ]
    ).assign(**dict.fromkeys(sides, share))
    assert not faults(quality_against_cost.plot(frame, theme=theme))


@themes
@pytest.mark.parametrize(("heads", "layers"), [(1, 1), (64, LAYERS)])
def test_heads_and_sinks(theme, heads, layers):
    numbers = np.arange(1, layers + 1)
    chosen = [layer for layer in (3, 4, 40) if layer <= layers]
    frame = pd.DataFrame(np.zeros((heads, layers)), range(1, heads + 1), numbers)
    assert not faults(region_heads.plot(frame, chosen=chosen, theme=theme))
    counts = {"samples": 10_000, "pictures": 10_000}
    values = dict.fromkeys(("share", "low", "high", "stability", "chance"), 1.0)
    sinks = pd.DataFrame({"layer": numbers}).assign(**values, **counts)
    assert not faults(attention_sinks.plot(sinks, chosen=chosen, theme=theme))


@themes
@pytest.mark.parametrize(("count", "layers"), [(1, 1), (9, LAYERS), (TASKS, LAYERS)])
def test_information(theme, count, layers):
    parts = [
        curves(count, layers).assign(curve=curve, measure=measure)
        for curve in information.MEANINGS
        for measure in MEASURES
    ]
    frame = pd.concat(parts, ignore_index=True)
    assert not faults(information.plot(frame, "horizon", theme=theme))
    whole = frame.assign(task="all").drop_duplicates(["curve", "measure", "layer"])
    assert not faults(information.overview(whole, theme=theme))


@themes
@pytest.mark.parametrize(("count", "layers"), [(1, 2), (9, LAYERS), (TASKS, LAYERS)])
def test_knock_out(theme, count, layers):
    part = curves(count, layers).rename(
        columns={"mean": "score", "low": "score_low", "high": "score_high"}
    )
    frame = pd.concat(part.assign(left=left, unpruned=0.0) for left in knock_out.ARMS)
    assert not faults(knock_out.plot(frame, theme=theme))


@themes
@pytest.mark.parametrize("share", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 100])
def test_tuning_front(theme, share, count):
    ends = dict.fromkeys(("held_out", "held_out_low", "held_out_high"), share)
    frame = pd.DataFrame(
        {
            "trial": range(count),
            "name": [NAMES[2], *[""] * (count - 1)],
            "cost": np.linspace(0.3, 0.3001, count),
            "retained": share,
            "on_front": [True, *[False] * (count - 1)],
            "chosen": [True, *[False] * (count - 1)],
        }
    ).assign(**ends)
    figure = tuning_front.plot(frame, cost="bytes of the KV cache", least=0.98, theme=theme)
    assert not faults(figure)


@themes
@pytest.mark.parametrize("groups", [1, 3, 200])
def test_merged_change(theme, groups):
    kinds = [merged_change.MEMBER, merged_change.MEAN, merged_change.MERGED]
    part = pd.DataFrame({"kind": np.repeat(kinds, groups), "group": 3 * list(range(groups))})
    part[["x0", "y0", "x1", "y1"]] = 0.0, 0.0, 0.5, 0.5
    zeros = dict.fromkeys(("x", "y", "explained_x", "explained_y"), 0.0)
    cosines = pd.DataFrame({"cosine": [-1.0, 1.0], "cosine_other": [float("nan"), 0.0]})
    for numbers in (None, cosines):
        picture = Image.new("RGB", (60, 40))
        figure = merged_change.plot(part.assign(**zeros), picture, cosines=numbers, theme=theme)
        assert not faults(figure)


def test_texts_that_overlap_or_run_over_the_edge_are_noticed():
    figure, axes = single(None, (2, 2))
    axes.text(0.5, 0.5, "one text")
    axes.text(0.52, 0.5, "another")
    axes.text(0.5, 0.1, "far over the edge of its figure")
    found = faults(figure)
    assert "'one text' and 'another' overlap" in found
    assert "'far over the edge of its figure' runs over the edge" in found
