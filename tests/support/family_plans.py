"""Schedules that every family is run under: named ones, and samples that cover all combinations."""

import random
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise
from typing import Any

from transformers import PreTrainedModel

from tests.support.engine_support import stage
from tests.support.family_models import LAYERS
from tokenlens.schedule import Schedule

HEADS = {str: "mean", list: "some"}

Plan = tuple[list[dict[str, Any]], dict[str, Any]]
"""Stages and scorer."""

KEEP_ALL = [
    stage(2, "after", 1.0, "bypass", merge=0.2),
    stage(4, "before", 1.0, "merge", merge=0.2),
    stage(5, "before", 1.0),
]


def named_plans(merges_from: int = 1) -> dict[str, list[dict[str, Any]]]:
    """Early, late and repeated stages; none merges before the layer that a model allows it after.

    Where a model adds visual features to its first layers' outputs, `drop` cuts before, between and
    after those.
    """
    first = merges_from
    return {
        "drop before layer 1": [stage(1, "before", 0.6)],
        "drop early": [stage(1, "after", 0.5)],
        "drop late": [stage(6, "before", 3)],
        "drop three": [stage(1, "after", 0.7), stage(3, "before", 0.45), stage(5, "after", 4)],
        "merge early": [stage(first, "after", 0.4, "merge", merge=0.3)],
        "merge late": [stage(5, "after", 0.3, "merge", merge=2)],
        "merge three": [
            stage(first, "after", 0.6, "merge", merge=0.5),
            stage(4, "before", 0.4, "merge", merge=0.3),
            stage(5, "after", 3, "merge", merge=1),
        ],
        "bypass early": [
            stage(first, "after", 0.4, "bypass", merge=0.3),
            stage(3 + (first > 1), "before", 0.3),
        ],
        "bypass late": [stage(4, "after", 0.5, "bypass", merge=0.2), stage(6, "before", 3)],
        "bypass three": [
            stage(first, "after", 0.5, "bypass", merge=0.1),
            stage(4, "before", 0.25, "bypass", merge=0.2),
            stage(5, "before", 4),
        ],
        "bypass into merge": [
            stage(first + 1, "before", 0.3, "bypass", merge=3),
            stage(4, "before", 0.3, "merge", merge=0.4),
            stage(5, "after", 5),
        ],
        "recycle early": [stage(first, "after", 0.4, "recycle", positions="renumber")],
        "recycle three": [
            stage(first, "after", 0.5, "recycle"),
            stage(4, "before", 0.3, "recycle", stride=2),
            stage(5, "after", 3, "recycle", positions="renumber"),
        ],
        "bypass unmerged": [stage(first, "after", 0.4, "bypass"), stage(4, "before", 0.3)],
        "freeze early": [stage(first, "after", 0.4, "freeze")],
        "freeze late": [stage(5, "after", 3, "freeze")],
        "freeze three": [
            stage(first, "after", 0.5, "freeze"),
            stage(4, "before", 0.3, "freeze"),
            stage(6, "before", 4),
        ],
        "freeze into bypass": [
            stage(first, "after", 0.4, "freeze", positions="renumber"),
            stage(3 + (first > 1), "before", 0.5, "bypass", merge=0.2),
            stage(5, "before", 0.3, "freeze"),
        ],
        "freeze into merge": [
            stage(first + 1, "before", 0.3, "freeze"),
            stage(4, "before", 0.4, "merge", merge=0.4),
            stage(5, "after", 5, "freeze"),
        ],
        "freeze all and none": [
            stage(first + 1, "before", "none", "freeze"),
            stage(4, "before", 1.0),
            stage(5, "before", "none", "freeze"),
            stage(6, "before", 1.0),
        ],
    }


def plan_for(model: PreTrainedModel, stages: list[dict[str, Any]], **scorer: Any) -> Schedule:
    return Schedule(
        schema=1,
        method="test",
        model={"architecture": type(model).__name__, "layers": LAYERS},
        scorer=scorer,
        stages=stages,
    )


@cache
def sampled_plans(merges_from: int = 1) -> list[Plan]:
    """Few schedules in which every two options occur together that can.

    Drawn at random, and taken greedily while one brings a pair that none before it had.
    """
    draw = random.Random(merges_from)
    drawn = [(plan, pairs_of(plan)) for plan in (_draw(draw, merges_from) for _ in range(1000))]
    missing = set().union(*(pairs for _, pairs in drawn))
    taken = []
    while missing:
        best, pairs = max(drawn, key=lambda found: len(missing & found[1]))
        taken.append(best)
        missing -= pairs
    return taken


def pairs_of(plan: Plan) -> set[tuple[str, ...]]:
    """Every two options that occur together: within a stage and its scorer, and in succession."""
    stages, scorer = plan
    of_scorer = [
        f"query {scorer['query']}",
        f"heads {HEADS.get(type(scorer['heads']), 'strongest')}",
        f"rotary {scorer['rotary']}",
        f"decay {scorer['decay']}",
        f"softmax {scorer['softmax']}",
    ]
    pairs = set(combinations(of_scorer, 2))
    options = [_options(at) for at in stages]
    for found in options:
        pairs |= set(combinations([*of_scorer, *found], 2))
    for earlier, later in pairwise(options):
        pairs |= {(f"first {a}", f"then {b}") for a in earlier[1:] for b in later[1:]}
    return pairs


def _options(at: dict[str, Any]) -> list[str]:
    layer = at["score_layer"]
    return [
        f"layer {'0' if layer == 0 else 'early' if layer <= 2 else 'late'}",
        f"when {at['when']}",
        f"keep {'count' if isinstance(at['keep'], int) else 'all' if at['keep'] == 1 else 'ratio'}",
        f"disposal {at['disposal']}",
        f"merge {'none' if not at['merge'] else type(at['merge']).__name__}",
        f"positions {at['positions']}",
        f"grid {'none' if at['stride'] is None else 'some'}",
    ]


def _draw(draw: random.Random, merges_from: int) -> Plan:
    query = draw.choice(["last", "text", "raters", "all", "random", "uniform"])
    scored = query not in ("random", "uniform")
    firsts = sorted(draw.sample(range(1, LAYERS + 1), draw.choice([1, 2, 3])))
    stages = list(_draw_stages(draw, firsts, merges_from, scored))
    heads: Any = "mean"
    if scored and draw.random() < 0.5:
        listed = [[at["score_layer"], draw.randrange(4)] for at in stages for _ in range(2)]
        heads = draw.choice([listed, 1, 0.5])
    may_be_visual = scored and not isinstance(heads, int | float)
    rotary = not scored or draw.random() < 0.6
    scorer = {
        "query": query,
        "heads": heads,
        "rotary": rotary,
        "softmax": draw.choice(["all", "visual"]) if may_be_visual else "all",
        "decay": "divide" if scored and rotary and draw.random() < 0.5 else None,
    }
    return stages, {**scorer, "seed": 3} if query == "random" else scorer


def _draw_stages(
    draw: random.Random, firsts: list[int], merges_from: int, scored: bool
) -> Iterator[dict[str, Any]]:
    before = "drop"
    for place, first in enumerate(firsts):
        disposals = ["drop"]
        if first > merges_from:
            disposals += ["merge", "recycle", "freeze"] + ["bypass"] * (place < len(firsts) - 1)
        disposal = draw.choice(disposals)
        can_be_after = before not in ("bypass", "freeze") and (first > 1 or not scored)
        when = draw.choice(["before", "after"] if can_be_after else ["before"])
        merge = 0 if disposal in ("drop", "recycle", "freeze") else draw.choice([0, 0.3, 2])
        keep = draw.choice([0.3, 0.55, 3, 1.0])
        layer = first - (when == "after")
        positions = draw.choice(["keep", "renumber"])
        stride = draw.choice([None, None, 2, 3])
        yield stage(layer, when, keep, disposal, merge=merge, positions=positions, stride=stride)
        before = disposal
