"""What the figures that compare methods compute, against plain counts over the same rows."""

import json

import numpy as np
import pytest

from tests.support import synthetic
from tokenlens.analyses import (
    attention_sinks,
    kept_by_method,
    quality_against_cost,
    region_heads,
    selection_fidelity,
)
from tokenlens.errors import ResultsError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.measures.overlap import region_overlap
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


def test_fidelity_does_not_take_another_sample_of_the_same_id(tmp_path, samples, comparison):
    """Two data sets that number their rows have the same ids for other pictures."""
    others = [synthetic.sample(index, tmp_path) for index in range(50, 53)]
    renamed = [{**row, "id": f"sample-{index}"} for index, row in enumerate(others)]
    profile = Profile(synthetic.write_profile(tmp_path / "profile", [*renamed, samples[4]]))
    found = selection_fidelity.compute(profile, comparison)
    assert set(found["sample"]) == {"sample-4"}


def test_methods_stand_beside_each_other_with_their_last_selections(comparison):
    rows = {arm: results.rows.iloc[1] for arm, results in comparison.arms.items()}
    frame = kept_by_method.compute(rows)
    assert frame["method"].unique().tolist() == ["swiftvlm", "other"]
    for arm, part in frame.groupby("method"):
        assert set(part.loc[part["kept"], "token"]) == last_kept(comparison, arm)[1]
        assert (part["score"] == rows[arm]["score"]).all()


def test_costs_are_those_of_the_tables_and_times_only_where_measured(comparison):
    frame = quality_against_cost.compute(comparison)
    assert frame["cost"].unique().tolist() == ["MACs"]
    table = comparison.table().set_index(["task", "arm"])["macs"]["all"]
    for row in frame.itertuples():
        assert row.share == pytest.approx(table[row.method] / table["unpruned"])


def test_heads_are_scored_one_by_one(profile):
    frame = region_heads.compute(profile, top=0.3)
    assert frame.shape == (synthetic.HEADS, synthetic.LAYERS)
    rows = [row for row in profile.rows() if row.region.any()]
    for head in range(synthetic.HEADS):
        expected = region_overlap(
            [row.per_head[:, head] for row in rows], [row.region for row in rows], top=0.3
        )
        np.testing.assert_allclose(frame.loc[head + 1], expected, atol=1e-12)
    best = region_heads.strongest(frame)
    assert all(frame.loc[heads[0], layer] == frame[layer].max() for layer, heads in best.items())


def test_all_heads_together_buy_nothing_and_one_head_what_it_finds(profile):
    layers = range(1, synthetic.LAYERS + 1)
    every = region_heads.with_heads(profile, {layer: [1, 2] for layer in layers})
    assert not every["difference"].any()
    alone = region_heads.with_heads(profile, {layer: [2] for layer in layers})
    np.testing.assert_allclose(alone["chosen"], region_heads.compute(profile).loc[2], atol=1e-12)


def test_heads_need_a_profile_that_holds_them(tmp_path, samples):
    plain = Profile(synthetic.write_profile(tmp_path, samples))
    assert region_heads.compute(plain).empty


def test_sinks_are_the_share_of_the_top_and_how_often_it_is_the_same(profile):
    frame = attention_sinks.compute(profile, top=0.1)
    maps = [synthetic.importance(index).astype(float) for index in range(SAMPLES)]
    tops = [[set(np.argsort(-row, kind="stable")[:4]) for row in one] for one in maps]
    for layer in range(synthetic.LAYERS):
        shares = [np.sort(one[layer])[-4:].sum() / one[layer].sum() for one in maps]
        assert frame["share"][layer] == pytest.approx(np.mean(shares))
        common = [
            len(tops[a][layer] & tops[b][layer]) / 4
            for a in range(SAMPLES)
            for b in range(SAMPLES)
            if a != b
        ]
        assert frame["stability"][layer] == pytest.approx(np.mean(common))
    np.testing.assert_allclose(frame["chance"], 4 / 36)
    assert (frame["pictures"] == SAMPLES).all()


def test_one_picture_says_nothing_of_stability(tmp_path, samples):
    one = Profile(synthetic.write_profile(tmp_path, samples[:1]))
    assert attention_sinks.compute(one)["stability"].isna().all()
