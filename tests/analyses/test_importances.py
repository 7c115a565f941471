"""The study of importances: its figures beside full runs, and a run that goes on."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.references.importances import answer_without
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.analyses.studies import importance_rows, importances
from tokenlens.analyses.studies.importance_rows import MEAN, READ, SHARES, Maps, measure
from tokenlens.evaluation.occlusion import ForcedAnswers
from tokenlens.samples.dataset import load_samples

LAYERS = (2, MEAN)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tl.load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(3))))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("samples"), np.random.default_rng(0)
    lines = []
    for index in range(4):
        pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        picture = f"{index // 2}.png"
        Image.fromarray(pixels).save(folder / picture)
        line = {
            "id": str(index),
            "image": picture,
            "question": "where is A ?" + " red" * (index % 2),
        }
        lines.append(line | ({"boxes": [[0, 0, 16, 16]]} if index < 2 else {}))
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return load_samples(folder / "manifest.jsonl")


@pytest.fixture(scope="module")
def rows(vlm, samples, tmp_path_factory):
    return measure(vlm, samples, LAYERS, tmp_path_factory.mktemp("rows") / "run", batch_size=2)


def test_deletion_and_insertion_equal_full_runs(vlm, samples, rows):
    """Of one map, on each sample alone; the other test's tokens are the control."""
    maps = Maps(LAYERS)
    place = maps.names.index(("value-weighted", 2))
    for index, row in enumerate(rows.to_dict("records")):
        inputs = vlm.prepare(samples[index].open_image(), samples[index].question)
        with tl.probe(vlm, importance="value-weighted") as recording, torch.no_grad():
            vlm.model(**inputs)
        importance, positions = recording.importance[0][1], recording.positions[0]
        answer = ForcedAnswers.of(vlm, inputs).answers[0]
        for column, share in enumerate(SHARES):
            count = max(1, int(share * len(positions) + 0.5))
            order = importance.argsort(descending=True, stable=True)
            top, rest = positions[order[:count]].tolist(), positions[order[count:]].tolist()
            for test, gone in (("deletion", top), ("insertion", rest)):
                found = np.reshape(row[test], (len(maps.names), len(SHARES)))[place, column]
                expected = answer_without(vlm.model, dict(inputs), answer, gone, 1)
                assert found == pytest.approx(float(expected.mean().exp()), rel=1e-4)
                other = rest if gone is top else top
                control = answer_without(vlm.model, dict(inputs), answer, other, 1)
                assert abs(found - float(control.mean().exp())) > 1e-6


def test_a_run_that_was_cut_off_goes_on(vlm, samples, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(importance_rows, "_rows", _stopping(importance_rows._rows))
    with pytest.raises(KeyboardInterrupt):
        measure(vlm, samples, LAYERS, tmp_path / "run", batch_size=2)
    monkeypatch.undo()
    again = measure(vlm, samples, LAYERS, tmp_path / "run", batch_size=2)
    pd.testing.assert_frame_equal(again, rows)


def _stopping(make):
    def rows(vlm, maps, samples, first):
        if first:
            raise KeyboardInterrupt
        return make(vlm, maps, samples, first)

    return rows


def test_tables_are_by_map_and_by_picture(rows):
    maps = Maps(LAYERS)
    table = importances.compute(rows, maps)
    assert table["importance"].tolist() == [*np.repeat(READ, 2), "occlusion", "random"]
    attention = table[table["importance"] == "attention"]
    assert (attention["deletion_lead"] == 0).all()
    by_picture = rows.groupby("picture")["deletion"].apply(
        lambda some: np.stack(some.to_list()).reshape(len(some), -1, len(SHARES)).mean((0, 2))
    )
    expected = np.mean(by_picture.to_list(), axis=0)
    np.testing.assert_allclose(table["deletion"], expected)
    assert (table["deletion_low"] <= table["deletion"]).all()
    text = importances.markdown(rows, maps)
    assert text.startswith("4 samples, 2 pictures;")
    assert "| occlusion, from layer 1 on |" in text
    matrix = importances.correlations(rows, maps)
    np.testing.assert_allclose(np.diag(matrix), 1)
