"""The report in a real browser: its policy lets its script run, filters and keys work, nothing is asked of a net."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tab, browsing
from report_fixture import HOSTILE, MODELS
from report_page import Page
from report_rich import build_rich_run, rich_recipe

from limbeck.stages import report

SHOWN = "document.getElementById('prompt').textContent"
POSITION = "document.getElementById('position').textContent"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = build_rich_run(tmp_path_factory.mktemp("browser") / "run")
    report.run(rich_recipe(), {"run": root}, root / "report")
    return root / "report" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, page: Path) -> Tab:
    browser.look()
    browser.open(page)
    return browser


def count(tab: Tab, selector: str) -> int:
    return int(tab.js(f"document.querySelectorAll({selector!r}).length"))


def test_the_first_prompt_has_a_card_for_every_model_and_no_reply_became_an_element(tab: Tab) -> None:
    assert "A shop sells 17 pears a day." in tab.js(SHOWN)
    assert HOSTILE[0] in tab.js(SHOWN)
    assert count(tab, "#prompt .reply") == len(MODELS)
    assert count(tab, "#prompt img, #prompt script, #prompt a") == 0
    assert tab.js(POSITION) == "Prompt 1 of 72"


def test_hostile_replies_can_be_walked_through_and_stay_text(tab: Tab) -> None:
    for place in range(len(HOSTILE)):
        assert tab.js(POSITION) == f"Prompt {place + 1} of 72"
        tab.js("document.getElementById('next').click()")
    assert tab.js("document.body.isConnected && typeof owned") == "undefined"
    assert count(tab, "img") == 0
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")


def test_filters_by_topic_arm_outcome_and_words_narrow_the_prompts_to_those_that_fit(tab: Tab) -> None:
    tab.choose("topic", "letter_counting")
    assert tab.js(POSITION) == "Prompt 1 of 15 (of 72 in all)"
    tab.choose("topic", "")
    tab.choose("arm", str(MODELS.index("random")))
    won = tab.js("[...document.getElementById('outcome').options].find((each) => each.text.startsWith('won'))?.text")
    tab.choose("outcome", won)
    number = won.removeprefix("won (").removesuffix(")")
    assert tab.js(POSITION).startswith(f"Prompt 1 of {number} (of 72")
    assert tab.js("document.querySelectorAll('#prompt .reply')[2].querySelector('.chip').textContent") == "won"
    tab.choose("judge", "local")
    assert not tab.js(POSITION).startswith(f"Prompt 1 of {number} (of 72")
    tab.choose("search", "nothing says this")
    tab.js("new Promise((done) => setTimeout(done, 200))")
    assert tab.js(POSITION) == "No prompt matches (of 72 in all)"
    tab.choose("outcome", tab.js("document.getElementById('outcome').options[0].text"))
    tab.choose("search", "deep BELOW")
    tab.js("new Promise((done) => setTimeout(done, 200))")
    assert tab.js(POSITION) == "Prompt 1 of 1 (of 72 in all)"


def test_worst_and_best_differences_come_first_when_asked_for(tab: Tab, page: Path) -> None:
    index = Page(page.read_text(encoding="utf-8")).index
    sft, arm = MODELS.index("sft"), MODELS.index("on_policy")
    scores = index["scores"]["local"]
    by = [after - before for before, after in zip(scores[sft], scores[arm], strict=True)]
    tab.choose("judge", "local")
    tab.choose("arm", str(arm))
    for order, wanted, said in (("worst", min(by), "lost"), ("best", max(by), "won")):
        tab.choose("order", order)
        shown = tab.js("document.querySelector('#prompt .about').textContent").rpartition(" ")[2]
        assert by[index["ids"].index(shown)] == pytest.approx(wanted)
        assert tab.js(f"document.querySelectorAll('#prompt .reply')[{arm}].querySelector('.chip').textContent") == said


def test_keys_change_the_prompt_and_reach_the_search(tab: Tab) -> None:
    tab.js("document.getElementById('prompt').focus()")
    for key, said in {"ArrowRight": "2", "ArrowLeft": "1", "End": "72", "Home": "1"}.items():
        tab.press(key)
        assert tab.js(POSITION) == f"Prompt {said} of 72"
    tab.press("/")
    assert tab.js("document.activeElement.id") == "search"
    tab.press("r")  # is written there, and moves nothing
    assert tab.js("document.getElementById('search').value") == "r"
    tab.press("Tab")
    assert tab.js("document.activeElement.id") == "topic"


def test_the_first_tab_stop_skips_to_the_results(tab: Tab) -> None:
    tab.press("Tab")
    assert tab.js("document.activeElement.className") == "skip"
    tab.press("Enter")
    assert tab.js("location.hash") == "#results"


def test_further_samples_are_made_when_they_are_opened(tab: Tab) -> None:
    assert "again" not in tab.js(SHOWN)
    tab.js("[...document.querySelectorAll('#prompt summary')].find((it) => it.textContent.includes('sample')).click()")
    tab.js("new Promise((done) => setTimeout(done, 50))")
    assert "again" in tab.js(SHOWN)


def test_dark_and_light_differ_and_text_stands_out_from_the_page_in_both(tab: Tab) -> None:
    seen = []
    for scheme in ("light", "dark"):
        tab.look(scheme=scheme)
        seen.append(tab.js("getComputedStyle(document.body).backgroundColor"))
        for selector in ("body", ".missing, figcaption", ".alarm strong", "a[href='#trust']"):
            assert contrast(tab, selector) >= 4.5, (scheme, selector)
        for kind in ("won", "tied", "lost"):
            assert contrast(tab, f"svg text.on-{kind}", f".bar.{kind}") >= 4.5, (scheme, kind)
    assert seen[0] != seen[1]


def contrast(tab: Tab, text: str, ground: str = "body") -> float:
    """The contrast ratio of WCAG 2.2 between a text and what it stands on."""
    seen = tab.js(f"""[[{text!r}, 0], [{ground!r}, 1]].map(([selector, ground]) => {{
        const it = document.querySelector(selector), style = getComputedStyle(it);
        const drawn = it instanceof SVGElement;
        return (drawn ? style.fill : ground ? style.backgroundColor : style.color).match(/[0-9.]+/g).slice(0, 3);
    }})""")
    shades = sorted((luminance([float(part) / 255 for part in colour]) for colour in seen), reverse=True)
    return (shades[0] + 0.05) / (shades[1] + 0.05)


def luminance(rgb: list[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_the_window_and_no_label_of_a_drawing_is_cut_off(tab: Tab, width: int) -> None:
    tab.look(width=width)
    assert tab.js("document.documentElement.scrollWidth") <= width
    beyond = tab.js("""[...document.querySelectorAll('svg[role=img] text')].filter((it) => {
        const box = it.getBoundingClientRect(), whole = it.ownerSVGElement.getBoundingClientRect();
        return box.width && (box.left < whole.left - 2 || box.right > whole.right + 2 || box.bottom > whole.bottom + 2);
    }).map((it) => it.textContent)""")
    assert beyond == []


def test_the_browser_complains_of_nothing_and_asks_for_the_file_alone(tab: Tab, page: Path) -> None:
    assert tab.complaints == []
    assert {address.partition("#")[0] for address in tab.requests} == {page.as_uri()}


def test_two_thousand_prompts_of_five_models_can_be_used_within_two_seconds(browser: Tab, tmp_path: Path) -> None:
    root = build_rich_run(tmp_path / "run", num_prompts=2000, reply_length=6)
    report.run(rich_recipe(), {"run": root}, root / "report")
    seconds = min(browser.open(root / "report" / "report.html") for _ in range(3))  # the machine is shared
    assert "Prompt 1 of 2,400" in browser.js(POSITION)
    assert seconds < 2
    began = browser.js("performance.now()")
    browser.choose("search", "19 pears")
    browser.js("new Promise((done) => setTimeout(done, 200))")
    assert browser.js("performance.now()") - began < 2200
    assert "(of 2,400 in all)" in browser.js(POSITION)
