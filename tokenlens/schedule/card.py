"""The card of a schedule on the hub: what it is for, what it does, how it was made."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenlens.schedule.citations import schedule_citations
from tokenlens.schedule.notes import BudgetNote, Why
from tokenlens.schedule.parts import ModelRef, Stage
from tokenlens.schedule.stage_words import stage_rows
from tokenlens.storage.invocation import shell_line
from tokenlens.wording.figures import percent
from tokenlens.wording.table_text import markdown_text

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_COLUMNS = {
    "where": "scored",
    "first": "fewer tokens from",
    "keep": "keeps",
    "rest": "the rest",
    "positions": "positions",
}


class Described(Protocol):
    """What a card tells of a schedule; see `tokenlens.schedule.Schedule`."""

    @property
    def method(self) -> str:
        """The method's name."""

    @property
    def model(self) -> ModelRef:
        """The model it is for."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order of depth."""

    @property
    def image_scale(self) -> float | None:
        """The share that pictures are shrunk to."""

    @property
    def budget(self) -> BudgetNote | None:
        """What it was solved for."""

    @property
    def why(self) -> Why | None:
        """Where it comes from."""


def card(
    schedule: Described,
    content: Mapping[str, Any],
    repo_id: str,
    license: str | None,  # noqa: A002
) -> str:
    """The card as Markdown, with the header that the hub reads.

    Args:
        schedule: what to tell of.
        content: its file's content.
        repo_id: the repository that the card is for, "USER/NAME".
        license: the licence to name; None names none.
    """
    model = schedule.model.id or schedule.model.architecture
    parts = [
        f"# {repo_id.partition('/')[2]}",
        f"A schedule that prunes the visual tokens of **{markdown_text(model)}** while it runs, by "
        f"the method **{markdown_text(schedule.method)}**. tokenlens reads it; the model's weights "
        "stay as they are.",
        "## Run it",
        _usage(schedule, repo_id),
        "## Stages",
        _stages(schedule),
        "## How it was made",
        _origin(schedule),
        "## Cite",
        f"```bibtex\n{schedule_citations([content]).bibtex}```",
    ]
    return _header(schedule, license) + "\n\n".join(parts) + "\n"


def _header(schedule: Described, license: str | None) -> str:  # noqa: A002
    """What the hub reads: YAML between two lines of dashes."""
    from huggingface_hub import ModelCardData

    model = schedule.model.id
    on_hub = model is not None and _HUB_ID.fullmatch(model) and not Path(model).exists()
    data = ModelCardData(
        base_model=model if on_hub else None,
        library_name="tokenlens",
        license=license,
        pipeline_tag="image-text-to-text",
        tags=["tokenlens", "visual-token-pruning", schedule.method],
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _usage(schedule: Described, repo_id: str) -> str:
    """The command and the program that run it."""
    model, layers = schedule.model, schedule.model.layers
    asked = "..." if model.id is None else model.id
    other = f"  # an {model.architecture} of {layers} layers" if model.id is None else ""
    revision = f", revision={json.dumps(model.revision)}" if model.id and model.revision else ""
    return f"""```bash
tokenlens run --schedule hub:{repo_id}
```

```python
import tokenlens as tl

vlm = tl.load({json.dumps(asked)}{revision}){other}
schedule = tl.Schedule.from_hub({json.dumps(repo_id)})
with tl.prune(vlm, schedule):
    ...  # vlm.model.generate(...) runs on fewer visual tokens
```"""


def _stages(schedule: Described) -> str:
    """The stages as a table, and what happens to pictures."""
    parts = []
    if schedule.image_scale is not None:
        share = percent(schedule.image_scale, None)
        parts.append(f"Pictures are shrunk to {share} of their visual tokens.")
    if schedule.stages:
        rows = [
            [str(number), *(row[name] for name in _COLUMNS)]
            for number, row in enumerate(stage_rows(schedule.stages), start=1)
        ]
        parts.append(_table(["stage", *_COLUMNS.values()], rows))
        layers = schedule.model.layers
        parts.append(f"Layers are counted from 1, as in the paper; the model has {layers}.")
    return "\n\n".join(parts)


def _origin(schedule: Described) -> str:
    """How it was made: the budget and the notes of its file."""
    why = schedule.why or Why()
    data = f"{why.data} ({why.split})" if why.data and why.split else why.data
    facts = {
        "budget": schedule.budget.words if schedule.budget else None,
        "layers chosen by": why.criterion,
        "scores relative to": why.relative_to,
        "data": data,
        "tokenlens": why.tokenlens,
        "date": why.date,
    }
    rows = [[name, value] for name, value in facts.items() if value is not None]
    parts = [_table(["", ""], rows)] if rows else ["Its file does not say."]
    if why.command:
        parts.append(f"```bash\n{shell_line(why.command)}\n```")
    if why.scores:
        scores = ", ".join(f"{score:.3g}" for score in why.scores)
        parts.append(f"Scores of layers 1, 2, …: {scores}.")
    if why.cautions:
        parts.append("\n".join(f"- {markdown_text(caution)}" for caution in why.cautions))
    return "\n\n".join(parts)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(heading), ["---"] * len(heading), *(map(markdown_text, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
