"""The files of examples/harnesses: VLMEvalKit's model, and the rows of lmms-eval's task."""

import runpy
import sys
from types import ModuleType

import pytest
from PIL import Image

from tests.campaigns.small_run import write_inputs
from tests.support.repository import ROOT
from tokenlens import Sample, Schedule, evaluate, load, load_samples

FOLDER = ROOT / "examples" / "harnesses"


class BaseModel:
    """What VLMEvalKit's own base class does between its loop over a dataset and a model."""

    allowed_types = ("text", "image", "video")

    def __init__(self):
        self.dump_image_func = None

    def set_dump_image(self, dump_image_func):
        self.dump_image_func = dump_image_func

    def use_custom_prompt(self, dataset):
        return False

    def generate(self, message, dataset=None):
        for part in message:
            assert part["type"] in self.allowed_types, part["type"]
        return self.generate_inner(message, dataset)


@pytest.fixture
def registered(monkeypatch):
    """What the example registers, with the names of VLMEvalKit that it imports."""
    names: dict = {}
    contents = {"config": {"supported_VLM": names}, "vlm": {}, "vlm.base": {"BaseModel": BaseModel}}
    monkeypatch.setitem(sys.modules, "vlmeval", ModuleType("vlmeval"))
    for name, values in contents.items():
        module = ModuleType(f"vlmeval.{name}")
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, f"vlmeval.{name}", module)
    runpy.run_path(str(FOLDER / "vlmevalkit.py"))
    return names["tokenlens"]


@pytest.mark.parametrize("pruned", [False, True])
def test_vlmevalkits_model_answers_as_tokenlens(registered, tmp_path, pruned):
    write_inputs(tmp_path, 3)
    vlm, file = load(tmp_path / "model"), None
    if pruned:
        file = tmp_path / "out.json"
        Schedule.preset("fastv", vlm, budget="50%", n_visual=36).save(file)
    samples = load_samples(tmp_path / "data")
    schedule = Schedule.load(file) if file else None
    rows = evaluate(vlm, samples, schedule, max_new_tokens=6).rows
    model = registered(pretrained=tmp_path / "model", schedule=file, max_new_tokens=6)
    for sample, wanted in zip(samples, rows["prediction"], strict=True):
        picture = {"type": "image", "value": str(sample.image)}
        message = [picture, {"type": "text", "value": sample.question}]
        model.set_dump_image(print)
        assert not model.use_custom_prompt("MMBench")
        assert model.generate(message=message, dataset="MMBench") == wanted
    assert isinstance(model.generate([message[1]]), str)


def test_vlmevalkits_model_takes_several_pictures_and_no_video(registered, tmp_path):
    write_inputs(tmp_path, 3)
    first, second, _ = load_samples(tmp_path / "data")
    model = registered(pretrained=tmp_path / "model", schedule=None, max_new_tokens=6)
    pictures = [{"type": "image", "value": str(one.image)} for one in (first, second)]
    asked = {"type": "text", "value": first.question}
    both = Sample("0", first.image, first.question, more_images=(second.image,))
    (wanted,) = evaluate(model.vlm, [both], max_new_tokens=6).rows["prediction"]
    assert model.generate([*pictures, asked]) == wanted
    with pytest.raises(AssertionError, match="video"):
        model.generate([{"type": "video", "value": "a.mp4"}, asked])


def test_vlmevalkits_example_is_short():
    lines = (FOLDER / "vlmevalkit.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 26


def test_the_rows_of_the_task_are_the_held_out_scenes(tmp_path):
    datasets = pytest.importorskip("datasets")
    task = runpy.run_path(str(FOLDER / "scenes.py"))
    task["write"](tmp_path / "scenes.parquet", 3)
    rows = datasets.Dataset.from_parquet(str(tmp_path / "scenes.parquet"), cache_dir=str(tmp_path))
    samples = load_samples("scenes", "held-out", 3)
    assert [task["question"](row) for row in rows] == [one.question for one in samples]
    for row, sample in zip(rows, samples, strict=True):
        (picture,) = task["pictures"](row)
        assert picture.tobytes() == Image.open(sample.image).convert("RGB").tobytes()
        assert task["scores"](row, [f" {sample.answers[0]} "]) == {"same_words": 1.0}
        assert task["scores"](row, ["no such words"]) == {"same_words": 0.0}
