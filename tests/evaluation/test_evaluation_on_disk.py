"""Runs into a directory: continuing, refusing, and what is left behind."""

from dataclasses import replace

import pandas as pd
import pytest

import tokenlens.evaluation.running.generation as asking_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tests.support.runs import bypass, same
from tokenlens.errors import OutputError, PruningError, ResultsError, SampleError, ScheduleError
from tokenlens.evaluation.running.evaluate import evaluate
from tokenlens.evaluation.running.results import ROW_SCHEMA, Results
from tokenlens.models.batch import Batch
from tokenlens.models.loading import load
from tokenlens.schedule import Schedule


def test_a_run_on_disk_is_the_run_in_memory_and_can_be_loaded_again(vlm, samples, tmp_path):
    schedule = bypass(vlm)
    memory = evaluate(vlm, samples, schedule, max_new_tokens=3)
    assert not list(tmp_path.iterdir())
    disk = evaluate(vlm, samples, schedule, max_new_tokens=3, out=tmp_path / "run")
    same(memory, disk)
    loaded = Results.load(tmp_path / "run")
    pd.testing.assert_frame_equal(loaded.rows, disk.rows)
    assert loaded.rows.columns.to_list() == ROW_SCHEMA.names
    assert loaded.identity == memory.identity


class Interrupting(list):
    """Samples that end the run, once, when one of them is asked for."""

    def __init__(self, samples, place, error):
        super().__init__(samples)
        self.place, self.error = place, error

    def __getitem__(self, index):
        if index == self.place and self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().__getitem__(index)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SampleError("a bad picture")])
def test_an_interrupted_run_keeps_its_rows_and_continues(vlm, samples, tmp_path, error):
    whole = evaluate(vlm, samples, max_new_tokens=3, batch_size=2)
    out = tmp_path / "run"
    stopping = Interrupting(samples, 5, error)
    with pytest.raises(type(error)):
        evaluate(vlm, stopping, max_new_tokens=3, batch_size=2, out=out)
    with pytest.raises(ResultsError, match="unfinished run"):
        Results.load(out)
    again = evaluate(vlm, stopping, max_new_tokens=3, batch_size=2, out=out)
    same(whole, again)
    same(again, evaluate(vlm, stopping, max_new_tokens=3, batch_size=4, out=out))


def test_batches_are_of_one_task_and_a_continued_run_asks_what_is_missing(
    vlm, samples, tmp_path, monkeypatch
):
    grouped = []
    real = Batch.of

    def watched(vlm, samples, picture):
        grouped.append([sample.id[-1] for sample in samples])
        return real(vlm, samples, picture)

    out = tmp_path / "run"
    stopping = Interrupting(samples, 7, KeyboardInterrupt())
    monkeypatch.setattr(Batch, "of", watched)
    with pytest.raises(KeyboardInterrupt):
        evaluate(vlm, stopping, max_new_tokens=2, batch_size=3, out=out)
    assert grouped == [["0", "3", "6"]]
    grouped.clear()
    evaluate(vlm, samples, max_new_tokens=2, batch_size=2, out=out)
    assert grouped == [["1", "4"], ["7", "2"], ["5", "8"]]


def test_a_finished_run_answers_nothing_again(vlm, samples, tmp_path, monkeypatch):
    first = evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")
    monkeypatch.setattr(asking_module, "answer", lambda *_, **__: pytest.fail("answered again"))
    again = evaluate(vlm, samples, max_new_tokens=2, out=tmp_path / "run")
    pd.testing.assert_frame_equal(first.rows, again.rows)


def test_a_directory_of_another_run_is_refused_and_left_as_it_was(vlm, samples, tmp_path):
    out = tmp_path / "run"
    evaluate(vlm, samples, max_new_tokens=2, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match="samples is 9, now 4"):
        evaluate(vlm, samples[:4], max_new_tokens=2, out=out)
    with pytest.raises(OutputError, match=r"data\.hash"):
        evaluate(vlm, [*samples[:8], replace(samples[8], question="a ?")], out=out)
    with pytest.raises(OutputError, match="max_new_tokens is 2, now 3"):
        evaluate(vlm, samples, max_new_tokens=3, out=out)
    with pytest.raises(OutputError, match="schedule"):
        evaluate(vlm, samples, bypass(vlm), max_new_tokens=2, out=out)
    other = load(str(save_model_directory(tmp_path / "other", tiny_qwen2_vl(6, seed=1))))
    with pytest.raises(OutputError, match=r"model\."):
        evaluate(other, samples, max_new_tokens=2, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_why_a_schedule_was_chosen_does_not_make_another_run(vlm, samples, tmp_path):
    schedule = bypass(vlm)
    evaluate(vlm, samples, schedule, max_new_tokens=2, out=tmp_path / "run")
    explained = schedule.replace(why={"criterion": "region", "date": "2026-01-01"})
    evaluate(vlm, samples, explained, max_new_tokens=2, out=tmp_path / "run")


def test_what_cannot_be_run_is_refused_before_anything_is_written(vlm, samples, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(SampleError, match="no samples"):
        evaluate(vlm, [], out=out)
    foreign = Schedule.preset("fastv", tiny_qwen2_vl(5), budget=0.6, n_visual=36)
    with pytest.raises(ScheduleError, match="layers"):
        evaluate(vlm, samples, foreign, out=out)
    with pytest.raises(ResultsError, match="batch_size: got 0"):
        evaluate(vlm, samples, batch_size=0, out=out)
    assert not out.exists()


def test_a_schedule_the_engine_refuses_leaves_no_folder_behind(vlm, samples, tmp_path):
    """So that the mended schedule can be run into the same place."""
    before_the_decoder = Schedule(
        schema=1,
        method="test",
        model={"architecture": vlm.architecture, "layers": vlm.layers},
        stages=[{"score_layer": 0, "when": "after", "keep": 0.5, "disposal": "drop"}],
    )
    with pytest.raises(PruningError, match="no attention to read"):
        evaluate(vlm, samples, before_the_decoder, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
