"""A finished search is read from its files as it was; files that do not agree are refused."""

import pandas as pd
import pytest

from tests.support.measured import searched, write_search
from tokenlens.errors import ResultsError
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.stored import StoredTuning
from tokenlens.tuning.tuning import FRONT, TABLE


@pytest.mark.parametrize(
    "goal",
    [
        Goal.of("50%"),
        Goal.of("33% MACs", labels=False),
        Goal.of(min_retained="60%", objective="kv"),
        Goal.of(min_agreement=0.6),
    ],
)
def test_what_was_written_is_read(tmp_path, goal):
    written = searched(goal)
    found = StoredTuning.load(write_search(tmp_path / "search", written))
    assert (found.goal, found.samples, found.held_out_samples) == (goal, 40, 20)
    pd.testing.assert_frame_equal(found.table(), written.table(), check_dtype=False)
    assert found.cautions == written.cautions


def test_a_search_in_tokenlens_s_own_files_is_read(finished):
    tuning, directory = finished
    found = StoredTuning.load(directory)
    shown = ["trial", "name", "outcome", "cost", "retained", "on_front", "chosen"]
    pd.testing.assert_frame_equal(found.table()[shown], tuning.table()[shown], check_dtype=False)
    assert found.identity["goal"] == tuning.goal.as_json()


def test_what_is_no_finished_search_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="holds no search"):
        StoredTuning.load(tmp_path)
    directory = write_search(tmp_path / "search")
    table = directory / TABLE
    text = table.read_text()
    table.write_text(text.replace("0.65", "0.95"))
    with pytest.raises(ResultsError, match=r"does not hold trial 1 as front\.json has it"):
        StoredTuning.load(directory)
    for damaged in ("", "trial,name\n0,fastv\n", text.replace("0.3,", "a lot,")):
        table.write_text(damaged)
        with pytest.raises(ResultsError, match=r"cannot be read .* run `tokenlens tune` again"):
            StoredTuning.load(directory)
    (directory / FRONT).unlink()
    with pytest.raises(ResultsError, match=r"is not finished \(no front\.json\)"):
        StoredTuning.load(directory)
