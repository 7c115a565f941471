"""`lmms_eval --model tokenlens`: a model that tokenlens loads, asks and prunes."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from statistics import fmean
from typing import Any

from accelerate import Accelerator
from lmms_eval.api.model import lmms

from tokenlens.errors import OptionError
from tokenlens.evaluation.running.generation import Answer, Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.harnesses.lmms_arguments import ScheduleFile, check_known, count, unquoted
from tokenlens.harnesses.lmms_requests import Decoding, sample_of
from tokenlens.models.loading import load
from tokenlens.progress import progress
from tokenlens.samples.sample import Sample

_LOADING = ("device", "dtype", "device_map", "revision")
_SCHEDULE = ("schedule", "schedule_hash", "any_model")
_KNOWN = ("pretrained", *_SCHEDULE, *_LOADING, "batch_size", "max_batch_size")

Asked = tuple[Sample, Decoding]


class TokenlensModel(lmms):  # type: ignore[misc]
    """A model pruned by a schedule, or unpruned without one; any family that tokenlens knows.

    Questions and answers are those of `tokenlens run`: the model's chat template with the pictures
    first, greedy decoding. The task says how many tokens an answer may have.

    Args:
        pretrained: What `tokenlens.load` takes: bundled name, alias, hub id or directory.
        batch_size: Samples per forward pass; answers do not depend on it.
        options: `schedule`, `schedule_hash` and `any_model` as `ScheduleFile.read` takes them;
            `device`, `dtype`, `device_map` and `revision` as `tokenlens.load` does.

    Raises:
        TokenlensError: An argument, the model or the schedule cannot be used.
    """

    is_simple = True

    def __init__(
        self, pretrained: Any = "tiny-qwen2-vl", batch_size: Any = 1, **options: Any
    ) -> None:
        super().__init__()
        check_known(options, _KNOWN)
        self.accelerator = Accelerator()
        self._rank = self.accelerator.process_index
        self._world_size = self.accelerator.num_processes
        told = {key: unquoted(options[key]) for key in _LOADING if options.get(key) is not None}
        if self._world_size > 1:
            told["device"] = str(self.accelerator.device)
        elif "device_map" in told:
            told.pop("device", None)
        given = {key: options[key] for key in _SCHEDULE if key in options}
        self._file = ScheduleFile.read(**given, command=sys.argv)
        self._batch_size = count("batch_size", batch_size)
        self._vlm = load(unquoted(pretrained), **told)
        if self._file.schedule is not None:
            self._file.schedule.check(self._vlm, any_model=self._file.any_model)

    @property
    def device(self) -> Any:
        """The device of the inputs."""
        return self._vlm.device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers to the requests, in their order."""
        answers: list[Answer] = []
        texts: list[str] = []
        with progress("answering", len(requests), show=self.rank == 0) as advance:
            for decoding, samples in self._batches(requests):
                options = RunOptions(
                    max_new_tokens=decoding.max_new_tokens, any_model=self._file.any_model
                )
                found = Prepared(self._vlm, samples).answer(self._file.schedule, options)
                answers += found
                texts += [decoding.cut(one.prediction) for one in found]
                advance(len(found))
        if answers and self.rank == 0:
            sys.stderr.write(_summary(answers))
        return texts

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Refused: tokenlens measures pruning by the answers that are generated."""
        raise OptionError(
            "tokenlens answers by generation; this task scores given answers (output_type "
            "loglikelihood or multiple_choice): choose one with output_type generate_until"
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:  # noqa: ARG002
        """Refused: a sample of tokenlens is one question."""
        raise OptionError(
            "tokenlens answers one question at a time; this task has several rounds: choose one "
            "with output_type generate_until"
        )

    def _batches(self, requests: Sequence[Any]) -> Iterator[tuple[Decoding, list[Sample]]]:
        """Neighbouring samples that are answered alike; rows are read when their turn comes."""
        asked = (sample_of(one.args, self.task_dict) for one in requests)
        for decoding, alike in groupby(asked, key=_decoding):
            while batch := [sample for sample, _ in islice(alike, self._batch_size)]:
                yield decoding, batch


def _decoding(asked: Asked) -> Decoding:
    return asked[1]


def _summary(answers: Sequence[Answer]) -> str:
    """What the answers cost, in one line; lmms-eval's tables hold scores alone."""
    tokens = fmean(fmean(one.tokens_per_layer) for one in answers)
    macs = fmean(one.macs for one in answers)
    return (
        f"tokenlens: {len(answers)} answers; visual tokens entering a layer {tokens:.1f}, MACs of "
        f"the decoder's prefill {macs:.4g} (means)\n"
    )
