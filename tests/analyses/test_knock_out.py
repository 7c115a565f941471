"""How deep a model reads: the tokens that layers run on are those that were asked for."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.analyses import target_recall
from tokenlens.analyses.knock_out import (
    ARMS,
    compute,
    markdown,
    none_left,
    own_left,
    plot,
    random_left,
)
from tokenlens.cli.main import main
from tokenlens.errors import ResultsError
from tokenlens.probing.profiling import profile_samples
from tokenlens.samples.sample import Sample
from tokenlens.schedule import ModelRef
from tokenlens.storage.output_paths import find_runs


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tl.load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(4))))


@pytest.fixture(scope="module")
def samples():
    picture = Image.effect_noise((24, 24), 90).convert("RGB")
    return [
        Sample(
            id=str(index),
            image=picture,
            question="how many are there ?",
            answers=("1",),
            task=("text", "count")[index % 2],
            boxes=((0, 0, 8, 8),),
            anchors=((12, 12, 24, 20),) if index % 2 else (),
        )
        for index in range(4)
    ]


@pytest.mark.parametrize(
    ("schedule", "tokens"),
    [
        (lambda model: none_left(model, 3), [36, 36, 0, 0]),
        (lambda model: random_left(model, 4), [36, 36, 36, 7]),
        (lambda model: own_left(model, 4), [36, 36, 7, 7]),
    ],
    ids=list(ARMS),
)
def test_tokens_leave_from_the_layer_that_was_asked(vlm, samples, schedule, tokens):
    inputs = vlm.prepare(samples[0].image, samples[0].question)
    with tl.probe(vlm) as recording, torch.no_grad():
        vlm.model(**inputs)
    plan = schedule(ModelRef.of(vlm))
    with tl.prune(vlm, plan, recorded=recording.importance) as trace, torch.no_grad():
        vlm.model(**inputs)
    assert trace.tokens_per_layer.tolist() == [tokens]
    if plan.scorer.query == "recorded":
        best = recording.importance[0][3].topk(7).indices.sort().values
        assert trace.stages[0].selected[0].tolist() == recording.positions[0][best].tolist()


def test_table_markdown_and_figure_cover_every_arm_layer_and_task(vlm, samples, tmp_path):
    table = compute(vlm, samples, tmp_path / "out")
    assert table["left"].unique().tolist() == list(ARMS)
    assert table["layer"].unique().tolist() == [2, 3, 4]
    assert table["task"].unique().tolist() == ["text", "count", "all"]
    assert len(markdown(table).splitlines()) == 3 + len(ARMS) * 3
    assert sum(axes.get_visible() for axes in plot(table).axes) == 3
    again = compute(vlm, samples, tmp_path / "out", layers=[3])
    assert again["layer"].unique().tolist() == [3]


def test_own_arms_run_on_what_the_unpruned_model_saw(vlm, samples, tmp_path):
    """Through `compare`, batched: the rows' selections are the recorded layer's."""
    plan = own_left(ModelRef.of(vlm), 4)
    rows = tl.evaluate(vlm, samples, plan, batch_size=3, out=tmp_path / "rows").rows
    inputs = vlm.prepare(samples[0].image, samples[0].question)
    with tl.probe(vlm) as recording, torch.no_grad():
        vlm.model(**inputs)
    best = recording.importance[0][3].topk(7).indices.sort().values
    assert rows["selected"].iloc[0] == str([recording.positions[0][best].tolist()])


def test_targets_and_anchors_are_looked_at_apart(vlm, tmp_path):
    manifest = tmp_path / "manifest.jsonl"
    Image.effect_noise((24, 24), 90).convert("RGB").save(tmp_path / "picture.png")
    rows = [
        {
            "id": task,
            "image": "picture.png",
            "question": "how many are there ?",
            "answer": "1",
            "task": task,
            "boxes": [[0, 0, 8, 8]],
            "anchors": [[12, 12, 24, 20]] if task == "count" else [],
        }
        for task in ("text", "count")
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    samples = tl.load_samples(manifest)
    profile = profile_samples(vlm, samples, tmp_path / "profile")
    table = target_recall.compute(profile, samples, top=0.25)
    assert list(table.groupby(["task", "part"], sort=False).groups) == [
        ("text", "targets"),
        ("count", "targets"),
        ("count", "anchors"),
    ]
    row = next(row for row in profile.rows() if row.task == "count")
    x0, y0, _, y1 = row.boxes.T
    inside = (x0 >= 0.5) & (y0 >= 0.5) & (y1 <= 20 / 24 + 1e-6)
    for layer, importance in enumerate(row.importance, start=1):
        best = np.argsort(-importance, kind="stable")[:9]
        found = table[(table["part"] == "anchors") & (table["layer"] == layer)]
        assert found["mean"].item() == pytest.approx(inside[best].sum() / inside.sum())
    assert len(target_recall.markdown(table).splitlines()) == 2 + 4


def test_the_command_prints_every_table_and_continues(vlm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["knock-out", "--model", vlm.id, "--limit", "8", "--every", "2"]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["tokenlens", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        printed = capsys.readouterr().out
        assert "| none | 3 |" in printed
        assert "deep-text: anchors" in printed
        assert "stand in the bottom half of layers 1 to 1" in printed
    with pytest.raises(ResultsError, match="nothing to report"):
        find_runs(())  # a report is of what `run` wrote, not of these
    monkeypatch.setattr("sys.argv", ["tokenlens", *arguments, "--task", "depe-text"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "did you mean" in capsys.readouterr().err
