"""The schedule: where visual tokens are pruned, how they are scored, and what becomes of the rest.

Selection writes it and pruning reads it. A file holds (unknown keys are errors)::

    {"schema": 1, "method": "swiftvlm",
     "model": {"id": "tiny-qwen2-vl", "revision": null,
               "architecture": "Qwen2VLForConditionalGeneration", "layers": 12},
     "scorer": {"query": "last", "heads": "mean", "rotary": true, "softmax": "all"},
     "stages": [{"score_layer": 3, "when": "after", "keep": 0.5,
                 "disposal": "bypass", "merge": 0.1, "positions": "keep"},
                {"score_layer": 7, "when": "before", "disposal": "freeze",
                 "keep": {"mass": 0.9, "least": 8, "most": 0.5},
                 "scorer": {"query": "last", "heads": [[7, 0], [7, 3]]}},
                {"score_layer": 9, "when": "before", "keep": 24, "disposal": "drop"}],
     "budget": {"average": 0.333},
     "why": {"criterion": "region", "scores": [], "data": "scenes", "tokenlens": "…", "date": "…"}}

A schedule of smaller pictures has an `image_scale` beside or instead of its stages, and schema 2;
in schema 1 that key was called `picture`, which is still read. One whose scorer names an
`importance` has schema 3.

A number of tokens is either a count (a JSON integer: 1 is one token) or a ratio (a JSON number with
a decimal point: 1.0 is all of them). A stage's own `scorer` stands in for the schedule's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)

from tokenlens.errors import ScheduleError
from tokenlens.registry import METHODS
from tokenlens.schedule.budget import Budget
from tokenlens.schedule.card import card
from tokenlens.schedule.checks import check_order, check_range, check_scorer
from tokenlens.schedule.layer_needs import LayerNeeds
from tokenlens.schedule.notes import BudgetNote, Why
from tokenlens.schedule.parts import ModelRef, Part, Scorer, Stage
from tokenlens.schedule.schema import check_importances, of_this_schema
from tokenlens.schedule.token_counts import keep_count, stage_tokens
from tokenlens.storage.hub import CARD, HubPlace, Pushed
from tokenlens.storage.json_files import one_line, read_object
from tokenlens.storage.output_claims import schedule_target
from tokenlens.storage.seals import SEAL, is_broken, sealed_text, write_sealed
from tokenlens.wording.suggest import one_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM


__all__ = ["Schedule", "require_schedule"]

FILE = "schedule.json"
"""Name of the file in a repository of the hub."""


def _check_image_scale(value: Any) -> float:
    if isinstance(value, float) and 0 < value <= 1:
        return value
    raise ValueError(f"got {value!r}, expected a ratio in (0, 1] such as 0.333")


def _check_schema(value: Any) -> Any:
    if type(value) is not int:
        raise ValueError(f"got {value!r}, expected 1, 2 or 3")
    return value


class Schedule(Part):
    """Stages in order of depth, for one model; the module's docstring shows the file.

    With an `image_scale`, a ratio in (0, 1], every picture is shrunk to that share of its visual
    tokens before it is processed (`VLM.prepare(..., image_scale=schedule.image_scale)`;
    `tokenlens.evaluate` does so), and there may be no stages.

    Every way to make one validates it; a fault is a `ScheduleError` that names the key, the value
    and what was expected.

    >>> schedule = Schedule(
    ...     schema=1, method="mine", model={"architecture": "LlamaForCausalLM", "layers": 4},
    ...     stages=[{"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}])
    >>> schedule.stages[0].first_layer
    3
    """

    schema_version: Annotated[Literal[1, 2, 3], BeforeValidator(_check_schema)] = Field(
        alias="schema"
    )
    method: Annotated[StrictStr, Field(min_length=1)]
    model: ModelRef
    scorer: Scorer = Scorer()
    stages: tuple[Stage, ...] = ()
    image_scale: Annotated[float, BeforeValidator(_check_image_scale)] | None = None
    budget: BudgetNote | None = None
    why: Why | None = None

    def __init__(self, **fields: Any) -> None:
        if is_broken(fields):
            raise ScheduleError(
                f"{SEAL}: the schedule is not what was written: it is damaged, or was edited "
                f"since; where you edited it, delete the line with {SEAL!r}"
            )
        fields.pop(SEAL, None)
        try:
            super().__init__(**of_this_schema(fields))
        except ValidationError as error:
            raise ScheduleError(one_line(error, type(self))) from None

    @model_validator(mode="after")
    def _layers_are_in_order(self) -> Self:
        if self.schema_version == 2 and self.image_scale is None:
            raise ScheduleError("schema: got 2 without an `image_scale`, expected 1")
        own = [stage.scorer for stage in self.stages if stage.scorer is not None]
        check_importances(self.schema_version, [self.scorer, *own])
        if not self.stages and self.image_scale is None:
            raise ScheduleError("stages: got none, expected at least one, or an `image_scale`")
        check_scorer("scorer", self.scorer, self.model.layers)
        for index, stage in enumerate(self.stages):
            if stage.scorer is not None:
                check_scorer(f"stages[{index}].scorer", stage.scorer, self.model.layers)
        check_range(self.stages, self.model.layers)
        check_order(self.stages)
        return self

    def scorer_of(self, stage: Stage) -> Scorer:
        """The scorer of a stage: its own, or else the schedule's."""
        return stage.scorer or self.scorer

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """Every scorer that the stages use, each once; the schedule's where there are no stages."""
        return tuple(dict.fromkeys(map(self.scorer_of, self.stages))) or (self.scorer,)

    @property
    def recorded_importance(self) -> str:
        """What is recorded of the unpruned model, where a scorer's query is "recorded"."""
        told = [scorer.importance for scorer in self.scorers if scorer.importance is not None]
        return told[0] if told else "attention"

    @classmethod
    def preset(
        cls,
        name: str,
        model: "VLM | PreTrainedModel | ModelRef",
        *,
        budget: Budget | str | int | float,
        layers: Sequence[int] | None = None,
        n_visual: int | None = None,
        n_text: int | None = None,
        needs: LayerNeeds | None = None,
    ) -> "Schedule":
        """A published method or a baseline for `model`, meeting a budget.

        Args:
            name: one of `tokenlens.registry.METHODS`.
            model: the model to prune; its layer count and architecture are read from it.
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
                (`tokenlens.models.prompt_lengths.USUAL_QUESTION`); needed where there is no
                processor to count them. The schedule's `budget.n_text` says how many.
            needs: of methods that go by what each layer needs ("tokenlens", "shortv"), what was
                measured of this model: `needs` of what `tokenlens.information` gives. Without, they
                are assumed (see `LayerNeeds.assumed`).

        Raises:
            ScheduleError: no such method, or layers it cannot have.
            BudgetError: a budget out of the range these stages can reach, which is named, or one
                in MACs for a model that does not say what its layers cost.
        """
        if name not in METHODS:
            raise ScheduleError(f"method: got {name!r}, expected {one_of(name, METHODS)}")
        told = {} if needs is None else {"needs": needs}
        schedule: Schedule = METHODS[name].build(
            model, budget=budget, layers=layers, n_visual=n_visual, n_text=n_text, **told
        )
        return schedule

    @classmethod
    def load(cls, path: str | Path) -> "Schedule":
        """Read a file, or "hub:USER/NAME[@REVISION]" from the hub, as `from_hub` does.

        Any fault raises a `ScheduleError` with the file's name.
        """
        place = HubPlace.parse(str(path))
        return cls._read(Path(path)) if place is None else cls.from_hub(*place)

    @classmethod
    def from_hub(
        cls, repo_id: str, revision: str | None = None, *, token: str | None = None
    ) -> "Schedule":
        """Read `schedule.json` of a repository of the Hugging Face hub, "USER/NAME".

        `revision` is a branch, tag or commit; None takes the newest. Without a network it is read
        from the local cache, where an earlier call left it. `token` is that of a private
        repository; None takes the one of `hf auth login` or HF_TOKEN.

        Raises `HubError` where the hub does not give the file, and `ScheduleError` where it is
        damaged, invalid or of a later schema.
        """
        place = HubPlace(repo_id, revision)
        return cls._read(place.fetch(FILE, token=token), str(place))

    @classmethod
    def _read(cls, path: Path, named: str | None = None) -> "Schedule":
        remedy = "`tokenlens select-layers` writes one"
        content = read_object(path, ScheduleError, remedy, named)
        try:
            return cls(**content)
        except ScheduleError as error:
            raise ScheduleError(f"{named or path}: {error}") from None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        license: str | None = None,  # noqa: A002 - as the hub's cards call it
        readme: bool = True,
        token: str | None = None,
    ) -> Pushed:
        """Put the schedule on the Hugging Face hub, with a card that says how it was made.

        `from_hub` gives an equal schedule back. The file is as `save` writes it: `why` holds the
        command line and the name of the data, and `model.id` the model's, as they were typed.

        Args:
            repo_id: "USER/NAME"; made where there is none.
            revision: a branch that exists; None is the main one.
            private: whether a repository that is made is private; None leaves it to the hub.
            license: the licence to name in the card, such as "apache-2.0"; None names none.
            readme: whether to write README.md, in place of one that is there.
            token: one that may write; None takes the one of `hf auth login` or HF_TOKEN.

        Returns the commit. Raises `HubError` where the hub does not take it.
        """
        place = HubPlace(repo_id, revision)
        files = {FILE: sealed_text(self.as_json())}
        if readme:
            files[CARD] = self.card(repo_id, license=license)
        return place.push(files, f"Schedule of {self.method}", private=private, token=token)

    def card(self, repo_id: str, *, license: str | None = None) -> str:  # noqa: A002
        """The text of the card that `push_to_hub` writes, Markdown."""
        return card(self, self.as_json(), repo_id, license)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all; `load` gives an equal schedule back.

        The file ends with a hash, so that damage is detected. A file written by hand needs none;
        delete that line when editing the file.

        Raises `OutputError` where `path` is, or links to, a folder or a file that is no schedule,
        lies in the folder of a run, or cannot be written.
        """
        write_sealed(schedule_target(Path(path)), self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The file's content; None values are left out, except the model's id and revision."""
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

    def shown_tokens(self, n_visual: int) -> int:
        """Visual tokens of a picture with `n_visual` tokens after scaling by `image_scale`.

        Rows and columns are not known here, so a real picture may have a few tokens more or less.
        """
        return n_visual if self.image_scale is None else keep_count(self.image_scale, n_visual)

    @property
    def picture(self) -> float | None:
        """The former name of `image_scale`."""
        return self.image_scale

    def tokens_entering(self, n_visual: int, layers: int | None = None) -> list[int]:
        """Visual tokens entering each layer, merged ones counted, for a sample of `n_visual`.

        `layers` is the number of layers; None takes that of the schedule's model.
        """
        shown = self.shown_tokens(n_visual)
        return stage_tokens(self.stages, shown, self.model.layers if layers is None else layers)

    def check(self, model: "VLM | PreTrainedModel", *, any_model: bool = False) -> None:
        """Raise `ScheduleError` where `model` is not the one the schedule is for.

        Architecture and layer count must always agree. Id and revision must agree where the
        schedule and the model both have an id, unless `any_model` is true. (A bare HF model, or one
        wrapped without an id, has none to compare.)
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
