"""Registry of the names a schedule may use: scorers, disposals and methods of any package.

A package adds an object by an entry point; it is then used like one of tokenlens's own::

    [project.entry-points."tokenlens.scorers"]
    centre = "my_package.centre:SCORER"

The groups are `tokenlens.scorers` (each a `RowScoring` or a `DirectScoring` of
`tokenlens.pruning.scoring`), `tokenlens.disposals` (a `Disposal` of `tokenlens.pruning.disposal`),
`tokenlens.methods` (a `Method` of `tokenlens.methods.method`) and `tokenlens.importances` (an
`Importance` of `tokenlens.probing.importances.importance`). Nothing is imported before it is asked
for by name; a name that tokenlens has itself stays its own. A notebook, which is no package, uses
`Registry.add`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import uuid4

from tokenlens.errors import ScheduleError


class Entry(Protocol):
    """Attributes that every registered object has."""

    @property
    def summary(self) -> str:
        """One line for the user."""


T = TypeVar("T", bound=Entry)


class ScoringEntry(Entry, Protocol):
    """Attributes that every scorer has; see `tokenlens.pruning.scoring.Scoring`."""

    @property
    def macs(self) -> Callable[[Any, Any, int], Any] | None:
        """MACs of scoring beside reading attention."""

    @property
    def tower(self) -> bool:
        """Whether the vision tower is to be read."""

    @property
    def sums(self) -> bool:
        """Whether importance adds up, so that tokens can be kept by mass."""


class DisposalEntry(Entry, Protocol):
    """Attributes that every disposal has; see `tokenlens.pruning.disposal.Disposal`."""

    @property
    def apply(self) -> Callable[[Any], Any]:
        """Carries out a stage's decision."""

    @property
    def merged(self) -> Callable[[int | float, int], int]:
        """Number of merged tokens."""

    @property
    def macs(self) -> Callable[[Any, Any, int], Any]:
        """MACs of merging."""

    @property
    def tower(self) -> bool:
        """Whether the vision tower is to be read."""

    @property
    def added(self) -> bool:
        """Whether merged tokens are made by adding, not by a product with the groups."""

    @property
    def returns(self) -> bool:
        """Whether the tokens come back at the next stage."""

    @property
    def readable(self) -> bool:
        """Whether other tokens still read the tokens that are not kept."""


class MethodEntry(Entry, Protocol):
    """Attributes that every method has; see `tokenlens.methods.method.Method`."""

    @property
    def source(self) -> str:
        """Publication that describes the method."""

    def build(
        self,
        model: Any,
        *,
        budget: Any,
        layers: Sequence[int] | None = None,
        n_visual: int | None = None,
        n_text: int | None = None,
        **told: Any,
    ) -> Any:
        """The method's schedule for a model and a budget."""


class ImportanceEntry(Entry, Protocol):
    """What every importance says of itself; see `probing.importances.importance.Importance`."""

    @property
    def unit(self) -> str:
        """What a value is."""

    @property
    def source(self) -> str:
        """Where it was published."""

    @property
    def by_head(self) -> bool:
        """Whether it is the mean of what every head has."""


class Registry(Mapping[str, T], Generic[T]):
    """Objects of one kind by name: tokenlens's own first, then those of other packages.

    Args:
        kind: name of the kind of object; the entry points' group is `tokenlens.{kind}s`.
        expected: the class of each, as "module:name".
        own: location of each of tokenlens's own objects, by name, as "module:name".
        summaries: one line on each of tokenlens's own, so that listing them imports nothing.

    A lookup raises `ScheduleError` where an object of another package cannot be loaded or is not of
    this kind, and `KeyError` for an unknown name.
    """

    def __init__(
        self,
        kind: str,
        expected: str,
        own: Mapping[str, str],
        summaries: Mapping[str, str] | None = None,
    ) -> None:
        self._kind = kind
        self._expected = expected
        self._own = own
        self._summaries = summaries or {}
        self._session: dict[str, tuple[T, str]] = {}

    def add(self, name: str, entry: T) -> None:
        """Give an object a name in this process, as a notebook does; again to change it.

        Answers kept on disk are no other process's and, after a change, not those of before.
        Raises `ScheduleError` where it is not of this kind, or the name is taken.
        """
        expected = _imported(self._expected)
        if not isinstance(entry, expected):
            raise ScheduleError(
                f"{self._kind} {name!r} is a {type(entry).__name__}, expected a {expected.__name__}"
            )
        if name in self and name not in self._session:
            raise ScheduleError(f"{self._kind} {name!r} is there already; take another name")
        self._session[name] = (entry, f"this process {uuid4().hex}")

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        found = entry_points(group=f"tokenlens.{self._kind}s")
        return {entry.name: entry for entry in found if entry.name not in self._own}

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            return cast(T, _imported(self._own[name]))
        if name in self._session:
            return self._session[name][0]
        entry = self._added[name]
        where = f"{self._kind} {name!r} of the entry point {entry.value!r}"
        try:
            found = entry.load()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ScheduleError(f"{where} cannot be loaded: {reason}; mend its package") from error
        expected = _imported(self._expected)
        if not isinstance(found, expected):
            raise ScheduleError(
                f"{where} is a {type(found).__name__}, expected a {expected.__name__}"
            )
        return cast(T, found)

    def summary(self, name: str) -> str:
        """One line on what `name` does; imports it only where no line is known without that."""
        return self._summaries[name] if name in self._summaries else str(self[name].summary)

    def package(self, name: str) -> str | None:
        """What added `name`: a package with its version, or this process; None for tokenlens."""
        if name in self._session:
            return self._session[name][1]
        entry = self._added.get(name)
        if entry is None or entry.dist is None:
            return None
        return f"{entry.dist.name} {entry.dist.version}"

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._session or name in self._added

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._session
        yield from self._added

    def __len__(self) -> int:
        return len(self._own) + len(self._session) + len(self._added)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


_DRAWINGS = {
    f"{what} {kind}": f"tokenlens.analyses.{module}:{function}"
    for what, module in {
        "recording": "attention_map",
        "trace": "stage_map",
        "layout": "layout_map",
    }.items()
    for kind, function in {"frame": "compute", "map": "plot", "page": "to_html"}.items()
} | {
    f"{what} explorer": f"tokenlens.reports.widget:of_{what}"
    for what in ("recording", "profile", "comparison")
}


def drawing(name: str) -> Callable[..., Any]:
    """The function that draws an object.

    It is imported at the call, because what draws imports the package that holds the object.
    """
    found: Callable[..., Any] = _imported(_DRAWINGS[name])
    return found


IMPORTANCE_SUMMARIES = {
    "attention": "the attention that a visual token gets",
    "value-weighted": "attention times the norm of the projected value that is attended to",
    "gradient": "attention times its gradient for the first generated token, where it is positive",
    "occlusion": "what the answer's log-probability loses without the token's surroundings",
}
"""What each of tokenlens's own importances is, in a line."""
IMPORTANCE_UNITS = {
    "attention": "share of the last prompt token's attention",
    "value-weighted": "the last prompt token's attention times the norm of the projected value",
    "gradient": "the last prompt token's attention times its gradient for the token it writes",
    "occlusion": "nats that the answer loses without the place, from the layer on",
}
"""What a value of each is, as the colour bar of a map says it."""

IMPORTANCES: Registry[ImportanceEntry] = Registry(
    "importance",
    "tokenlens.probing.importances.importance:Importance",
    {
        "attention": "tokenlens.probing.importances.attention:IMPORTANCE",
        "value-weighted": "tokenlens.probing.importances.value_weighted:IMPORTANCE",
        "gradient": "tokenlens.probing.importances.gradient:IMPORTANCE",
        "occlusion": "tokenlens.evaluation.occlusion:IMPORTANCE",
    },
    IMPORTANCE_SUMMARIES,
)


def importance_unit(name: str) -> str:
    """What a value of an importance is; imports it only where another package added it."""
    return IMPORTANCE_UNITS[name] if name in IMPORTANCE_UNITS else IMPORTANCES[name].unit


SCORER_SUMMARIES = {
    "last": "the row of the last prompt token",
    "text": "the rows of the text after the last visual token",
    "raters": "the rows of the words among these that are near to the picture (SparseVLM)",
    "all": "the rows of all tokens of the prompt",
    "random": "a seeded draw; no attention is read",
    "uniform": "tokens at even distances; no attention is read",
    "recorded": "what a layer of the unpruned model saw",
    "diverse": "tokens unlike each other (DivPrune)",
    "vision": "what the vision tower attends to (VisionZip)",
}
"""What each of tokenlens's own scorers does, in a line."""

SCORERS: Registry[ScoringEntry] = Registry(
    "scorer",
    "tokenlens.pruning.scoring:Scoring",
    {
        name: f"tokenlens.pruning.scorers.{module}:SCORER"
        for name, module in {
            "last": "last",
            "text": "text",
            "raters": "raters",
            "all": "all_tokens",
            "random": "random_draw",
            "uniform": "uniform",
            "recorded": "recorded",
            "diverse": "diverse",
            "vision": "vision",
        }.items()
    },
    SCORER_SUMMARIES,
)
DISPOSAL_SUMMARIES = {
    "drop": "dropped",
    "merge": "merged into groups, which go on",
    "recycle": "dropped, but for the best three in ten, whose clusters go on (SparseVLM)",
    "contextual": "added to tokens spread among it by the vision tower's keys (VisionZip)",
    "bypass": "set aside for the next stage; groups stand in",
    "freeze": "frozen: no longer updated, but readable, until the next stage",
}
"""What each of tokenlens's own disposals does, in a line."""

DISPOSALS: Registry[DisposalEntry] = Registry(
    "disposal",
    "tokenlens.pruning.disposal:Disposal",
    {
        name: f"tokenlens.pruning.disposals.{name}:DISPOSAL"
        for name in ("drop", "merge", "recycle", "contextual", "bypass", "freeze")
    },
    DISPOSAL_SUMMARIES,
)
METHODS: Registry[MethodEntry] = Registry(
    "method",
    "tokenlens.methods.method:Method",
    {
        name: f"tokenlens.methods.{module}:METHOD"
        for name, module in {
            "swiftvlm": "swiftvlm",
            "swiftvlm-unmerged": "swiftvlm_unmerged",
            "tokenlens": "tokenlens_preset",
            "freeze": "freeze",
            "shortv": "shortv",
            "drop": "drop",
            "fastv": "fastv",
            "fastv-paper": "fastv_paper",
            "pdrop": "pdrop",
            "pdrop-keep-positions": "pdrop_keep_positions",
            "sparsevlm": "sparsevlm",
            "sparsevlm-plus": "sparsevlm_plus",
            "feather": "feather",
            "random": "random_drop",
            "stride": "stride",
            "divprune": "divprune",
            "visionzip": "visionzip",
            "downsample": "downsample",
        }.items()
    },
)
