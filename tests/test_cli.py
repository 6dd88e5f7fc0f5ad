"""The commands around a run: init, demo's recipe, report, chat, help."""

import importlib.metadata
import re
from functools import partial
from pathlib import Path

import pytest
from report_fixture import build_run
from street import limbeck, settings, student, write_tiny_recipe

from limbeck.cli import app
from limbeck.errors import RunFolderError
from limbeck.manifest import carry_out
from limbeck.recipe.file import load_recipe
from limbeck.run_folder import recipe_of
from limbeck.stages import report
from limbeck.store import write_text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after DPO: enough to talk to, nothing judged yet."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = write_tiny_recipe(folder / "recipe.toml", student(folder / "base"))
    limbeck("run", recipe, "--out", folder / "run", "--until", "dpo").done()
    return folder / "run"


def test_help_lists_every_command_with_a_sentence() -> None:
    shown = limbeck("--help").done().out
    names = [str(command.name or getattr(command.callback, "__name__", "")) for command in app.registered_commands]
    assert len(names) == 20
    assert [name for name in names if f" {name} " not in shown] == []


def test_help_reads_like_a_table_of_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = limbeck("--help").done().out.splitlines()
    panels = [line.strip("╭╮─ ") for line in shown if line.startswith("╭")]
    pairs = "Pairs that are there already"
    assert panels == ["Options", "A whole run", "One stage alone, on your own files", pairs, "Judges and verdicts"]
    assert [line for line in shown if line.startswith("│   ")] == []  # no sentence goes on in a second line


def test_commands_that_pages_and_alarms_name_do_exist() -> None:
    commands = [str(c.name or getattr(c.callback, "__name__", "")) for c in app.registered_commands]
    known = {*commands, *(group.name for group in app.registered_groups)}
    root = Path(__file__).parent.parent
    pages = [
        *root.glob("*.md"),
        *root.glob("docs/**/*.md"),
        *root.glob("recipes/*.toml"),
        *root.glob("limbeck/**/*.py"),
    ]
    named = {
        (page.relative_to(root).as_posix(), name)
        for page in pages
        for name in re.findall(r"(?:[`(]|with )limbeck ([a-z]+)", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    assert {(page, name) for page, name in named if name not in known} == set()


def test_version_says_name_and_number_and_nothing_else() -> None:
    assert limbeck("--version").done().out.strip() == f"limbeck {importlib.metadata.version('limbeck')}"


def test_without_a_command_the_help_is_shown() -> None:
    shown = limbeck()
    assert "Usage" in shown.out + shown.err


@pytest.mark.parametrize("words", [["nonsense"], ["run"], ["run", "r.toml", "--nonsense"], ["sft", "--seed", "x"]])
def test_a_wrong_command_line_is_refused_before_anything_happens(words: list[str]) -> None:
    refused = limbeck(*words)
    assert refused.code == 2
    assert "Traceback" not in refused.err


def test_init_writes_a_recipe_that_loads_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "recipe.toml"
    assert limbeck("init", path).done().out == f"{path} is written. Edit it, then: limbeck run {path}\n"
    assert load_recipe(path).name == "mine"
    path.write_text("name = 'precious'\n")
    assert limbeck("init", path).complaint == f"{path} exists already; give another name or remove it"
    assert path.read_text() == "name = 'precious'\n"


def test_chat_shows_both_replies_to_every_line_side_by_side(run: Path) -> None:
    shown = limbeck("chat", run, "--model", "mixed", "--before", "sft", stdin="Hello there!\nAnd again?\n\n").done()
    assert "sft on the left, mixed on the right" in shown.err
    titles = [line for line in shown.out.splitlines() if " sft " in line and " mixed " in line]
    assert len(titles) == 2


def test_chat_ends_with_the_input_and_answers_the_first_arm_against_the_base_by_default(run: Path) -> None:
    shown = limbeck("chat", run, stdin="Hi").done()
    assert "base on the left, random on the right" in shown.err
    assert limbeck("chat", run, stdin="").done().out == "> "


def test_chat_repeats_itself_word_by_word(run: Path) -> None:
    talks = {limbeck("chat", run, "--temperature", "1", stdin="Hi\nWhy?\n").done().out for _ in range(2)}
    assert len(talks) == 1


def test_chat_refuses_models_that_are_not_there(run: Path, tmp_path: Path) -> None:
    unknown = limbeck("chat", run, "--model", "nobody").complaint
    assert unknown == "no model 'nobody' in this run; it has base, sft, random, mixed"
    assert limbeck("chat", run, "--before", "nobody").complaint == unknown
    text = (run / "recipe.toml").read_text()
    (tmp_path / "recipe.toml").write_text(text)
    assert "the model 'random' is not trained yet" in limbeck("chat", tmp_path).complaint


def test_a_page_is_not_written_where_a_folder_is(run: Path, tmp_path: Path) -> None:
    refused = limbeck("report", run, run, "--compare", "--out", tmp_path)
    assert refused.complaint.startswith(f"--out {tmp_path} is a folder; name the file to write")
    assert list(tmp_path.iterdir()) == []


def test_a_report_needs_a_verdict_and_can_then_be_written_anew(run: Path, tmp_path: Path) -> None:
    assert "a report needs a verdict" in limbeck("report", run).complaint
    limbeck("run", run / "recipe.toml", "--out", run).done()
    page = run / "report" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert limbeck("report", run).done().out == f"{page}\n"
    assert page.read_bytes() == before
    assert limbeck("run", run / "recipe.toml", "--out", run).done().ran == []


def made_by_the_run(run: Path) -> list[str]:
    """What the run's own unit leaves of the report's folder: names, without hidden ones."""
    work = partial(report.run, recipe_of(run), {"run": run})
    carry_out(unit="report", folder=run / "report", inputs={}, recipe_part={}, seed=1, keep=(), work=work)
    return sorted(path.name for path in (run / "report").iterdir())


def test_a_report_written_before_the_run_made_its_own_does_not_stop_the_run(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    for _ in range(2):
        limbeck("report", run).done()
    made = ["manifest.json", "report.html", "table.md"]
    assert made_by_the_run(run) == made
    limbeck("report", run).done()
    assert made_by_the_run(run) == made


def test_a_file_of_the_users_in_the_reports_folder_still_stops_the_run(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    write_text(run / "report" / "notes.txt", "mine")
    limbeck("report", run).done()
    with pytest.raises(RunFolderError, match="which no run wrote there"):
        made_by_the_run(run)
    assert (run / "report" / "notes.txt").read_text() == "mine"


def test_a_run_without_arms_compares_sft_with_the_base(run: Path, tmp_path: Path) -> None:
    text = (run / "recipe.toml").read_text().partition("[arms.")[0]
    (tmp_path / "recipe.toml").write_text(text)
    small = settings("corpus.tasks.test=4", "corpus.tasks.transfer=0", "corpus.tasks.pool=0", "corpus.tasks.fresh=0")
    done = limbeck("run", tmp_path / "recipe.toml", "--out", tmp_path / "run", *small).done()
    assert done.ran == ["corpus", "retain", "sft", "evaluate/base", "evaluate/sft", "verdict", "report"]
    assert "SFT took accuracy from" in done.out
    assert "sft on the right" in limbeck("chat", tmp_path / "run", stdin="").done().err


def test_a_seed_of_the_command_line_has_a_run_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_tiny_recipe(tmp_path / "recipe.toml", student(tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    for words in ((), settings("seed=2")):
        limbeck("run", recipe, "--until", "corpus", *words).done()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny-seed2"]
