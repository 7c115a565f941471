"""Whose row is whose: the generated tokens, and the row of the batch that wrote each of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenlens.errors import ProbeError
from tokenlens.probing.decoding import DecodedRows
from tokenlens.probing.generations import PromptCall

_ASSISTED = ("assistant_model", "prompt_lookup_num_tokens", "use_mtp")


@dataclass(frozen=True)
class Written:
    """One returned sequence.

    Attributes:
        path: for each of its tokens, the row of the batch that predicted it.
        tokens: their ids; one is None where it is not known (a loop of the user's own).
    """

    path: list[int]
    tokens: list[int | None]


def refuse_assisted(given: PromptCall, model: PreTrainedModel) -> None:
    """Raise `ProbeError` for a `generate()` that verifies drafts, several tokens a forward."""
    found = [name for name in _ASSISTED if given.setting(name, model)]
    if found and not given.drafting:
        raise ProbeError(
            f"queries='generated' does not go with assisted decoding ({found[0]}), whose forwards "
            "run drafts that may be thrown away; leave it out, or probe with queries='last'"
        )


def beams_of(given: PromptCall, model: PreTrainedModel) -> int:
    """Beams of a prompt; 1 where there is no beam search."""
    return int(given.setting("num_beams", model) or 1)


def own_loop(given: PromptCall) -> bool:
    """Whether a loop of someone else decodes in place of transformers' own."""
    return given.arguments.get("custom_generate") is not None


def attribute(
    given: PromptCall, model: PreTrainedModel, result: Any, prompt: Tensor, decoded: DecodedRows
) -> list[Written]:
    """The sequences that a `generate()` returned.

    Args:
        given: what it was given.
        model: whose it is.
        result: what transformers' own `generate()` returned.
        prompt: int64 [batch, length], as the batch of its forwards had it.
        decoded: the steps that were followed.

    Raises `ProbeError` where it did not return what those steps wrote.
    """
    sequences = result if isinstance(result, Tensor) else getattr(result, "sequences", None)
    if not isinstance(sequences, Tensor) or sequences.ndim != 2:
        raise ProbeError(_unlike("it returned no token ids"))
    length = prompt.shape[1]
    written = sequences[:, length:].cpu()
    if beams_of(given, model) > 1 and not own_loop(given):
        paths = _beam_paths(result)
    else:
        if not torch.equal(sequences[:, :length].cpu(), prompt.cpu()):
            raise ProbeError(_unlike("it returned other sequences than those of its prompts"))
        paths = [[row] * count for row, count in enumerate(_lengths(given, model, written))]
    if max(map(len, paths), default=0) > len(decoded.fed) + 1:
        raise ProbeError(_unlike("it returned more tokens than it ran steps"))
    fed = torch.stack(decoded.fed).cpu() if decoded.fed else torch.empty(0, len(prompt))
    for row, path in zip(written.tolist(), paths, strict=True):
        if any(fed[step, at] != row[step] for step, at in enumerate(path[1:])):
            raise ProbeError(_unlike("it returned other tokens than it ran"))
    return [
        Written(path, list(row[: len(path)]))
        for row, path in zip(written.tolist(), paths, strict=True)
    ]


def attribute_loop(decoded: DecodedRows) -> list[Written]:
    """What a loop of the user's own wrote, one sequence for every row of the batch."""
    steps = len(decoded.fed) + 1
    fed = torch.stack(decoded.fed).T.tolist() if decoded.fed else [[] for _ in decoded.positions]
    return [Written([row] * steps, [*tokens, None]) for row, tokens in enumerate(fed)]


def _unlike(why: str) -> str:
    return (
        f"the rows of this generate() cannot be told from each other: {why}; use greedy decoding, "
        "sampling or beam search of transformers"
    )


def _beam_paths(result: Any) -> list[list[int]]:
    """Of every returned sequence, the running beam that each of its tokens came from."""
    beams = getattr(result, "beam_indices", None)
    if not isinstance(beams, Tensor):
        raise ProbeError(_unlike("its beam search does not say which beam wrote which token"))
    return [[beam for beam in row if beam >= 0] for row in beams.tolist()]


def _lengths(given: PromptCall, model: PreTrainedModel, written: Tensor) -> list[int]:
    """Tokens of every sequence (int64 [batch, tokens]) up to its end, that token included.

    After it a batch is filled up with padding. Stopping criteria of the user end a sequence by no
    token of their own, so the padding is then taken off its end.
    """
    ends = given.setting("eos_token_id", model)
    ends = ends.tolist() if isinstance(ends, Tensor) else ends
    ends = set(ends if isinstance(ends, Iterable) else [ends])
    padding = given.setting("pad_token_id", model)
    stopped = any(given.setting(name, model) for name in ("stopping_criteria", "stop_strings"))
    counts = []
    for row in written.tolist():
        count = next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
        while stopped and count and row[count - 1] == padding and padding not in ends:
            count -= 1
        counts.append(count)
    return counts
