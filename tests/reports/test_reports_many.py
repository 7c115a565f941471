"""A report of many methods at several budgets: a table per budget, figures by method."""

from tests.support import synthetic
from tokenlens.analyses import layers_by_method, methods_at_budgets
from tokenlens.analyses.drawing.finished import render
from tokenlens.analyses.drawing.style import DARK, LIGHT
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.tables import OTHER, budget_tables
from tokenlens.reports.page import build_report

METHODS = [f"method-{number:02}" for number in range(13)] + ["<b>_%$"]
BUDGETS = ("33 %", "22 %")


def written(folder):
    samples = [synthetic.sample(index, folder / "pictures") for index in range(20)]
    arms, budgets = {}, {}
    for keep, budget in zip((0.4, 0.2), BUDGETS, strict=True):
        for number, method in enumerate(METHODS):
            schedule = synthetic.schedule(
                stages=[
                    {
                        "score_layer": 1 + number % 5,
                        "when": "after",
                        "keep": keep,
                        "disposal": "drop",
                    }
                ]
            )
            arms[f"{method} {budget}"] = schedule
            budgets.setdefault(budget, {})[method] = f"{method} {budget}"
    plan = {
        "budgets": budgets,
        "left_out": {"22 %": {"absent": "out of reach"}},
        "layers": {"33 %": "swiftvlm: layers 3, 5"},
    }
    return synthetic.write_results(folder / "results", samples, arms, plan)


def test_the_page_has_a_table_per_budget_and_figures_with_a_row_per_method(tmp_path):
    results = written(tmp_path)
    files = build_report(None, None, results, tmp_path / "report", pictures=1)
    html = files.html.read_text(encoding="utf-8")
    for words in ("Budget: 33 %", "Budget: 22 %", "method-12", "Left out: absent: out of reach."):
        assert words in html
    assert html.count('<th scope="row">method-03</th>') == 2
    assert "28 arms are compared, at 33 % and 22 %" in html
    assert "excludes zero" in html
    assert "&lt;b&gt;_%$" in html
    assert "<b>_%$" not in html
    assert "tokenlens run --compare" in html
    assert "--budget 33%,22%" in html
    names = {path.stem for path in files.figures}
    assert {"methods-at-budgets", "layers-by-method"} <= names
    assert not {"tokens-per-layer", "quality-against-cost"} & names


def test_the_figures_hold_what_the_tables_do_and_are_the_same_every_time(tmp_path):
    comparison = Comparison.load(written(tmp_path))
    frame = methods_at_budgets.compute(comparison)
    assert list(frame["average"].unique()) == [OTHER]
    assert len(frame) == len(METHODS) * len(BUDGETS)
    first = budget_tables(comparison)[0]
    place = [column.name for column in first.columns].index(OTHER)
    assert frame["retained"][0] == first.rows[METHODS[0]][place].value
    shares = layers_by_method.compute(comparison)
    assert len(shares) == len(METHODS) * len(BUDGETS) * synthetic.LAYERS
    assert shares["share"].max() == 1
    for theme in (LIGHT, DARK):
        for plot, values in ((methods_at_budgets.plot, frame), (layers_by_method.plot, shares)):
            figure = plot(values, theme=theme)
            assert render(figure, ".svg") == render(plot(values, theme=theme), ".svg")
            labels = figure.axes[0].get_yticklabels()
            assert [label.get_text() for label in labels] == METHODS
