"""Answers that arms give while they are timed are kept; they are not generated again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow.parquet import read_table

import tokenlens.evaluation.running.generation as asking_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import SampleError
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.timed_arms import timed_rows
from tokenlens.evaluation.running.answer_cache import own_answers
from tokenlens.models.loading import load
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.workers import Work

TOKENS = 3


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    folder = save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))
    return load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    pixels = np.random.default_rng(0).integers(0, 256, (42, 24, 24, 3), dtype=np.uint8)
    pictured = [
        Sample(str(index), Image.fromarray(pixels[index]), "what colour ?", task="ab"[index % 2])
        for index in range(42)
    ]
    text = Sample("text", None, "what ?", task="a", text_only=True)
    return [*pictured[:20], text, *pictured[20:]]


@pytest.fixture(scope="module")
def schedules(vlm: VLM) -> dict[str, Schedule]:
    return {"random": Schedule.preset("random", vlm, budget=0.4, n_visual=36)}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int, list[str]]]:
    """Every call: whether the model was pruned, the tokens asked for, and the samples."""
    calls: list[tuple[bool, int, list[str]]] = []
    real = asking_module.answer

    def watched(vlm: VLM, batch: Any, schedule: Schedule | None, **options: Any) -> Any:
        ids = [sample.id for sample in batch.samples]
        calls.append((schedule is not None, options["max_new_tokens"], ids))
        return real(vlm, batch, schedule, **options)

    monkeypatch.setattr(asking_module, "answer", watched)
    return calls


def rows_of(comparison: Comparison) -> list[str]:
    """Everything that was found, without times, which the rows of a comparison do not hold."""
    return [
        results.outcomes.drop(columns=["prefill_s", "decode_s"]).to_json()
        for results in comparison.arms.values()
    ]


def test_timed_batches_are_asked_three_times_and_not_a_fourth(
    vlm: VLM, samples: list[Sample], schedules: dict[str, Schedule], tmp_path: Path, asked: Any
) -> None:
    found = compare(vlm, samples, schedules, tmp_path / "out", max_new_tokens=TOKENS)
    assert found.timing is not None
    assert found.timing.repeats == 3
    timed = [[samples[row].id for row in batch] for batch in timed_rows(samples)]
    warm_up, laps, rest = asked[:2], asked[2:26], asked[26:]
    assert [(pruned, tokens) for pruned, tokens, _ in warm_up] == [(False, 2), (True, 2)]
    assert [ids for _, _, ids in laps] == [ids for _ in range(3) for ids in timed for _ in "up"]
    left = {sample.id for sample in samples} - {one for ids in timed for one in ids}
    assert sorted(one for pruned, _, ids in rest for one in ids if pruned) == sorted(
        left - {"text"}
    ), "the others, of which the one without a picture is answered unpruned"
    assert len(rest) == 2 * 3, "two tasks, and the text"
    untimed = compare(vlm, samples, schedules, tmp_path / "no", max_new_tokens=TOKENS, timed=False)
    assert rows_of(untimed) == rows_of(found)


def test_workers_answer_the_same_batches(
    vlm: VLM, samples: list[Sample], schedules: dict[str, Schedule], tmp_path: Path, asked: Any
) -> None:
    """Where nothing is timed but could be: every batch is the one that one process answers."""

    class OneWorker:
        def load(self) -> VLM:
            return vlm

        def map(self, start: Callable[[], Work], tasks: Sequence[Any]) -> Iterator[list[Any]]:
            work = start()
            return (list(work(task)) for task in tasks)

    options: dict[str, Any] = {"max_new_tokens": TOKENS}
    alone = compare(vlm, samples, schedules, tmp_path / "alone", **options)
    batches = {(pruned, *ids) for pruned, tokens, ids in asked if tokens == TOKENS}
    asked.clear()
    shared = compare(vlm, samples, schedules, tmp_path / "spread", workers=OneWorker(), **options)
    assert {(pruned, *ids) for pruned, _, ids in asked} == batches
    assert len(asked) == len(batches) + 1, "text alone is answered once for each arm"
    assert shared.timing is None
    assert rows_of(shared) == rows_of(alone)


def test_a_sample_that_cannot_be_used_stops_none_that_is_not_timed(
    vlm: VLM, samples: list[Sample], schedules: dict[str, Schedule], tmp_path: Path, asked: Any
) -> None:
    """It is in the second batch that is timed: the first one's answers are kept, the rest given."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    bad = timed_rows(samples)[1][3]
    given = [replace(one, image=broken) if row == bad else one for row, one in enumerate(samples)]
    options: dict[str, Any] = {"max_new_tokens": TOKENS, "answers": tmp_path / "answers"}
    with pytest.raises(SampleError, match=r"broken\.png: not a picture"):
        compare(vlm, given, schedules, tmp_path / "broken", **options)
    asked.clear()
    compare(vlm, samples, schedules, tmp_path / "mended", timed=False, **options)
    left = [samples[row].id for batch in timed_rows(samples)[1:] for row in batch]
    assert sorted(one for _, _, ids in asked for one in ids) == sorted(2 * left)


def test_an_interrupted_round_loses_no_answer(
    vlm: VLM,
    samples: list[Sample],
    schedules: dict[str, Schedule],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, count = asking_module.answer, iter(range(1000))

    def interrupted(*args: Any, **options: Any) -> Any:
        if next(count) == 2 + 5:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(asking_module, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare(vlm, samples, schedules, tmp_path / "out", max_new_tokens=TOKENS)
    shards = own_answers(tmp_path / "out").rglob("*.parquet")
    assert sum(read_table(shard).num_rows for shard in shards) == 5 * 8


def test_small_batches_are_not_made_larger_for_the_times(
    vlm: VLM, samples: list[Sample], schedules: dict[str, Schedule], tmp_path: Path, asked: Any
) -> None:
    """A batch size below that of the timing is kept to: answers come of batches of that size."""
    compare(vlm, samples, schedules, tmp_path / "out", max_new_tokens=TOKENS, batch_size=4)
    first = asked[: len(asked) - 26]
    assert max(len(ids) for _, _, ids in first) == 4
    assert {one for _, _, ids in first for one in ids} == {sample.id for sample in samples}
