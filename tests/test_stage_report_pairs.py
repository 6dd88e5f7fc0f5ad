"""The report's section on pairs: the audit's figures and alarms, and what is said where there is no audit."""

from pathlib import Path

import pytest
from report_fixture import build_run, recipe

from limbeck.errors import InputError
from limbeck.stages import report


def made(run_folder: Path, *, arms: bool = True) -> str:
    with_recipe = recipe() if arms else recipe().model_copy(update={"arms": {}})
    report.run(with_recipe, {"run": run_folder}, run_folder / "report")
    return (run_folder / "report" / "report.html").read_text(encoding="utf-8")


def section(html: str) -> str:
    return html.partition('<section id="pairs">')[2].partition("</section>")[0]


def test_alarms_and_figures_of_the_audit_are_on_the_page(tmp_path: Path) -> None:
    page = made(build_run(tmp_path / "run"))
    assert "words alone tell &lt;chosen&gt; from rejected. <small>Write both alike." in page
    assert "<code>audit.max_words_auc</code>" in page
    shown = section(page)
    for figure in ("0.93", "[0.90, 0.96]", "5,210", "400 sampled", "41.2 / 38.9", "40.0%", "random: 90.0%", "0.610"):
        assert figure in shown
    assert "arm random" in shown
    assert "not measured: shortcut test: too few" in shown


def test_a_telling_word_cannot_act_on_the_page(tmp_path: Path) -> None:
    shown = section(made(build_run(tmp_path / "run")))
    assert "‘&lt;/script&gt;’ line break ‘therefore’" in shown
    assert "</script>" not in shown


def test_a_missing_audit_is_named_where_there_are_arms_and_only_there(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    (root / "audit" / "audit.json").unlink()
    assert "Not in the run folder: <code>audit/audit.json</code>" in section(made(root))
    assert "The recipe has no arms: there are no pairs." in section(made(root, arms=False))


def test_a_damaged_audit_is_an_error_that_names_file_and_field(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    (root / "audit" / "audit.json").write_text('{"audits": 3, "alarms": []}')
    with pytest.raises(InputError, match=r"audit\.json is damaged: audits: input should be"):
        made(root)
