"""`tokenlens share`: a schedule on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from .console import console, lines, next_command
from .output import results


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("share", epilog="Example: tokenlens share out.json USER/qwen2-vl-schedule")(share)


def share(
    schedule: Annotated[Path, typer.Argument(help="Schedule file.")],
    repository: Annotated[
        str, typer.Argument(help="USER/NAME on the hub; made where there is none.")
    ],
    branch: Annotated[
        str | None, typer.Option(help="Branch to commit to; default: the main one.")
    ] = None,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Of a repository that is made; default: the hub's own."
        ),
    ] = None,
    license: Annotated[  # noqa: A002 - as the hub's cards call it
        str | None, typer.Option(help="Licence to name in the card, such as apache-2.0.")
    ] = None,
    readme: Annotated[
        bool,
        typer.Option("--readme/--no-readme", help="Write the card, in place of a README there."),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the card and send nothing.")
    ] = False,
) -> None:
    """Put a schedule on the hub, with a card that says what it does and how it was made.

    The file goes there as it is, with the command line and the names of the data and the model
    that it notes. Log in before with `hf auth login`, or set HF_TOKEN.
    """
    from tokenlens.schedule import Schedule
    from tokenlens.storage.hub import HubPlace

    found = Schedule.load(schedule)
    HubPlace(repository, branch).check()
    text = found.card(repository, license=license) if readme else None
    results(repo=repository, card=text)
    if dry_run:
        lines(text or "")
        console.print(f"Nothing was sent to {repository}.")
        return
    pushed = found.push_to_hub(
        repository, revision=branch, private=private, license=license, readme=readme
    )
    results(commit=pushed.commit, url=pushed.url)
    console.print(f"Shared: {pushed.url}")
    next_command("run", "--schedule", HubPlace(repository, pushed.commit))
