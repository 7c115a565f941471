"""`lmms_eval --model tokenlens_wrapped`: a model of lmms-eval's own is pruned, and fails aloud."""

import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from tests.campaigns.small_run import write_inputs
from tests.support import lmms_eval_standin as standin
from tokenlens import evaluate, load, load_samples
from tokenlens.errors import OptionError, PruningError, ScheduleError
from tokenlens.harnesses.lmms_families import refuse_unwrappable, watched, wrapper_of
from tokenlens.schedule import Schedule

SAMPLES = 5
pytestmark = pytest.mark.filterwarnings("ignore:a cache of responses")


class Careless:
    """Like lmms-eval's LLaVA: every error of `generate` is an empty answer."""

    is_simple = False
    rank, world_size, accelerator = 0, 1, "the one of lmms-eval's model"

    def __init__(self, pretrained, device="cpu", broken=False):
        self.model = AutoModelForImageTextToText.from_pretrained(pretrained, dtype=torch.float32)
        self.processor = load(pretrained, device="cpu").processor
        self.task_dict, self.broken, self.cleaned = {}, broken, False

    def generate_until(self, requests):
        return [self.answer(*one.args) for one in requests]

    def answer(self, question, options, pictures, row, task, split):
        picture = pictures(self.task_dict[task][split][row])[0].convert("RGB")
        content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        if self.broken:
            inputs["pixel_values"] = inputs["pixel_values"][1:]
        try:
            new = self.model.generate(**inputs, do_sample=False, **options)[0]
        except Exception:  # noqa: BLE001 - as it does
            return ""
        return self.processor.decode(new[inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def loglikelihood(self, requests):
        return [(-1.0, True) for _ in requests]

    def clean(self):
        self.cleaned = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, SAMPLES)
    vlm = load(folder / "model", device="cpu")
    Schedule.preset("fastv", vlm, budget="50%", n_visual=36).save(folder / "pruned.json")
    return folder


@pytest.fixture
def module(monkeypatch):
    standin.install(monkeypatch)
    name = "tokenlens.harnesses.lmms_wrapped"
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = import_module(name)
    monkeypatch.setattr(module, "get_model", lambda name, simple: Careless)
    yield module
    sys.modules.pop(name, None)


def asked(model, folder):
    samples = load_samples(folder / "data")
    model.task_dict["t"] = {"test": samples}
    return [
        standin.request(one.question, row, lambda one: [one.open_image()], max_new_tokens=6)
        for row, one in enumerate(samples)
    ]


@pytest.mark.parametrize("schedule", [None, "pruned.json"])
def test_answers_are_those_of_the_pruned_model(module, folder, schedule):
    told = {"schedule": str(folder / schedule)} if schedule else {}
    model = module.WrappedModel(pretrained=str(folder / "model"), **told)
    file = Schedule.load(folder / schedule) if schedule else None
    rows = evaluate(
        load(folder / "model", device="cpu"),
        load_samples(folder / "data"),
        schedule=file,
        max_new_tokens=6,
    ).rows
    assert model.generate_until(asked(model, folder)) == rows["prediction"].tolist()


def test_the_rest_is_lmms_evals_model(module, folder):
    model = module.WrappedModel(pretrained=str(folder / "model"), device="cpu")
    assert not model.is_simple
    assert model.accelerator == Careless.accelerator
    assert model.loglikelihood([1, 2]) == [(-1.0, True)] * 2
    model.clean()
    assert model._inner.cleaned
    with pytest.raises(AttributeError):
        _ = model.nothing_of_that_name


def test_an_error_that_was_swallowed_is_raised(module, folder):
    model = module.WrappedModel(pretrained=str(folder / "model"), broken=True)
    requests = asked(model, folder)
    assert set(model._inner.generate_until(requests)) == {""}
    with pytest.raises(Exception, match=r"(?i)image|features|shape|size|index"):
        model.generate_until(requests)
    model._inner.broken = False
    assert any(model.generate_until(requests))


def test_a_model_that_never_generates_is_refused(folder):
    model = load(folder / "model", device="cpu").model
    with pytest.raises(PruningError, match="without `generate`"), watched(model, 3):
        pass
    with watched(model, 0):
        pass
    assert "generate" not in vars(model)


def test_what_cannot_be_pruned_is_refused_before_a_question(module, folder):
    told = {"pretrained": str(folder / "model"), "schedule": str(folder / "pruned.json")}
    model = module.WrappedModel(**told)
    with pytest.raises(OptionError, match="output_type generate_until"):
        model.loglikelihood([1])
    schedule = Schedule.load(folder / "pruned.json")
    with pytest.raises(OptionError, match="wrapper=vllm: its model is a object, expected"):
        refuse_unwrappable(object(), schedule, "vllm")
    with pytest.raises(OptionError, match="scales pictures"):
        refuse_unwrappable(model._inner.model, schedule.replace(image_scale=0.5), "x")
    reference = {**schedule.as_json()["model"], "layers": 9}
    schedule.replace(model=reference).save(folder / "other.json")
    with pytest.raises(ScheduleError, match="layers"):
        module.WrappedModel(**{**told, "schedule": str(folder / "other.json")})


def test_a_family_that_lmms_eval_does_not_run_is_refused(folder, tmp_path):
    assert wrapper_of(folder / "model") == "qwen2_vl"
    (tmp_path / "config.json").write_text('{"model_type": "kosmos-2"}')
    with pytest.raises(OptionError, match=r"kosmos-2.*wrapper=NAME"):
        wrapper_of(tmp_path)


@pytest.mark.lmms
def test_lmms_evals_registry_has_both_models():
    models = pytest.importorskip("lmms_eval.models")
    for name in ("tokenlens", "tokenlens_wrapped"):
        assert name in models.list_available_models()
        assert models.get_model(name).is_simple


@pytest.mark.lmms
def test_lmms_evals_llava_does_not_answer_errors_with_nothing():
    """`generate` refuses to generate no token."""
    pytest.importorskip("lmms_eval.models")
    from tokenlens.harnesses.lmms_wrapped import WrappedModel

    model = WrappedModel(pretrained="tiny-llava", device="cpu", device_map="cpu", dtype="float32")
    model.task_dict["t"] = {"test": [Image.new("RGB", (64, 64))]}

    def messages(picture):
        content = [{"type": "image", "url": picture}, {"type": "text", "text": "where ?"}]
        return [{"role": "user", "content": content}]

    def request(most):
        return SimpleNamespace(args=("", messages, {"max_new_tokens": most}, 0, "t", "test"))

    assert [one.text for one in model._inner.generate_until([request(0)])] == [""]
    with pytest.raises(ValueError, match="max_new_tokens"):
        model.generate_until([request(0)])
    assert len(model.generate_until([request(4)])) == 1
