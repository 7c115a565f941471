"""Parts of a schedule: its model, scorer and stages.

A number of tokens is either a count (a JSON integer: 1 is one token) or a ratio (a JSON number with
a decimal point: 1.0 is all of them).
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from tokenlens.registry import DISPOSALS, IMPORTANCES, SCORERS, Registry
from tokenlens.schedule.disposal_kinds import disposal_kind
from tokenlens.storage.json_files import one_line
from tokenlens.wording.printable import shown
from tokenlens.wording.suggest import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM

Heads = Literal["mean"] | int | float | tuple[tuple[int, int], ...]
Amount = int | float
"""A count, or a ratio of the sample's original visual tokens."""


_MOST = 10**9
"""The largest count of tokens, layers or heads."""
Count = Annotated[StrictInt, Field(ge=1, le=_MOST)]


def amount(
    expected: str, *, zero: bool, largest: float = 1.0, most: int = _MOST
) -> Callable[[Any], int | float]:
    """A validator of counts (integers up to `most`) and of ratios (floats up to `largest`)."""

    def check(value: Any) -> int | float:
        if isinstance(value, Real) and not isinstance(value, bool):
            number = int(value) if isinstance(value, Integral) else float(value)
            limit = most if isinstance(number, int) else largest
            if 0 < number <= limit or (zero and number == 0):
                return number
        raise ValueError(f"got {shown(value)}, expected {expected}")

    return check


_check_some = amount(
    "a ratio in (0, 1] such as 0.5, a count from 1 such as 24, 'none', or an object such as "
    '{"mass": 0.9, "least": 8, "most": 0.5}',
    zero=False,
)
_check_limit = amount("a ratio in (0, 1] such as 0.5, or a count from 1 such as 24", zero=False)
_check_merge = amount("a ratio in [0, 1] such as 0.1, or a count from 0 such as 8", zero=True)
_check_strongest = amount(
    "'mean', a number of heads (a count from 1 such as 14, or a ratio in (0, 1] such as 0.4375), "
    "or a list of [layer, head], layers counted from 1 and heads from 0, such as [[3, 0], [3, 5]]",
    zero=False,
)


def _check_mass(value: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) <= 1:
        return float(value)
    raise ValueError(f"got {shown(value)}, expected a share in (0, 1] such as 0.9")


def _known(registry: Registry[Any]) -> Callable[[Any], Any]:
    """A validator of names in `registry`."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in registry:
            raise ValueError(f"got {shown(value)}, expected {one_of(value, registry)}")
        return value

    return check


def _check_heads(value: Any) -> Heads:
    if value == "mean":
        return "mean"
    try:
        pairs = tuple((layer, head) for layer, head in value)
    except (TypeError, ValueError):
        pairs = ()
    if pairs and all(
        type(layer) is int and type(head) is int and layer > 0 <= head for layer, head in pairs
    ):
        return pairs
    return _check_strongest(value)


class Part(BaseModel):
    """Base class of the parts: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MassKeep(Part):
    """Keep the fewest tokens of each sample that hold a share of all importance.

    Candidates are taken from the highest importance down until they hold the share `mass` of the
    candidates' total; their number is then limited to the range from `least` to `most`.

    Attributes:
        mass: in (0, 1].
        least: a count, or a ratio of the sample's original visual tokens.
        most: likewise; it takes precedence where a sample is so small that `least` is larger.
    """

    mass: Annotated[float, BeforeValidator(_check_mass)]
    least: Annotated[Amount, BeforeValidator(_check_limit)] = 1
    most: Annotated[Amount, BeforeValidator(_check_limit)] = 1.0

    @model_validator(mode="after")
    def _least_is_less(self) -> Self:
        if type(self.least) is type(self.most) and self.least > self.most:
            raise ValueError(
                f"got least {self.least} and most {self.most}, expected least up to most"
            )
        return self


Keep = Amount | Literal["none"] | MassKeep


def _check_keep(value: Any) -> Keep:
    if value == "none" or isinstance(value, MassKeep):
        keep: Keep = value
        return keep
    if not isinstance(value, dict):
        return _check_some(value)
    try:
        return MassKeep(**value)
    except ValidationError as error:
        raise ValueError(one_line(error, MassKeep)) from None


class ModelRef(Part):
    """The model a schedule is for; with `id` and `revision` None, any model of the architecture."""

    id: StrictStr | None = None
    revision: StrictStr | None = None
    architecture: StrictStr
    layers: Count

    @classmethod
    def of(cls, model: "VLM | PreTrainedModel") -> "ModelRef":
        """The reference to a loaded model; a bare HF model has no id."""
        from tokenlens.models.structure import decoder_layers, unwrap
        from tokenlens.models.vlm import VLM

        bare = unwrap(model)
        name = {"id": model.id, "revision": model.revision} if isinstance(model, VLM) else {}
        return cls(**name, architecture=type(bare).__name__, layers=len(decoder_layers(bare)))


class Scorer(Part):
    """How importance is read, at every stage or at one.

    Attributes:
        query: the rows of attention that are averaged: of the "last" prompt token, of the
            "text" tokens after the last visual token (those that see the whole picture), of those
            among them that are "raters", or of "all" tokens. Others read no attention of the
            decoder: "random" importance is a seeded draw, "uniform" is that of tokens at even
            distances, "diverse" that of tokens unlike each other, "vision" importance is
            attention in the vision tower, "recorded" importance is that of `layer` in the unpruned
            model, which is run first (see `tokenlens.prune`). Packages may add others
            (`tokenlens.registry`).
        heads: "mean" over all heads; a number of heads, as a count or as a ratio of all, for the
            mean over those whose rows give the candidates the most attention (SparseVLM+; softmax
            "all"); or the (layer, head) pairs to average, layers counted from 1 and heads from 0.
        rotary: whether queries and keys are compared with their rotary embedding.
        decay: "divide" divides attention by its decay with distance under the rotary embedding
            (SparseVLM+, see `tokenlens.pruning.positions.decay`), before heads are chosen; None
            leaves attention as it is.
        softmax: over "all" keys of the row, or over the "visual" candidates only.
        seed: the seed of query "random"; None for every other query.
        layer: the layer of query "recorded", counted from 1; None for every other query.
        importance: what is recorded of the unpruned model for query "recorded", by name
            (`tokenlens.registry.IMPORTANCES`); None for attention, and for every other query.
    """

    query: Annotated[StrictStr, BeforeValidator(_known(SCORERS))] = "last"
    heads: Annotated[Heads, BeforeValidator(_check_heads)] = "mean"
    rotary: StrictBool = True
    softmax: Literal["all", "visual"] = "all"
    decay: Literal["divide"] | None = None
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] | None = None
    layer: Count | None = None
    importance: Annotated[StrictStr, BeforeValidator(_known(IMPORTANCES))] | None = None

    @property
    def listed_heads(self) -> tuple[tuple[int, int], ...]:
        """The (layer, head) pairs that `heads` lists, if it is a list."""
        return self.heads if isinstance(self.heads, tuple) else ()

    @model_validator(mode="after")
    def _layer_is_of_recorded(self) -> Self:
        if (self.query == "recorded") != (self.layer is not None):
            raise ValueError(
                f"got query {self.query!r} with layer {self.layer}, expected a layer with query "
                "'recorded' and none with any other"
            )
        if self.importance is not None and self.query != "recorded":
            raise ValueError(
                f"got query {self.query!r} with importance {self.importance!r}, expected query "
                "'recorded': the others read attention, or have an importance of their own"
            )
        return self

    @model_validator(mode="after")
    def _strongest_heads_differ(self) -> Self:
        if isinstance(self.heads, int | float) and self.softmax == "visual":
            raise ValueError(
                f"got {self.heads} heads with softmax 'visual', expected softmax 'all': with the "
                "other, every head gives the candidates all of its attention"
            )
        return self

    @model_validator(mode="after")
    def _decay_is_of_rotary(self) -> Self:
        if self.decay is not None and not self.rotary:
            raise ValueError(
                f"got decay {self.decay!r} with rotary false, expected rotary true: without the "
                "embedding nothing decays"
            )
        return self

    @model_validator(mode="after")
    def _seed_is_of_random(self) -> Self:
        if (self.query == "random") != (self.seed is not None):
            raise ValueError(
                f"got query {self.query!r} with seed {self.seed}, expected an integer seed with "
                "query 'random' and none with any other"
            )
        return self


class Stage(Part):
    """One pruning point.

    Attributes:
        score_layer: the layer that scores, counted from 1; 0 is before the decoder.
        when: "after": scored from that layer's attention, and the next layer is the first on fewer
            tokens; "before": scored before that layer runs, and it is itself the first.
        keep: tokens selected: a ratio of the sample's original visual tokens, a count, "none",
            which leaves the text alone, or as many as hold a share of the importance (`MassKeep`).
        disposal: what happens to the rest: "drop", "merge", "bypass", "freeze" (they stay readable
            and are not updated until the next stage, or to the end), "recycle" (clusters of the
            best of them go on, SparseVLM), "contextual" (merged by the vision tower's keys,
            VisionZip) or one that a package adds.
        merge: merged tokens of "merge", "bypass" and "contextual": a ratio of the tokens not kept,
            or a count.
        positions: whether survivors keep their positions or are numbered anew.
        stride: spacing in rows and columns of a grid of visual tokens that are selected before all
            others and counted in `keep`; None where the scores alone decide.
        scorer: how importance is read at this stage; None where it is the schedule's way.
    """

    score_layer: Annotated[StrictInt, Field(ge=0, le=_MOST)]
    when: Literal["after", "before"]
    keep: Annotated[Keep, BeforeValidator(_check_keep)]
    disposal: Annotated[StrictStr, BeforeValidator(_known(DISPOSALS))]
    merge: Annotated[int | float, BeforeValidator(_check_merge)] = 0
    positions: Literal["keep", "renumber"] = "keep"
    stride: Annotated[StrictInt, Field(ge=2, le=_MOST)] | None = None
    scorer: Scorer | None = None

    @property
    def first_layer(self) -> int:
        """The first layer, counted from 1, that runs on fewer tokens."""
        return self.score_layer + (self.when == "after")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.stride is not None and isinstance(self.keep, MassKeep):
            raise ValueError(
                f"got stride {self.stride} with keep by mass, expected none: a grid is kept "
                "whatever its importance"
            )
        if self.first_layer == 0:
            raise ValueError("got 'before' layer 0, expected 'after' 0, or 'before' 1 or deeper")
        if self.merge and not disposal_kind(self.disposal).settable:
            raise ValueError(
                f"got merge {self.merge} with disposal {self.disposal!r}, expected merge 0, or "
                "disposal 'merge' or 'bypass'"
            )
        return self
