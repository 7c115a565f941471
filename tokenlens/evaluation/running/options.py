"""Options of a run, unpruned or pruned."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options for answering samples.

    Attributes:
        batch_size: samples per batch; it does not change the answers.
        max_new_tokens: tokens after which an answer is cut off; a box of Qwen2-VL takes about 20.
        any_model: whether schedules may be made for a model of another id.
        show_progress: whether to show a bar with an ETA on standard error.
        timed: whether rows hold the time of each answer; schedules then share no computation.
    """

    batch_size: int = 8
    max_new_tokens: int = 32
    any_model: bool = False
    show_progress: bool = False
    timed: bool = False
