"""Samples of one to three pictures, and of none, in a profile."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenlens as tl
from tests.support.builders import save_model_directory
from tests.support.several import bright_tokens, write_manifest
from tokenlens.errors import ProfileError, SampleError, TextOnlyWarning
from tokenlens.evaluation.profile_inputs import profiled_samples
from tokenlens.models.loading import load
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile, ProfileRow
from tokenlens.probing.profiling import estimate_profile, profile_samples
from tokenlens.samples.dataset import Samples, load_samples

LEFT_OUT = "the profile leaves out 1 of 4 samples"


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return load_samples(write_manifest(tmp_path_factory.mktemp("samples")))


def profiled(vlm: VLM, samples: Samples, folder: Path, size: int = 2) -> list[ProfileRow]:
    with pytest.warns(TextOnlyWarning, match=LEFT_OUT):
        return list(profile_samples(vlm, samples, folder, batch_size=size).rows())


def check_bright(vlm: VLM, samples: Samples, rows: list[ProfileRow]) -> None:
    assert [row.id for row in rows] == ["s1", "s2", "s3"]
    for row, sample in zip(rows, samples, strict=False):
        np.testing.assert_array_equal(row.region, bright_tokens(vlm, sample))
        assert len(row.grid) == len(sample.pictures)
        owners = np.zeros_like(row.positions) if row.image_index is None else row.image_index
        assert set(owners[row.region]) == {min(1, len(sample.more_images))}
        assert np.bincount(owners).tolist() == [rows[0].importance.shape[1]] * len(sample.pictures)


def test_a_region_is_the_bright_tokens_of_its_picture(
    vlm: VLM, samples: Samples, tmp_path: Path
) -> None:
    check_bright(vlm, samples, profiled(vlm, samples, tmp_path))


@pytest.mark.parametrize("wrong", [0, 2])
def test_control_the_wrong_index_is_found_out(
    vlm: VLM, samples: Samples, tmp_path: Path, wrong: int
) -> None:
    lines = [json.loads(line) for line in Path(samples.source).read_text().splitlines()]
    lines[2]["boxes"][0][0] = wrong
    path = Path(samples.source).with_name("wrong.jsonl")
    path.write_text("\n".join(map(json.dumps, lines)))
    other = load_samples(path)
    with pytest.raises(AssertionError):
        check_bright(vlm, other, profiled(vlm, other, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-qwen2-vl", "tiny-llava"])
def test_the_bundled_models_get_boxes_on_the_right_picture(name: str, tmp_path: Path) -> None:
    samples = load_samples(write_manifest(tmp_path, size=168, patch=(28, 42, 70, 84)))
    vlm = tl.load(name, device="cpu")
    check_bright(vlm, samples, profiled(vlm, samples, tmp_path / "profile"))


def test_rows_do_not_depend_on_the_batch_and_hold_all_pictures(
    vlm: VLM, samples: Samples, tmp_path: Path
) -> None:
    one, three = (profiled(vlm, samples, tmp_path / str(size), size) for size in (1, 3))
    for alone, beside, sample in zip(one, three, samples, strict=False):
        np.testing.assert_array_equal(alone.region, beside.region)
        np.testing.assert_allclose(alone.importance, beside.importance, atol=1e-5)
        assert [alone.image, *alone.more_images] == list(map(str, sample.pictures))
        assert [alone.size, *alone.more_sizes] == [(24, 24)] * len(sample.pictures)
        assert alone.box_images == sample.box_images


def test_importance_is_the_probes(vlm: VLM, samples: Samples, tmp_path: Path) -> None:
    rows = profiled(vlm, samples, tmp_path)
    inputs = vlm.prepare([samples[2].open_images()], [samples[2].question])
    with tl.probe(vlm) as recording, torch.inference_mode():
        vlm.model(**inputs)
    np.testing.assert_allclose(rows[2].importance, recording.importance[0], atol=1e-5)


def test_samples_of_text_alone_are_counted(vlm: VLM, samples: Samples, tmp_path: Path) -> None:
    profiled(vlm, samples, tmp_path)
    profile = Profile(tmp_path)
    assert (len(profile), profile.text_only) == (3, 1)
    assert profile.manifest["identity"]["data"]["samples"] == 4
    assert [one.id for one in profiled_samples(profile)] == ["s1", "s2", "s3", "t"]
    with pytest.warns(TextOnlyWarning, match=LEFT_OUT):
        assert estimate_profile(vlm, samples, tmp_path).samples == 3
    selection = tl.plan(profile, stages=1, budget="80%")
    assert selection.cautions[0].startswith("1 of 4 samples has no picture")


def test_an_unfinished_profile_counts_the_rows_it_will_have(
    vlm: VLM, samples: Samples, tmp_path: Path
) -> None:
    profiled(vlm, samples, tmp_path)
    manifest = tmp_path / "manifest.json"
    content = {**json.loads(manifest.read_text()), "complete": False}
    content.pop("sha256", None)
    manifest.write_text(json.dumps(content))
    with pytest.raises(ProfileError, match="unfinished: 3 of 3 samples"):
        Profile(tmp_path)


def test_a_profile_of_text_alone_is_refused(vlm: VLM, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="none of the 1 samples has a picture"):
        profile_samples(vlm, samples.only([samples[3]]), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_profile_of_single_pictures_has_the_columns_it_had(
    vlm: VLM, samples: Samples, tmp_path: Path
) -> None:
    profile = profile_samples(vlm, samples.only([samples[0]]), tmp_path)
    assert not {"more_images", "image_index"} & set(next(profile._reader.rows()))
    assert "text_only" not in profile.manifest["identity"]["data"]
    assert next(profile.rows()).image_index is None
