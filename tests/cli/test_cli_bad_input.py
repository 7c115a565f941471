"""Every bad input, through the command line: one clear line, exit code 2, nothing lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Ended
from tokenlens.probing.profile import Profile
from tokenlens.schedule import Schedule

Command = Callable[..., Ended]


def manifest(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    """A manifest of one red picture (40 x 30) per row unless the row names another."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, row in enumerate(rows):
        if isinstance(row, dict):
            full = {
                "id": f"s{index}",
                "image": f"p{index}.png",
                "question": "what colour is the circle ?",
                "answer": "red",
                "boxes": [[5, 5, 20, 20]],
                **row,
            }
            path = folder / full["image"]
            if not path.exists():
                Image.new("RGB", (40, 30), "red").save(path)
            lines.append(json.dumps(full))
        else:
            lines.append(row)
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(ended: Ended, *words: str) -> str:
    """One line, exit code 2, and the words that help."""
    assert ended.code == 2, ended.err
    for word in words:
        assert word in ended.line
    return ended.line


def test_unknown_model_offers_the_nearest_names(command: Command) -> None:
    refused(command("profile", "--model", "qwen2-vll"), "qwen2-vl")


def test_alias_without_network(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(
        command("profile", "--model", "qwen2-vl"),
        "Qwen/Qwen2-VL",
        "tiny-qwen2-vl",
        "local directory",
    )


def test_directory_that_is_no_model(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(command("profile", "--model", tmp_path / "empty"), "config.json")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.unlink(), ["no such"]),
        (lambda p: p.write_bytes(b""), ["empty"]),
        (lambda p: p.write_bytes(b"not a picture at all"), ["not a picture"]),
    ],
    ids=["missing", "zero-size", "no-picture"],
)
def test_unusable_picture(
    command: Command, tmp_path: Path, make: Callable[[Path], None], words: list[str]
) -> None:
    path = manifest(tmp_path, [{}, {}])
    make(tmp_path / "p1.png")
    refused(command("profile", "--data", path), "data.jsonl:2", "p1.png")


def test_truncated_picture_loses_nothing_and_the_run_continues(
    command: Command, tmp_path: Path
) -> None:
    path = manifest(tmp_path, [{}, {}, {}])
    noisy = Image.effect_noise((64, 64), 90).convert("RGB")
    noisy.save(tmp_path / "p2.png")
    whole = (tmp_path / "p2.png").read_bytes()
    (tmp_path / "p2.png").write_bytes(
        whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    )
    arguments = ("profile", "--data", path, "--batch-size", 1, "--out", "profile")
    refused(command(*arguments), "p2.png")
    shard = tmp_path / "profile" / "shard-00000.parquet"
    assert shard.exists()
    (tmp_path / "p2.png").write_bytes(whole)
    ended = command(*arguments)
    assert ended.code == 0, ended.err
    assert len(Profile(tmp_path / "profile")) == 3


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "1"])
def test_other_colour_modes_just_work(command: Command, tmp_path: Path, mode: str) -> None:
    name = "p0.tif" if mode == "CMYK" else "p0.png"
    Image.new("RGB", (40, 30), "red").convert(mode).save(tmp_path / name)
    path = manifest(tmp_path, [{"image": name}])
    assert command("profile", "--data", path).code == 0


def test_rotated_picture_just_works(command: Command, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), "red").save(tmp_path / "p0.jpg", exif=exif)
    path = manifest(tmp_path, [{"image": "p0.jpg", "boxes": [[5, 30, 25, 39]]}])
    assert command("profile", "--data", path, "--out", "profile").code == 0
    (row,) = Profile(tmp_path / "profile").rows()
    assert row.size == (30, 40)


@pytest.mark.parametrize(
    "box",
    [[5, 5, 50, 20], [-1, 5, 20, 20], [20, 5, 5, 20], [5, 5, 5, 20]],
    ids=["outside", "negative", "inverted", "empty"],
)
def test_bad_box(command: Command, tmp_path: Path, box: list[int]) -> None:
    path = manifest(tmp_path, [{}, {"boxes": [box]}])
    refused(command("profile", "--data", path), "data.jsonl:2", "boxes")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ["empty"]),
        ([{}, "{not json"], ["data.jsonl:2"]),
        ([{}, "[1, 2]"], ["data.jsonl:2"]),
        ([{}, {"id": "s0"}], ["data.jsonl:2", "s0"]),
        ([{}, {"colour": "red"}], ["data.jsonl:2", "colour"]),
        ([{}, {"question": 3}], ["data.jsonl:2", "question"]),
        ([{}, {"task": "all"}], ["data.jsonl:2", "task", "'all'"]),
    ],
    ids=["empty", "bad-json", "no-object", "duplicate-id", "unknown-key", "wrong-type", "task-all"],
)
def test_bad_manifest(command: Command, tmp_path: Path, rows: list[Any], words: list[str]) -> None:
    refused(command("profile", "--data", manifest(tmp_path, rows)), *words)


def test_manifest_that_is_not_utf8(command: Command, tmp_path: Path) -> None:
    path = manifest(tmp_path, [{}])
    path.write_bytes(path.read_bytes() + '{"id": "é"}'.encode("latin-1"))
    refused(command("profile", "--data", path), "UTF-8", "data.jsonl:2")


def test_missing_data(command: Command) -> None:
    refused(command("profile", "--data", "nowhere.jsonl"), "nowhere.jsonl")


SCHEDULE: dict[str, Any] = {
    "schema": 1,
    "method": "drop",
    "model": {
        "id": "tiny-qwen2-vl",
        "revision": None,
        "architecture": "Qwen2VLForConditionalGeneration",
        "layers": 24,
    },
    "stages": [
        {"score_layer": 3, "when": "after", "keep": 0.5, "disposal": "drop"},
        {"score_layer": 9, "when": "before", "keep": 24, "disposal": "drop"},
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The schedule with one value changed."""
    copy = json.loads(json.dumps(SCHEDULE))
    *parents, last = path.split(".")
    place = copy
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
    return copy


def test_the_schedule_the_others_spoil_is_good(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps(SCHEDULE))
    ended = command("run", "--limit", 4, "--batch-size", 2)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("schedule", "word"),
    [
        (changed("model.id", "another"), "another"),
        (changed("model.layers", 23), "layers"),
        (changed("model.architecture", "LlavaForConditionalGeneration"), "architecture"),
        (changed("stages.1.score_layer", 25), "25"),
        (changed("stages.1.score_layer", 2), "stages"),
        (changed("stages.0.keep", 1.5), "keep"),
        (changed("stages.0.kep", 0.5), "kep"),
        (changed("stages.0.keep", True), "keep"),
        (changed("stages.0.disposal", "burn"), "disposal"),
    ],
    ids=[
        "other-model",
        "other-layers",
        "other-architecture",
        "layer-out-of-range",
        "layers-out-of-order",
        "keep-above-one",
        "unknown-key",
        "wrong-type",
        "unknown-disposal",
    ],
)
def test_bad_schedule(
    command: Command, tmp_path: Path, schedule: dict[str, Any], word: str
) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(schedule))
    arguments = ["run", "--schedule", "bad.json", "--limit", 2, "--model", "tiny-qwen2-vl"]
    refused(command(*arguments), word)
    assert not (tmp_path / "tokenlens-out").exists()


def test_schedule_that_is_no_json(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    refused(command("run", "--schedule", "bad.json"), "bad.json")
    refused(command("run", "--schedule", "nowhere.json"), "nowhere.json")


def test_select_layers_refusals(command: Command, tmp_path: Path) -> None:
    refused(command("select-layers"), "tokenlens profile")
    refused(command("select-layers", tmp_path), "tokenlens profile")
    data = manifest(tmp_path, [{}, {}])
    assert command("profile", "--data", data).code == 0
    refused(command("select-layers", "--budget", "1%"), "out of reach")
    refused(command("select-layers", "--budget", "a lot"), "a lot")
    refused(command("select-layers", "--criterion", "regoin"), "region")
    assert not (tmp_path / "out.json").exists()


def test_report_without_anything(command: Command, tmp_path: Path) -> None:
    refused(command("report"), "tokenlens")
    refused(command("report", tmp_path), str(tmp_path))


def test_schedule_file_written_is_read_again(tmp_path: Path) -> None:
    schedule = Schedule.model_validate(SCHEDULE)
    schedule.save(tmp_path / "again.json")
    assert Schedule.load(tmp_path / "again.json") == schedule


def test_names_with_brackets_are_printed_as_they_are(command: Command, tmp_path: Path) -> None:
    ended = command("profile", "--limit", 2, "--out", "a [bold]b[/x]")
    assert ended.code == 0, ended.err
    assert "a [bold]b[/x]" in ended.out
    (tmp_path / "out.json").write_text(json.dumps(changed("method", "[/b] mine")))
    ended = command("run", "--limit", 2)
    assert ended.code == 0, ended.err
    assert "[/b] mine" in ended.out


def test_absurd_values_are_one_line(command: Command, tmp_path: Path) -> None:
    data = manifest(tmp_path, [{}, {}])
    assert command("profile", "--data", data, "--out", "profile").code == 0
    refused(command("select-layers", "profile", "--budget", "9" * 400), "budget")
    (tmp_path / "out.json").write_text(json.dumps(changed("method", "x" * 400)))
    refused(command("run", "--limit", 2), "name too long")
