"""The explorer's data: the recorded numbers, what each arm did, and that the page stays small."""

import base64
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.support import synthetic
from tokenlens.analyses.kept_tokens import row_fates
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.reports import explorer as explorer_module
from tokenlens.reports.explored_runs import choose, explored_models
from tokenlens.reports.explorer import explorer
from tokenlens.reports.inputs import read_inputs
from tokenlens.reports.page import build_report
from tokenlens.storage.output_paths import Runs

OTHER = [{"score_layer": 2, "when": "after", "keep": 0.3, "disposal": "drop"}]
ARMS = {
    "swiftvlm": synthetic.schedule(),
    "fastv": synthetic.schedule(method="fastv", stages=OTHER),
}


def data_of(explored):
    return json.loads(str(explored.data))


def maps_of(sample):
    """The maps as the page computes them: float64 [layers, 1 + heads, n_visual]."""
    maps = sample["maps"]
    steps = np.frombuffer(base64.b64decode(maps["maps"]), dtype="<u2")
    shape = (maps["layers"], maps["heads"] + 1)
    return steps.reshape(*shape, -1) * np.array(maps["tops"]).reshape(*shape, 1) / maps["levels"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [synthetic.sample(index, folder) for index in range(8)]


@pytest.fixture(scope="module")
def profile(tmp_path_factory, samples):
    return synthetic.write_profile(tmp_path_factory.mktemp("profile"), samples, heads=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory, samples):
    return synthetic.write_results(tmp_path_factory.mktemp("results"), samples, ARMS)


def test_the_maps_are_the_profiles_to_half_a_step(profile, results):
    data = data_of(explorer([read_inputs(profile, None, results)], 24))
    assert sorted(one["id"] for one in data["samples"]) == [f"sample-{i}" for i in range(8)]
    for sample in data["samples"]:
        index = int(sample["id"].removeprefix("sample-"))
        true = np.concatenate(
            [synthetic.importance(index)[:, None], synthetic.per_head(index)], axis=1
        )
        off = np.abs(maps_of(sample) - true)
        assert (off <= true.max(axis=-1, keepdims=True) * (0.5 / 65535 + 1e-5)).all()
        assert not (off <= true.max(axis=-1, keepdims=True) * 1e-9).all()  # the control


def test_what_each_arm_answered_and_kept_is_there(profile, results):
    data = data_of(explorer([read_inputs(profile, None, results)], 24))
    (model,) = data["models"]
    assert [arm["name"] for arm in model["arms"]] == ["unpruned", "swiftvlm", "fastv"]
    comparison = Comparison.load(results)
    for sample in data["samples"]:
        index = int(sample["id"].removeprefix("sample-"))
        for outcome, (name, arm) in zip(sample["outcomes"], comparison.arms.items(), strict=True):
            row = arm.rows.iloc[index]
            assert outcome["prediction"] == row["prediction"]
            assert outcome["score"] == row["score"]
            if name != "unpruned":
                fates = row_fates(row, ARMS[name])
                assert outcome["fates"] == ["".join(map(str, one)) for one in fates.tolist()]


def test_what_loses_is_shown_first_and_the_rest_is_measured(profile, results):
    (model,) = explored_models([read_inputs(profile, None, results)])
    names = [name for name, _, _ in choose(model, 3)]
    assert names[0] in ("sample-5", "sample-6")  # where an arm scores less than the unpruned model
    assert len(choose(model, 100)) == 8
    (alone,) = explored_models([read_inputs(profile, None, None)])
    assert len(choose(alone, 5)) == 5


def test_runs_of_one_model_are_explored_together(tmp_path, samples, profile, results):
    again = synthetic.write_results(tmp_path / "again", samples, {"fastv": synthetic.schedule()})
    parts = [read_inputs(profile, None, results), read_inputs(None, None, again)]
    data = data_of(explorer(parts, 24))
    (model,) = data["models"]
    names = [arm["name"] for arm in model["arms"]]
    assert names == ["unpruned", "swiftvlm", "fastv", "fastv (again)"]
    assert [len(sample["outcomes"]) for sample in data["samples"]] == [4] * 8


def test_two_profiles_of_the_same_samples_are_both_there(tmp_path, samples, profile, results):
    again = synthetic.write_profile(tmp_path / "again", samples[:2])
    parts = [read_inputs(profile, None, results), read_inputs(again, None, None)]
    data = data_of(explorer(parts, 24))
    names = list(data["models"][0]["correlations"])
    assert [name.rsplit("/")[-1] for name in names] == [f"{profile.name})", "again)"]
    words = {one["id"]: one["maps"]["words"] for one in data["samples"]}
    assert words["sample-0"] == words["sample-1"] == names
    assert words["sample-2"] == names[:1]
    heads = {one["id"]: one["maps"]["heads"] for one in data["samples"]}
    assert (heads["sample-0"], heads["sample-2"]) == (0, 2), "one profile has no heads"


def test_two_models_have_a_part_each(tmp_path, monkeypatch, samples, profile, results):
    monkeypatch.setitem(synthetic.MODEL, "config_hash", "another")
    monkeypatch.setitem(synthetic.MODEL, "id", "other-model")
    other = synthetic.write_profile(tmp_path / "other", samples[:3])
    further = (Runs(other, None, tmp_path),)
    files = build_report(profile, None, results, tmp_path / "report", pictures=1, further=further)
    html = files.html.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="explorer-data">(.*?)</script>', html, re.S)[1])
    assert [model["name"] for model in data["models"]] == ["synthetic", "other-model"]
    assert {sample["model"] for sample in data["samples"]} == {0, 1}
    assert 'id="maps"' in html
    assert 'id="maps-2"' in html
    assert html.count('id="explore"') == 1
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert (tmp_path / "report/figures/2/rank-correlation.svg").exists()


def test_without_samples_there_is_no_script(tmp_path, profile):
    html = build_report(profile, None, None, tmp_path, pictures=0, samples=0).html.read_text()
    assert "<script" not in html
    assert "script-src" not in html


def test_what_is_too_large_is_left_out_and_said(monkeypatch, profile, results):
    inputs = [read_inputs(profile, None, results)]
    monkeypatch.setattr(explorer_module, "MOST_MAP_BYTES", 10_000)
    explored = explorer(inputs, 24)
    assert {sample["maps"]["heads"] for sample in data_of(explored)["samples"]} == {0}
    assert any("Heads are left out" in note for note in explored.notes)
    monkeypatch.setattr(explorer_module, "MOST_BYTES", 12_000)
    explored = explorer(inputs, 24)
    shown = len(data_of(explored)["samples"])
    assert 1 <= shown < 8
    assert any(f"{8 - shown} more samples are left out" in note for note in explored.notes)


@pytest.fixture
def large(tmp_path, monkeypatch):
    """24 samples of 32 layers and 576 tokens, four methods, and pictures of noise."""
    monkeypatch.setattr(synthetic, "LAYERS", 32)
    monkeypatch.setattr(synthetic, "GRID", 24)
    monkeypatch.setattr(synthetic, "SIDE", 336)
    monkeypatch.setitem(synthetic.MODEL, "layers", 32)
    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(24)]
    random = np.random.default_rng(0)
    for sample in samples:
        noise = random.integers(0, 256, (84, 84, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((336, 336)).save(sample["image"])
    profile = synthetic.write_profile(tmp_path / "profile", samples)
    arms = {f"method {number}": synthetic.schedule() for number in range(4)}
    return profile, synthetic.write_results(tmp_path / "results", samples, arms)


def test_a_large_model_fits_into_the_explorer(large):
    profile, results = large
    explored = explorer([read_inputs(profile, None, results)], 24)
    assert len(data_of(explored)["samples"]) == 24
    assert len(explored.data) <= 6_000_000


@pytest.mark.slow
def test_a_large_models_page_is_less_than_10_mb(tmp_path, large):
    profile, results = large
    html = build_report(profile, None, results, tmp_path / "report").html
    assert html.stat().st_size <= 10_000_000
