"""Names of the criteria that layers are chosen by; the criteria are in `criteria`."""

from tokenlens.errors import SelectionError
from tokenlens.wording.suggest import one_of

READ = ("region", "average-precision", "mass", "pointing")
"""Those that are read of a profile."""
CAPABILITY = "capability"
AGREEMENT = "agreement"
"""Like it without labels: the answer tokens that stay the most likely on each layer's choice, which
`tokenlens.evaluation.information` measures."""
MEASURED = (CAPABILITY, AGREEMENT)
"""Those for which the model is run."""
NAMES = (*READ, *MEASURED)
"""All that may be asked for by name."""


def check_criterion(name: str) -> None:
    """Raise `SelectionError`, with the known names, for a criterion that does not exist."""
    if name not in NAMES:
        raise SelectionError(f"criterion: got {name!r}, expected {one_of(name, NAMES)}")
