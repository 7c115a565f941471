"""What a schedule may name: scorers, disposals and methods, those of other packages included.

A package adds one by an entry point, and it is as if it had come with tokenlens::

    [project.entry-points."tokenlens.scorers"]
    centre = "my_package.centre:SCORER"

The groups are `tokenlens.scorers` (each a `RowScoring` or a `DirectScoring` of
`tokenlens.pruning.scoring`), `tokenlens.disposals` (a `Disposal` of `tokenlens.pruning.disposal`)
and `tokenlens.methods` (a `Method` of `tokenlens.methods.method`). Nothing is imported
before it is asked for by name; a name that tokenlens has itself stays its own.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tokenlens.errors import ScheduleError


class Registry(Mapping[str, Any]):
    """Objects of one kind by name: tokenlens's own first, then those of other packages.

    Args:
        kind: what one of them is called; the entry points' group is `tokenlens.{kind}s`.
        expected: the class of each, as "module:name".
        own: where tokenlens's own are, by name, as "module:name".

    Looking one up raises `ScheduleError` where another package's cannot be loaded, or is not of the
    kind; an unknown name is a `KeyError`.
    """

    def __init__(self, kind: str, expected: str, own: Mapping[str, str]) -> None:
        self._kind = kind
        self._expected = expected
        self._own = own

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        found = entry_points(group=f"tokenlens.{self._kind}s")
        return {entry.name: entry for entry in found if entry.name not in self._own}

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            return _imported(self._own[name])
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
        return found

    def package(self, name: str) -> str | None:
        """The package that added `name`, with its version; None for tokenlens's own."""
        entry = self._added.get(name)
        if entry is None or entry.dist is None:
            return None
        return f"{entry.dist.name} {entry.dist.version}"

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._added

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._added

    def __len__(self) -> int:
        return len(self._own) + len(self._added)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


SCORERS = Registry(
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
)
DISPOSALS = Registry(
    "disposal",
    "tokenlens.pruning.disposal:Disposal",
    {
        name: f"tokenlens.pruning.disposals.{name}:DISPOSAL"
        for name in ("drop", "merge", "recycle", "contextual", "bypass", "freeze")
    },
)
METHODS = Registry(
    "method",
    "tokenlens.methods.method:Method",
    {
        name: f"tokenlens.methods.{module}:METHOD"
        for name, module in {
            "swiftvlm": "swiftvlm",
            "swiftvlm-unmerged": "swiftvlm_unmerged",
            "freeze": "freeze",
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
