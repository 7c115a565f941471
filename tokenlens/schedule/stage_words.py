"""Stages of a schedule in words."""

from collections.abc import Iterable

from tokenlens.registry import DISPOSALS
from tokenlens.schedule.parts import Keep, MassKeep, Stage
from tokenlens.wording.figures import counted, percent


def stage_name(stage: Stage) -> str:
    """Position of a stage in words.

    >>> stage_name(Stage(score_layer=3, when="after", keep=0.5, disposal="drop"))
    'after layer 3'
    """
    return f"{stage.when} layer {stage.score_layer}" if stage.score_layer else "before the decoder"


def kept_words(keep: Keep) -> str:
    """The tokens that a stage keeps, in words.

    >>> kept_words(0.25), kept_words(24), kept_words("none")
    ('25.0\N{NO-BREAK SPACE}% of the visual tokens', '24 tokens', 'no visual token')
    >>> kept_words(MassKeep(mass=0.9, least=8, most=0.5)).replace("\N{NO-BREAK SPACE}", " ")
    'as many as hold 90.0 % of the importance (8 tokens to 50.0 % of the visual tokens)'
    """
    if isinstance(keep, MassKeep):
        limits = f"{kept_words(keep.least)} to {kept_words(keep.most)}"
        return f"as many as hold {percent(keep.mass, 1)} of the importance ({limits})"
    if keep == "none":
        return "no visual token"
    if isinstance(keep, int):
        return counted(keep, "token")
    return f"{percent(keep, 1)} of the visual tokens"


def rest_words(stage: Stage) -> str:
    """The disposal of a stage, in words.

    >>> rest_words(Stage(score_layer=3, when="after", keep=0.5, disposal="merge", merge=8))
    'merged into 8'
    >>> rest_words(Stage(score_layer=3, when="after", keep=0.5, disposal="recycle"))
    'dropped, but for the best three in ten, whose clusters go on (SparseVLM)'
    """
    many = percent(stage.merge) if isinstance(stage.merge, float) else str(stage.merge)
    if stage.disposal == "merge":
        return f"merged into {many}"
    if stage.disposal == "bypass":
        merged = f"{many} merged tokens stand in" if stage.merge else "nothing stands in"
        return f"set aside for the next stage; {merged}"
    words = DISPOSALS.summary(stage.disposal) or f"disposed of by {stage.disposal!r}"
    return f"{words}; merge {many}" if stage.merge else words


def stage_rows(stages: Iterable[Stage]) -> list[dict[str, str]]:
    """A row for each stage: `where` it scores, the `first` layer on fewer tokens, and so on.

    The other columns are what it does: `keep`, the `rest`, `positions`.
    """
    return [
        {
            "where": stage_name(stage),
            "first": f"layer {stage.first_layer}",
            "keep": kept_words(stage.keep),
            "rest": rest_words(stage),
            "positions": "kept" if stage.positions == "keep" else "numbered anew",
        }
        for stage in stages
    ]
