"""Questions about a scene, each with one right answer and the things to look at for it.

A kind of question is one function from a scene to a `Question`, entered in `KINDS` by
`@kind(task)`; several kinds may share a task. A kind with nothing to ask of a scene returns None.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .scenes import COLOURS, GRID, SHAPES, SIGNS, Box, Scene, Thing


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    `targets` are the things the answer is about, `anchors` those passed on the way.
    """

    text: str
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


def marked(scene: Scene, *, colour: str = "", shape: str = "", letter: str = "") -> list[Thing]:
    """The things of a scene with all given properties."""
    wanted = {"colour": colour, "shape": shape, "letter": letter}
    return [
        thing
        for thing in scene.things
        if all(getattr(thing, key) == value for key, value in wanted.items() if value)
    ]


# -- One look: the words of the question say what to look for.


@kind("localisation")
def where(scene: Scene, rng: random.Random) -> Question:
    """Where is the red circle ?"""
    thing = rng.choice(scene.things)
    text = f"where is the {thing.colour} {thing.shape} ?"
    return Question(text, box_answer(thing.box), "localisation", (thing,))


@kind("text")
def letter(scene: Scene, rng: random.Random) -> Question:
    """What letter is on the red circle ?"""
    thing = rng.choice(scene.things)
    text = f"what letter is on the {thing.colour} {thing.shape} ?"
    return Question(text, thing.letter, "text", (thing,))


@kind("attribute")
def colour(scene: Scene, rng: random.Random) -> Question | None:
    """What colour is the circle marked K ? Asked where there is one such circle."""
    once = [t for t in scene.things if len(marked(scene, shape=t.shape, letter=t.letter)) == 1]
    if not once:
        return None
    thing = rng.choice(once)
    text = f"what colour is the {thing.shape} marked {thing.letter} ?"
    return Question(text, thing.colour, "attribute", (thing,))


@kind("attribute")
def shape(scene: Scene, rng: random.Random) -> Question | None:
    """What shape is the red thing marked K ? Asked where there is one such thing."""
    once = [t for t in scene.things if len(marked(scene, colour=t.colour, letter=t.letter)) == 1]
    if not once:
        return None
    thing = rng.choice(once)
    text = f"what shape is the {thing.colour} thing marked {thing.letter} ?"
    return Question(text, thing.shape, "attribute", (thing,))


@kind("existence")
def exists(scene: Scene, rng: random.Random) -> Question:
    """Is there a red circle ? Yes and no are equally likely; a "no" often shares a word."""
    present = {(thing.colour, thing.shape): thing for thing in scene.things}
    if rng.random() < 0.5:
        look = rng.choice(list(present))
    else:
        absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in present]
        look = rng.choice(absent)
    article = "an" if look[0][0] in "aeiou" else "a"
    return Question(
        f"is there {article} {look[0]} {look[1]} ?",
        "yes" if look in present else "no",
        "existence",
        (present[look],) if look in present else (),
    )


# -- Two looks: the letter on the first thing says what colour to look for next.


def steps(scene: Scene) -> list[tuple[Thing, list[Thing]]]:
    """The things whose letter names another colour than their own, and those of that colour."""
    return [
        (start, marked(scene, colour=SIGNS[start.letter]))
        for start in scene.things
        if SIGNS[start.letter] != start.colour
    ]


def step_to_shape(scene: Scene, rng: random.Random) -> tuple[str, Thing, Thing] | None:
    """Follow the red circle to a star : the words, where they begin and where they lead."""
    found = [(start, end) for start, ends in steps(scene) for end in ends]
    if not found:
        return None
    start, end = rng.choice(found)
    return f"follow the {start.colour} {start.shape} to a {end.shape} :", start, end


@kind("deep-localisation")
def where_it_leads(scene: Scene, rng: random.Random) -> Question | None:
    """Follow the red circle to a star : where is it ?"""
    step = step_to_shape(scene, rng)
    if step is None:
        return None
    words, start, end = step
    text = f"{words} where is it ?"
    return Question(text, box_answer(end.box), "deep-localisation", (end,), (start,))


@kind("deep-text")
def letter_it_leads_to(scene: Scene, rng: random.Random) -> Question | None:
    """Follow the red circle to a star : what letter is on it ?"""
    step = step_to_shape(scene, rng)
    if step is None:
        return None
    words, start, end = step
    return Question(f"{words} what letter is on it ?", end.letter, "deep-text", (end,), (start,))


@kind("deep-attribute")
def shape_it_leads_to(scene: Scene, rng: random.Random) -> Question | None:
    """Follow the red circle to a thing marked K : what shape is it ? Asked where there is one."""
    found = [
        (start, end)
        for start, ends in steps(scene)
        for end in ends
        if sum(other.letter == end.letter for other in ends) == 1
    ]
    if not found:
        return None
    start, end = rng.choice(found)
    words = f"follow the {start.colour} {start.shape} to a thing marked {end.letter} :"
    return Question(f"{words} what shape is it ?", end.shape, "deep-attribute", (end,), (start,))


@kind("deep-existence")
def leads_somewhere(scene: Scene, rng: random.Random) -> Question | None:
    """Follow the red circle : is there a star ? Yes and no are equally likely."""
    wanted = rng.random() < 0.5
    found = [
        (start, shape, [t for t in ends if t.shape == shape])
        for start, ends in steps(scene)
        for shape in SHAPES
        if any(t.shape == shape for t in ends) == wanted
    ]
    if not found:
        return None
    start, look, ends = rng.choice(found)
    return Question(
        f"follow the {start.colour} {start.shape} : is there a {look} ?",
        "yes" if wanted else "no",
        "deep-existence",
        tuple(ends),
        (start,),
    )
