"""Capability, knock-out, information and tuning by workers: the figures of one process.

The worker is this process, with a model of its own and tasks that were pickled; that Ray brings the
same is tested once here, and in tests/test_workers.py.
"""

import pickle
from functools import partial

import pandas as pd
import pytest

from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens import load, tune
from tokenlens.analyses import knock_out
from tokenlens.errors import ModelError, OptionError
from tokenlens.evaluation.capability import measure, rerun_scores
from tokenlens.evaluation.information.measure import Options, information, start_measuring
from tokenlens.samples.dataset import load_samples
from tokenlens.workers import Workers

pytest.importorskip("ray")


def sent(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - what this test has pickled


class Here(Workers):
    """One worker, in this process."""

    def map(self, start, tasks):
        work = sent(start)() if tasks else None
        for task in tasks:
            yield list(work(sent(task)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("inputs") / "model", tiny_qwen2_vl(4))


@pytest.fixture(scope="module")
def vlm(folder):
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def workers(folder):
    return Here(2, partial(load, folder, device="cpu"))


@pytest.fixture(scope="module")
def samples():
    return load_samples("scenes", limit=3)


def rows_of(folder):
    shards = sorted(folder.rglob("shard-*.parquet"))
    assert shards
    return {path.relative_to(folder).as_posix(): pd.read_parquet(path) for path in shards}


def assert_same(one, other):
    alone, shared = rows_of(one), rows_of(other)
    assert alone.keys() == shared.keys()
    for name, frame in alone.items():
        pd.testing.assert_frame_equal(frame, shared[name], check_exact=True)


def test_the_information_profile(vlm, samples, workers, tmp_path):
    options = {"batch_size": 2, "max_new_tokens": 3}
    information(vlm, samples, tmp_path / "alone", **options)
    information(vlm, samples, tmp_path / "shared", workers=workers, **options)
    assert_same(tmp_path / "alone", tmp_path / "shared")
    assert_same(tmp_path / "alone" / "paths", tmp_path / "shared" / "paths")


@pytest.mark.slow
def test_the_information_profile_by_ray(vlm, samples, workers, tmp_path):
    options = {"batch_size": 2, "max_new_tokens": 3}
    information(vlm, samples, tmp_path / "alone", **options)
    ray = Workers(2, workers.load)
    information(vlm, samples, tmp_path / "shared", workers=ray, **options)
    assert_same(tmp_path / "alone", tmp_path / "shared")
    assert_same(tmp_path / "alone" / "paths", tmp_path / "shared" / "paths")


def test_capability(vlm, samples, workers, tmp_path):
    alone = measure(vlm, samples, tmp_path / "alone", batch_size=2)
    shared = measure(vlm, samples, tmp_path / "shared", batch_size=2, workers=workers)
    pd.testing.assert_frame_equal(rerun_scores(alone), rerun_scores(shared), check_exact=True)
    assert_same(tmp_path / "alone", tmp_path / "shared")


def test_the_knock_out(vlm, samples, workers, tmp_path):
    options = {"layers": [2, 4], "batch_size": 2}
    alone = knock_out.compute(vlm, samples, tmp_path / "alone", **options)
    shared = knock_out.compute(vlm, samples, tmp_path / "shared", workers=workers, **options)
    pd.testing.assert_frame_equal(alone, shared, check_exact=True)


def test_the_search_for_a_schedule(vlm, samples, workers, tmp_path):
    pytest.importorskip("optuna")
    options = {"min_agreement": 0.5, "trials": 1, "batch_size": 4, "max_new_tokens": 2}
    alone = tune(vlm, samples, out=tmp_path / "alone", **options)
    shared = tune(vlm, samples, out=tmp_path / "shared", workers=workers, **options)
    assert [one.as_json() for one in alone.trials] == [one.as_json() for one in shared.trials]
    with pytest.raises(OptionError, match="leave the workers out"):
        tune(vlm, samples, objective="prefill-time", workers=workers, **options)


def test_a_worker_with_another_model_is_refused(vlm, tmp_path):
    other = save_model_directory(tmp_path / "other", tiny_qwen2_vl(6))
    with pytest.raises(ModelError, match=r"a worker has another .*weights"):
        start_measuring(partial(load, other, device="cpu"), Options(), {"weights": "x"})
