"""How tables of many methods fit terminals."""

import pytest

from tests.support.synthetic import sample, schedule, write_results
from tokenlens.cli import comparison_tables
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison
from tokenlens.evaluation.comparing.tables import budget_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    tasks = [f"kind-{number}" for number in range(8)]
    samples = [sample(index, folder / "pictures", tasks=tasks) for index in range(16)]
    for row in samples[:4]:
        row["task"] = "localisation"
    arms = {UNPRUNED: None, "swiftvlm": schedule()}
    return budget_tables(Comparison.load(write_results(folder / "run", samples, arms)))


@pytest.mark.parametrize(("width", "tasks"), [(60, False), (80, False), (400, True)])
def test_what_does_not_fit_is_left_to_the_files(tables, width, tasks, monkeypatch):
    console = comparison_tables.console
    monkeypatch.setattr(console, "width", width)
    with console.capture() as captured:
        comparison_tables.print_tables(tables)
    printed = captured.get()
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert {len(line) for line in rows} == {len(rows[0])}
    assert len(rows[0]) <= width
    assert ("kind-5" in "".join(rows)) is tasks
    assert ("in a wider terminal" in printed) is not tasks
    assert "".join(rows).count("…") == 0
    if tasks:
        intervals = next(line for line in rows if "[" in line)
        assert intervals.count("[") == len(tables[0].columns)
