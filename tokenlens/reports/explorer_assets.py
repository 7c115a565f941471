"""Scripts and styles of the explorer: the same files in a page and in a notebook."""

from jinja2 import Environment

from tokenlens.analyses.drawing.picture_sheet import REGION
from tokenlens.analyses.importance_maps import GROUND
from tokenlens.analyses.kept_tokens import BACK_COLOUR
from tokenlens.reports.inline import Inline, assets
from tokenlens.reports.map_data import palette

_MAPS = "maps.js"
_EXPLORER = ("explorer_views.js", "explorer.js", "explorer_wiring.js")


def style(templates: Environment) -> Inline:
    """The style of a report, of which the explorer is a part."""
    colours = f"--region: {REGION}; --back: {BACK_COLOUR}; --ground: {GROUND};"
    ticks = "".join(f".at-{share} {{ left: {share}%; }}\n" for share in range(101))
    before = f":root, :host {{ {colours} }}\n{ticks}"
    return assets(templates, "maps.css", "report.css", "explorer.css", before=before)


def page_script(templates: Environment) -> Inline:
    """The script of a page, whose body holds the palette."""
    return assets(templates, _MAPS, "page.js", *_EXPLORER, "explorer_page.js")


def widget_script(templates: Environment) -> str:
    """The same as a module that anywidget loads."""
    colours = f'const palette = bytes("{palette()}");\n'
    after = assets(templates, *_EXPLORER, "explorer_widget.js", before=colours)
    return str(assets(templates, _MAPS).text + after.text)
