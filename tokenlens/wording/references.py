"""The publications behind methods, importances and models, as BibTeX entries."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.M)
_ARXIV = re.compile(r"arXiv\s+(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Reference:
    """One publication.

    Attributes:
        key: its name in a document, for `cite`.
        title: its title, without the braces of BibTeX.
        arxiv: its number on arXiv; None where it has none.
        bibtex: the entry.
    """

    key: str
    title: str
    arxiv: str | None
    bibtex: str


@cache
def known_references() -> dict[str, Reference]:
    """Every publication that tokenlens knows, by its key.

    >>> known_references()["chen2024fastv"].arxiv
    '2403.06764'
    """
    text = files(__package__).joinpath("references.bib").read_text(encoding="utf-8")
    return {one.key: one for one in map(_reference, text.strip().split("\n\n"))}


def arxiv_numbers(text: str) -> list[str]:
    """The arXiv numbers that a text names, each once, in their order.

    >>> arxiv_numbers("after ShortV (arXiv 2504.00502) and (arXiv 2512.07580); arXiv 2504.00502")
    ['2504.00502', '2512.07580']
    """
    return list(dict.fromkeys(_ARXIV.findall(text)))


def _reference(entry: str) -> Reference:
    fields = dict(_FIELD.findall(entry))
    key = entry.partition("{")[2].partition(",")[0]
    return Reference(key, re.sub("[{}]", "", fields["title"]), fields.get("eprint"), entry)
