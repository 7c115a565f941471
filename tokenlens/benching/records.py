"""The file of a bench: one sealed JSON object, rewritten whole after every cell."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenlens.benching.request import Cell
from tokenlens.errors import ResultsError
from tokenlens.storage.seals import read_sealed, require, write_sealed
from tokenlens.wording.printable import shown

_KIND = "bench"
_REMEDY = "choose another place with --out"


class Bench:
    """What was measured, in a file.

    Attributes:
        path: the file.
        identity: the options, machine and versions that all of it was measured with.
        rows: one object for each cell, with its `tokens`, `batch`, `method` and `budget`.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
        self.path, self.identity, self.rows = path, dict(identity), rows

    @classmethod
    def read(cls, path: Path) -> "Bench":
        """The bench in a file; `ResultsError` where it is none, or damaged."""
        content = read_sealed(path, ResultsError, "measure it again with `tokenlens bench`")
        if content.get("kind") != _KIND:
            raise ResultsError(f"{path}: is no bench; expected a file that `tokenlens bench` wrote")
        require(content, path, ResultsError, {"identity": dict, "rows": list})
        return cls(path, content["identity"], content["rows"])

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any]) -> "Bench":
        """The bench to continue, or a new one.

        Raises `ResultsError` where the file is damaged, is no bench, or is of another identity.
        """
        plain = json.loads(json.dumps(identity))
        if not path.exists():
            return cls(path, plain, [])
        found = cls.read(path)
        for key in sorted(plain.keys() | found.identity.keys()):
            was, now = found.identity.get(key), plain.get(key)
            if was != now:
                raise ResultsError(
                    f"{path}: was measured with {key} {shown(was)}, now it is {shown(now)}; "
                    f"{_REMEDY}"
                )
        return found

    def __contains__(self, cell: object) -> bool:
        return isinstance(cell, Cell) and any(_is_of(row, cell) for row in self.rows)

    def add(self, cell: Cell, row: Mapping[str, Any]) -> None:
        """Add a cell and write the file."""
        self.rows.append({**asdict(cell), **row})
        write_sealed(
            self.path, {"kind": _KIND, "schema": 1, "identity": self.identity, "rows": self.rows}
        )


def _is_of(row: Mapping[str, Any], cell: Cell) -> bool:
    return all(row.get(key) == value for key, value in asdict(cell).items())


def table_rows(bench: Bench) -> Iterator[tuple[str, ...]]:
    """A line of text for each cell; see `HEADINGS`."""
    for row in bench.rows:
        macs, cache = (row[key]["pruned"] / row[key]["unpruned"] for key in ("macs", "kv_bytes"))
        size = f"{row['visual']} + {row['text']}"
        head = (f"{row['method']} {row['budget']}", size, str(row["batch"]), f"{macs:.3f}")
        if row["estimate"]:
            yield (*head, "estimate", "", "", "", "", f"{cache:.3f}", "")
            continue
        found, peaks = row["ratios"], row["peak_bytes"]
        both = peaks["pruned"], peaks["unpruned"]
        yield (
            *head,
            _median(found, "prefill"),
            _median(found, "whole"),
            _ratio(found, "efficiency"),
            _ratio(found, "engine-free efficiency"),
            _median(found, "decode"),
            f"{cache:.3f}",
            f"{both[0] / both[1]:.3f}" if all(both) else "",
        )


HEADINGS = (
    "arm", "tokens", "batch", "MACs", "prefill", "whole", "efficiency", "engine-free", "decode",
    "KV", "peak",
)  # fmt: skip
"""The tokens are visual and text ones; what follows the batch are ratios to the unpruned model.

Efficiencies have their quartiles in brackets."""


def markdown(bench: Bench) -> str:
    """The table in Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *table_rows(bench)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(found: Mapping[str, Mapping[str, float]], name: str) -> str:
    return f"{found[name]['median']:.3f}" if name in found else ""


def _ratio(found: Mapping[str, Mapping[str, float]], name: str) -> str:
    one = found.get(name)
    return f"{one['median']:.3f} [{one['low']:.2f}, {one['high']:.2f}]" if one else ""
