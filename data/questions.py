"""Questions about a scene, each with one right answer and the things to look at for it.

A kind of question is one function from a scene to a `Question`, entered in `KINDS` by
`@kind(task)`; several kinds may share a task. A kind with nothing to ask of a scene returns None.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .scenes import COLOURS, GRID, SHAPES, Box, Scene, Thing


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    `short` is the same question without its filling words, the word that matters last: what
    training begins with. `targets` are the things the answer is about, `anchors` those passed on
    the way.
    """

    text: str
    short: str
    answer: str
    task: str
    targets: tuple[Thing, ...]
    anchors: tuple[Thing, ...] = ()


Kind = Callable[[Scene, random.Random], Question | None]

KINDS: dict[str, list[Kind]] = {}
"""Task name to the kinds of question that measure it."""


def kind(task: str) -> Callable[[Kind], Kind]:
    """Enter a kind of question under a task."""

    def enter(function: Kind) -> Kind:
        KINDS.setdefault(task, []).append(function)
        return function

    return enter


def ask(scene: Scene, task: str, rng: random.Random) -> Question | None:
    """A question of the given task: of a random kind, or of another where that has none to ask."""
    for function in rng.sample(KINDS[task], len(KINDS[task])):
        if question := function(scene, rng):
            return question
    return None


def thousandth(cells: int) -> int:
    """A grid coordinate in thousandths of the picture, as Qwen2-VL counts: integer in 0 to 1000.

    >>> thousandth(3), thousandth(24)
    (125, 1000)
    """
    return round(cells * 1000 / GRID)


def box_answer(box: Box) -> str:
    """A box as Qwen2-VL writes it: corners in thousandths of the picture.

    >>> box_answer((3, 5, 9, 11))
    '(125,208),(375,458)'
    """
    x0, y0, x1, y1 = (thousandth(cells) for cells in box)
    return f"({x0},{y0}),({x1},{y1})"


def names(scene: Scene, thing: Thing) -> list[str]:
    """Every name that means this thing of the scene and no other; colour and shape always do."""
    found = [f"{thing.colour} {thing.shape}"]
    if sum(other.colour == thing.colour for other in scene.things) == 1:
        found.append(f"{thing.colour} thing")
    if sum(other.shape == thing.shape for other in scene.things) == 1:
        found.append(thing.shape)
    return found


def _short(name: str) -> str:
    return name.removesuffix(" thing")


@kind("localisation")
def where(scene: Scene, rng: random.Random) -> Question:
    """Where is the red circle ?"""
    thing = rng.choice(scene.things)
    name = rng.choice(names(scene, thing))
    return Question(
        text=f"where is the {name} ?",
        short=f"where {_short(name)}",
        answer=box_answer(thing.box),
        task="localisation",
        targets=(thing,),
    )


@kind("text")
def letter(scene: Scene, rng: random.Random) -> Question:
    """What letter is on the red circle ?"""
    thing = rng.choice(scene.things)
    name = rng.choice(names(scene, thing))
    return Question(
        text=f"what letter is on the {name} ?",
        short=f"letter {_short(name)}",
        answer=thing.letter,
        task="text",
        targets=(thing,),
    )


@kind("attribute")
def colour(scene: Scene, rng: random.Random) -> Question | None:
    """What colour is the circle ? Asked of a shape that is there once."""
    once = [thing for thing in scene.things if thing.shape in names(scene, thing)]
    if not once:
        return None
    thing = rng.choice(once)
    return Question(
        text=f"what colour is the {thing.shape} ?",
        short=f"colour {thing.shape}",
        answer=thing.colour,
        task="attribute",
        targets=(thing,),
    )


@kind("attribute")
def shape(scene: Scene, rng: random.Random) -> Question | None:
    """What shape is the red thing ? Asked of a colour that is there once."""
    once = [thing for thing in scene.things if f"{thing.colour} thing" in names(scene, thing)]
    if not once:
        return None
    thing = rng.choice(once)
    return Question(
        text=f"what shape is the {thing.colour} thing ?",
        short=f"shape {thing.colour}",
        answer=thing.shape,
        task="attribute",
        targets=(thing,),
    )


@kind("existence")
def exists(scene: Scene, rng: random.Random) -> Question:
    """Is there a red circle ? Yes and no are equally likely; a "no" often shares a word."""
    present = {(thing.colour, thing.shape): thing for thing in scene.things}
    if rng.random() < 0.5:
        look = rng.choice(list(present))
    else:
        absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in present]
        look = rng.choice(absent)
        for _ in range(2):
            other = rng.choice(absent)
            if _shared(other, present) > _shared(look, present):
                look = other
    article = "an" if look[0][0] in "aeiou" else "a"
    return Question(
        text=f"is there {article} {look[0]} {look[1]} ?",
        short=f"is {look[0]} {look[1]}",
        answer="yes" if look in present else "no",
        task="existence",
        targets=(present[look],) if look in present else (),
    )


def _shared(look: tuple[str, str], present: dict[tuple[str, str], Thing]) -> int:
    """How many of a look's two words are true of some thing that is there."""
    return any(look[0] == c for c, _ in present) + any(look[1] == s for _, s in present)


@kind("count")
def count(scene: Scene, rng: random.Random) -> Question:
    """How many circles, or how many red things, are there ?"""
    if rng.random() < 0.5:
        word = rng.choice([*SHAPES, *(thing.shape for thing in scene.things)])
        counted = tuple(thing for thing in scene.things if thing.shape == word)
        what = SHAPES[word]
    else:
        word = rng.choice([*COLOURS, *(thing.colour for thing in scene.things)])
        counted = tuple(thing for thing in scene.things if thing.colour == word)
        what = f"{word} things"
    return Question(
        text=f"how many {what} are there ?",
        short=f"many {what.removesuffix(' things')}",
        answer=str(len(counted)),
        task="count",
        targets=counted,
    )
