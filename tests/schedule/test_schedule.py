"""The schedule file: what it may say, what it counts, and every way it is refused."""

import copy
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import tiny_qwen2_vl
from tokenlens.errors import ScheduleError
from tokenlens.models.vlm import VLM
from tokenlens.schedule import ModelRef, Schedule
from tokenlens.schedule.disposal_kinds import merge_count
from tokenlens.schedule.token_counts import keep_count

EXAMPLE: dict[str, Any] = {
    "schema": 1,
    "method": "swiftvlm",
    "model": {
        "id": "tiny-qwen2-vl",
        "revision": None,
        "architecture": "Qwen2VLForConditionalGeneration",
        "layers": 12,
    },
    "scorer": {"query": "last", "heads": "mean", "rotary": True, "softmax": "all"},
    "stages": [
        {
            "score_layer": 3,
            "when": "after",
            "keep": 0.5,
            "disposal": "bypass",
            "merge": 0.1,
            "positions": "keep",
        },
        {
            "score_layer": 7,
            "when": "before",
            "keep": 0.25,
            "disposal": "bypass",
            "merge": 0.1,
            "positions": "keep",
        },
        {"score_layer": 9, "when": "before", "keep": 24, "disposal": "drop"},
    ],
    "budget": {"average": 0.333},
    "why": {
        "criterion": "region",
        "scores": [0.5, 1.0],
        "data": "scenes",
        "tokenlens": "0.1.0",
        "date": "2026-01-01",
    },
}


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    layers = draw(st.integers(1, 40))
    count = draw(st.integers(1, min(4, layers)))
    firsts = sorted(draw(st.sets(st.integers(1, layers), min_size=count, max_size=count)))
    amount = st.one_of(st.integers(1, 300), st.floats(0.001, 1.0))
    stages: list[dict[str, Any]] = []
    for index, first in enumerate(firsts):
        after_bypass = bool(stages) and stages[-1]["disposal"] == "bypass"
        when = "before" if after_bypass else draw(st.sampled_from(["after", "before"]))
        last = index == count - 1
        disposal = draw(st.sampled_from(["drop", "merge", "recycle"] + ["bypass"] * (not last)))
        stages.append(
            {
                "score_layer": first - (when == "after"),
                "when": when,
                "keep": draw(amount),
                "disposal": disposal,
                "merge": 0
                if disposal in ("drop", "recycle")
                else draw(st.one_of(amount, st.just(0))),
                "positions": draw(st.sampled_from(["keep", "renumber"])),
                "stride": draw(st.sampled_from([None, 2, 3])),
            }
        )
    return Schedule(
        schema=1,
        method="any",
        model={"architecture": "A", "layers": layers},
        stages=stages,
        scorer=draw(
            st.sampled_from(
                [
                    {},
                    {"query": "random", "seed": 7},
                    {"query": "raters", "heads": [[1, 0], [1, 3]], "rotary": False},
                    {"query": "all", "softmax": "visual"},
                    {"query": "raters", "heads": 0.4375, "decay": "divide"},
                    {"heads": 1},
                    {"heads": 1.0},
                ]
            )
        ),
    )


def test_the_file_of_the_documentation_loads_and_comes_back(tmp_path):
    path = tmp_path / "out.json"
    path.write_text(json.dumps(EXAMPLE))
    schedule = Schedule.load(path)
    schedule.save(tmp_path / "again.json")
    assert Schedule.load(str(tmp_path / "again.json")) == schedule
    written = json.loads((tmp_path / "again.json").read_text())
    assert len(written.pop("sha256")) == 64
    expected = copy.deepcopy(EXAMPLE)
    expected["stages"][2] |= {"merge": 0, "positions": "keep"}
    assert written == expected


@given(schedule=schedules())
def test_every_schedule_comes_back_from_its_file(schedule, tmp_path_factory):
    path = tmp_path_factory.mktemp("schedules") / "out.json"
    schedule.save(path)
    again = Schedule.load(path)
    assert again == schedule
    assert [type(stage.keep) for stage in again.stages] == [
        type(stage.keep) for stage in schedule.stages
    ], "counts stay counts and ratios ratios"


def test_what_may_be_left_out_may_be_left_out():
    content = {key: EXAMPLE[key] for key in ("schema", "method", "model", "stages")}
    schedule = Schedule(**content)
    assert schedule.scorer.query == "last"
    assert schedule.stages[2].merge == 0
    assert schedule.stages[2].positions == "keep"
    assert "budget" not in schedule.as_json()


def damaged(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(EXAMPLE)
    *parents, key = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = content
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stages.1.keep", 1.5, ["stages[1].keep", "1.5", "(0, 1]"]),
        ("stages.1.keep", 0, ["stages[1].keep", "got 0"]),
        ("stages.1.keep", 0.0, ["stages[1].keep", "got 0.0"]),
        ("stages.1.keep", -3, ["stages[1].keep", "-3"]),
        ("stages.1.keep", True, ["stages[1].keep", "True"]),
        ("stages.1.keep", "half", ["stages[1].keep", "'half'"]),
        ("stages.1.keep", None, ["stages[1].keep", "None"]),
        ("stages.1.keep", math.nan, ["stages[1].keep", "nan"]),
        ("stages.1.keep", math.inf, ["stages[1].keep", "inf"]),
        ("stages.1.merge", 1.01, ["stages[1].merge", "1.01"]),
        ("stages.1.merge", -1, ["stages[1].merge", "-1"]),
        ("stages.1.merge", False, ["stages[1].merge", "False"]),
        ("stages.2.merge", 0.1, ["stages[2]", "merge 0.1", "drop"]),
        ("stages.1.score_layer", 13, ["stages[1].score_layer", "13", "12"]),
        ("stages.1.score_layer", -1, ["stages[1].score_layer", "-1"]),
        ("stages.1.score_layer", 7.0, ["stages[1].score_layer", "an integer"]),
        ("stages.1.score_layer", True, ["stages[1].score_layer", "an integer"]),
        ("stages.1.score_layer", 0, ["stages[1]", "'before' layer 0"]),
        ("stages.1.score_layer", 4, ["stages[1].score_layer", "deeper than layer 4"]),
        ("stages.1.score_layer", 9, ["stages[2].score_layer", "deeper than layer 9"]),
        ("stages.1.score_layer", ..., ["stages[1].score_layer", "missing"]),
        ("stages.0.score_layer", 12, ["stages[0].score_layer", "'after' at most 11"]),
        ("stages.1.when", "after", ["stages[1].when", "'before'", "bypass"]),
        ("stages.1.when", "during", ["stages[1].when", "'during'", "'before'"]),
        ("stages.1.disposal", "bypas", ["stages[1].disposal", "'bypas'", "'bypass'"]),
        ("stages.2.disposal", "bypass", ["stages[2].disposal", "last stage"]),
        ("stages.1.stride", 1, ["stages[1].stride", "got 1"]),
        ("stages.1.stride", 3.0, ["stages[1].stride", "an integer"]),
        ("stages.1.positions", "move", ["stages[1].positions", "'move'", "'renumber'"]),
        ("stages.1.kep", 0.5, ["stages[1].kep", "unknown key", "did you mean 'keep'"]),
        ("stages", [], ["stages", "at least one"]),
        ("stages", 3, ["stages", "a list"]),
        ("stages.1", 3, ["stages[1]", "an object"]),
        ("schema", ..., ["schema", "missing"]),
        ("schema", 2, ["schema", "2"]),
        ("method", ..., ["method", "missing"]),
        ("method", 3, ["method", "a text"]),
        ("modell", {}, ["modell", "unknown key", "did you mean 'model'"]),
        ("model", None, ["model", "an object"]),
        ("model.layers", ..., ["model.layers", "missing"]),
        ("model.layers", "12", ["model.layers", "an integer"]),
        ("model.layer", 3, ["model.layer", "did you mean 'layers'"]),
        ("scorer.query", "first", ["scorer.query", "'first'", "one of last"]),
        ("scorer.query", "random", ["scorer", "seed"]),
        ("scorer.seed", 3, ["scorer", "seed 3"]),
        ("scorer.rotary", 1, ["scorer.rotary", "true or false"]),
        ("scorer.heads", [[3]], ["scorer.heads", "[layer, head]"]),
        ("scorer.heads", [], ["scorer.heads", "[layer, head]"]),
        ("scorer.heads", 0, ["scorer.heads", "[layer, head]", "a number of heads"]),
        ("scorer.heads", 1.5, ["scorer.heads", "1.5", "a ratio in (0, 1]"]),
        ("scorer.heads", True, ["scorer.heads", "True"]),
        ("scorer.heads", "strongest", ["scorer.heads", "'strongest'"]),
        ("scorer", {"heads": 3, "softmax": "visual"}, ["scorer", "3 heads", "softmax 'all'"]),
        ("scorer.decay", "halve", ["scorer.decay", "'divide'"]),
        ("scorer", {"decay": "divide", "rotary": False}, ["scorer", "rotary false"]),
        ("scorer.heads", [[0, 1]], ["scorer.heads", "from 1"]),
        ("scorer.heads", [[13, 1]], ["scorer.heads", "13", "12"]),
        ("budget.average", 0, ["budget.average", "got 0"]),
        ("budget.avarage", 1, ["budget.avarage", "did you mean 'average'"]),
        ("why.scores", ["x"], ["why.scores[0]", "'x'"]),
        ("why.creterion", "x", ["why.creterion", "did you mean 'criterion'"]),
    ],
)
def test_what_is_wrong_is_named_in_one_line(path, value, words, tmp_path):
    file = tmp_path / "out.json"
    file.write_text(json.dumps(damaged(path, value)))
    with pytest.raises(ScheduleError) as caught:
        Schedule.load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["not JSON"]),
        (b'{"schema": 1,\n "method" "x"}', [":2:11", "not JSON"]),
        (b"[1, 2]", ["list", "an object"]),
        (b'{"schema": 1, "schema": 1}', ["schema", "twice"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        (b'{"schema": ' + b"[" * 100_000, ["not JSON"]),
        (b'{"schema": ' + b"1" * 10_000 + b"}", ["not JSON"]),
    ],
)
def test_what_is_no_schedule_file_is_named_in_one_line(content, words, tmp_path):
    file = tmp_path / "out.json"
    file.write_bytes(content)
    with pytest.raises(ScheduleError) as caught:
        Schedule.load(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ScheduleError, match=r"none\.json: cannot be read: No such file"):
        Schedule.load(tmp_path / "none.json")
    with pytest.raises(ScheduleError, match="cannot be read"):
        Schedule.load(tmp_path)


def test_one_is_a_token_and_one_point_nought_is_all():
    assert keep_count(1, 144) == 1
    assert keep_count(1.0, 144) == 144
    assert merge_count(1, 50) == 1
    assert merge_count(1.0, 50) == 50
    assert keep_count(np.int64(7).item(), 144) == 7


@given(st.floats(0.0001, 1.0), st.integers(1, 5000))
def test_ratios_round_half_up_and_keep_one_at_least(ratio, n_visual):
    exact = Fraction(ratio * n_visual) + Fraction(1, 2)
    assert keep_count(ratio, n_visual) == min(n_visual, max(1, math.floor(exact)))
    assert merge_count(ratio, n_visual) == min(n_visual, max(1, math.floor(exact)))


@given(st.one_of(st.integers(1, 50), st.floats(0.001, 1.0)))
def test_of_nothing_nothing_is_kept_or_merged(amount):
    assert keep_count(amount, 0) == 0
    assert merge_count(amount, 0) == 0


@given(schedules(), st.integers(0, 300))
def test_tokens_entering_follows_the_tokens_themselves(schedule, n_visual):
    """The same count, by moving every token about."""
    layers = schedule.model.layers
    running = {("token", index) for index in range(n_visual)}
    aside: set[tuple[Any, ...]] = set()
    stand_ins: set[tuple[Any, ...]] = set()
    expected = []
    for layer in range(1, layers + 1):
        for number, stage in enumerate(schedule.stages):
            if stage.score_layer + (stage.when == "after") != layer:
                continue
            running = (running - stand_ins) | aside
            aside, stand_ins = set(), set()
            ranked = sorted(running, key=str)
            kept = set(ranked[: min(keep_count(stage.keep, n_visual), len(ranked))])
            rest = running - kept
            count = merge_count(stage.merge, len(rest))
            if stage.disposal == "recycle" and rest:
                count = (len(rest) * 3 // 10 + 1) // 10 + 1
            groups = {("merged", number, g) for g in range(count)}
            running = kept | groups
            if stage.disposal == "bypass":
                aside, stand_ins = rest, groups
        expected.append(len(running))
    assert schedule.tokens_entering(n_visual, layers) == expected


def test_a_schedule_is_checked_against_the_loaded_model():
    model = tiny_qwen2_vl(layers=4)
    vlm = VLM.wrap(model, id="mine", revision="abc")
    schedule = Schedule.preset("fastv", vlm, budget=0.8)
    assert schedule.model == ModelRef(
        id="mine", revision="abc", architecture="Qwen2VLForConditionalGeneration", layers=4
    )
    schedule.check(vlm)
    schedule.check(model)
    other = VLM.wrap(model, id="another", revision="abc")
    with pytest.raises(ScheduleError, match=r"model\.id: .*'mine'.*'another'.*--any-model"):
        schedule.check(other)
    schedule.check(other, any_model=True)
    schedule.portable().check(other)
    for revision in ("abd", None):
        with pytest.raises(ScheduleError, match=r"model\.revision: .*'abc'"):
            schedule.check(VLM.wrap(model, id="mine", revision=revision))
    deeper = tiny_qwen2_vl(layers=5)
    with pytest.raises(ScheduleError, match=r"model\.layers: .* 4, .* 5"):
        schedule.portable().check(deeper, any_model=True)
    renamed = schedule.replace(model=schedule.model.model_copy(update={"architecture": "Other"}))
    with pytest.raises(ScheduleError, match=r"model\.architecture: .*'Other'.*'Qwen2VL"):
        renamed.check(model, any_model=True)


def test_a_copy_is_validated():
    schedule = Schedule(**EXAMPLE)
    assert schedule.replace(method="mine").method == "mine"
    assert schedule.replace(why=None).why is None
    with pytest.raises(ScheduleError, match="unknown key"):
        schedule.replace(metod="mine")
    with pytest.raises(ScheduleError, match="deeper"):
        schedule.replace(stages=[schedule.stages[0], *schedule.stages])
