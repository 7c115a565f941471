"""Samples of one to three pictures in a profile."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.builders import save_model_directory
from tokenlens.models.batch import Batch
from tokenlens.models.loading import load
from tokenlens.probing.profile import Profile
from tokenlens.probing.profiling import profile_samples
from tokenlens.samples.dataset import load_samples


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Black pictures; the last of each sample has one bright patch, which is its box."""
    folder = tmp_path_factory.mktemp("samples")
    lines = []
    for count in (1, 2, 3):
        names = [f"{count}-{index}.png" for index in range(count)]
        for name in names:
            Image.new("RGB", (24, 16)).save(folder / name)
        bright = Image.new("RGB", (24, 24))
        bright.paste((255, 255, 255), (8, 0, 16, 8))
        bright.save(folder / names[-1])
        lines.append(
            {
                "id": f"s{count}",
                "images": names,
                "question": "where is the red circle ?",
                "answer": "A",
                "boxes": [[count - 1, 8, 0, 16, 8]],
            }
        )
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_regions_are_the_bright_tokens_of_their_picture(
    model: Path, manifest: Path, tmp_path: Path
) -> None:
    vlm = load(str(model))
    samples = load_samples(manifest)
    rows = {}
    for size in (1, 3):
        profile_samples(vlm, samples, tmp_path / str(size), batch_size=size)
        rows[size] = list(Profile(tmp_path / str(size)).rows())
    for one, three, sample in zip(rows[1], rows[3], samples, strict=True):
        np.testing.assert_array_equal(one.region, three.region)
        np.testing.assert_allclose(one.importance, three.importance, atol=1e-5)
        last = len(sample.more_images)
        assert len(one.grid) == last + 1
        batch = Batch.of(vlm, [sample])
        index = batch.layouts[0].image_index.numpy()
        assert one.region.any()
        assert set(index[one.region]) == {last}
        # independent of any layout: each merged patch of the pixels is one token, in this order
        pixels = batch.inputs["pixel_values"].reshape(len(index), -1)
        bright = (pixels.amin(dim=1) > 0).numpy()
        np.testing.assert_array_equal(bright, one.region)
