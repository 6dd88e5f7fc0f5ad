"""Published figures in a real browser: the section fits, its words stand out, and replies in it stay text."""

from collections.abc import Iterator

import pytest
from chromium import Tab, browsing
from report_fixture import MODELS
from report_published import build_published_run, published_recipe

from limbeck.stages import report

BEYOND = """[...document.querySelectorAll('#published svg[role=img] text')].filter((it) => {
    const box = it.getBoundingClientRect(), whole = it.ownerSVGElement.getBoundingClientRect();
    return box.width && (box.left < whole.left - 2 || box.right > whole.right + 2);
}).map((it) => it.textContent)"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    root = build_published_run(tmp_path_factory.mktemp("published") / "run")
    # So many samples that the hostile replies are among them.
    recipe = published_recipe()
    assert recipe.published is not None
    published = recipe.published.model_copy(update={"samples": 60})
    report.run(recipe.model_copy(update={"published": published}), {"run": root}, root / "report")
    with browsing(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(root / "report" / "report.html")
        yield tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_section_fits_the_window_and_nothing_in_its_drawings_is_cut_off(tab: Tab, width: int, scheme: str) -> None:
    tab.look(width=width, scheme=scheme)
    assert tab.js("document.documentElement.scrollWidth") <= width
    assert tab.js(BEYOND) == []


def test_on_a_wide_window_the_whole_table_is_seen_and_replies_stand_side_by_side(tab: Tab) -> None:
    tab.look(width=1200)
    hidden = "(it) => it.scrollWidth - it.clientWidth"
    assert tab.js(f"[...document.querySelectorAll('#published .scroll')].map({hidden})") == [0]
    tops = tab.js("""[...document.querySelector('#published .cards').children]
        .map((it) => Math.round(it.getBoundingClientRect().top))""")
    assert len(tops) == len(MODELS) - 1 and len(set(tops)) == 1


def test_the_published_table_is_the_first_table_of_the_page(tab: Tab) -> None:
    assert tab.js("document.querySelector('table').closest('section').id") == "published"


def test_hostile_replies_among_the_samples_are_text(tab: Tab) -> None:
    assert tab.js("document.querySelectorAll('#published .sample').length") == 60
    assert "onerror=alert(1)" in tab.js("document.getElementById('published').textContent")
    assert tab.js("document.querySelectorAll('#published img, #published script, #published a').length") == 0
    assert tab.complaints == []
