"""One run of a model, unpruned or pruned, over samples."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenlens.evaluation.running.answer_cache import answers_within
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.results import Results
from tokenlens.evaluation.running.run import Run
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule


def evaluate(
    vlm: VLM,
    samples: Sequence[Sample],
    schedule: Schedule | None = None,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 32,
    out: Path | str | None = None,
    any_model: bool = False,
    show_progress: bool = False,
) -> Results:
    """Answer all samples by greedy decoding, pruned where there is a schedule, and score them.

    Where samples have no ground truth, a pruned run also runs the unpruned model, and the results'
    metrics give the `agreement` with its answers instead of a score.

    Args:
        vlm: a model with its processor.
        samples: at least one.
        schedule: None runs the unpruned model.
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off; a box of Qwen2-VL takes about 20.
        out: directory for the rows, in which an interrupted run continues; None keeps no files.
        any_model: run a schedule that was made for a model of another id.
        show_progress: show a bar with an ETA on standard error.

    Raises:
        ScheduleError: the schedule is for another model.
        SampleError: no samples, or a picture that cannot be used; rows before it are kept.
        OutputError: `out` holds another run or cannot be written to.
    """
    options = RunOptions(
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        any_model=any_model,
        show_progress=show_progress,
        timed=True,
    )
    run = Run(vlm, samples, options)
    run.check([schedule])
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()) if out is None else out)
        answers = stack.enter_context(answers_within(directory))
        results = run.into({directory: schedule}, answers)[0]
        if not results.outcomes["score"].isna().any():
            return results.kept()
        if schedule is None:
            return results.kept(results.outcomes["prediction"])
        aside = Path(stack.enter_context(TemporaryDirectory()))
        unpruned = run.into({aside: None}, answers)[0]
        return results.kept(unpruned.outcomes["prediction"])
