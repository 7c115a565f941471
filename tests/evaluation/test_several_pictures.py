"""Runs over samples with several pictures, and with none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.several import write_manifest
from tokenlens.errors import TextOnlyWarning
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.metrics.sample_metrics import score
from tokenlens.evaluation.running.cache_key import sample_key
from tokenlens.evaluation.running.results import Results
from tokenlens.models.batch import Batch
from tokenlens.models.vlm import VLM
from tokenlens.probing.stored_rows import stored_region
from tokenlens.samples.dataset import Samples, load_samples
from tokenlens.samples.sample import Sample


@pytest.fixture
def several(tmp_path: Path) -> Samples:
    folder = tmp_path / "samples"
    folder.mkdir()
    return load_samples(write_manifest(folder))


@pytest.fixture
def schedule(vlm: VLM) -> tl.Schedule:
    return tl.Schedule.preset("fastv", vlm, budget="60%")


def test_rows_are_those_of_each_sample_alone(
    vlm: VLM, several: Samples, schedule: tl.Schedule
) -> None:
    found = tl.evaluate(vlm, several, schedule, max_new_tokens=3, batch_size=3).rows
    assert found["id"].to_list() == ["s1", "s2", "s3", "t"]
    for place, sample in enumerate(several):
        row, count = found.iloc[place], len(sample.pictures)
        inputs = vlm.prepare([sample.open_images()], [sample.question])
        used = schedule if count else None
        with torch.inference_mode():
            if used is None:
                out = vlm.model.generate(**inputs, max_new_tokens=3, do_sample=False)
            else:
                with tl.prune(vlm, used):
                    out = vlm.model.generate(**inputs, max_new_tokens=3, do_sample=False)
        answer = vlm.decode(out[:, inputs["input_ids"].shape[1] :])[0]
        assert row["prediction"] == answer
        assert row["tokens_per_layer"][0] == count * 36
        assert list(row["size"]) == ([24, 24] if count else [0, 0])
        assert (row["more_images"] is None) == (count < 2)
    assert [int(stored_region(row).sum()) for _, row in found.iterrows()] == [4, 4, 4, 0]


def test_samples_of_text_alone_are_unpruned_and_counted(
    vlm: VLM, several: Samples, schedule: tl.Schedule, tmp_path: Path
) -> None:
    comparison = compare(vlm, several, {"fastv": schedule}, tmp_path / "out", max_new_tokens=3)
    said = "1 of 4 samples has no picture: every method answers it unpruned"
    assert comparison.cautions[0].startswith(said)
    alone = [arm.rows.iloc[3] for arm in comparison.arms.values()]
    for name in ("prediction", "macs", "kv_bytes", "selected"):
        assert alone[0][name] == alone[1][name]
    assert alone[1]["scoring_macs"] == 0
    assert comparison.arms["fastv"].metrics["text_only"] == 1
    assert comparison.arms["fastv"].metrics["samples"] == 4


def test_batches_do_not_mix_text_alone_with_pictures(
    vlm: VLM, several: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, batches = Batch.of, list[list[str]]()

    def watched(vlm: VLM, samples: Any, share: float | None) -> Batch:
        batches.append([sample.id for sample in samples])
        return real(vlm, samples, share)

    monkeypatch.setattr(Batch, "of", watched)
    tl.evaluate(vlm, several, max_new_tokens=2, batch_size=8)
    assert batches == [["s1", "s2", "s3"], ["t"]]


def test_a_finished_run_is_read_with_all_its_pictures(
    vlm: VLM, several: Samples, tmp_path: Path
) -> None:
    first = tl.evaluate(vlm, several, max_new_tokens=2, out=tmp_path / "run").rows
    again = Results.load(tmp_path / "run").rows
    assert again.columns.to_list() == first.columns.to_list()
    assert list(again.iloc[2]["more_images"]) == [str(one) for one in several[2].more_images]
    assert [list(size) for size in again.iloc[2]["more_sizes"]] == [[24, 24]] * 2


def test_keys_change_with_every_picture_and_their_order(several: Samples) -> None:
    sample = several[2]
    keys = {sample_key(sample)}
    for path in list(sample.pictures):
        assert isinstance(path, Path)
        before = path.read_bytes()
        picture = Image.open(path).convert("RGB")
        picture.putpixel((23, 23), (1, 2, 3))
        picture.save(path)
        keys.add(sample_key(sample))
        path.write_bytes(before)
    first, second, third = sample.pictures
    keys.add(sample_key(replace(sample, image=second, more_images=(first, third))))
    keys.add(sample_key(replace(sample, more_images=(second,))))
    keys.add(sample_key(Sample("x", None, sample.question, text_only=True)))
    assert len(keys) == 7
    assert sample_key(sample) in keys


def test_information_leaves_out_text_alone_and_says_so(vlm: VLM, several: Samples) -> None:
    with pytest.warns(TextOnlyWarning, match="the information profile leaves out 1 of 4 samples"):
        found = tl.information(vlm, several, max_new_tokens=2)
    plain = tl.information(vlm, [one for one in several if one.pictures], max_new_tokens=2)
    assert found.horizon.tolist() == plain.horizon.tolist()


def test_an_answered_box_of_several_pictures_gets_no_score(several: Samples) -> None:
    sample = replace(several[1], task="localisation")
    assert score("(0,0),(500,500)", sample, (24, 24)) != score(
        "(0,0),(500,500)", replace(several[0], task="localisation"), (24, 24)
    )
    assert str(score("(0,0),(500,500)", sample, (24, 24))) == "nan"


def test_samples_that_share_their_first_picture_alone_are_not_about_one(
    vlm: VLM, several: Samples, tmp_path: Path
) -> None:
    pair = several[1]
    other = replace(pair, id="other", more_images=(several[2].pictures[1],))
    said = "samples ask about one picture"
    shared = compare(vlm, [pair, replace(pair, id="b")], {}, tmp_path / "a", max_new_tokens=1)
    apart = compare(vlm, [pair, other], {}, tmp_path / "b", max_new_tokens=1)
    assert any(said in caution for caution in shared.cautions)
    assert not any(said in caution for caution in apart.cautions)
