"""A random model of four layers, samples without answers, and one search to its end."""

import pytest

import tokenlens as tl
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tests.support.trackers import Recorded

SEARCH = {"labels": False, "trials": 6, "max_new_tokens": 2, "batch_size": 16}


@pytest.fixture(scope="session")
def tuned_model(tmp_path_factory):
    return str(save_model_directory(tmp_path_factory.mktemp("tuned"), tiny_qwen2_vl(4)))


@pytest.fixture(scope="session")
def vlm(tuned_model):
    return tl.load(tuned_model)


@pytest.fixture(scope="session")
def samples():
    return counted_samples(20)


@pytest.fixture(scope="session")
def tracked():
    """What the tracker of the finished search is told."""
    return Recorded()


@pytest.fixture(scope="session")
def finished(vlm, samples, tracked, tmp_path_factory):
    """A search that nobody stopped, and its directory."""
    directory = tmp_path_factory.mktemp("finished") / "search"
    others = counted_samples(24)[20:]
    found = tl.tune(
        vlm, samples, "60% MACs", held_out=others, out=directory, tracker=tracked, **SEARCH
    )
    return found, directory
