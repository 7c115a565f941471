"""The pipeline answers as the model's own generate does inside `tokenlens.prune`."""

from pathlib import Path
from typing import Any

import pytest

import tokenlens as tl
from tokenlens.errors import ModelError, PruningError, ScheduleError
from tokenlens.samples.sample import Sample

WORDS = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture(scope="module")
def vlm() -> tl.VLM:
    return tl.load("tiny-qwen2-vl", device="cpu")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(tl.load_samples("scenes", "held-out", 3))


@pytest.fixture(scope="module")
def schedule(vlm: tl.VLM) -> tl.Schedule:
    return tl.Schedule.preset("random", vlm, budget="12%")


def chat(sample: Sample) -> list[dict[str, Any]]:
    picture = {"type": "image", "image": sample.open_image()}
    return [{"role": "user", "content": [picture, {"type": "text", "text": sample.question}]}]


def answers(pipe: Any, samples: list[Sample], **how: Any) -> list[str]:
    found = pipe([chat(sample) for sample in samples], return_full_text=False, **WORDS, **how)
    return [(one[0] if isinstance(one, list) else one)["generated_text"].strip() for one in found]


def generated(vlm: tl.VLM, samples: list[Sample], schedule: tl.Schedule | None) -> list[str]:
    found = []
    for sample in samples:
        inputs = vlm.prepare(sample.open_image(), sample.question)
        length = inputs["input_ids"].shape[1]
        if schedule is None:
            ids = vlm.model.generate(**inputs, **WORDS)
        else:
            with tl.prune(vlm, schedule):
                ids = vlm.model.generate(**inputs, **WORDS)
        found += vlm.decode(ids[:, length:])
    return found


def test_it_answers_as_generate_under_the_schedule(
    vlm: tl.VLM, samples: list[Sample], schedule: tl.Schedule
) -> None:
    pipe = tl.pipeline(vlm, schedule)
    pruned = answers(pipe, samples)
    assert pruned == generated(vlm, samples, schedule)
    assert pipe.trace is not None
    (tokens,) = pipe.trace.tokens_per_layer
    assert tokens[-1] < tokens[0]
    plain = tl.pipeline(vlm)
    assert answers(plain, samples) == generated(vlm, samples, None) != pruned  # the control
    assert plain.trace is None


def test_a_schedule_s_file_gives_the_same(
    vlm: tl.VLM, samples: list[Sample], schedule: tl.Schedule, tmp_path: Path
) -> None:
    schedule.save(tmp_path / "out.json")
    pipe = tl.pipeline(vlm, tmp_path / "out.json")
    assert answers(pipe, samples) == generated(vlm, samples, schedule)


def test_the_model_is_free_between_calls(
    vlm: tl.VLM, samples: list[Sample], schedule: tl.Schedule
) -> None:
    pipe = tl.pipeline(vlm, schedule)
    answers(pipe, samples[:1])
    assert generated(vlm, samples, None) == answers(tl.pipeline(vlm), samples)


def test_what_it_cannot_do_is_said(vlm: tl.VLM, schedule: tl.Schedule) -> None:
    with pytest.raises(ModelError, match="processor"):
        tl.pipeline(tl.VLM.wrap(vlm.model), schedule)
    smaller = tl.Schedule.preset("downsample", vlm, budget="33%")
    with pytest.raises(PruningError, match="image_scale"):
        tl.pipeline(vlm, smaller)
    other = schedule.replace(model={**schedule.model.model_dump(), "id": "another"})
    with pytest.raises(ScheduleError, match=r"model\.id"):
        tl.pipeline(vlm, other)
    assert tl.pipeline(vlm, other, any_model=True).task == "image-text-to-text"
    with pytest.raises(ModelError, match="unknown model"):
        tl.pipeline("nobody")
    with pytest.raises(ScheduleError, match=r"nowhere\.json"):
        tl.pipeline(vlm, "nowhere.json")
