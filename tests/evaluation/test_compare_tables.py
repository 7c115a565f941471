"""The tables of a comparison: averages, intervals and marks worked out by hand, and the files."""

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.summary import Plan
from tokenlens.evaluation.comparing.table_files import (
    comma_separated,
    latex,
    markdown,
    write_tables,
)
from tokenlens.evaluation.comparing.tables import (
    LOCALISATION,
    MACS,
    OTHER,
    TIME,
    TOKENS,
    budget_tables,
)
from tokenlens.evaluation.comparing.timing import Timing
from tokenlens.evaluation.running.results import Results
from tokenlens.measures.intervals import paired_difference_interval, paired_ratio_interval

TASKS = ("where", "where", "where", "where", "what", "what", "how", "how")
"""Tasks of eight samples, of which `where` is scored by boxes."""


def results(scores, tokens=10.0, macs=1e9):
    rows = pd.DataFrame(
        {
            "task": TASKS,
            "metric": ["box" if task == "where" else "exact" for task in TASKS],
            "score": np.array(scores, dtype=float),
            "tokens_per_layer": [np.array([10.0, tokens])] * len(TASKS),
            "macs": macs,
            "scoring_macs": 0.0,
            "merging_macs": 0.0,
            "kv_bytes": 1.0,
            "prefill_s": np.nan,
            "decode_s": np.nan,
        }
    )
    return Results(rows, {"schedule": None})


def timing(**seconds):
    arms = {
        arm: {"schedule": "", "prefill_s": list(times), "decode_s": list(times)}
        for arm, times in seconds.items()
    }
    return Timing(arms, samples=8, repeats=3, machine="cpu, 2 threads")


@pytest.fixture
def comparison():
    """`good` is right always, `bad` never at where; `close` misses one of four at where."""
    arms = {
        "unpruned": results([1, 1, 1, 1, 1, 1, 1, 0]),
        "good": results([1, 1, 1, 1, 1, 0, 1, 0], tokens=4, macs=4e8),
        "bad": results([0, 0, 0, 0, 1, 0, 1, 0], tokens=4, macs=4e8),
        "close": results([1, 1, 1, 0, 1, 0, 1, 0], tokens=4, macs=5e8),
    }
    times = timing(unpruned=[0.1, 0.2], good=[0.05, 0.1], bad=[0.08, 0.16], close=[0.06, 0.12])
    plan = Plan(
        budgets={
            "33 %": {"good": "good", "bad": "bad"},
            "22 %": {"good": "good", "bad": "bad", "close": "close"},
        },
        left_out={"22 %": {"pdrop": "out of reach_100%"}},
        layers={"33 %": "swiftvlm: layers 3, 5"},
    )
    return Comparison(arms, times, plan)


def cells(table, name):
    row = table.unpruned if name == "unpruned" else table.rows[name]
    return dict(zip((column.name for column in table.columns), row, strict=True))


def test_columns_are_the_averages_the_tasks_and_the_costs(comparison):
    table = budget_tables(comparison)[0]
    names = [LOCALISATION, OTHER, "where", "what", "how", TOKENS, MACS, TIME]
    assert [column.name for column in table.columns] == names
    assert [column.samples for column in table.columns] == [4, 4, 4, 2, 2, 8, 8, 2]
    assert table.columns[1].tasks == ("what", "how")
    assert [table.budget for table in budget_tables(comparison)] == ["33 %", "22 %"]
    assert list(table.rows) == ["good", "bad"]


def test_averages_are_ratios_of_macro_averages(comparison):
    """Unpruned: what 1, how 1/2, so other 3/4. Good: what 1/2, how 1/2, so other 1/2."""
    table = budget_tables(comparison)[0]
    whole, good = cells(table, "unpruned"), cells(table, "good")
    assert whole[OTHER].value == pytest.approx(3 / 4)
    assert whole[LOCALISATION].value == 1
    assert good[OTHER].value == pytest.approx((1 / 2) / (3 / 4))
    assert good["what"].value == pytest.approx(1 / 2)
    assert good["how"].value == 1
    assert cells(table, "bad")[LOCALISATION].value == 0
    assert good[TOKENS].value == 7
    assert whole[MACS].value == 1e9
    assert good[MACS].value == pytest.approx(0.4)
    assert whole[TIME].value == pytest.approx(0.15)
    assert good[TIME].value == pytest.approx(0.5)


def test_intervals_are_those_of_the_one_resampling(comparison):
    table = budget_tables(comparison)[1]
    whole, close = (comparison.arms[arm].rows["score"][:4] for arm in ("unpruned", "close"))
    expected = paired_ratio_interval(whole, close)
    found = cells(table, "close")["where"]
    assert (found.value, found.low, found.high) == pytest.approx(expected)
    assert found.low < found.value < found.high
    assert cells(table, "good")["where"].low == cells(table, "good")["where"].high == 1


def test_a_winner_is_marked_only_where_it_beats_every_other_beyond_doubt(comparison):
    """At 33 % good beats bad in each of four samples; at 22 % close ties in three of the four."""
    ahead, contested = budget_tables(comparison)
    assert cells(ahead, "good")["where"].best
    assert cells(ahead, "good")[LOCALISATION].best
    scores = {arm: comparison.arms[arm].rows["score"][:4] for arm in ("good", "close")}
    _, low, _ = paired_difference_interval(scores["close"], scores["good"])
    assert low == 0
    assert not any(cell.best for cell in (cells(contested, n)["where"] for n in contested.rows))
    # Nobody is ahead where all methods are alike, and no budget is won by its tokens or MACs.
    for table in (ahead, contested):
        for column in ("how", OTHER, TOKENS, MACS):
            assert not any(cells(table, name)[column].best for name in table.rows)


def test_the_shortest_time_is_marked_by_the_same_rule(comparison):
    table = budget_tables(comparison)[1]
    assert [name for name in table.rows if cells(table, name)[TIME].best] == ["good"]
    crossed = timing(unpruned=[0.1, 0.2], good=[0.05, 0.1], bad=[0.04, 0.16], close=[0.06, 0.12])
    table = budget_tables(replace(comparison, timing=crossed))[1]
    assert not any(cells(table, name)[TIME].best for name in table.rows)


def test_a_method_alone_has_nobody_to_beat(comparison):
    plan = Plan(budgets={"33 %": {"good": "good"}})
    table = budget_tables(replace(comparison, plan=plan))[0]
    assert not any(cell.best for cell in table.rows["good"])


def test_a_task_without_ground_truth_has_no_column(comparison):
    for arm in comparison.arms.values():
        arm.rows.loc[arm.rows["task"] == "how", "score"] = np.nan
    table = budget_tables(comparison)[0]
    assert "how" not in {column.name for column in table.columns}
    assert table.columns[1].tasks == ("what",)


def test_a_baseline_of_nothing_leaves_a_dash(comparison):
    comparison.arms["unpruned"].rows["score"] = 0.0
    table = budget_tables(comparison)[0]
    assert cells(table, "good")["where"].empty
    assert "| good | \N{EN DASH} |" in markdown([table])


def test_without_a_plan_or_times_there_is_one_table_of_all_arms(comparison):
    [table] = budget_tables(Comparison(comparison.arms))
    assert (table.budget, list(table.rows)) == ("", ["good", "bad", "close"])
    assert TIME not in {column.name for column in table.columns}
    assert table.timed == ""


def test_markdown_marks_winners_and_says_what_the_mark_means(comparison):
    text = markdown(budget_tables(comparison))
    assert "### Budget: 33 %" in text
    assert (
        "| method | localisation average | other average | where (4) | what (2) | how (2) |" in text
    )
    assert "| unpruned | 100.0 [100.0, 100.0] | 75.0 [50.0, 100.0] |" in text
    assert "| good | **100.0 [100.0, 100.0]** | 66.7" in text
    assert "every other method of this table excludes zero" in text
    assert "Prefill was timed in one run, on cpu, 2 threads" in text
    assert "- Layers of swiftvlm: layers 3, 5." in text
    assert "- Left out: pdrop: out of reach_100%." in text
    hostile = replace(comparison, plan=Plan(budgets={"33 %": {"a|b\nc": "good"}}))
    assert "| a\\|b c |" in markdown(budget_tables(hostile))


CSV = """\
budget,method,column,kind,samples,value,low,high,best
33 %,unpruned,localisation average,score,4,1,1,1,0
33 %,unpruned,visual tokens per layer,tokens,8,10,10,10,0
33 %,unpruned,MACs,macs,8,1e+09,1e+09,1e+09,0
33 %,unpruned,prefill time,time,2,0.15,0.1,0.2,0
33 %,good,localisation average,score,4,1,1,1,1
33 %,good,visual tokens per layer,tokens,8,7,7,7,0
33 %,good,MACs,macs,8,0.4,0.4,0.4,0
33 %,good,prefill time,time,2,0.5,0.5,0.5,1
33 %,bad,localisation average,score,4,0,0,0,0
33 %,bad,visual tokens per layer,tokens,8,7,7,7,0
33 %,bad,MACs,macs,8,0.4,0.4,0.4,0
33 %,bad,prefill time,time,2,0.8,0.8,0.8,0
"""
LATEX = r"""% needs \usepackage{booktabs}
\begin{table}
\centering\footnotesize
\caption{Budget: 33 \%}
\begin{tabular}{lrrrr}
\toprule
method & localisation average & visual tokens per layer & MACs & prefill time \\
\midrule
unpruned & 100.0 {\scriptsize [100.0, 100.0]} & 10.0 {\scriptsize [10.0, 10.0]} & 1.000 {\scriptsize [1.000, 1.000]} & 150.0 {\scriptsize [100.0, 200.0]} \\
\midrule
good & \textbf{100.0} {\scriptsize [100.0, 100.0]} & 7.0 {\scriptsize [7.0, 7.0]} & 40.0 {\scriptsize [40.0, 40.0]} & \textbf{50.0} {\scriptsize [50.0, 50.0]} \\
bad & 0.0 {\scriptsize [0.0, 0.0]} & 7.0 {\scriptsize [7.0, 7.0]} & 40.0 {\scriptsize [40.0, 40.0]} & 80.0 {\scriptsize [80.0, 80.0]} \\
\bottomrule
\end{tabular}
"""  # noqa: E501 - as it is written


@pytest.fixture
def golden(comparison):
    """The first table, without its columns of tasks."""
    table = budget_tables(comparison)[0]
    chosen = [0, 5, 6, 7]

    def of(row):
        return tuple(row[place] for place in chosen)

    rows = {name: of(row) for name, row in table.rows.items()}
    columns, unpruned = of(table.columns), of(table.unpruned)
    return replace(table, columns=columns, unpruned=unpruned, rows=rows)


def test_csv_as_golden(golden):
    assert comma_separated([golden]) == CSV
    assert len(list(csv.DictReader(io.StringIO(CSV)))) == 12


def test_latex_as_golden(golden):
    text = latex([golden])
    assert text.startswith(LATEX)
    assert text.endswith("\\end{table}\n")
    rest = text.removeprefix(LATEX)
    assert "\\par Unpruned: its own scores in \\%," in rest
    hostile = replace(golden, rows={}, left_out={"a_b": r"50% & {x} \ ~^#$"}, budget="")
    escaped = r"a\_b: 50\% \& \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{}\#\$."
    assert escaped in latex([hostile])


def test_files_are_written_beside_the_results(golden, tmp_path):
    files = write_tables(tmp_path, [golden])
    assert [file.name for file in files] == ["table.md", "table.csv", "table.tex"]
    assert files[1].read_text() == CSV
