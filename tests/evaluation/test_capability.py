"""The paper's criterion: its scores, the runs behind them, and the schedule that comes of them."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tokenlens as tl
from tests.methods.test_selection_plan import MadeUpProfile
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.comparing import eager_maps
from tokenlens.errors import SampleError, SelectionError
from tokenlens.evaluation import capability as runs
from tokenlens.evaluation.capability import capability_of, estimate, finished, measure
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.profile_inputs import profiled_samples
from tokenlens.methods.plan import plan
from tokenlens.probing.profiling import profile_samples
from tokenlens.selection.criteria import Capability, gather_evidence, layer_scores

LAYERS, VISUAL, KEPT = 4, 36, 7
TASKS = ("text", "count")


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(LAYERS))


@pytest.fixture(scope="module")
def vlm(model_directory):
    return tl.load(str(model_directory))


@pytest.fixture(scope="module")
def data(vlm, tmp_path_factory):
    """A manifest of six questions; the unpruned model is right in all but the last."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(6):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        question = f"how many are {index} ?"
        sample = tl.Sample(id=str(index), image=folder / f"{index}.png", question=question)
        answer = tl.evaluate(vlm, [sample]).rows["prediction"].item() if index < 5 else "wrong"
        row = {"id": str(index), "image": f"{index}.png", "question": question, "answer": answer}
        rows.append({**row, "task": TASKS[index % 2], "boxes": [[0, 0, 8, 8]]})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def samples(data):
    return tl.load_samples(data)


@pytest.fixture(scope="module")
def profile(vlm, samples, tmp_path_factory):
    return profile_samples(vlm, samples, tmp_path_factory.mktemp("runs") / "profile")


@pytest.fixture(scope="module")
def measured(vlm, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "capability"
    return out, measure(vlm, samples, out, batch_size=4)


def fake(scores, tasks):
    """A comparison whose arms have these scores: the unpruned model's, then each layer's."""
    ids = list(map(str, range(len(tasks))))
    names = ["unpruned", *(f"layer {layer}" for layer in range(1, len(scores)))]
    return Comparison(
        {
            name: SimpleNamespace(rows=pd.DataFrame({"id": ids, "task": tasks, "score": values}))
            for name, values in zip(names, scores, strict=True)
        }
    )


def test_scores_are_the_papers_formula_written_out_by_hand():
    nan = float("nan")
    tasks = ["a", "b", "a", "b", "a", "b", "c"]
    unpruned = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    table = [
        unpruned,
        [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
    # x_i: a data set's score by layer i's tokens over its unpruned score, mean over data sets.
    # a: unpruned 2/3, layers 1/3, 3/3, 0; b: unpruned 2/3, layers 1/3, 3/3, 0.5/3; c: unpruned 0.
    expected = [(0.5 + 0.5) / 2, (1.5 + 1.5) / 2, (0 + 0.25) / 2]
    capability = capability_of(fake(table, tasks), "here")
    x, low, high = layer_scores(capability.scores, capability.unpruned)
    np.testing.assert_allclose(x, expected)
    assert (low <= x).all()
    assert (x <= high).all()
    assert (capability.left_out, capability.data, capability.layers) == (("c",), "here", 3)
    by_the_best = layer_scores(capability.scores)[0]
    assert not np.allclose(by_the_best, expected)  # the control: another normalisation
    with_unanswered = [[*row, nan] for row in table]
    again = capability_of(fake(with_unanswered, [*tasks, "a"]), "here")
    np.testing.assert_array_equal(layer_scores(again.scores, again.unpruned)[0], x)
    with pytest.raises(SelectionError, match="0 or unknown in every task"):
        capability_of(fake([[0.0, nan], [1.0, nan]], ["a", "b"]), "here")


def test_every_layers_run_has_its_own_highest_fifth_from_layer_3_on(vlm, samples, measured):
    """Against HF's eager attention maps; each layer's own choice differs from its neighbour's."""
    _, comparison = measured
    assert list(comparison.arms) == ["unpruned", *(f"layer {i}" for i in range(1, LAYERS + 1))]
    for place, sample in enumerate(samples):
        inputs = vlm.prepare(sample.open_image(), sample.question)
        visual = (inputs["input_ids"][0] == vlm.model.config.image_token_id).nonzero()[:, 0]
        maps = eager_maps(vlm.model, inputs)
        chosen = []
        for layer in range(1, LAYERS + 1):
            row = comparison.arms[f"layer {layer}"].rows.iloc[place]
            assert row["tokens_per_layer"].tolist() == [VISUAL, VISUAL, KEPT, KEPT]
            importance = maps[layer - 1].mean(dim=0)[-1, visual]
            best = visual[importance.topk(KEPT).indices].sort().values.tolist()
            assert json.loads(row["selected"]) == [best]
            chosen.append(best)
        assert all(one != other for one, other in pairwise(chosen))


def test_an_interrupted_measurement_continues_where_it_stopped(
    vlm, samples, measured, tmp_path, monkeypatch
):
    from tokenlens.evaluation.running import generation

    whole, calls = generation.answer, []

    def interrupted(*arguments, **options):
        calls.append(options)
        if len(calls) == limit:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(generation, "answer", interrupted)
    out = tmp_path / "capability"
    arms = 1 + LAYERS
    limit = arms + 3
    with pytest.raises(KeyboardInterrupt):
        measure(vlm, samples, out, batch_size=2)
    assert finished(out, SimpleNamespace(manifest={}), samples) is None
    assert estimate(vlm, samples, out, 2).done == 2 * arms + 2 * 2
    calls.clear()
    limit = None
    comparison = measure(vlm, samples, out, batch_size=2)
    assert len(calls) == 3 * arms - (arms + 2)
    for name, results in measured[1].arms.items():
        assert comparison.arms[name].rows["score"].tolist() == results.rows["score"].tolist()
        assert comparison.arms[name].rows["selected"].equals(results.rows["selected"])


def test_runs_and_profiles_of_changed_pictures_are_not_taken(profile, samples, measured):
    """The samples' hash knows names and sizes; the pixels behind them decide as well."""
    out, _ = measured
    assert finished(out, profile, samples) is not None
    assert profiled_samples(profile).hash == samples.hash
    before = samples[2].image.read_bytes()
    try:
        Image.new("RGB", (24, 24), "red").save(samples[2].image)
        assert tl.load_samples(samples.source).hash == samples.hash
        assert finished(out, profile, samples) is None
        with pytest.raises(SampleError, match="picture of sample '2' was changed since"):
            profiled_samples(profile)
    finally:
        samples[2].image.write_bytes(before)


def test_finished_runs_are_known_without_a_model(profile, samples, data, measured):
    out, comparison = measured
    found = finished(out, profile, samples)
    assert found is not None
    assert found.table().equals(comparison.table())
    assert finished(out, profile, tl.load_samples(data, limit=4)) is None
    identity = profile.manifest["identity"]
    for key in ("id", "revision", "config_hash"):
        model = {**identity["model"], key: "another"}
        other = SimpleNamespace(manifest={"identity": {**identity, "model": model}})
        assert finished(out, other, samples) is None


def test_the_estimate_counts_runs_answers_and_macs(vlm, samples, measured, tmp_path):
    taken = estimate(vlm, samples, tmp_path / "none", 4)
    assert (taken.runs, taken.samples, taken.answers) == (LAYERS + 1, 6, 6 * (LAYERS + 1))
    assert (taken.done, taken.measured) == (0, 4)
    assert taken.seconds > 0
    arms = measured[1].arms
    macs = {name: results.rows["macs"].mean() for name, results in arms.items()}
    expected = 1 + sum(macs.values()) / macs["unpruned"]
    assert taken.passes == pytest.approx(expected, rel=1e-6)
    assert 2 + LAYERS / 2 < taken.passes < 2 + LAYERS
    there = estimate(vlm, samples, measured[0], 4)
    assert (there.done, there.seconds) == (there.answers, 0)


def test_a_schedule_by_capability_says_so():
    scores = {"a": np.zeros((20, 16)), "b": np.zeros((20, 16))}
    rising = np.array([0.1, 0.2, 0.3, 0.2, 0.2, 0.5, 0.4, 0.4, 0.9, *[0.1] * 7])
    for values in scores.values():
        values += rising
    capability = Capability(scores, {"a": 1.0, "b": 0.5}, "elsewhere", left_out=("c",))
    profile = MadeUpProfile()
    selection = plan(profile, criterion=capability, budget="40%")
    assert selection.criterion == "capability"
    assert selection.layers == (3, 6, 9)
    why = selection.schedule.why
    assert (why.criterion, why.data) == ("capability", "elsewhere")
    np.testing.assert_allclose(why.scores, 1.5 * rising)
    assert selection.samples == {"a": 20, "b": 20}
    assert any("'c': not counted" in note for note in selection.notes)
    by_region = gather_evidence(profile.rows(), "region")
    np.testing.assert_array_equal(selection.correlation, by_region.correlation)
    assert plan(profile, budget="40%").layers != selection.layers
    for row in profile.kept:  # neither regions nor what tokens cover need be known
        row.region[:], row.boxes[:] = False, np.nan
    assert plan(profile, criterion=capability, budget="40%").layers == selection.layers
    short = Capability({"a": np.ones((3, 4))}, {"a": 1.0}, "elsewhere")
    with pytest.raises(SelectionError, match=r"scores of 4 layers, expected those of the .* 16"):
        plan(profile, criterion=short)
    with pytest.raises(SelectionError, match="measured by running the model"):
        plan(profile, criterion="capability")


def test_the_arms_of_knock_out_are_these():
    from tokenlens.analyses import knock_out

    assert knock_out.own_left is runs.own_left
