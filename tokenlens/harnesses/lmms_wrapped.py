"""`lmms_eval --model tokenlens_wrapped`: a model of lmms-eval's own, pruned while it generates.

Prompts, pictures and decoding are those of lmms-eval's model of that family, so that scores can be
set beside those that others report for it.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models import get_model

from tokenlens.errors import OptionError
from tokenlens.harnesses.lmms_arguments import ScheduleFile, unquoted
from tokenlens.harnesses.lmms_families import refuse_unwrappable, watched, wrapper_of
from tokenlens.models.sources import find_source
from tokenlens.models.vlm import VLM
from tokenlens.pruning.engine import prune

_SCHEDULE = ("schedule", "schedule_hash", "any_model")


class WrappedModel(lmms):  # type: ignore[misc]
    """A model of lmms-eval, pruned by a schedule, or as it is without one.

    Args:
        pretrained: What `tokenlens.load` takes: bundled name, alias, hub id or directory.
        wrapper: Name of lmms-eval's model; by default the one for the family of `pretrained`.
        force_simple: Whether its simple form is used where it also has one for chats, as
            lmms-eval's own `--force_simple` says for its other models.
        options: `schedule`, `schedule_hash` and `any_model` as `ScheduleFile.read` takes them; all
            others go to lmms-eval's model.

    Raises:
        TokenlensError: The schedule cannot be used, or lmms-eval has no model of this family.
    """

    def __init__(
        self,
        pretrained: Any = "tiny-qwen2-vl",
        wrapper: Any = None,
        force_simple: Any = False,
        **options: Any,
    ) -> None:
        super().__init__()
        given = {key: options.pop(key) for key in _SCHEDULE if key in options}
        self._file = ScheduleFile.read(**given, command=sys.argv)
        source = find_source(unquoted(pretrained))
        name = unquoted(wrapper) or wrapper_of(source.folder)
        wrapped = get_model(name, force_simple is True)
        self._inner = wrapped(pretrained=str(source.folder), **options)
        refuse_unwrappable(self._inner.model, self._file.schedule, name)
        self._vlm = VLM.wrap(self._inner.model, id=source.id, revision=source.revision)
        self.is_simple = self._inner.is_simple
        self.task_dict = self._inner.task_dict
        self._rank, self._world_size = self._inner.rank, self._inner.world_size
        with self._pruned(0):
            pass  # refuses a schedule that does not fit before lmms-eval reads any data

    def __getattr__(self, name: str) -> Any:
        """All else that lmms-eval asks for is as its own model has it."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """The answers of lmms-eval's model, pruned."""
        with self._pruned(len(requests)):
            return list(self._inner.generate_until(requests))

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """The answers of lmms-eval's model, pruned; every round is pruned anew."""
        with self._pruned(len(requests)):
            return list(self._inner.generate_until_multi_round(requests))

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of the unpruned model alone: lmms-eval reads logits by positions that pruning removes."""
        if self._file.schedule is not None:
            raise OptionError(
                "this task scores given answers by their log-likelihood, which lmms-eval reads at "
                "positions that pruning removes; choose one with output_type generate_until"
            )
        return list(self._inner.loglikelihood(requests))

    def clean(self) -> None:
        """Free the memory of lmms-eval's model."""
        self._inner.clean()

    def _pruned(self, asked: int) -> ExitStack:
        """A context in which the model is pruned, and in which no error of it is lost."""
        with ExitStack() as stack:
            stack.enter_context(watched(self._vlm.model, asked))
            if self._file.schedule is not None:
                stack.enter_context(
                    prune(self._vlm, self._file.schedule, any_model=self._file.any_model)
                )
            return stack.pop_all()
