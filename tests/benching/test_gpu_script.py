"""The command for a GPU says in one line that there is none."""

import pytest
import torch

from benchmarks import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_every_request_is_one_that_can_be_measured() -> None:
    for request in gpu.requests():
        request.check()
