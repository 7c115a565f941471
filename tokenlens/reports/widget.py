"""The explorer in a notebook, as an anywidget."""

import io
from typing import Any

from tokenlens.analyses import attention_map
from tokenlens.errors import OptionError, ResultsError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.probing.profile import Profile
from tokenlens.probing.reading import RecordedRows
from tokenlens.reports.explorer import Explorer, explorer
from tokenlens.reports.explorer_assets import style, widget_script
from tokenlens.reports.inputs import Inputs, inputs_in_memory
from tokenlens.reports.recorded import pictures_of, recorded_explorer
from tokenlens.reports.templating import environment

try:
    from anywidget import AnyWidget
    from traitlets import Int, TraitError, Unicode, validate
except ImportError as missing:
    raise OptionError(
        "explore() draws a notebook widget, which needs anywidget; install it with: pip install "
        '"tokenlens[notebook]"'
    ) from missing

_DOTS = 96
"""Dots per inch of the still picture."""
_TEMPLATES = environment()


class ExplorerWidget(AnyWidget):
    """The report's explorer, made of the same files; it needs no network.

    What is shown can be read, set and observed (`widget.observe(…, "layer")`).

    Attributes:
        sample: index of the sample, counted from 0.
        layer: the layer, counted from 1; None before the widget was shown.
        token: index of the visual token that was clicked, counted from 0; None for none.
    """

    _esm = widget_script(_TEMPLATES)
    _html = Unicode().tag(sync=True)
    _style = Unicode(str(style(_TEMPLATES).text)).tag(sync=True)
    sample = Int(0, min=0).tag(sync=True)
    layer = Int(None, min=1, allow_none=True).tag(sync=True)
    token = Int(None, min=0, allow_none=True).tag(sync=True)

    def __init__(self, explored: Explorer, still: bytes | None = None) -> None:
        self._explored, self._still = explored, still
        html = _TEMPLATES.get_template("explorer.html.j2").render(explorer=explored)
        super().__init__(_html=html)

    @validate("sample", "layer")
    def _known(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        most = self._explored.samples - 1 if name == "sample" else self._explored.layers
        if value is not None and value > most:
            raise TraitError(f"{name}: got {value}, expected at most {most}")
        return value

    def __repr__(self) -> str:
        count = self._explored.samples
        return f"tokenlens explorer of {count} sample(s); run the notebook to use it"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, with a still picture for viewers that run no widgets."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None and self._still:
            bundle[0]["image/png"] = self._still
        return bundle


def of_recording(recording: RecordedRows, picture: Any = None) -> ExplorerWidget:
    """See `Recording.explore`."""
    pictures = pictures_of(recording, picture)
    explored = recorded_explorer(recording, pictures)
    buffer = io.BytesIO()
    attention_map.plot(recording, query=0, picture=pictures[0]).savefig(
        buffer, format="png", dpi=_DOTS
    )
    return ExplorerWidget(explored, buffer.getvalue())


def of_profile(profile: Profile, samples: int = 24) -> ExplorerWidget:
    """See `Profile.explore`."""
    return _explored(inputs_in_memory(profile, None), samples)


def of_comparison(
    comparison: Comparison, profile: Profile | None = None, samples: int = 24
) -> ExplorerWidget:
    """See `Comparison.explore`."""
    return _explored(inputs_in_memory(profile, comparison), samples)


def _explored(inputs: Inputs, samples: int) -> ExplorerWidget:
    if samples < 1:
        raise OptionError(f"samples: got {samples}, expected at least 1")
    explored = explorer([inputs], samples)
    if explored is None:
        raise ResultsError(
            "there is nothing to explore: it is not known what any sample's visual tokens cover; "
            "`tokenlens models` lists the families that are laid out"
        )
    return ExplorerWidget(explored)
