"""Workers: the same results as one process, in order; typed errors; a dead worker's task again."""

from functools import partial

import pandas as pd
import pytest
import torch

from tests.support import working
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens import load
from tokenlens.errors import ModelError, OptionError, SampleError, WorkerError
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.running.tasks import answering_identity, start_answering
from tokenlens.models.fingerprint import model_identity
from tokenlens.probing.profiling import profile_samples
from tokenlens.samples.dataset import load_samples
from tokenlens.schedule import Schedule
from tokenlens.workers import Workers

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
WORK = partial(working.start, working.load)


@pytest.fixture(scope="module")
def workers():
    return Workers(2, working.load)


def test_results_come_in_the_order_of_the_tasks_whoever_is_first(workers):
    assert list(workers.map(WORK, [3, 1, 2])) == [[3, 30], [1, 10], [2, 20]]
    assert list(workers.map(WORK, [])) == []


def test_what_a_task_raises_in_a_worker_is_raised_here(workers):
    with pytest.raises(SampleError, match="expected a positive number"):
        list(workers.map(WORK, [1, -1]))
    with pytest.raises(ModelError, match="no model 'x'"):
        list(workers.map(partial(working.start, working.broken), [1]))
    with pytest.raises(WorkerError, match="ZeroDivisionError: by hand"):
        list(workers.map(WORK, [-2]))


def test_the_task_of_a_killed_worker_is_done_again(workers, tmp_path):
    found = list(workers.map(partial(working.start, working.load, tmp_path), [1, -3, 2]))
    assert found == [[1, 10], [-3, -30], [2, 20]]
    assert (tmp_path / "killed").exists()


def test_nonsense_is_refused_in_one_line():
    for count, more in ((0, {}), (1, {"cpus": 0}), (1, {"gpus": -1.0})):
        with pytest.raises(OptionError, match="expected at least one worker"):
            Workers(count, working.load, **more)


def test_a_comparison_by_workers_has_the_rows_of_one_process(tmp_path):
    folder = save_model_directory(tmp_path / "model", tiny_qwen2_vl(6))
    vlm, samples = load(folder, device="cpu"), load_samples("scenes", "held-out", limit=8)
    arms = {"stride": Schedule.preset("stride", vlm, budget=0.7)}
    options = {"batch_size": 2, "max_new_tokens": 3}
    alone = compare(vlm, samples, arms, tmp_path / "alone", timed=False, **options)
    workers = Workers(2, partial(load, folder, device="cpu"))
    shared = compare(vlm, samples, arms, tmp_path / "shared", workers=workers, **options)
    for name, results in alone.arms.items():
        pd.testing.assert_frame_equal(results.rows, shared.arms[name].rows, check_exact=True)


def test_a_profile_by_workers_has_the_rows_of_one_process(tmp_path):
    folder = save_model_directory(tmp_path / "model", tiny_qwen2_vl(4))
    vlm, samples = load(folder, device="cpu"), load_samples("scenes", limit=5)
    alone = profile_samples(vlm, samples, tmp_path / "alone", batch_size=2)
    workers = Workers(2, partial(load, folder, device="cpu"))
    shared = profile_samples(vlm, samples, tmp_path / "shared", batch_size=2, workers=workers)
    for one, other in zip(alone.rows(), shared.rows(), strict=True):
        assert one.id == other.id
        assert torch.equal(torch.as_tensor(one.importance), torch.as_tensor(other.importance))


def test_a_worker_with_another_model_is_refused(tmp_path):
    folder = save_model_directory(tmp_path / "model", tiny_qwen2_vl(4))
    other = save_model_directory(tmp_path / "other", tiny_qwen2_vl(6))
    expected = answering_identity(model_identity(load(folder, device="cpu")))
    start_answering(partial(load, folder, device="cpu"), expected)
    with pytest.raises(ModelError, match=r"a worker has another .*weights"):
        start_answering(partial(load, other, device="cpu"), expected)
