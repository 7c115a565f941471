"""Every error message of the command line: one line, short, without control characters, exit 2."""

import ast
import json
import re

import pytest

from tests.support.repository import ROOT
from tokenlens.wording.printable import MESSAGE_LIMIT, is_control

ESCAPE = "x\x1b[2J\x07\x9b\u202e\u2028y"
"""A name that would clear the terminal, ring, turn the text and begin a line."""
HUGE = "9" * 5000
COMMANDS = (
    "profile",
    "select-layers",
    "cost",
    "run",
    "report",
    "knock-out",
    "demo",
    "tune",
    "bench",
)
OPTIONS = {
    "--min-retained": ("tune",),
    "--min-agreement": ("tune",),
    "--objective": ("tune",),
    "--model": ("profile", "cost", "run", "select-layers", "knock-out", "demo", "tune", "bench"),
    "--data": ("profile", "run", "select-layers", "knock-out", "tune"),
    "--out": ("profile", "run", "select-layers", "report", "knock-out", "demo", "tune", "bench"),
    "--schedule": ("run", "cost", "report"),
    "--budget": ("run", "cost", "select-layers", "tune", "bench"),
    "--task": ("run", "knock-out", "tune"),
    "--compare": ("run",),
    "--profile": ("run", "tune"),
    "--method": ("cost",),
    "--picture": ("cost",),
    "--criterion": ("select-layers",),
    "--rows": ("select-layers",),
    "--revision": ("profile", "run", "tune"),
    "--device": ("profile", "run", "tune", "bench"),
    "--dtype": ("profile", "cost", "tune", "bench"),
    "--device-map": ("profile", "run", "tune"),
}
COUNTS = {
    "--rounds": ("bench",),
    "--layers": ("bench",),
    "--decode-tokens": ("bench",),
    "--limit": ("profile", "run", "select-layers", "knock-out", "demo", "tune"),
    "--batch-size": ("profile", "run", "select-layers", "knock-out", "tune"),
    "--max-new-tokens": ("run", "tune"),
    "--stages": ("select-layers",),
    "--visual-tokens": ("cost",),
    "--text-tokens": ("cost",),
    "--pictures": ("report",),
    "--every": ("knock-out",),
    "--trials": ("tune",),
    "--held-out": ("tune",),
}
EMPTY = [
    ([command, option, value], option)
    for option, commands in {**OPTIONS, **COUNTS}.items()
    for command in commands
    for value in ("", " \t")
]
NUMBERS = [
    ([command, option, value], option)
    for option, commands in COUNTS.items()
    for command in commands
    for value in ("-1", "1.5", "nan", "many", "10**9", HUGE, ESCAPE)
]
NUMBERS += [
    ([command, option, "9" * 20], option)
    for option, commands in COUNTS.items()
    for command in commands
    if option != "--stages"
]
BUDGETS = [
    ([*command, "--budget", value], "budget")
    for command in (
        ["select-layers"],
        ["run", "--compare", "fastv"],
        ["cost", "--method", "drop"],
        ["tune"],
    )
    for value in (
        "nan",
        "inf",
        "-3",
        "0",
        "400%",
        "1e400",
        "\u0663\u0663%",
        "9" * 400,
        "9" * 400 + " tokens",
        "9" * 400 + "%",
        "9" * 400 + " MACs",
        HUGE,
        ESCAPE,
        ",",
    )
]
OTHERS = [
    ([], "Usage"),
    ([ESCAPE], "No such command"),
    (["run", f"--{ESCAPE}"], "No such option"),
    (["run", "one", ESCAPE], "unexpected extra"),
    (["report", ""], "an argument"),
    (["run", "--budget", "33%"], "--compare"),
    (["run", "--compare", "fastv", "--schedule", "out.json"], "--compare"),
    (["run", "--compare", ESCAPE], "method"),
    (["run", "--compare", "x" * 200], "method"),
    (["run", "--compare", "x" * 3000], "run the same command again"),
    (["run", "--compare", "fastv,,drop"], "method"),
    (["run", "--schedule", ESCAPE], "select-layers"),
    (["run", "--schedule", "."], "select-layers"),
    (["run"], "select-layers"),
    (["cost", "--method", ESCAPE], "method"),
    (["cost", "--method", "drop", "--schedule", ESCAPE], "exclude each other"),
    (["cost", "--budget", ESCAPE], "name one"),
    (["cost", "--method", "drop", "--picture", ESCAPE], "1024x768"),
    (["cost", "--method", "drop", "--picture", "\u0663x\u0663"], "1024x768"),
    (["cost", "--method", "drop", "--picture", f"{HUGE}x3"], "20000"),
    (["cost", "--method", "drop", "--model", ESCAPE], "model"),
    (["cost", "--method", "drop", "--dtype", ESCAPE], "dtype"),
    (["profile", "--data", ESCAPE], "data set"),
    (["profile", "--data", "x" * 5000], "tokenlens"),
    (["profile", "--data", f"pope:{ESCAPE}"], "pope"),
    (["profile", "--model", ESCAPE], "model"),
    (["profile", "--device", ESCAPE], "device"),
    (["profile", "--dtype", ESCAPE], "dtype"),
    (["profile", "--device-map", ESCAPE], "device_map"),
    (["run", "--compare", "fastv", "--task", ESCAPE], "task"),
    (["knock-out", "--task", ESCAPE], "task"),
    (["select-layers", ESCAPE], "tokenlens profile"),
    (["select-layers", "--criterion", ESCAPE], "criterion"),
    (["select-layers", "--rows", ESCAPE], "--rows"),
    (["select-layers", "--max-correlation", "nan"], "--max-correlation"),
    (["select-layers", "--max-correlation", "2"], "--max-correlation"),
    (["select-layers", "--merge", "nan"], "--merge"),
    (["select-layers", "--merge", "-1"], "--merge"),
    (["cite", ESCAPE], "select-layers"),
    (["cite", "--out", ESCAPE], ".bib"),
    (["share", ESCAPE, "me/plans"], "select-layers"),
    (["share", "out.json"], "--help"),
    (["run", "--schedule", f"hub:{ESCAPE}"], "USER/NAME"),
    (["cost", "--schedule", "hub:" + "x" * 3000], "USER/NAME"),
    (["run", "--track", ESCAPE], "--track"),
    (["tune", "--budget", "33%", "--track", "x" * 3000], "--track"),
    (["report"], "tokenlens profile"),
    (["report", ESCAPE], "tokenlens profile"),
    (["report", "--schedule", ESCAPE], "tokenlens"),
    (["run", "--compare", "fastv", "--profile", ESCAPE], "profile"),
]


def held(ended, *words):
    """The rules for a message; its exit code is 2."""
    assert ended.code == 2, ended.err
    line = ended.err.removesuffix("\n")
    assert line.startswith("tokenlens: "), line
    assert len(line) <= MESSAGE_LIMIT, len(line)
    assert not [sign for sign in line if is_control(sign)], ascii(line)
    for word in words:
        assert word in line


def _name(road):
    words = " ".join(road[0])
    return ascii(words)[1:60] if len(words) > 60 else ascii(words)[1:-1]


ROADS = [*EMPTY, *NUMBERS, *BUDGETS, *OTHERS[1:]]


@pytest.mark.parametrize("road", ROADS, ids=_name)
def test_every_error_is_one_short_line_that_says_what_to_do(command, road):
    arguments, word = road
    held(command(*arguments), word)


def test_without_a_command_the_help_is_shown(command):
    ended = command()
    assert (ended.code, ended.err) == (2, "")
    assert "Usage" in ended.out


SCHEDULE = {
    "schema": 1,
    "method": "drop",
    "model": {"id": "tiny-qwen2-vl", "architecture": "Qwen2VLForConditionalGeneration"},
    "stages": [{"score_layer": 3, "when": "after", "keep": 0.5, "disposal": "drop"}],
}
SPOILT = {
    "model.layers": [ESCAPE, 10**4000, -1, 0, None, 2.5],
    "model.id": [ESCAPE, "", 3],
    "model.architecture": [ESCAPE, 3],
    "stages.0.keep": [ESCAPE, 10**4000, 0, -0.5, 1.5, True, "", []],
    "stages.0.score_layer": [ESCAPE, 10**4000, -1],
    "stages.0.disposal": [ESCAPE, "", "d" * 3000],
    "stages.0.when": [ESCAPE],
    "stages.0.merge": [ESCAPE, 10**4000, -1],
    "stages.0.stride": [10**4000, 1],
    f"stages.0.{ESCAPE}": [1],
    "scorer": [ESCAPE, {"query": ESCAPE}, {"heads": 10**4000}, {"layer": 10**4000}],
    "budget": [{"average": 10**4000}, {"average": 0.3, "n_visual": 10**4000}, ESCAPE],
    "method": ["", 7],
    "picture": [ESCAPE, 10**4000, 2.0],
    "schema": [2, ESCAPE, True],
    "why": [{"scores": [ESCAPE]}, {"data": 7}, {ESCAPE: 1}],
    ESCAPE: [1],
    "k" * 3000: [1],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in SPOILT.items() for value in values]
)
def test_a_spoilt_schedule_is_one_line(command, tmp_path, key, value):
    content = json.loads(json.dumps(SCHEDULE))
    content["model"]["layers"] = 24
    *parents, last = key.split(".") if key.isprintable() and len(key) < 60 else [key]
    if key.startswith("stages.0.") and not key.isprintable():
        parents, last = ["stages", "0"], ESCAPE
    place = content
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    (tmp_path / "bad.json").write_text(json.dumps(content))
    held(command("cost", "--schedule", "bad.json"))


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"a": ' + b"1" * 5000 + b"}"])
def test_a_file_that_is_no_schedule_is_one_line(command, tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    held(command("cost", "--schedule", "bad.json"), "bad.json")


REMEDY = re.compile(
    r"expected|;|\bcan be\b|"
    r"\b(?:give|use|choose|make|name|run|see|leave|delete|set|load|add|say|begin)\b"
)
WRAPS = re.compile(r"[\s:;,({})\[\].]*")
ELSEWHERE = ("samples/", "models/", "reports/overlays.py")
"""Where messages mostly end in the cause that a library names, or stand beside a picture."""


def _messages():
    for folder in ("tokenlens", "cli", "analyses"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    name, arguments = ast.unparse(node.exc.func), node.exc.args
                    where = f"{file.relative_to(ROOT)}:{node.lineno}"
                    if arguments and re.fullmatch(r"[A-Z][a-z]+Error", name):
                        yield where, name, arguments[0]


def _text(argument):
    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    return "".join(
        part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "{}"
        for part in parts
    )


def test_messages_in_the_source_keep_the_rules():
    from tokenlens import errors

    ours = {name for name in vars(errors) if name.endswith("Error")}
    checked = 0
    for where, name, argument in _messages():
        if name not in ours or not isinstance(argument, ast.JoinedStr | ast.Constant):
            continue
        checked += 1
        text = _text(argument)
        assert "\n" not in text, where
        assert not text.endswith((".", "!")), where
        assert len(text) < MESSAGE_LIMIT - 60, where
        if not any(room in where for room in ELSEWHERE) and not WRAPS.fullmatch(text):
            assert REMEDY.search(text), f"{where} says not what to do: {text}"
    assert checked > 150
