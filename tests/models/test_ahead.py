"""Batches prepared ahead: in order, two at a time, with errors at their turn, and the same rows."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow.parquet import read_table

import tokenlens.evaluation.running.tasks as tasks_module
import tokenlens.probing.profiling as profiling_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import SampleError
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.running.answer_cache import own_answers
from tokenlens.models.ahead import made_ahead, prepared_ahead
from tokenlens.models.batch import Batch
from tokenlens.models.loading import load
from tokenlens.models.vlm import VLM
from tokenlens.probing.profiling import profile_samples
from tokenlens.samples.dataset import Samples
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule


def until(true: Callable[[], bool]) -> None:
    """Wait for a thread, a few seconds at most."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "the thread has not come so far"
        time.sleep(0.001)


def test_the_next_is_made_meanwhile_and_no_more() -> None:
    begun: list[int] = []

    def make(item: int) -> int:
        begun.append(item)
        return item * item

    made = made_ahead(make, range(6))
    for turn, found in enumerate(made):
        assert found == turn * turn
        until(lambda turn=turn: len(begun) == min(6, turn + 2))
        time.sleep(0.01)
        assert begun == list(range(min(6, turn + 2)))
    assert list(made_ahead(make, [])) == []


def test_an_error_is_raised_at_its_turn() -> None:
    made = made_ahead(lambda item: 1 // item, [1, -1, 0, 1])
    assert [next(made), next(made)] == [1, -1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_so_is_an_error_of_what_gives_the_items() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise KeyboardInterrupt

    made = made_ahead(str, items())
    assert [next(made), next(made)] == ["1", "2"]
    with pytest.raises(KeyboardInterrupt):
        next(made)


def test_an_interrupted_caller_waits_for_nothing() -> None:
    going, held, daemons = threading.Event(), threading.Event(), []

    def make(item: int) -> int:
        daemons.append(threading.current_thread().daemon)
        if item:
            held.set()
            going.wait(60)
        return item

    def work() -> None:
        for _ in made_ahead(make, range(3)):
            held.wait(20)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - began < 10
    assert daemons == [True, True], "nor does the end of the program wait"
    going.set()


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    folder = save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))
    return load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (10, 24, 24, 3), dtype=np.uint8)
    for index, values in enumerate(pixels):
        Image.fromarray(values).save(folder / f"{index}.png")
    rows = [Sample(str(index), folder / f"{index}.png", "what colour ?") for index in range(10)]
    return Samples(rows, source="own", split=None, name="own", hash="0" * 16)


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every batch be prepared when its turn comes, by the model itself, as it once was."""

    def patch() -> None:
        for module in (tasks_module, profiling_module):
            monkeypatch.setattr(
                module,
                "prepared_ahead",
                lambda vlm, prepare, items: (prepare(vlm, item) for item in items),
            )

    return patch


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every batch, whether the main thread prepared it."""
    found: list[bool] = []
    real = Batch.of.__func__  # type: ignore[attr-defined]

    def watched(cls: type[Batch], *args: Any, **options: Any) -> Batch:
        found.append(threading.current_thread() is threading.main_thread())
        made: Batch = real(cls, *args, **options)
        return made

    monkeypatch.setattr(Batch, "of", classmethod(watched))
    return found


def test_another_thread_has_a_processor_of_its_own(vlm: VLM) -> None:
    def prepare(own: VLM, item: int) -> tuple[VLM, bool]:
        return own, threading.current_thread() is threading.main_thread()

    ((own, main),) = prepared_ahead(vlm, prepare, [1])
    assert own.processor is not vlm.processor
    assert own.processor.tokenizer is not vlm.processor.tokenizer
    assert (own.model is vlm.model, main) == (True, False)
    vlm.model.hf_device_map = {"": "cpu"}
    try:
        ((own, main),) = prepared_ahead(vlm, prepare, [1])
    finally:
        del vlm.model.hf_device_map
    assert (own is vlm, main) == (True, True)


def test_answers_are_the_same_bit_for_bit(
    vlm: VLM, samples: Samples, tmp_path: Path, threads: list[bool], in_turn: Callable[[], None]
) -> None:
    arms = {"random": Schedule.preset("random", vlm, budget=0.4, n_visual=36)}
    options: dict[str, Any] = {"batch_size": 4, "max_new_tokens": 3, "timed": False}

    def found(out: Path) -> list[str]:
        threads.clear()
        arms_of = compare(vlm, samples, arms, out, **options).arms
        return [results.outcomes.to_json() for results in arms_of.values()]

    ahead = found(tmp_path / "ahead")
    assert threads == [False] * 3
    in_turn()
    assert found(tmp_path / "in-turn") == ahead
    assert threads == [True] * 3


def test_profiles_are_the_same_bit_for_bit(
    vlm: VLM, samples: Samples, tmp_path: Path, threads: list[bool], in_turn: Callable[[], None]
) -> None:
    def found(out: Path) -> list[str]:
        threads.clear()
        rows: Iterator[Any] = profile_samples(vlm, samples, out, batch_size=4).rows()
        return [repr((row.id, row.importance.tobytes())) for row in rows]

    ahead = found(tmp_path / "ahead")
    assert threads == [False] * 3
    in_turn()
    assert found(tmp_path / "in-turn") == ahead
    assert threads == [True] * 3


def test_a_sample_that_cannot_be_used_is_told_of_in_the_same_place(
    vlm: VLM, samples: Samples, tmp_path: Path, in_turn: Callable[[], None]
) -> None:
    """In the third batch of four: the answers before are kept, with and without the thread."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    given = [*samples[:9], Sample("9", broken, "what colour ?")]
    told = []
    for name, patch in (("ahead", lambda: None), ("in-turn", in_turn)):
        patch()
        out = tmp_path / name
        with pytest.raises(SampleError) as error:
            compare(vlm, given, {}, out, batch_size=4, max_new_tokens=2, timed=False)
        shards = own_answers(out).rglob("*.parquet")
        told.append((str(error.value), sum(read_table(shard).num_rows for shard in shards)))
    assert told[0] == told[1]
    assert "broken.png: not a picture" in told[0][0]
    assert told[0][1] == 8
