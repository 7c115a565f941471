"""What the figures that compare methods compute, against plain counts over the same rows."""

import json

import pytest

from tests.support import synthetic
from tokenlens.analyses import selection_fidelity
from tokenlens.errors import ResultsError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.probing.profile import Profile

SAMPLES = 6


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [synthetic.sample(index, folder) for index in range(SAMPLES)]


@pytest.fixture(scope="module")
def profile(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("profile")
    return Profile(synthetic.write_profile(folder, samples, heads=True))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, samples):
    arms = {"swiftvlm": synthetic.schedule(), "other": synthetic.schedule()}
    folder = tmp_path_factory.mktemp("results")
    return Comparison.load(synthetic.write_results(folder, samples, arms))


def last_kept(comparison, arm):
    """The last selection of every sample, as a set of indices of its visual tokens."""
    rows = comparison.arms[arm].rows
    return [
        {position - synthetic.FIRST for position in json.loads(selected)[-1]}
        for selected in rows["selected"]
    ]


@pytest.mark.parametrize("layer", [2, 6])
@pytest.mark.parametrize("top", [0.05, 0.5])
def test_fidelity_counts_the_top_tokens_that_were_selected(profile, comparison, layer, top):
    frame = selection_fidelity.compute(profile, comparison, layer=layer, shares=[top])
    for arm in ("swiftvlm", "other"):
        part = frame[frame["method"] == arm]
        assert part["sample"].tolist() == [f"sample-{index}" for index in range(SAMPLES)]
        for index, kept in enumerate(last_kept(comparison, arm)):
            values = synthetic.importance(index)[layer - 1]
            count = {0.05: 2, 0.5: 18}[top]
            wanted = set(sorted(range(36), key=lambda token: -values[token])[:count])
            row = part.iloc[index]
            assert row["overlap"] == pytest.approx(len(wanted & kept) / count)
            assert row["kept"] == pytest.approx(len(kept) / 36)


def test_fidelity_is_read_at_the_deepest_layer_of_the_first_method(profile, comparison):
    assert selection_fidelity.reading_layer(comparison) == 6
    default = selection_fidelity.compute(profile, comparison)
    assert default.equals(selection_fidelity.compute(profile, comparison, layer=6))
    means = selection_fidelity.summary(default)
    part = default[(default["method"] == "other") & (default["top"] == 0.1)]
    found = means[(means["method"] == "other") & (means["top"] == 0.1)].iloc[0]
    assert found["mean"] == pytest.approx(part["overlap"].mean())
    assert found["low"] <= found["mean"] <= found["high"]
    assert found["samples"] == SAMPLES


def test_fidelity_needs_the_same_samples_and_a_layer_that_exists(tmp_path, profile, comparison):
    strangers = [synthetic.sample(index, tmp_path) for index in range(50, 53)]
    other = Profile(synthetic.write_profile(tmp_path / "profile", strangers))
    assert selection_fidelity.compute(other, comparison).empty
    with pytest.raises(ResultsError, match="layer: got 7, expected 1 to 6"):
        selection_fidelity.compute(profile, comparison, layer=7)
