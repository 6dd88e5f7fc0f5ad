"""The report in a real browser: the page's own policy lets its script run, and a prompt with its replies appears."""

import asyncio
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from report_fixture import MODELS, build_run, recipe

from limbeck.stages import report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=3000",
    "--dump-dom",
)


class Loaded(NamedTuple):
    """The document after its script ran, and what the browser logged."""

    dom: str
    log: str


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    root = build_run(tmp_path_factory.mktemp("browser") / "run")
    report.run(recipe(), {"run": root}, root / "report")
    return asyncio.run(_load(CHROMIUM, root / "report" / "report.html", tmp_path_factory.mktemp("profile")))


async def _load(chromium: str, page: Path, profile: Path) -> Loaded:
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    dom, log = await asyncio.wait_for(process.communicate(), timeout=60)
    assert process.returncode == 0
    return Loaded(dom.decode(), log.decode(errors="replace"))


def test_first_prompt_is_shown_with_a_card_for_every_model(loaded: Loaded) -> None:
    shown = loaded.dom.partition('<article id="prompt"')[2].partition("</article>")[0]
    assert "A shop sells 17 pears a day." in shown
    assert shown.count('<section class="reply') == len(MODELS)
    assert "&lt;script&gt;alert('owned')&lt;/script&gt;" in shown
    assert "Prompt 1 of 72" in loaded.dom


def test_filters_offer_what_every_arm_fixed_and_broke(loaded: Loaded) -> None:
    for model in ("base", "random", "random+zero_shot", "on_policy"):
        assert f"<option>fixed by {model} (" in loaded.dom.replace(' class=""', "")
    assert "reward" not in loaded.dom.partition('<select id="outcome">')[2].partition("</select>")[0]


def test_browser_reports_no_error(loaded: Loaded) -> None:
    assert [line for line in loaded.log.splitlines() if "CONSOLE" in line] == []
