"""The options of workers: what this process loads, and what they load."""

import pytest

from tokenlens.cli.options import ModelOptions
from tokenlens.cli.workers import load_spread

pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("given", "gpus", "here", "there"),
    [
        ({}, 0.0, ("cpu", None), ("cpu", None)),
        ({}, 1.0, ("cpu", "auto"), ("cuda", None)),
        ({"device": "cuda:0"}, 0.0, ("cpu", "auto"), ("cuda:0", None)),
        ({"dtype": "float32"}, 1.0, ("cpu", "float32"), ("cuda", "float32")),
    ],
)
def test_this_process_loads_the_data_type_of_its_workers(monkeypatch, given, gpus, here, there):
    """By default float32 on a CPU, the checkpoint's own on a GPU; others are refused."""
    monkeypatch.setattr(ModelOptions, "load", lambda self: (self.device, self.dtype))
    loaded, workers = load_spread(2, None, gpus, 1, ModelOptions("some/model", **given))
    assert loaded == here
    theirs = workers.load.args[1]
    assert (theirs.device, theirs.dtype) == there
    assert workers.device_type == there[0].partition(":")[0]
