"""Which directories a report is about, and which of them belong together."""

import pytest

from tests.support import synthetic
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
