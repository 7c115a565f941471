"""A schedule goes to the hub and comes back as it was; what is wrong there is said in one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from tests.support.fake_hub import TOKEN, Hub, fake_hub
from tokenlens.errors import HubError, ScheduleError
from tokenlens.schedule import Schedule
from tokenlens.wording.printable import MESSAGE_LIMIT

REPO = "me/plans"
CONTENT = {
    "schema": 1,
    "method": "swiftvlm",
    "model": {
        "id": "Qwen/Qwen2-VL-2B-Instruct",
        "architecture": "Qwen2VLForConditionalGeneration",
        "layers": 28,
    },
    "stages": [
        {"score_layer": 3, "when": "after", "keep": 0.5, "disposal": "bypass", "merge": 0.1},
        {"score_layer": 9, "when": "before", "keep": 24, "disposal": "drop"},
    ],
    "budget": {"average": 0.33, "n_visual": 144},
    "why": {"criterion": "region", "data": "a|b", "command": ["tokenlens", "select-layers"]},
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with fake_hub(tmp_path / "cache") as found:
        yield found


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(**CONTENT)


def refused(*words: str, repo_id: str = REPO, **how: str) -> str:
    with pytest.raises((HubError, ScheduleError)) as caught:
        Schedule.from_hub(repo_id, **how)
    return one_line(caught.value, *words)


def one_line(error: Exception, *words: str) -> str:
    line = str(error)
    assert "\n" not in line
    assert len(line) <= MESSAGE_LIMIT
    for word in words:
        assert word in line
    return line


def test_the_bytes_of_the_file_go_there_and_back(
    hub: Hub, schedule: Schedule, tmp_path: Path
) -> None:
    pushed = schedule.push_to_hub(REPO)
    files = hub.repositories[REPO].commits[pushed.commit]
    schedule.save(tmp_path / "out.json")
    assert files["schedule.json"] == (tmp_path / "out.json").read_bytes()
    assert pushed.url == f"{hub.url}/{REPO}/commit/{pushed.commit}"
    again = Schedule.from_hub(REPO)
    assert again == schedule == Schedule.load(f"hub:{REPO}")
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == files["schedule.json"]


def test_a_revision_stays_what_it_was(hub: Hub, schedule: Schedule) -> None:
    first = schedule.push_to_hub(REPO)
    other = schedule.replace(method="mine")
    second = other.push_to_hub(REPO)
    assert first.commit != second.commit
    assert Schedule.from_hub(REPO) == Schedule.load(f"hub:{REPO}@main") == other != schedule
    assert Schedule.from_hub(REPO, first.commit) == schedule
    assert Schedule.load(f"hub:{REPO}@{first.commit}") == schedule
    with pytest.raises(HubError) as caught:
        other.push_to_hub(REPO, revision="nowhere")
    one_line(caught.value, f"hub:{REPO}@nowhere has no such revision")


def test_the_card_is_read_by_the_hub_and_says_how_it_was_made(hub: Hub, schedule: Schedule) -> None:
    pushed = schedule.push_to_hub(REPO, license="mit", private=True)
    assert hub.repositories[REPO].private
    card = ModelCard(hub.repositories[REPO].commits[pushed.commit]["README.md"].decode())
    assert card.data.to_dict() == {
        "base_model": "Qwen/Qwen2-VL-2B-Instruct",
        "library_name": "tokenlens",
        "license": "mit",
        "pipeline_tag": "image-text-to-text",
        "tags": ["tokenlens", "visual-token-pruning", "swiftvlm"],
    }
    for words in (
        f"tokenlens run --schedule hub:{REPO}",
        f'tl.Schedule.from_hub("{REPO}")',
        "| 1 | after layer 3 | layer 4 |",
        "| 2 | before layer 9 | layer 9 | 24 tokens | dropped | kept |",
        "| data | a\\|b |",
        "Layers are counted from 1",
        "tokenlens select-layers",
        "@article{qian2026swiftvlm,",
        "@article{wang2024qwen2vl,",
    ):
        assert words in card.content, words


def test_a_readme_can_be_left_as_it_is(hub: Hub, schedule: Schedule) -> None:
    schedule.push_to_hub(REPO)
    repository = hub.repositories[REPO]
    repository.commit({"README.md": b"mine"})
    pushed = schedule.push_to_hub(REPO, readme=False)
    assert repository.commits[pushed.commit]["README.md"] == b"mine"
    pushed = schedule.push_to_hub(REPO)
    assert repository.commits[pushed.commit]["README.md"] != b"mine"


def test_a_card_without_notes_and_without_a_model_on_the_hub(schedule: Schedule) -> None:
    content = {key: CONTENT[key] for key in ("schema", "method", "model", "stages")}
    bare = Schedule(**content).portable()
    card = bare.card(REPO)
    assert "Its file does not say." in card
    assert "base_model" not in card
    assert "license" not in card
    assert "# an Qwen2VLForConditionalGeneration of 28 layers" in card
    local = schedule.replace(model={**CONTENT["model"], "id": "/home/me/qwen"})
    assert "base_model" not in local.card(REPO)


def test_damage_on_the_hub_is_seen(hub: Hub, schedule: Schedule) -> None:
    """The control of the round trip: one figure changed, and the file is refused."""
    pushed = schedule.push_to_hub(REPO)
    whole = hub.repositories[REPO].commits[pushed.commit]["schedule.json"]
    hub.repository(REPO, schedule=whole.replace(b'"keep": 24', b'"keep": 25'))
    line = refused("damaged", "sha256")
    assert line.startswith(f"hub:{REPO}: ")
    hub.repository(REPO, schedule=whole[:-40])
    refused(f"hub:{REPO}:", "is not JSON")
    hub.repository(REPO, schedule=b"\xff")
    refused(f"hub:{REPO}:", "UTF-8")


def test_a_file_of_a_later_schema_is_refused(hub: Hub) -> None:
    hub.repository(REPO, schedule=json.dumps({**CONTENT, "schema": 4}).encode())
    refused(f"hub:{REPO}: schema: got 4, expected 1, 2 or 3")
    hub.repository(REPO, schedule=json.dumps({**CONTENT, "stagess": []}).encode())
    refused(f"hub:{REPO}: stagess: unknown key", "did you mean 'stages'")


def test_what_is_not_there_is_said(hub: Hub, schedule: Schedule) -> None:
    refused(f"hub:{REPO} is not on the hub", "hf auth login")
    hub.repository(REPO, other=b"{}")
    refused(f"hub:{REPO} has no schedule.json", "tokenlens share")
    schedule.push_to_hub(REPO)
    refused(f"hub:{REPO}@v9 has no such revision", revision="v9")
    other = "me/others"
    schedule.push_to_hub(other, private=True)
    refused(f"{other} is not on the hub, unless it is private", repo_id=other, token="no")  # noqa: S106
    assert Schedule.from_hub(other, token=TOKEN) == schedule
    for name in ("plans", "a/b/c", "", "me/pl ans", "me/\x1b[2J"):
        refused("expected USER/NAME", repo_id=name)
    refused(f"hub:me/{'x' * 200}", repo_id=f"me/{'x' * 200}")


@pytest.mark.parametrize(("status", "words"), [(403, "refuses (403)"), (500, "answers 500")])
def test_a_hub_that_refuses_is_one_line(
    hub: Hub, schedule: Schedule, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken = status
    with pytest.raises(HubError) as caught:
        schedule.push_to_hub(REPO)
    one_line(caught.value, f"hub:{REPO}", words)


def test_a_licence_that_the_hub_does_not_know_is_said(hub: Hub, schedule: Schedule) -> None:
    with pytest.raises(HubError) as caught:
        schedule.push_to_hub(REPO, license="wrong")
    one_line(caught.value, "no such license", "another value")


def test_without_a_token_nothing_is_taken(
    hub: Hub, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError) as caught:
        schedule.push_to_hub(REPO)
    one_line(caught.value, f"hub:{REPO}", "hf auth login", "HF_TOKEN")
    assert REPO not in hub.repositories


def test_without_a_network_the_cache_is_read(
    hub: Hub, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule.push_to_hub(REPO)
    assert Schedule.from_hub(REPO) == schedule
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.asked)
    assert Schedule.from_hub(REPO) == schedule
    refused("hub:me/others: the hub cannot be reached", "network", repo_id="me/others")
    with pytest.raises(HubError, match="cannot be reached"):
        schedule.push_to_hub(REPO)
    assert len(hub.asked) == before
