"""What is to be measured, checked before torch is imported."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from tokenlens.errors import OptionError
from tokenlens.methods import find_method
from tokenlens.schedule.budget import parse_budget
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

MOST = 10**6
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Shape:
    """The widths of a model: its text decoder, then its vision tower."""

    family: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    tower_layers: int
    tower_width: int
    tower_heads: int


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "qwen2-vl-2b": Shape("qwen2_vl", 28, 1536, 8960, 12, 2, 151_936, 32, 1280, 16),
        "qwen2-vl-7b": Shape("qwen2_vl", 28, 3584, 18944, 28, 4, 152_064, 32, 1280, 16),
        "llava-1.5-7b": Shape("llava", 32, 4096, 11008, 32, 32, 32_064, 24, 1024, 16),
    }
)
"""The shapes that `--like` takes."""


@dataclass(frozen=True)
class Cell:
    """One comparison: a method at a budget beside the unpruned model, at one size of the inputs.

    Attributes:
        tokens: visual tokens of a prompt; None for those of the model's own square picture.
        batch: prompts in a batch.
        method: name of the preset.
        budget: its budget, as given.
    """

    tokens: int | None
    batch: int
    method: str
    budget: str

    def __str__(self) -> str:
        size = f"{self.tokens} tokens, " if self.tokens else ""
        return f"{self.method} {self.budget}, {size}batch {self.batch}"


@dataclass(frozen=True)
class Request:
    """A bench: the model, its inputs, the methods, and how often.

    Attributes:
        model: name or directory of a model with weights; None for random weights.
        like: shape of a model with random weights; None for a model with weights.
        layers: decoder layers of the shape; None for all.
        width: hidden width of the shape; None for its own.
        methods: presets.
        budgets: of each of them.
        batches: prompts in a batch.
        tokens: visual tokens of a prompt; empty for those of the model's own square picture.
        text: text tokens of a prompt of random weights.
        dtype: of weights and activations.
        device: where it runs; None for an accelerator if there is one.
        rounds: how often each arm is timed after the first, which warms up.
        decode: tokens generated after the prefill to time decoding; 0 for none.
        attention: kernel of the decoder of random weights, as transformers names it.
    """

    model: str | None
    like: str | None
    layers: int | None
    width: int | None
    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    batches: tuple[int, ...]
    tokens: tuple[int, ...]
    text: int
    dtype: str
    device: str | None
    rounds: int
    decode: int
    attention: str = "sdpa"

    def check(self) -> None:
        """Raise `OptionError`, `ScheduleError` or `BudgetError` for what cannot be measured."""
        for method in self.methods:
            find_method(method)
        for budget in self.budgets:
            parse_budget(budget)
        if self.dtype not in DTYPES:
            raise OptionError(f"--dtype: got {shown(self.dtype)}, expected {one_of('', DTYPES)}")
        if self.like is None:
            self._check_weights()
        elif self.like not in SHAPES:
            raise OptionError(
                f"--like: got {shown(self.like)}, expected {one_of(self.like, SHAPES)}"
            )
        elif self.model is not None:
            raise OptionError("--like and --model: give one of them, a shape or a model")
        elif not self.tokens:
            raise OptionError("--tokens: is missing; with --like give squares, such as 576,2304")

    def _check_weights(self) -> None:
        """Options that only a shape takes."""
        for option, value in (
            ("--layers", self.layers),
            ("--width", self.width),
            ("--tokens", self.tokens or None),
        ):
            if value is not None:
                raise OptionError(
                    f"{option}: is for random weights; give --like with it, or leave it out: a "
                    "model with weights has its own"
                )

    def cells(self) -> Iterator[Cell]:
        """What is compared, in order."""
        sizes: Sequence[int | None] = self.tokens or (None,)
        for tokens, batch, method, budget in product(
            sizes, self.batches, self.methods, self.budgets
        ):
            yield Cell(tokens, batch, method, budget)


def names(option: str, text: str) -> tuple[str, ...]:
    """The parts of a list with commas; `OptionError` for an empty or a repeated one.

    >>> names("--methods", "swiftvlm, stride")
    ('swiftvlm', 'stride')
    """
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts) or len(set(parts)) < len(parts):
        raise OptionError(
            f"{option}: got {shown(text)}, expected values with commas between them, each once"
        )
    return parts


def counts(option: str, text: str) -> tuple[int, ...]:
    """The numbers of a list with commas; `OptionError` for what is no count.

    >>> counts("--tokens", "576,2304")
    (576, 2304)
    """
    parts = names(option, text)
    for part in parts:
        if not (part.isascii() and part.isdecimal() and len(part) < 8 and 1 <= int(part) <= MOST):
            raise OptionError(
                f"{option}: got {shown(part)}, expected whole numbers from 1 to {MOST}, such as 1,4"
            )
    return tuple(map(int, parts))
