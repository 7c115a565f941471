"""Recording T–V attention, and the profile it is stored in.

Importing any module in here binds `tokenlens.probe` to this package, the name under which users
know the function. So the package can be called like the function, whichever of the two was bound.
"""

import sys
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokenlens.models.vlm import VLM
    from tokenlens.probe.recording import Recording


class _CallablePackage(ModuleType):
    def __call__(
        self, vlm_or_model: "VLM | PreTrainedModel", *, per_head: bool = False
    ) -> AbstractContextManager["Recording"]:
        from tokenlens.probe.recording import probe

        return probe(vlm_or_model, per_head=per_head)


sys.modules[__name__].__class__ = _CallablePackage
