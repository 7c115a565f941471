"""Templates of the pages: escaped, and free of control characters."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tokenlens.wording.printable import printable


def environment() -> Environment:
    """Templates of this package, in which every value is escaped and printable."""
    return Environment(
        loader=PackageLoader("tokenlens.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )


def _plain(value: Any) -> Any:
    """A user's text without control characters; a line break becomes a space."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, lines=True)
    return value
