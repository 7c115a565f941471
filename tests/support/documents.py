"""What README and the site's pages hold: Python, shell blocks and commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (tokenlens .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A Markdown page.

    Attributes:
        path: where it lies.
        text: all of it.
    """

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        """Read a page."""
        return cls(path, path.read_text(encoding="utf-8"))

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language, in order."""
        return [body for name, body in _FENCE.findall(self.text) if name == language]

    def commands(self) -> list[list[str]]:
        """Every `tokenlens …` of a `console` or `bash` block or an indented line, in words."""
        lines = [
            line
            for name in ("bash", "console")
            for block in self.blocks(name)
            for line in block.splitlines()
        ]
        lines += _INDENTED.findall(self.text)
        words = [shlex.split(line, comments=True) for line in lines if line.startswith("tokenlens")]
        return [line[1:] for line in words]


def between(text: str, name: str) -> str:
    """What stands between `<!-- name -->` and `<!-- /name -->`."""
    (found,) = re.findall(f"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return found.strip()
