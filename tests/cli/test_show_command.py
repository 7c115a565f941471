"""`tokenlens show`, as users type it."""

import re
import webbrowser

import pytest
from PIL import Image

import tokenlens as tl

QUESTION = "where is the cyan triangle ?"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    tl.load_samples("scenes")[0].open_image().save(path)
    return path


def test_a_photograph_becomes_a_page_and_a_map_in_the_terminal(command, photo):
    ended = command("show", photo, QUESTION)
    assert ended.code == 0, ended.err
    assert "photo.png: (83,417),(250,583)" in ended.out
    assert len(re.findall(r"^[ ░▒▓█]{44}$", ended.out, re.M)) == 21
    page = photo.parent / "tokenlens-out/tiny-qwen2-vl/show/photo.html"
    assert f"Page: {page.relative_to(photo.parent)}" in ended.out
    text = page.read_text(encoding="utf-8")
    assert "417),(" in text
    assert "What each stage keeps" not in text


def test_a_folder_with_a_schedule_and_hostile_names(command, photo, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    folder = photo.parent / "photos"
    folder.mkdir()
    Image.open(photo).save(folder / "a<img src=x onerror=alert(1)>\x1b[2J.png")
    Image.new("RGB", (300, 200), "white").save(folder / "b.jpg")
    (folder / "notes.txt").write_text("no picture")
    vlm = tl.load("tiny-qwen2-vl", device="cpu")
    tl.Schedule.preset("swiftvlm", vlm, budget="33%", layers=[6, 9, 15]).save(
        photo.parent / "out.json"
    )
    page = photo.parent / "pages" / "two.html"
    ended = command("show", folder, QUESTION, "--schedule", "out.json", "--out", page, "--open")
    assert ended.code == 0, ended.err
    assert "\x1b[2J" not in ended.out
    assert ended.out.count("  pruned: ") == 2
    text = page.read_text(encoding="utf-8")
    assert text.count('<article class="case"') == 2
    assert text.count("before layer 9") >= 2
    assert "<img src=x" not in text
    assert opened == [page.as_uri()]
    again = command("show", photo.parent / "photos" / "*.jpg", QUESTION, "--out", page)
    assert again.code == 0, "a page of ours may be replaced"


def test_what_is_no_page_of_ours_stays(command, photo):
    mine = photo.parent / "mine.html"
    mine.write_text("<p>mine</p>")
    ended = command("show", photo, QUESTION, "--out", mine)
    assert ended.code == 2
    assert "is no page of tokenlens" in ended.line
    assert mine.read_text() == "<p>mine</p>"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photo.png"], "a photograph and a question"),
        (["photo.png", "photo.png"], "where the question is expected"),
        (["*.gif", "what?"], "no pictures there"),
        (["photo.png", "what?", "--out", "page.txt"], "ends in .html"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(command, photo, words, said):
    ended = command("show", *words)
    assert ended.code == 2
    assert said in ended.line


def test_a_bundled_photograph_is_shown_by_its_name(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = command("show", "photos/owl", "where is the owl?")
    assert ended.code == 0, ended.err
    assert "owl.jpg: " in ended.out
    assert (tmp_path / "tokenlens-out/tiny-qwen2-vl/show/owl.html").exists()
