"""How deep a model reads: the tokens that layers run on are those that were asked for."""

import pytest
from builders import save_model_directory, tiny_qwen2_vl
from PIL import Image

import tokenlens as tl
from tokenlens.analyses.knock_out import compute, knock_out, markdown, plot
from tokenlens.samples.sample import Sample
from tokenlens.schedule import ModelRef


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
        )
        for index in range(4)
    ]


def test_tokens_leave_from_the_layer_that_was_asked(vlm, samples):
    inputs = vlm.prepare(samples[0].image, samples[0].question)
    with tl.prune(vlm, knock_out(ModelRef.of(vlm), 3, 1)) as trace:
        vlm.model(**inputs)
    assert trace.tokens_per_layer.tolist() == [[36, 36, 1, 1]]


def test_table_markdown_and_figure_cover_every_layer_and_task(vlm, samples, tmp_path):
    table = compute(vlm, samples, tmp_path / "out", keeps=(1, 1.0))
    assert table["layer"].unique().tolist() == [2, 3, 4]
    assert table["task"].unique().tolist() == ["text", "count", "all"]
    everything = table[table["keep"] == "1.0"]
    assert (everything["score"] == everything["unpruned"]).all()
    assert len(markdown(table).splitlines()) == 3 + 2 * 3
    assert len(plot(table).axes) == 3
