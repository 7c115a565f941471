"""Which directories a report is about, and which of them belong together."""

import pytest

from tests.support import synthetic
from tests.support.measured import write_information, write_search
from tokenlens.errors import ResultsError
from tokenlens.storage.output_paths import find_runs


@pytest.fixture
def samples(tmp_path):
    return [synthetic.sample(index, tmp_path / "pictures") for index in range(2)]


def test_a_profile_and_results_are_one_pair_in_either_order(tmp_path, samples):
    profile = synthetic.write_profile(tmp_path / "a", samples)
    results = synthetic.write_results(tmp_path / "b", samples)
    for named in ([profile, results], [results, profile], [results, profile, results]):
        runs = find_runs(named)
        assert (runs.profile, runs.results, runs.further) == (profile, results, ())
        assert runs.report == tmp_path / "report"


def test_more_directories_are_sorted_by_model(tmp_path, monkeypatch, samples):
    profile = synthetic.write_profile(tmp_path / "a", samples)
    results = [synthetic.write_results(tmp_path / name, samples) for name in ("b", "c")]
    monkeypatch.setitem(synthetic.MODEL, "config_hash", "another")
    other = synthetic.write_profile(tmp_path / "d", samples)
    others = synthetic.write_results(tmp_path / "e", samples)
    runs = find_runs([others, profile, *results, other])
    pairs = [(one.profile, one.results) for one in (runs, *runs.further)]
    assert pairs == [(other, others), (profile, results[0]), (None, results[1])]


def test_what_is_neither_is_refused(tmp_path, samples):
    profile = synthetic.write_profile(tmp_path / "a", samples)
    with pytest.raises(ResultsError, match="is no profile and no results"):
        find_runs([profile, tmp_path / "pictures"])


def test_the_newest_of_every_kind_is_taken_where_nothing_is_named(tmp_path, monkeypatch, samples):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "tokenlens-out" / "synthetic"
    results = synthetic.write_results(model / "results", samples)
    profile = synthetic.write_profile(model / "profile", samples)
    rows = write_information(model / "information" / "rows")
    search = write_search(model / "tune")
    (write_search(model / "tune-unfinished") / "front.json").unlink()
    monkeypatch.setitem(synthetic.MODEL, "config_hash", "another")
    write_search(model / "tune-of-another-model")
    runs = find_runs([])
    found = [one.resolve() for one in (runs.profile, runs.results, runs.information, runs.tuning)]
    assert found == [profile, results, rows, search]
    alone = find_runs([rows])
    assert (alone.information, alone.profile, alone.report) == (rows, None, model / "report")
