"""Files that earlier versions wrote are still read: those in `tests/stored`, by their schema."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenlens.errors import ScheduleError
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.probing.profile import Profile
from tokenlens.reports.inputs import read_inputs
from tokenlens.schedule import Schedule

STORED = Path(__file__).parents[1] / "stored" / "schema-1"


def written(file: Path) -> dict[str, Any]:
    """What a schedule file says, without the hash that later ones end with."""
    content: dict[str, Any] = json.loads(file.read_text())
    content.pop("sha256", None)
    return content


def test_a_schedule_of_schema_1_is_what_it_was(tmp_path: Path) -> None:
    """No key of it has changed: it is written as it was read, schema and all."""
    schedule = Schedule.load(STORED / "schedule.json")
    assert [stage.score_layer for stage in schedule.stages] == [7, 9]
    schedule.save(tmp_path / "again.json")
    assert written(tmp_path / "again.json") == written(STORED / "schedule.json")


def test_smaller_pictures_of_schema_1_become_schema_2(tmp_path: Path) -> None:
    """`picture` of schema 1 is `image_scale`, which only schema 2 can say."""
    schedule = Schedule.load(STORED / "smaller-pictures.json")
    assert schedule.image_scale == schedule.picture == 0.25
    schedule.save(tmp_path / "again.json")
    content = written(tmp_path / "again.json")
    assert (content["schema"], content["image_scale"]) == (2, 0.25)
    assert "picture" not in content
    assert Schedule.load(tmp_path / "again.json") == schedule
    assert Schedule(**{**content, "schema": 1}) == schedule


def test_the_former_key_is_unknown_in_schema_2() -> None:
    content = json.loads((STORED / "smaller-pictures.json").read_text())
    with pytest.raises(ScheduleError, match=r"picture: unknown key, expected one of .*image_scale"):
        Schedule(**{**content, "schema": 2})
    with pytest.raises(ScheduleError, match="picture: unknown key"):
        Schedule(**content, image_scale=0.5)
    content["image_scale"] = content.pop("picture")
    with pytest.raises(ScheduleError, match="schema: got 3 without"):
        Schedule(**{**content, "schema": 3})
    with pytest.raises(ScheduleError, match=r"schema: [Ii]nput should be 1, 2 or 3|expected 1, 2"):
        Schedule(**{**content, "schema": 4})


def test_a_profile_of_schema_1_is_read() -> None:
    profile = Profile(STORED / "profile")
    rows = list(profile.rows())
    assert [row.importance.shape for row in rows] == [(24, 144), (24, 144)]
    assert all(0.9 < float(row.importance.sum(axis=1).max()) <= 1 for row in rows)
    assert all(np.all(np.diff(row.positions) > 0) for row in rows)


def test_results_of_schema_1_are_read() -> None:
    """The arms, the schedule of one of which says `picture`, their rows and their table."""
    comparison = Comparison.load(STORED / "results")
    assert list(comparison.arms) == ["unpruned", "downsample"]
    together = read_inputs(STORED / "profile", None, STORED / "results")
    assert together.schedule is not None
    assert together.schedule.image_scale == 0.25
    table = comparison.table()
    stored = json.loads((STORED / "results" / "summary.json").read_text())["table"]
    assert len(table) == len(stored)
    assert table["score"].tolist() == [row["score"] for row in stored]
