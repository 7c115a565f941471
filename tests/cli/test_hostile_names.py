"""Names that try to leave HTML, CSV, LaTeX, Markdown and the terminal stay names."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from tests.cli.test_cli_bad_input import manifest
from tests.support import synthetic
from tokenlens.cli.console import Table, console
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.comparing.table_files import comma_separated, latex, markdown
from tokenlens.evaluation.comparing.tables import budget_tables
from tokenlens.progress import progress
from tokenlens.reports.page import build_report
from tokenlens.storage.invocation import current_command, running, shell_line
from tokenlens.wording.printable import elided, is_control, one_line, printable
from tokenlens.wording.table_text import csv_text, markdown_text

ESCAPE = "x\x1b[2J\x07\x9b\u202e\u2028y"
HOSTILE = [
    ESCAPE,
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "<img src=x onerror=alert(1)>",
    "</td></table><script>alert(1)</script>",
    "**bold** `code` [l](javascript:alert(1)) ![p](x)",
    "a|b\\|c",
    r"\input{/etc/passwd} $x_{ & % # ~ ^",
    "a\x00b\x7f\u0085",
    "[red]markup[/red]",
]


def clean(text):
    assert not [sign for sign in text if is_control(sign) and sign != "\n"], ascii(text)


def test_every_control_character_is_escaped_and_text_is_not():
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066, 0xD800):
        sign = chr(code)
        assert json.loads(f'"{printable(sign)}"') == sign
    for text in ("a b", "é", "日本語", "한국어", "العربية", "👩\u200d🔬", "ज़\u200cर", "…"):
        assert printable(text) == text
    assert printable("a\nb", lines=True) == "a\nb"
    for sign in map(chr, range(0x2100)):
        assert (printable(sign) == sign) != is_control(sign), ascii(sign)


def test_a_message_is_one_line_of_at_most_500_characters():
    message = one_line(f"start {ESCAPE * 10_000} end")
    assert len(message) == 500
    assert message.startswith("start")
    assert message.endswith("end")
    clean(message.replace("\n", "?"))
    assert elided("short", 500) == "short"


def test_the_terminal_shows_names_and_nothing_else(capsys):
    table = Table("task", ESCAPE, title=ESCAPE)
    for name in HOSTILE:
        table.add_row(name, "1")
    console.print(table)
    console.print(f"Note: {ESCAPE}\nNote: forged")
    out = capsys.readouterr().out
    clean(out)
    assert "[red]markup[/red]" in out
    assert not [line for line in out.splitlines() if line.startswith("Note: forged")]


def test_progress_shows_no_markup(capsys):
    with progress("[red]a[/red]", 1) as advance:
        advance()
    assert "[red]a[/red]" in capsys.readouterr().err


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    samples = [synthetic.sample(i, folder / "p", tasks=HOSTILE) for i in range(2 * len(HOSTILE))]
    plan = {"budgets": {"33 %": {name: f"arm {i}" for i, name in enumerate(HOSTILE)}}}
    plan["left_out"] = {"33 %": {f"out {name}": name for name in HOSTILE}}
    arms = {f"arm {i}": synthetic.schedule() for i in range(len(HOSTILE))}
    return Comparison.load(synthetic.write_results(folder / "run", samples, arms, plan))


def test_no_cell_of_a_csv_file_is_a_formula_and_names_come_back(comparison):
    text = comma_separated(budget_tables(comparison))
    clean(text)
    rows = list(csv.DictReader(io.StringIO(text)))
    for row in rows:
        for name in ("budget", "method", "column"):
            assert not row[name].lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
        float(row["value"] or 0)
    names = [re.sub(r"^'(?=\s*[=+\-@])", "", row["method"]) for row in rows]
    assert {printable(name) for name in HOSTILE} <= set(names)
    assert csv_text("plain") == "plain"


def test_markdown_and_latex_hold_no_markup_but_their_own(comparison):
    tables = budget_tables(comparison)
    text = markdown(tables)
    clean(text)
    assert not re.search(r"<[a-zA-Z/!]", text)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    columns = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table}
    assert len(columns) == 1
    assert markdown_text("`a` _b_ c_d") == r"\`a\` \_b\_ c_d"
    paper = latex(tables)
    clean(paper)
    assert r"\input" not in paper
    assert "<img" not in paper


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def _texts(value):
    """Every text in a JSON value, as a script reads it."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [text for one in value for text in _texts(one)] if isinstance(value, list) else [value]


def test_a_page_holds_no_control_characters(tmp_path):
    samples = [
        {**synthetic.sample(i, tmp_path), "task": ESCAPE, "question": name, "id": name}
        for i, name in enumerate((ESCAPE, HOSTILE[6], HOSTILE[11]))
    ]
    schedule = synthetic.schedule(method=ESCAPE, why={"data": ESCAPE, "command": ["a", ESCAPE]})
    profile = synthetic.write_profile(tmp_path / "profile", samples)
    results = synthetic.write_results(tmp_path / "r", samples, {"arm": schedule}, prediction=ESCAPE)
    files = build_report(profile, schedule, results, tmp_path / "page", pictures=1)
    html = files.html.read_text(encoding="utf-8")
    clean(html)
    elements = Elements(html).found
    assert [one for tag, one in elements if tag == "script"] == [
        {"type": "application/json", "id": "explorer-data"},
        {},
    ]
    data = re.search(r'id="explorer-data">(.*?)</script>', html, re.S)[1]
    for text in map(str, _texts(json.loads(data))):
        clean(text)
    assert not [name for _, one in elements for name in one if name.startswith("on")]


def test_a_command_line_is_read_back_by_a_shell(tmp_path):
    import subprocess

    words = ["printf", "%s\\n", *HOSTILE, "it's", "back\\slash", "$HOME", "new\nline"]
    words = [word.replace("\x00", "") for word in words]
    clean(shell_line(words))
    printed = subprocess.run(
        ["/bin/bash", "-c", shell_line(words)],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    ).stdout.decode()
    assert printed == "".join(f"{word}\n" for word in words[2:])


def test_bytes_that_are_no_text_can_be_kept():
    with running(["tokenlens", "\udcff"]):
        assert json.dumps(current_command()).encode() == b'["tokenlens", "\\\\udcff"]'
    assert current_command() is None


@pytest.mark.slow
def test_hostile_names_go_through_every_command(command, tmp_path):
    rows = [
        {"id": f"{i} {name}", "question": f"{name} what ?", "task": name, "answer": [name]}
        for i, name in enumerate((ESCAPE, HOSTILE[1], HOSTILE[7], HOSTILE[11]))
    ]
    data = manifest(tmp_path, rows)
    for arguments in (
        ["profile", "--data", data],
        ["select-layers"],
        ["run", "--max-new-tokens", 2],
        ["run", "--max-new-tokens", 2, "--compare", "random,out.json", "--budget", "33%"],
        ["report", "--pictures", 1],
        ["knock-out", "--data", data, "--every", 20],
    ):
        ended = command(*arguments)
        assert ended.code == 0, ended.err
        clean(ended.out)
        clean(ended.err.replace("\r", ""))
    for file in tmp_path.glob("tokenlens-out/**/*"):
        if file.suffix in (".md", ".csv", ".tex", ".html"):
            clean(file.read_text(encoding="utf-8"))
