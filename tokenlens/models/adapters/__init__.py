"""One declarative adapter per model family, with only what differs between families.

To add a family, write one function that returns the part of the picture that every visual token
covers (a suitable one may exist), and one entry in `ADAPTERS`; CONTRIBUTING.md shows an example.
"""

from tokenlens.models.adapters.adapter import Adapter, AdapterContext, PictureTokens
from tokenlens.models.adapters.boxes import grid_boxes
from tokenlens.models.adapters.families import ADAPTERS
from tokenlens.models.adapters.support import find_adapter, required_shrinking, required_tower
from tokenlens.models.families import support_table

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AdapterContext",
    "PictureTokens",
    "find_adapter",
    "grid_boxes",
    "required_shrinking",
    "required_tower",
    "support_table",
]
