"""Arms that take turns, and what each of their turns took."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.benchmark.utils.timer import timer
from transformers import BatchFeature, LogitsProcessor, LogitsProcessorList, PreTrainedModel

Turn = dict[str, float]
"""Seconds of the parts of one turn: tower, prefill (all of the forward pass but the tower) and, of
each generated token after the first, decode."""


class Clock(LogitsProcessor):
    """Notes the time whenever a generated token is about to be chosen."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave the scores as they are."""
        self.times.append(timer())
        return scores

    def per_token(self) -> float:
        """Seconds of a decoding step, mean over the steps."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


class Tower:
    """Times the vision tower with its projector, inside of a forward pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator["Tower"]:
        """Time the tower of a model while the context is open."""
        inner: Any = getattr(model, "model", model)
        own: Callable[..., Any] = inner.get_image_features

        def timed(*args: Any, **options: Any) -> Any:
            began = timer()
            found = own(*args, **options)
            self.seconds += timer() - began
            return found

        inner.get_image_features = timed
        try:
            yield self
        finally:
            del inner.get_image_features


class Plain:
    """An arm that runs the whole model, in a context or as it is.

    Args:
        model: in eval mode.
        inputs: of one batch.
        decode: generated tokens after the first; 0 for none.
        opened: what is entered round each turn and not timed, such as `tokenlens.prune`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: BatchFeature,
        decode: int,
        opened: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.model, self.inputs, self.decode, self.opened = model, inputs, decode, opened

    def forward(self) -> None:
        """One prefill, of which the logits of the last token are asked for."""
        self.model(**self.inputs, use_cache=True, logits_to_keep=1)

    def turn(self) -> Turn:
        """Time one turn."""
        tower = Tower()
        with self.opened():
            with tower.watching(self.model):
                began = timer()
                self.forward()
                whole = timer() - began
            found = {"tower": tower.seconds, "prefill": whole - tower.seconds}
            if self.decode:
                found["decode"] = self._decoded()
        return found

    def peak(self) -> int | None:
        """Bytes that a prefill takes at most, beside what is there before."""
        with self.opened():
            return peak_bytes(self.model.device, self.forward)

    def _decoded(self) -> float:
        clock, steps = Clock(), self.decode + 1
        generate: Callable[..., Any] = cast(Any, self.model).generate
        generate(
            **self.inputs,
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            logits_processor=LogitsProcessorList([clock]),
        )
        return clock.per_token()


def take_turns(arms: Mapping[str, Callable[[], Turn]], rounds: int) -> dict[str, list[Turn]]:
    """Time all arms in turn, `rounds` times after one that warms up; every second round backwards.

    >>> [len(turns) for turns in take_turns({"a": dict, "b": dict}, 3).values()]
    [3, 3]
    """
    found: dict[str, list[Turn]] = {name: [] for name in arms}
    with torch.inference_mode():
        for place in range(rounds + 1):
            for name in list(arms) if place % 2 else list(arms)[::-1]:
                turn = arms[name]()
                if place:
                    found[name].append(turn)
    return found


def peak_bytes(device: torch.device, run: Callable[[], object]) -> int | None:
    """Bytes that `run` takes at most, beside what is there before; None where nobody tells.

    On a GPU as its allocator counts. On a CPU the peak of the process's resident memory, which
    Linux alone sets back; memory that the process holds and reuses is not seen.
    """
    with torch.inference_mode():
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            run()
            return torch.cuda.max_memory_allocated(device) - before
        return _resident_peak(run)


def _resident_peak(run: Callable[[], object]) -> int | None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
        run()
        return max(0, _status("VmHWM") - before)
    except (OSError, LookupError):
        return None


def _status(name: str) -> int:
    """Bytes of an entry of the process's status."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return int(found[1]) * 1024
