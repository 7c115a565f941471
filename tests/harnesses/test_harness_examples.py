"""The files of examples/harnesses: VLMEvalKit's model, and the rows of lmms-eval's task."""

import runpy
import sys
from types import ModuleType

import pytest
from PIL import Image

from tests.campaigns.small_run import write_inputs
from tests.support.repository import ROOT
from tokenlens import Schedule, evaluate, load, load_samples

FOLDER = ROOT / "examples" / "harnesses"


@pytest.fixture
def registered(monkeypatch):
    """What the example registers, with the names of VLMEvalKit that it imports."""
    names: dict = {}
    contents = {"config": {"supported_VLM": names}, "vlm": {}, "vlm.base": {"BaseModel": object}}
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
        assert model.generate_inner(message, dataset="MMBench") == wanted
    assert isinstance(model.generate_inner([message[1]]), str)


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
