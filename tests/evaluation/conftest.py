"""A small model and samples for the tests of runs."""

import pytest

from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.runs import QUESTIONS, picture
from tokenlens.models.loading import load
from tokenlens.samples.sample import Sample


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))))


@pytest.fixture
def samples():
    """Nine questions of ragged lengths about pictures of two shapes."""
    return [
        Sample(
            id=f"sample-{index}",
            image=picture(index, size=(24, 24) if index % 3 else (32, 16)),
            question=QUESTIONS[index % 4],
            answers=("red",),
            task=("localisation", "text", "count")[index % 3],
            boxes=((0, 0, 8, 8),),
        )
        for index in range(9)
    ]
