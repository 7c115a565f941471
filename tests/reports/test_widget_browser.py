"""The notebook's explorer in a real browser, with a model as anywidget gives it one."""

import json

import pytest

from tests.reports.test_explorer import maps_of
from tests.reports.test_show_browser import percent
from tests.reports.test_widget import shown_by
from tests.support import synthetic
from tests.support.browser import IN_A_BROWSER
from tokenlens.probing.profile import Profile

pytestmark = IN_A_BROWSER
_PAGE = """<!doctype html><title>notebook</title><div id="one"></div><div id="two"></div>
<script>
class Model {
  constructor(values) { Object.assign(this, { values, heard: [], saved: 0 }); }
  get(name) { return this.values[name]; }
  set(values) {
    const changed = Object.keys(values).filter((name) => values[name] !== this.values[name]);
    Object.assign(this.values, values);
    const events = changed.map((name) => `change:${name}`);
    this.heard.filter(([name]) => events.includes(name)).forEach(([, act]) => act());
  }
  on(names, act) { names.split(" ").forEach((name) => this.heard.push([name, act])); }
  off(names, act) { this.heard = this.heard.filter(([, other]) => other !== act); }
  save_changes() { this.saved += 1; }
}
const values = VALUES;
const model = new Model(values);
const ready = (async () => {
  const source = new Blob([values._esm], { type: "text/javascript" });
  const { default: widget } = await import(URL.createObjectURL(source));
  const places = ["one", "two"].map((id) => document.getElementById(id));
  window.ends = places.map((el) => widget.render({ model, el }));
})();
</script>"""


@pytest.fixture(scope="module")
def widget(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widget")
    samples = [synthetic.sample(index, folder / "pictures") for index in range(4)]
    return Profile(synthetic.write_profile(folder / "profile", samples, heads=True)).explore()


@pytest.fixture
def opened(browser, widget, tmp_path):
    names = ("_esm", "_html", "_style", "sample", "layer", "token")
    values = json.dumps({name: getattr(widget, name) for name in names}).replace("<", "\\u003c")
    page = tmp_path / "notebook.html"
    page.write_text(_PAGE.replace("VALUES", values), encoding="utf-8")
    browser.open(page, 1000, dark=False)
    browser.evaluate("ready")
    return browser


def text(browser, view, name):
    return browser.evaluate(f"{_inside(view, name)}.textContent")


def _inside(view, name):
    return f"document.querySelector('#{view} > div').shadowRoot.getElementById('ex-{name}')"


def test_two_views_show_and_follow_one_model(opened, widget):
    maps = maps_of(shown_by(widget)["samples"][0])
    assert opened.evaluate("model.get('layer')") == 1
    slide = f"(() => {{ const one = {_inside('one', 'layer')}; one.value = 4;"
    opened.evaluate(slide + "one.dispatchEvent(new Event('input', {bubbles: true})); })()")
    assert opened.evaluate("[model.get('layer'), model.saved > 0]") == [4, True]
    for view in ("one", "two"):
        assert text(opened, view, "layer-number") == "4"
        most = maps[3, 0].argmax()
        expected = f"most important: token {most + 1}: {percent(maps[3, 0].max())}"
        assert text(opened, view, "value") == expected
    opened.evaluate("model.set({ layer: 6, token: 7, sample: 2 })")
    other = maps_of(shown_by(widget)["samples"][2])
    for view in ("one", "two"):
        assert text(opened, view, "layer-number") == "6"
        assert text(opened, view, "value") == f"token 8: {percent(other[5, 0, 7])}"
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("blob:")] == []


def test_keys_act_only_inside_and_a_closed_view_is_gone(opened):
    key = "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true, composed: true})"
    opened.evaluate(f"document.body.dispatchEvent({key})")
    assert text(opened, "one", "layer-number") == "1"
    opened.evaluate(f"{_inside('one', 'tab-map')}.dispatchEvent({key})")
    assert text(opened, "one", "layer-number") == "2"
    assert text(opened, "two", "layer-number") == "2"
    opened.evaluate("ends[1]()")
    opened.evaluate("model.set({ layer: 5 })")
    assert text(opened, "one", "layer-number") == "5"
    assert text(opened, "two", "layer-number") == "2"


def test_what_a_click_pins_python_can_read(opened):
    frame = _inside("one", "frame")
    opened.evaluate(
        f"(() => {{ const box = {frame}.getBoundingClientRect();"
        f"{frame}.dispatchEvent(new MouseEvent('click', {{bubbles: true,"
        "clientX: box.left + 2.5 * box.width / 6, clientY: box.top + 1.5 * box.height / 6 })); })()"
    )
    assert opened.evaluate("model.get('token')") == 8
