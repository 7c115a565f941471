"""The architectures that the recipe trains, by the name of the model that ships."""

from __future__ import annotations

from .family import Family
from .llava import Llava
from .qwen2_vl import Qwen2VL

FAMILIES: dict[str, Family] = {family.name: family for family in (Qwen2VL(), Llava())}
