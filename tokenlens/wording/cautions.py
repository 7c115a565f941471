"""Cautions about conclusions that a set of samples does not support, one sentence each.

Intervals are less certain than they seem where samples are few or similar, or where the layers were
chosen on the same samples. Terminal, report and JSON use these sentences.
"""

from collections.abc import Iterable, Mapping, Sequence

from tokenlens.wording.printable import shown

FEW = 30
"""Samples of a task below which its mean and its bootstrap interval say little."""
_NAMED = 4
_LENGTHS_APART = 0.1
"""Share by which visual tokens may differ from those that a budget was solved for."""


def named(name: str) -> str:
    """The name of a task or an arm, quoted for a sentence."""
    return shown(name, 40)


def on_few(samples: Mapping[str, int]) -> list[str]:
    """Tasks of fewer than `FEW` samples, from the number of samples of each.

    >>> on_few({"text": 12, "colour": 40})
    ["Fewer than 30 samples of 'text' (12): scores and intervals say little of other samples."]
    """
    few = {task: count for task, count in samples.items() if 0 < count < FEW}
    if not few:
        return []
    tasks = _listed(f"{named(task)} ({count})" for task, count in few.items())
    return [
        f"Fewer than {FEW} samples of {tasks}: scores and intervals say little of other samples."
    ]


def pictures_named(image: str, more: Iterable[str] | None) -> str:
    """All pictures of a sample as one name, for `on_pictures`; empty where one is in memory.

    >>> pictures_named("a.png", None), pictures_named("a.png", ["b.png"]), pictures_named("a", [""])
    ('a.png', 'a.png b.png', '')
    """
    names = [image, *(() if more is None else more)]
    return " ".join(names) if all(names) else ""


def on_pictures(images: Sequence[str]) -> list[str]:
    """Pictures shared by several samples, from the picture of each; an empty name is unknown."""
    if len(images) < 2 or len(set(images)) > 1 or not images[0]:
        return []
    return [
        f"All {len(images)} samples ask about one picture: intervals tell of other questions about "
        "it, not of other pictures."
    ]


def on_text_only(without: int, samples: int) -> list[str]:
    """Samples without a picture, `without` of the `samples` that were answered.

    >>> on_text_only(1, 9)
    ['1 of 9 samples has no picture: every method answers it unpruned, and it counts in all means.']
    """
    if not without:
        return []
    has, it, counts = ("has", "it", "it counts") if without == 1 else ("have", "them", "they count")
    return [
        f"{without} of {samples} samples {has} no picture: every method answers {it} unpruned, and "
        f"{counts} in all means."
    ]


def on_left_out(without: int, samples: int) -> list[str]:
    """Samples without a picture, `without` of the `samples`, that a profile has no row of.

    >>> on_left_out(2, 9)
    ['2 of 9 samples have no picture, hence no visual tokens, and are left out.']
    """
    if not without:
        return []
    has, are = ("has", "is") if without == 1 else ("have", "are")
    return [
        f"{without} of {samples} samples {has} no picture, hence no visual tokens, and {are} left "
        "out."
    ]


def on_flat_intervals(figures: Iterable[str]) -> list[str]:
    """Figures whose interval has no width, by name."""
    flat = list(dict.fromkeys(figures))
    if not flat:
        return []
    return [
        f"An interval of zero width ({_listed(flat)}): one sample, or samples that all agree; it "
        "does not make the figure certain."
    ]


def on_zero_baseline(tasks: Sequence[str]) -> list[str]:
    """Tasks in which the unpruned model scores 0."""
    if not tasks:
        return []
    zero = _listed(map(named, tasks))
    return [f"The unpruned model scores 0 in {zero}: no share of that can be retained."]


def on_own_samples(where: str) -> list[str]:
    """A schedule chosen on the samples, or the split, that it is judged on."""
    return [
        f"The layers were chosen on the data they are judged on ({where}): other samples may "
        "retain less."
    ]


def on_overlap(
    chosen: Sequence[int], low: Sequence[float], high: Sequence[float], first: int
) -> list[str]:
    """Chosen layers whose score's interval overlaps that of a layer that was not chosen.

    Args:
        chosen: layers, counted from 1.
        low: low end of every layer's interval.
        high: high end.
        first: the first layer that could be chosen.

    >>> on_overlap([3, 5], [0, 0, 0.5, 0.4, 0.9], [0, 0, 0.6, 0.55, 1.0], first=3)
    ['The 95 % interval of a chosen layer meets that of others (3 with 4): other samples could \
choose other layers.']
    """
    others = [layer for layer in range(first, len(low) + 1) if layer not in chosen]
    pairs = []
    for layer in chosen:
        meets = [
            other
            for other in others
            if low[other - 1] <= high[layer - 1] and low[layer - 1] <= high[other - 1]
        ]
        if meets:
            pairs.append(f"{layer} with {_listed(map(str, meets))}")
    if not pairs:
        return []
    return [
        f"The 95 % interval of a chosen layer meets that of others ({'; '.join(pairs)}): other "
        "samples could choose other layers."
    ]


def on_whole_regions(whole: int, samples: int) -> list[str]:
    """Regions that cover every visual token: `whole` of the `samples` that have a region."""
    if not whole:
        return []
    return [
        f"In {whole} of {samples} samples the region covers every visual token: they cannot tell "
        "one layer from another."
    ]


def on_importance(name: str) -> list[str]:
    """Layers chosen by another importance than stages score by.

    >>> on_importance("attention")
    []
    """
    if name == "attention":
        return []
    return [f"Layers were chosen by the importance {name}; the stages score by attention."]


def on_other_lengths(budget: str, solved: int, samples: float) -> list[str]:
    """A budget that is no share, solved for another number of visual tokens than samples have.

    >>> on_other_lengths("48 tokens", 144, 150.0)
    []
    >>> on_other_lengths("48 tokens", 144, 1440.0)
    ['A budget of 48 tokens was solved for 144 visual tokens, and these samples have 1440 in the \
mean: schedules keep shares, so they keep 10 times as many tokens here.']
    """
    if abs(samples - solved) <= _LENGTHS_APART * solved:
        return []
    return [
        f"A budget of {budget} was solved for {solved} visual tokens, and these samples have "
        f"{samples:.0f} in the mean: schedules keep shares, so they keep {samples / solved:.2g} "
        "times as many tokens here."
    ]


def on_no_scores(scores: Sequence[float]) -> list[str]:
    """Scores that are 0 for every layer."""
    if any(score > 0 for score in scores):
        return []
    return ["No layer scores above 0: the choice of layers rests on nothing."]


def _listed(names: Iterable[str]) -> str:
    """Names separated by commas; of many, the first ones and the number of the others.

    >>> _listed("abcdefg")
    'a, b, c, d and 3 more'
    """
    found = list(names)
    if len(found) <= _NAMED + 1:
        return " and ".join(filter(None, [", ".join(found[:-1]), found[-1]]))
    return f"{', '.join(found[:_NAMED])} and {len(found) - _NAMED} more"
