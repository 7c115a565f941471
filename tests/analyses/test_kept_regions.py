"""What a method's last choice holds of the region, against a count by hand."""

import json

import pytest

from tests.support.synthetic import FIRST, GRID, SIDE, sample, schedule, write_results
from tokenlens.analyses.studies.kept_regions import compute, main, markdown, plot
from tokenlens.evaluation.comparing.comparison import UNPRUNED, Comparison


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    samples = [sample(index, folder / "pictures") for index in range(4)]
    arms = {UNPRUNED: None, "swiftvlm": schedule()}
    return write_results(folder / "run", samples, arms)


def by_hand(row):
    """The share of the box's cells, 2 by 2 of the grid, among the last stage's positions."""
    ((left, top, *_),) = row["region_boxes"]
    column, line = int(left) * GRID // SIDE, int(top) * GRID // SIDE
    cells = {FIRST + (line + y) * GRID + column + x for x in (0, 1) for y in (0, 1)}
    return len(cells & set(json.loads(row["selected"])[-1])) / 4


def test_the_region_is_counted_in_the_last_choice(results):
    comparison = Comparison.load(results)
    table = compute(comparison)
    assert table["arm"].to_list() == ["swiftvlm"]
    rows = comparison.arms["swiftvlm"].rows.to_dict("records")
    shares = [by_hand(row) for row in rows]
    (found,) = table.to_dict("records")
    assert found["samples"] == len(rows)
    assert found["region"] == pytest.approx(sum(shares) / len(shares))
    assert found["touched"] == pytest.approx(sum(share > 0 for share in shares) / len(shares))
    assert found["all"] == pytest.approx(4 / GRID**2)
    assert found["region_low"] <= found["region"] <= found["region_high"]
    (of_one,) = compute(comparison, ["what"]).to_dict("records")
    some = [share for row, share in zip(rows, shares, strict=True) if row["task"] == "what"]
    assert (of_one["samples"], of_one["region"]) == (len(some), sum(some) / len(some))
    assert len(markdown(table).splitlines()) == 3
    assert plot(table).axes[0].get_yticklabels()[0].get_text() == "swiftvlm"


def test_the_command_prints_the_table_or_one_line(results, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["kept_regions", str(results)])
    main()
    assert capsys.readouterr().out.startswith("| method and budget |")
    monkeypatch.setattr("sys.argv", ["kept_regions", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
