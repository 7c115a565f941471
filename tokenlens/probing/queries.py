"""Which tokens' rows the probe records: the query tokens, as the user names them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokenlens.errors import ProbeError
from tokenlens.wording.printable import shown

Queries = str | Sequence[int] | Callable[[Tensor], Any]
"""`"last"`, `"text"`, `"generated"`, places in the (padded) prompt, or a function of its ids."""

_NAMES = ("last", "text", "generated")
_EXPECTED = (
    "'last', 'text', 'generated', a list of positions in the (padded) prompt, or a "
    "function of a sample's token ids that gives positions or a mask"
)


@dataclass(frozen=True)
class QueryChoice:
    """The query tokens that were asked for.

    Attributes:
        wanted: one of the names, positions, or a function.
    """

    wanted: str | tuple[int, ...] | Callable[[Tensor], Any]

    @classmethod
    def of(cls, queries: Queries) -> "QueryChoice":
        """Check what the user gave. Raises `ProbeError`.

        >>> QueryChoice.of([3, -1]).wanted
        (3, -1)
        """
        if isinstance(queries, str):
            if queries not in _NAMES:
                raise ProbeError(f"queries: got {shown(queries)}, expected {_EXPECTED}")
            return cls(queries)
        if callable(queries):
            return cls(queries)
        return cls(_whole_numbers(queries))

    @property
    def single(self) -> bool:
        """Whether it is one row a sample, without a dimension of its own."""
        return self.wanted == "last"

    @property
    def generated(self) -> bool:
        """Whether the rows that predicted the generated tokens are wanted."""
        return self.wanted == "generated"

    def places(self, ids: Tensor, attended: Tensor, visual: Tensor) -> list[list[int]]:
        """The query tokens of every sample, ascending but for positions, which stay as given.

        Args:
            ids: int64 [batch, length], the padded prompt.
            attended: bool [batch, length], False for padding.
            visual: bool [batch, length], the visual tokens.

        Raises `ProbeError` for places that are outside of the prompt or padding.
        """
        if self.wanted in ("last", "generated"):
            return [[place] for place in last_tokens(attended)]
        if self.wanted == "text":
            following = visual.flip(1).cumsum(1).flip(1) == 0
            return [row.nonzero().flatten().tolist() for row in following & attended & ~visual]
        return [
            _checked(_asked(self.wanted, row), real, sample)
            for sample, (row, real) in enumerate(zip(ids, attended, strict=True))
        ]


def last_tokens(attended: Tensor) -> list[int]:
    """Place of each sample's last real token, whichever side is padded (bool [batch, length]).

    >>> last_tokens(torch.tensor([[False, True, True], [True, True, False]]))
    [2, 1]
    """
    places = torch.arange(attended.shape[1], device=attended.device)
    return (attended * places).amax(dim=1).tolist()


def attended_tokens(attention_mask: Any, ids: Tensor) -> Tensor:
    """What of a prompt (int64 [batch, length]) is no padding: bool [batch, length]."""
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        return torch.ones_like(ids, dtype=torch.bool)
    return attention_mask[:, : ids.shape[1]].bool()


def _asked(wanted: Any, ids: Tensor) -> tuple[int, ...]:
    if not callable(wanted):
        return tuple(wanted)
    found = wanted(ids.clone())
    if isinstance(found, Tensor) and found.dtype == torch.bool:
        if found.shape != ids.shape:
            raise ProbeError(
                f"queries: the function gave a mask of {list(found.shape)} for a prompt of "
                f"{list(ids.shape)}; expected one value per token"
            )
        found = found.nonzero().flatten()
    return _whole_numbers(found)


def _whole_numbers(found: Any) -> tuple[int, ...]:
    values = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(values, Sequence | range) or isinstance(values, str | bytes):
        raise ProbeError(f"queries: got {shown(found)}, expected {_EXPECTED}")
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        raise ProbeError(f"queries: got {shown(found)}, expected {_EXPECTED}")
    if not values:
        raise ProbeError(f"queries: got no position at all, expected {_EXPECTED}")
    return tuple(values)


def _checked(places: tuple[int, ...], real: Tensor, sample: int) -> list[int]:
    length = len(real)
    found = []
    for place in places:
        if not -length <= place < length:
            raise ProbeError(
                f"queries: position {place} is not in the prompt, whose (padded) length is "
                f"{length}; for tokens that the model writes use queries='generated'"
            )
        if not real[place]:
            raise ProbeError(
                f"queries: position {place} of sample {sample} is padding; prompts are padded on "
                "the left, so count from the end (-1 is the last token), or use a function"
            )
        found.append(place % length)
    return found
