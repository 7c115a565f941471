"""transformers' image-text-to-text pipeline, on fewer visual tokens."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import ImageTextToTextPipeline

from tokenlens.errors import ModelError, PruningError
from tokenlens.models.loading import load
from tokenlens.models.vlm import VLM
from tokenlens.pruning.engine import prune
from tokenlens.pruning.trace import Trace
from tokenlens.schedule import Schedule


class PrunedPipeline(ImageTextToTextPipeline):
    """The pipeline that `pipeline` makes; it is called as transformers' own is.

    Attributes:
        trace: the trace of the latest prefill; None before the first, and without a schedule.
    """

    trace: Trace | None = None

    def __init__(
        self, vlm: VLM, schedule: Schedule | None, any_model: bool, **options: Any
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            model=vlm.model, processor=vlm.processor, **options
        )
        self._vlm, self._schedule, self._any_model = vlm, schedule, any_model

    def _forward(self, model_inputs: Any, generate_kwargs: Any = None) -> Any:  # type: ignore[override]
        with ExitStack() as stack:
            if self._schedule is not None:
                context = prune(self._vlm, self._schedule, any_model=self._any_model)
                self.trace = stack.enter_context(context)
            return super()._forward(  # type: ignore[no-untyped-call]
                model_inputs, generate_kwargs
            )


def pipeline(
    model: VLM | str | Path,
    schedule: Schedule | str | Path | None = None,
    *,
    any_model: bool = False,
    **options: Any,
) -> PrunedPipeline:
    """The `pipeline("image-text-to-text")` of transformers, under a schedule.

    Its answers are those of the model's own `generate` inside `tokenlens.prune`.

    Args:
        model: a `tokenlens.VLM` with a processor, or a name that `tokenlens.load` takes.
        schedule: a schedule, or a file of one, or "hub:USER/NAME"; None prunes nothing.
        any_model: run a schedule that was made for another id or revision.
        options: more of transformers' own; the device is the model's.

    Raises:
        ModelError: there is no such model, or it came without a processor.
        ScheduleError: the schedule cannot be read, or is for another model.
        PruningError: it asks for smaller pictures, which the pipeline does not prepare.

    >>> import tokenlens as tl
    >>> answer = tl.pipeline("tiny-qwen2-vl")
    >>> answer.task
    'image-text-to-text'
    """
    vlm = model if isinstance(model, VLM) else load(model)
    plan = Schedule.load(schedule) if isinstance(schedule, str | Path) else schedule
    if vlm.processor is None:
        raise ModelError("a pipeline needs the model's processor; give VLM.wrap(model, processor)")
    if plan is not None:
        plan.check(vlm, any_model=any_model)
        if plan.image_scale is not None:
            raise PruningError(
                "image_scale: a pipeline does not shrink pictures; use tokenlens.evaluate, or "
                "vlm.prepare(..., image_scale=schedule.image_scale) and generate"
            )
    return PrunedPipeline(
        vlm, plan, any_model, task="image-text-to-text", device=vlm.device, **options
    )
