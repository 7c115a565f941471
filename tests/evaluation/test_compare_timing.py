"""Times taken side by side, and the vision tower that arms share."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens.evaluation.comparing.timed_arms as timing_module
import tokenlens.evaluation.running.generation as asking_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.timed_arms import time_arms
from tokenlens.evaluation.comparing.timing import Timing
from tokenlens.evaluation.running.generation import answer
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.shared_features import shared_features
from tokenlens.models.batch import Batch
from tokenlens.models.loading import load
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))))


@pytest.fixture(scope="module")
def samples():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    return [
        Sample(str(index), Image.fromarray(pixels[index]), "what colour ?", task="ab"[index % 2])
        for index in range(40)
    ]


@pytest.fixture(scope="module")
def schedules(vlm):
    return {"unpruned": None, "random": Schedule.preset("random", vlm, budget=0.4, n_visual=36)}


@pytest.fixture
def towers(vlm, monkeypatch):
    """How many pictures' patches the vision tower was given, a number per call."""
    calls, tower = [], vlm.model.model.visual
    real = tower.forward

    def watched(pixels, *args, **options):
        calls.append(len(pixels))
        return real(pixels, *args, **options)

    monkeypatch.setattr(tower, "forward", watched)
    return calls


def untimed(answers):
    return [replace(one, prefill_s=0, decode_s=0) for one in answers]


def test_every_batch_is_answered_by_all_arms_in_turn_there_and_back(
    vlm, samples, schedules, monkeypatch
):
    seen, real = [], asking_module.answer

    def watched(vlm, batch, schedule, **options):
        seen.append((bool(schedule), {sample.task for sample in batch.samples}))
        return real(vlm, batch, schedule, **options)

    monkeypatch.setattr(asking_module, "answer", watched)
    timing = time_arms(vlm, samples, schedules, RunOptions(max_new_tokens=2))
    there, back = [False, True], [True, False]
    warm_up, rest = seen[:2], seen[2:]
    assert [arm for arm, _ in warm_up] == there
    rounds = [[*there, *back] * 2, [*back, *there] * 2, [*there, *back] * 2]
    assert [arm for arm, _ in rest] == list(chain.from_iterable(rounds[: timing.repeats]))
    assert all(tasks == {"a", "b"} for _, tasks in seen)
    assert timing.of("prefill_s", ["random", "unpruned"]).shape == (4, 2)
    assert (timing.of("decode_s", ["unpruned"]) > 0).all()
    assert timing.machine.startswith(vlm.device.type)


def test_the_tower_is_part_of_every_time(vlm, samples, schedules, towers):
    time_arms(vlm, samples[:3], schedules, RunOptions(max_new_tokens=2))
    assert len(towers) == 2 + 2 * 3


def test_a_slow_model_is_not_timed_over_and_over(vlm, samples, schedules, monkeypatch):
    monkeypatch.setattr(timing_module, "_ENOUGH_S", 0.0)
    assert time_arms(vlm, samples, schedules, RunOptions(max_new_tokens=2)).repeats == 1


def test_times_are_kept_while_they_cover_the_arms(vlm, samples, schedules, tmp_path, monkeypatch):
    options = {"max_new_tokens": 2, "answers": tmp_path / "answers"}
    arms = {"random": schedules["random"]}
    first = compare(vlm, samples[:4], arms, tmp_path / "out", **options)
    assert Timing.load(tmp_path / "out") == first.timing
    assert first.timing.covers(schedules)
    other = Schedule.preset("random", vlm, budget=0.6, n_visual=36)
    assert not first.timing.covers({"random": other})
    assert not first.timing.covers({"other": schedules["random"]})
    again = compare(vlm, samples[:4], arms, tmp_path / "out", **options)
    assert again.timing == first.timing
    more = compare(vlm, samples[:4], {**arms, "other": other}, tmp_path / "out", **options)
    assert set(more.timing.arms) == {"unpruned", "random", "other"}
    assert more.timing.of("prefill_s", ["random"]) != first.timing.of("prefill_s", ["random"])
    assert compare(vlm, samples[:4], {}, tmp_path / "no", timed=False, **options).timing is None


def test_arms_share_one_run_of_the_tower_and_answer_the_same(vlm, samples, schedules, towers):
    batch, other = Batch.of(vlm, samples[:3]), Batch.of(vlm, samples[3:5])
    apart = [untimed(answer(vlm, batch, arm, max_new_tokens=4)) for arm in schedules.values()]
    assert len(towers) == 2
    before = set(vars(vlm.model.model))
    towers.clear()
    with shared_features(vlm.model):
        shared = [untimed(answer(vlm, batch, arm, max_new_tokens=4)) for arm in schedules.values()]
        assert len(towers) == 1
        answer(vlm, other, max_new_tokens=1)
        assert len(towers) == 2
        assert towers[0] != towers[1]
    assert shared == apart
    assert set(vars(vlm.model.model)) == before
    answer(vlm, other, max_new_tokens=1)
    assert len(towers) == 3


def test_a_tower_that_is_watched_runs_again(vlm, samples, towers):
    batch = Batch.of(vlm, samples[:2])
    heard = []
    with shared_features(vlm.model):
        answer(vlm, batch, max_new_tokens=1)
        hook = vlm.model.model.visual.blocks[0].register_forward_hook(lambda *_: heard.append(True))
        answer(vlm, batch, max_new_tokens=1)
        hook.remove()
        answer(vlm, batch, max_new_tokens=1)
    assert (len(towers), heard) == (2, [True])


def test_sharing_ends_whatever_happens(vlm):
    with pytest.raises(ZeroDivisionError), shared_features(vlm.model):
        raise ZeroDivisionError
    assert "get_image_features" not in vars(vlm.model.model)
    with shared_features(torch.nn.Linear(1, 1)):
        pass
