"""`lmms_eval --model tokenlens`: the answers of `tokenlens run`, however lmms-eval asks."""

import sys
from importlib import import_module
from importlib.metadata import entry_points

import pytest

from tests.campaigns.small_run import write_inputs
from tests.support import lmms_eval_standin as standin
from tokenlens import evaluate, load, load_samples
from tokenlens.errors import OptionError, ScheduleError
from tokenlens.schedule import Schedule

SAMPLES = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, SAMPLES)
    vlm = load(folder / "model", device="cpu")
    half = Schedule.preset("fastv", vlm, budget="50%", n_visual=36).portable()
    half.save(folder / "pruned.json")
    stages = [{**stage, "keep": 1.0} for stage in half.as_json()["stages"]]
    half.replace(stages=stages, budget=None).save(folder / "everything.json")
    return folder


@pytest.fixture
def model_class(monkeypatch):
    standin.install(monkeypatch)
    monkeypatch.delitem(sys.modules, "tokenlens.harnesses.lmms_model", raising=False)
    yield import_module("tokenlens.harnesses.lmms_model").TokenlensModel
    sys.modules.pop("tokenlens.harnesses.lmms_model", None)


def asked(model, folder, **options):
    """The samples of the folder as requests, in another order than the rows."""
    samples = load_samples(folder / "data")
    model.task_dict["t"] = {"test": samples}
    return [
        standin.request(samples[row].question, row, lambda one: [one.open_image()], **options)
        for row in reversed(range(SAMPLES))
    ]


def answers(folder, schedule, most):
    vlm, samples = load(folder / "model", device="cpu"), load_samples(folder / "data")
    file = schedule and Schedule.load(folder / schedule)
    rows = evaluate(vlm, samples, schedule=file, max_new_tokens=most).rows
    return rows["prediction"].tolist()


@pytest.mark.filterwarnings("ignore:a cache of responses")
@pytest.mark.parametrize("schedule", [None, "everything.json", "pruned.json"])
@pytest.mark.parametrize("batch_size", [1, "3"])
def test_answers_are_those_of_tokenlens(model_class, folder, schedule, batch_size, capsys):
    told = {"schedule": str(folder / schedule)} if schedule else {}
    model = model_class(
        pretrained=str(folder / "model"), device="cpu", batch_size=batch_size, **told
    )
    found = model.generate_until(asked(model, folder, max_new_tokens=6))
    assert found[::-1] == [one.strip() for one in answers(folder, schedule, 6)]
    assert "visual tokens entering a layer" in capsys.readouterr().err


def test_the_schedule_changes_an_answer(folder):
    assert answers(folder, "pruned.json", 6) != answers(folder, None, 6)
    assert answers(folder, "everything.json", 6) == answers(folder, None, 6)


def test_requests_are_answered_each_by_its_own_length(model_class, folder):
    model = model_class(pretrained=str(folder / "model"), device="cpu", batch_size=4)
    few, many = (asked(model, folder, max_new_tokens=most) for most in (1, 6))
    mixed = model.generate_until([few[0], many[1], many[2], few[3]])
    alone = [model.generate_until([one])[0] for one in (few[0], many[1], many[2], few[3])]
    assert mixed == alone
    assert model.generate_until([]) == []


def test_what_cannot_be_used_is_refused_before_a_question(model_class, folder):
    model = str(folder / "model")
    with pytest.raises(OptionError, match="model_args: got 'schedul'"):
        model_class(pretrained=model, schedul="out.json")
    with pytest.raises(ScheduleError):
        model_class(pretrained=model, schedule="none.json")
    with pytest.raises(OptionError, match="batch_size: got 'auto'"):
        model_class(pretrained=model, batch_size="auto")
    ready = model_class(pretrained=model, device="cpu")
    for refused in (ready.loglikelihood, ready.generate_until_multi_round):
        with pytest.raises(OptionError, match="output_type generate_until"):
            refused([])


def test_lmms_eval_finds_the_models_and_imports_no_torch_for_it(monkeypatch):
    (entry,) = entry_points(group="lmms_eval.models", name="tokenlens")
    standin.install(monkeypatch)
    monkeypatch.delitem(sys.modules, "tokenlens.harnesses.lmms_manifest", raising=False)
    before = set(sys.modules)
    manifests = entry.load()
    assert [one.model_id for one in manifests] == ["tokenlens", "tokenlens_wrapped"]
    new = {name for name in sys.modules if name not in before}
    assert {name for name in new if name.startswith("tokenlens")} <= {
        "tokenlens.harnesses",
        "tokenlens.harnesses.lmms_manifest",
    }
    for one in manifests:
        module, _, name = one.simple_class_path.rpartition(".")
        assert module in ("tokenlens.harnesses.lmms_model", "tokenlens.harnesses.lmms_wrapped")
        assert name.endswith("Model")
    sys.modules.pop("tokenlens.harnesses.lmms_manifest", None)
