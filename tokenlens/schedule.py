"""The schedule: where visual tokens are pruned, how they are scored, and what becomes of the rest.

The one type that selection writes and pruning reads. A file holds (unknown keys are errors)::

    {"schema": 1, "method": "swiftvlm",
     "model": {"id": "tiny-qwen2-vl", "revision": null,
               "architecture": "Qwen2VLForConditionalGeneration", "layers": 12},
     "scorer": {"query": "last", "heads": "mean", "rotary": true, "softmax": "all"},
     "stages": [{"score_layer": 3, "when": "after", "keep": 0.5,
                 "disposal": "bypass", "merge": 0.1, "positions": "keep"},
                {"score_layer": 9, "when": "before", "keep": 24, "disposal": "drop"}],
     "budget": {"average": 0.333},
     "why": {"criterion": "region", "scores": [], "data": "scenes", "tokenlens": "…", "date": "…"}}

A number of tokens is either a count (a JSON integer: 1 is one token) or a ratio (a JSON number with
a decimal point: 1.0 is all of them).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
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

from tokenlens.errors import ScheduleError
from tokenlens.files import write_json
from tokenlens.registry import DISPOSALS, SCORERS, Registry
from tokenlens.suggest import one_of
from tokenlens.validation import one_line, read_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM
    from tokenlens.selection.budget import Budget

Heads = Literal["mean"] | int | float | tuple[tuple[int, int], ...]
Keep = int | float | Literal["none"]


def _amount(expected: str, *, zero: bool, largest: float = 1.0) -> Callable[[Any], int | float]:
    """A validator of counts (integers) and of ratios (floats up to `largest`)."""

    def check(value: Any) -> int | float:
        if isinstance(value, Real) and not isinstance(value, bool):
            number = int(value) if isinstance(value, Integral) else float(value)
            limit = math.inf if isinstance(number, int) else largest
            if 0 < number <= limit or (zero and number == 0):
                return number
        raise ValueError(f"got {value!r}, expected {expected}")

    return check


_check_some = _amount(
    "a ratio in (0, 1] such as 0.5, a count from 1 such as 24, or 'none'", zero=False
)
_check_merge = _amount("a ratio in [0, 1] such as 0.1, or a count from 0 such as 8", zero=True)
_check_strongest = _amount(
    "'mean', a number of heads (a count from 1 such as 14, or a ratio in (0, 1] such as 0.4375), "
    "or a list of [layer, head], layers counted from 1 and heads from 0, such as [[3, 0], [3, 5]]",
    zero=False,
)
_check_average = _amount(
    "a ratio in (0, 1] such as 0.333, or a number of tokens such as 48", zero=False, largest=1e9
)

_check_macs = _amount(
    "a ratio in (0, 1] such as 0.5, or a number of MACs such as 1200000000000", zero=False
)


def _check_picture(value: Any) -> float:
    if isinstance(value, float) and 0 < value <= 1:
        return value
    raise ValueError(f"got {value!r}, expected a ratio in (0, 1] such as 0.333")


def _known(registry: Registry) -> Callable[[Any], Any]:
    """A validator of names in `registry`."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in registry:
            raise ValueError(f"got {value!r}, expected {one_of(value, registry)}")
        return value

    return check


def _check_keep(value: Any) -> Keep:
    return "none" if value == "none" else _check_some(value)


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


def _check_schema(value: Any) -> Any:
    if type(value) is not int:
        raise ValueError(f"got {value!r}, expected 1")
    return value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRef(_Part):
    """The model a schedule is for; `id` and `revision` are None where that is any such model."""

    id: StrictStr | None = None
    revision: StrictStr | None = None
    architecture: StrictStr
    layers: Annotated[StrictInt, Field(ge=1)]

    @classmethod
    def of(cls, model: "VLM | PreTrainedModel") -> "ModelRef":
        """What a schedule says of a loaded model; a bare HF model has no id."""
        from tokenlens.models.structure import decoder_layers, unwrap
        from tokenlens.models.vlm import VLM

        bare = unwrap(model)
        name = {"id": model.id, "revision": model.revision} if isinstance(model, VLM) else {}
        return cls(**name, architecture=type(bare).__name__, layers=len(decoder_layers(bare)))


class Scorer(_Part):
    """How importance is read at every stage.

    Attributes:
        query: the rows of attention that are averaged: of the "last" prompt token, of the
            "text" tokens after the last visual token (those that see the whole picture), of those
            among them that are "raters", or of "all" tokens. Others read no attention of the
            decoder: "random" importance is a seeded draw, "uniform" is that of tokens at even
            distances, "diverse" that of tokens unlike each other, "vision" importance is what the
            vision tower attends to, "recorded" importance is that of `layer` in the unpruned model,
            which is run first (see `tokenlens.prune`). Packages may add others
            (`tokenlens.registry`).
        heads: "mean" over all heads; a number of heads, as a count or as a ratio of all, for the
            mean over those whose rows give the candidates the most attention (SparseVLM+; softmax
            "all"); or the (layer, head) pairs to average, layers counted from 1 and heads from 0.
        rotary: whether queries and keys are compared with their rotary embedding.
        decay: "divide" divides attention by what the rotary embedding makes of the distance between
            two tokens (SparseVLM+, see `tokenlens.pruning.positions.decay`); None leaves it. It
            comes before the choice of heads.
        softmax: over "all" keys of the row, or over the "visual" candidates only.
        seed: of query "random", and of no other.
        layer: of query "recorded", and of no other, counted from 1.
    """

    query: Annotated[StrictStr, BeforeValidator(_known(SCORERS))] = "last"
    heads: Annotated[Heads, BeforeValidator(_check_heads)] = "mean"
    rotary: StrictBool = True
    softmax: Literal["all", "visual"] = "all"
    decay: Literal["divide"] | None = None
    seed: Annotated[StrictInt, Field(ge=0)] | None = None
    layer: Annotated[StrictInt, Field(ge=1)] | None = None

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


class Stage(_Part):
    """One pruning point.

    Attributes:
        score_layer: the layer that scores, counted from 1; 0 is before the decoder.
        when: "after": scored from that layer's attention, and the next layer is the first on fewer
            tokens; "before": scored before that layer runs, and it is itself the first.
        keep: tokens selected: a ratio of the sample's original visual tokens, a count, or "none",
            which leaves the text alone.
        disposal: what happens to the rest: "drop", "merge", "bypass", "recycle" (clusters of the
            best of them go on, SparseVLM), "contextual" (merged by the vision tower's keys,
            VisionZip) or one that a package adds.
        merge: merged tokens of "merge", "bypass" and "contextual": a ratio of the tokens not kept,
            or a count.
        positions: whether survivors keep their positions or are numbered anew.
        stride: of a grid of visual tokens, every so many rows and columns, that are selected before
            all others and counted in `keep`; None where the scores alone decide.
    """

    score_layer: Annotated[StrictInt, Field(ge=0)]
    when: Literal["after", "before"]
    keep: Annotated[Keep, BeforeValidator(_check_keep)]
    disposal: Annotated[StrictStr, BeforeValidator(_known(DISPOSALS))]
    merge: Annotated[int | float, BeforeValidator(_check_merge)] = 0
    positions: Literal["keep", "renumber"] = "keep"
    stride: Annotated[StrictInt, Field(ge=2)] | None = None

    @property
    def first_layer(self) -> int:
        """The first layer, counted from 1, that runs on fewer tokens."""
        return self.score_layer + (self.when == "after")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.first_layer == 0:
            raise ValueError("got 'before' layer 0, expected 'after' 0, or 'before' 1 or deeper")
        if self.merge and not DISPOSALS[self.disposal].settable:
            raise ValueError(
                f"got merge {self.merge} with disposal {self.disposal!r}, expected merge 0, or "
                "disposal 'merge' or 'bypass'"
            )
        return self


class BudgetNote(_Part):
    """The target a schedule was solved for.

    Attributes:
        average: visual tokens entering a layer, mean over all layers: a ratio of the sample's
            visual tokens (a float up to 1), or a number of tokens (an integer, or a float above 1).
            Where the target was in MACs, what it came to.
        n_visual: visual tokens per sample it was solved for; the rounded mean where samples differ.
        macs: a target in MACs of the decoder's prefill, scoring and merging included: a ratio of
            the unpruned prefill's (a float up to 1), or a number (an integer).
        n_text: text tokens per sample such a target was solved for.
        reached: what the stages come to, in the unit of the target, where that is neither within
            one token nor within 1 % of it: no other keep ratios come nearer.
    """

    average: Annotated[int | float, BeforeValidator(_check_average)]
    n_visual: Annotated[StrictInt, Field(ge=1)] | None = None
    macs: Annotated[int | float, BeforeValidator(_check_macs)] | None = None
    n_text: Annotated[StrictInt, Field(ge=1)] | None = None
    reached: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Why(_Part):
    """Where a schedule comes from: the criterion, its score per layer, the data, and when."""

    criterion: StrictStr | None = None
    scores: tuple[Annotated[float, Field(strict=True, allow_inf_nan=False)], ...] = ()
    data: StrictStr | None = None
    tokenlens: StrictStr | None = None
    date: StrictStr | None = None


class Schedule(_Part):
    """Stages in order of depth, for one model; the module's docstring shows the file.

    With a `picture`, a ratio in (0, 1], every picture is shrunk to that share of its visual tokens
    before it is processed (`VLM.prepare(..., picture=schedule.picture)`; `tokenlens.evaluate` does
    so), and there may be no stages.

    Every way to make one validates it; what is wrong is one `ScheduleError` that names the key,
    what was got and what was expected.

    >>> schedule = Schedule(
    ...     schema=1, method="mine", model={"architecture": "LlamaForCausalLM", "layers": 4},
    ...     stages=[{"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}])
    >>> schedule.stages[0].first_layer
    3
    """

    schema_version: Annotated[Literal[1], BeforeValidator(_check_schema)] = Field(alias="schema")
    method: Annotated[StrictStr, Field(min_length=1)]
    model: ModelRef
    scorer: Scorer = Scorer()
    stages: tuple[Stage, ...] = ()
    picture: Annotated[float, BeforeValidator(_check_picture)] | None = None
    budget: BudgetNote | None = None
    why: Why | None = None

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ScheduleError(one_line(error, type(self))) from None

    @model_validator(mode="after")
    def _layers_are_in_order(self) -> Self:
        if not self.stages and self.picture is None:
            raise ScheduleError("stages: got none, expected at least one, or a `picture`")
        _check_scorer(self.scorer, self.model.layers)
        _check_range(self.stages, self.model.layers)
        _check_order(self.stages)
        return self

    @classmethod
    def preset(
        cls,
        name: str,
        model: "VLM | PreTrainedModel | ModelRef",
        *,
        budget: "Budget | str | int | float",
        layers: Sequence[int] | None = None,
        n_visual: int | None = None,
        n_text: int | None = None,
    ) -> "Schedule":
        """A published method or a baseline for `model`, meeting a budget.

        Args:
            name: one of `tokenlens.registry.METHODS`.
            model: what the schedule is for; its layer count and architecture are read from it.
            budget: visual tokens entering a layer, mean over all layers: a ratio (0.33 or "33%") or
                a number of tokens (48 or "48 tokens"). Or MACs of the decoder's prefill, scoring
                and merging included: a share of the unpruned prefill's ("50% MACs") or a number
                ("1.2 TMACs", "400 GMACs"); this needs a model, a `ModelRef` is not enough.
            layers: the scoring layers, counted from 1, where they are not to be the method's own.
            n_visual: visual tokens per sample to solve the budget for. By default those of a square
                picture in `model`; where there is no processor to tell, 576, as in the papers. The
                schedule's `budget.n_visual` says which.
            n_text: text tokens per sample to solve a budget in MACs for. By default those of the
                model's own chat template around a question of 15 words
                (`tokenlens.models.typical.USUAL_QUESTION`); needed where there is no processor to
                count them. The schedule's `budget.n_text` says how many.

        Raises:
            ScheduleError: no such method, or layers it cannot have.
            BudgetError: a budget out of the range these stages can reach, which is named, or one
                in MACs for a model that does not say what its layers cost.
        """
        from tokenlens.pruning.methods import build

        return build(name, model, budget=budget, layers=layers, n_visual=n_visual, n_text=n_text)

    @classmethod
    def load(cls, path: str | Path) -> "Schedule":
        """Read a file; whatever is wrong with it is a `ScheduleError` that names it."""
        content = read_object(Path(path), ScheduleError, "`tokenlens select-layers` writes one")
        try:
            return cls(**content)
        except ScheduleError as error:
            raise ScheduleError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all; `load` gives an equal schedule back."""
        write_json(Path(path), self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The file's content; what is None is left out, but for the model's id and revision."""
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        content["model"] = self.model.model_dump(mode="json")
        return content

    def replace(self, **changes: Any) -> "Schedule":
        """A copy with other values for the top-level keys in `changes`, validated."""
        return type(self)(**{**self.as_json(), **changes})

    def portable(self) -> "Schedule":
        """The same schedule for any model of its architecture and depth: no id, no revision."""
        return self.replace(
            model={"architecture": self.model.architecture, "layers": self.model.layers}
        )

    def check(self, model: "VLM | PreTrainedModel", *, any_model: bool = False) -> None:
        """Raise `ScheduleError` where `model` is not the one the schedule is for.

        Architecture and layer count must agree always; id and revision where the schedule and the
        model both have an id, unless `any_model`. (A bare HF model, or one wrapped without an id,
        has none to compare.)
        """
        loaded = ModelRef.of(model)
        keys = ["architecture", "layers"]
        if not any_model and loaded.id is not None:
            keys += [key for key in ("id", "revision") if getattr(self.model, key) is not None]
        for key in keys:
            expected, got = getattr(loaded, key), getattr(self.model, key)
            if got != expected:
                remedy = (
                    "make a schedule for this model with `tokenlens select-layers`"
                    if key in ("architecture", "layers")
                    else "load that one, or say --any-model to run it all the same"
                )
                raise ScheduleError(
                    f"model.{key}: the schedule is for {got!r}, the loaded model has {expected!r}; "
                    f"{remedy}"
                )


def require_schedule(value: Any) -> Schedule:
    """`value` if it is a schedule, else a `ScheduleError` that says how one is made."""
    if not isinstance(value, Schedule):
        raise ScheduleError(
            f"got a {type(value).__name__} for a schedule; make one with Schedule.load(path), "
            "Schedule.preset(...) or Schedule(**content)"
        )
    return value


def _check_scorer(scorer: Scorer, layers: int) -> None:
    if scorer.layer is not None and scorer.layer > layers:
        raise ScheduleError(
            f"scorer.layer: got {scorer.layer}, expected a layer up to {layers}, for model.layers "
            f"{layers}"
        )
    deepest = max((layer for layer, _ in scorer.listed_heads), default=0)
    if deepest > layers:
        raise ScheduleError(
            f"scorer.heads: got a head of layer {deepest}, expected layers up to {layers}, for "
            f"model.layers {layers}"
        )


def _check_range(stages: Sequence[Stage], layers: int) -> None:
    for index, stage in enumerate(stages):
        if stage.first_layer > layers:
            raise ScheduleError(
                f"stages[{index}].score_layer: got {stage.when!r} layer {stage.score_layer}, "
                f"expected a layer that leaves one to run on fewer tokens: 'after' at most "
                f"{layers - 1} or 'before' at most {layers}, for model.layers {layers}"
            )


def _check_order(stages: Sequence[Stage]) -> None:
    for index, (stage, following) in enumerate(pairwise(stages), start=1):
        if following.first_layer <= stage.first_layer:
            raise ScheduleError(
                f"stages[{index}].score_layer: got {following.when!r} layer "
                f"{following.score_layer}, so that layer {following.first_layer} is the first on "
                f"fewer tokens; expected one deeper than layer {stage.first_layer}, the first of "
                f"stages[{index - 1}]"
            )
        if DISPOSALS[stage.disposal].returns and following.when != "before":
            raise ScheduleError(
                f"stages[{index}].when: got 'after', expected 'before' since stages[{index - 1}] "
                f"is a {stage.disposal}: its tokens come back before a layer is scored"
            )
    if stages and DISPOSALS[stages[-1].disposal].returns:
        raise ScheduleError(
            f"stages[{len(stages) - 1}].disposal: got {stages[-1].disposal!r} at the last stage, "
            "expected 'drop' or 'merge': no later stage brings the tokens back"
        )
