"""Arms that take turns, and what each of their turns took."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.benchmark.utils.timer import timer
from transformers import BatchFeature, PreTrainedModel

Arm = TypeVar("Arm")

Turn = dict[str, float]
"""Seconds of the parts of one turn: prefill (all of the forward pass but the tower), tower where it
ran and, of each generated token after the first, decode."""


class Tower:
    """The vision tower with its projector, inside of a forward pass: run and timed, or left out.

    Attributes:
        made: what it makes of the pictures; where it is given, or was made once, it does not run.
        seconds: how long it took.
    """

    def __init__(self, made: object = None) -> None:
        self.made, self.seconds = made, 0.0
        self._own: Callable[[], object] = lambda: made

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator["Tower"]:
        """Stand in for the tower of a model while the context is open."""
        inner: Any = getattr(model, "model", model)
        own: Callable[..., Any] = inner.get_image_features

        def timed(*args: Any, **options: Any) -> Any:
            if self.made is None:
                self._own = partial(own, *args, **options)
                self.run()
            return self.made

        inner.get_image_features = timed
        try:
            yield self
        finally:
            del inner.get_image_features

    def run(self) -> None:
        """Run and time the tower, once more where a forward pass has come to it."""
        began = timer()
        self.made = self._own()
        self.seconds = timer() - began


class Plain:
    """An arm that runs the whole model, in a context or as it is.

    Args:
        model: in eval mode.
        inputs: of one batch.
        decode: generated tokens after the first; 0 for none.
        opened: what is entered round each turn and not timed, such as `tokenlens.prune`.
        made: what the vision tower makes of the pictures; None to run it in every turn.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: BatchFeature,
        decode: int,
        opened: Callable[[], AbstractContextManager[Any]] = nullcontext,
        made: object = None,
    ) -> None:
        self.model, self.inputs, self.decode, self.opened = model, inputs, decode, opened
        self.made = made

    def forward(self) -> Any:
        """One prefill, of which the logits of the last token are asked for."""
        return self.model(**self.inputs, use_cache=True, logits_to_keep=1)

    def turn(self) -> Turn:
        """Time one turn."""
        tower = Tower(self.made)
        with self.opened():
            with tower.watching(self.model):
                began = timer()
                output = self.forward()
                whole = timer() - began
            found = {"prefill": whole - tower.seconds}
            if self.made is None:
                found["tower"] = tower.seconds
            if self.decode:
                found["decode"] = self._decoded(output)
        return found

    def peak(self) -> int | None:
        """Bytes that a prefill takes at most, beside what is there before."""
        with self.opened(), Tower(self.made).watching(self.model):
            return peak_bytes(self.model.device, self.forward)

    def _decoded(self, output: Any) -> float:
        """Seconds of a decoding step that continues a prefill, mean over the steps."""
        began = timer()
        for _ in range(self.decode):
            output = self.model(
                input_ids=output.logits[:, -1:].argmax(-1),
                past_key_values=output.past_key_values,
                use_cache=True,
                logits_to_keep=1,
            )
        return (timer() - began) / self.decode


def take_turns(arms: Mapping[Arm, Callable[[], Turn]], rounds: int) -> dict[Arm, list[Turn]]:
    """Time all arms in turn, `rounds` times after one that warms up; every second round backwards.

    >>> [len(turns) for turns in take_turns({"a": dict, "b": dict}, 3).values()]
    [3, 3]
    """
    found: dict[Arm, list[Turn]] = {name: [] for name in arms}
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
