"""What a user can get wrong: one sentence on standard error, exit code 2, no traceback, nothing half-written."""

import ctypes
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from street import Outcome, limbeck, settings, student, write_lines, write_tiny_recipe
from tiny_models import tiny_folder

LIBC = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT, MNT_DETACH = 32, 2  # <sys/mount.h>
DEMONSTRATIONS = [{"prompt": f"What is {n} plus one?", "response": f"It is {n + 1}."} for n in range(4)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("mistakes") / "base")


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> Path:
    return write_tiny_recipe(tmp_path / "recipe.toml", base)


def refuse(recipe: Path, *options: object) -> str:
    """The complaint about a run that never begins: not even its folder appears."""
    out = recipe.parent / "never"
    complaint = limbeck("run", recipe, "--out", out, *options).complaint
    assert not out.exists()
    return complaint


def litter(folder: Path) -> list[str]:
    """Unfinished files: temporary ones, and manifests of units that did not finish."""
    return [path.name for path in folder.rglob(".*") if path.name not in (".lock", ".in_progress")]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dpo.betta=0.1", "unknown key 'dpo.betta'; did you mean 'beta'?"),
        ("arms.random.zeroshot=3", "unknown key 'arms.random.zeroshot'; did you mean '"),
        ("dpo.beta=strong", "dpo.beta: input should be a valid number"),
        ("dpo.beta=-1", "dpo.beta: input should be greater than 0 (found -1)"),
        ("evaluate.confidence=95", "evaluate.confidence: input should be less than 1 (found 95)"),
        ("sft.learning_rate=nan", "sft.learning_rate: input should be a finite number"),
        ("model.device=gpu", "model.device: input should be 'auto', 'cpu', 'cuda' or 'mps' (found 'gpu')"),
        ("dpo", "--set 'dpo': expected section.field=value"),
        ("mine={rule = 'failed', judge = 'nemotron'}", "mine.rule 'failed' goes with the judge 'verifier'"),
        ("arms.sft.random=1", "an arm cannot be called 'sft'"),
        ("teach.teacher=oracle", "teach.teacher: 'oracle' is not known"),
        (
            "arms.random.revise=2",
            "an arm asks for revise pairs, and the teacher 'worked' cannot correct another's words",
        ),
        ("arms.random.own=2", "an arm asks for own pairs, a right and a failing reply of the student's to one prompt"),
        ("arms.random.dpo={beta = -1}", "arms.random.dpo.beta: input should be greater than 0 (found -1)"),
        ("arms.random.dpo={betta = 1}", "unknown key 'arms.random.dpo.betta': [dpo] has no such setting"),
        ("evaluate.judges=['verifier', 'verifier']", "evaluate.judges: 'verifier' is named twice"),
        ("arms.random.contrast=2", "an arm asks for contrast pairs, and teach.contrast_with names no weaker model"),
        (
            "arms={r = {rolling = 2}}",
            "an arm asks for rolling pairs, which are written with the human pairs before them",
        ),
        ("teach.templates=nowhere", "nowhere is no folder"),
        ("arms.random.human=2", "an arm asks for human pairs, but [[corpus.preferences]] is empty"),
    ],
)
def test_a_wrong_setting_is_named(recipe: Path, override: str, words: str) -> None:
    assert words in refuse(recipe, "--set", override)


def test_a_recipe_that_is_missing_or_no_toml_is_named(recipe: Path) -> None:
    missing = recipe.parent / "absent.toml"
    assert refuse(missing) == f"{missing} does not exist; `limbeck init` writes a recipe to start from"
    recipe.write_text('name = "x"\n[model\n')
    assert refuse(recipe).startswith(f"{recipe}: not valid TOML: ")


def test_an_unknown_stage_to_stop_after_is_answered_with_those_there_are(recipe: Path) -> None:
    assert refuse(recipe, "--until", "train") == (
        "--until 'train': no such stage in this run; it has corpus, retain, sft, mine, teach, screen, export, mix, "
        "audit, dpo, evaluate, heldout_pairs, verdict, report"
    )


def test_a_model_that_is_nowhere_is_named(recipe: Path, tmp_path: Path) -> None:
    assert refuse(recipe, "--set", "model.student=smollm3").startswith("no model 'smollm3': expected a local folder")
    (tmp_path / "empty").mkdir()
    complaint = refuse(recipe, "--set", f"model.student={tmp_path / 'empty'}")
    assert complaint == f"{tmp_path / 'empty'} is a folder without config.json: not a saved model"
    assert limbeck("pull", "smollm3").complaint == "no model 'smollm3' to pull; known: smollm2-135m"


def test_a_model_without_a_chat_template_is_refused(recipe: Path, tmp_path: Path) -> None:
    mute = tiny_folder(tmp_path / "mute", variant="no_template", max_position_embeddings=2048)
    out = tmp_path / "run"
    complaint = limbeck("run", recipe, "--out", out, "--set", f"model.student={mute}").complaint
    assert complaint.startswith(f"{mute} has no chat template")
    assert litter(out) == []
    assert limbeck("sft", "--model", mute, "--data", write_lines(tmp_path / "d.jsonl", DEMONSTRATIONS),
                   "--out", tmp_path / "sft").complaint == complaint  # fmt: skip


def test_a_paid_teacher_without_a_budget_is_refused_before_anything_is_spent(recipe: Path) -> None:
    complaint = refuse(recipe, "--set", "teach.teacher=openai:gpt-4o")
    assert complaint == (
        "asking 'gpt-4o' costs money: say with teach.budget.usd or teach.budget.tokens how much may be spent"
    )
    complaint = refuse(recipe, "--set", "teach.teacher=openai:new", "--set", "teach.budget.usd=5")
    assert complaint.startswith("teach.budget.usd: no price for 'new' is known in the packaged list")


def test_a_teacher_without_its_key_is_refused_before_anything_is_spent(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    complaint = refuse(recipe, "--set", "teach.teacher=openai:gpt-4o", "--set", "teach.budget.usd=5")
    assert complaint == (
        "https://api.openai.com/v1 needs a key: set the environment variable OPENAI_API_KEY, or name your own server "
        "as base_url"
    )


def test_a_judge_without_its_key_is_refused_before_anything_is_spent(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVIDIA_API_KEY", raising=False)
    for override in ('evaluate.judges=["verifier", "nemotron"]', 'mine={judge = "nemotron", rule = "gap"}'):
        complaint = refuse(recipe, "--set", override)
        assert "needs a key: set the environment variable NVIDIA_API_KEY" in complaint


def test_a_folder_that_is_anothers_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    limbeck("run", recipe, "--out", other, "--until", "corpus").done()
    before = (other / "recipe.toml").read_bytes()
    complaint = limbeck("run", recipe, "--out", other, "--set", "name=second").complaint
    assert complaint == f"{other} holds the run of the recipe 'tiny', not 'second'; give --out another folder"
    assert (other / "recipe.toml").read_bytes() == before
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"cat")
    complaint = limbeck("run", recipe, "--out", photos).complaint
    assert complaint == f"{photos} is not empty and holds no run of limbeck; give --out another folder"
    assert [path.name for path in photos.iterdir()] == ["cat.jpg"]
    complaint = limbeck("run", recipe, "--out", photos / "cat.jpg").complaint
    assert complaint == f"{photos / 'cat.jpg'} cannot be made a run folder: File exists"
    (tmp_path / "run" / ".lock").mkdir(parents=True)  # as where it belongs to somebody else: it cannot be opened
    complaint = limbeck("run", recipe, "--out", tmp_path / "run").complaint
    assert complaint == f"{tmp_path / 'run'} cannot be worked in: Is a directory; give --out another folder"


@pytest.mark.parametrize("command", ["status", "report", "chat"])
def test_a_folder_that_holds_no_run_has_nothing_to_show(command: str, tmp_path: Path) -> None:
    complaint = limbeck(command, tmp_path / "nothing").complaint
    assert complaint == f"{tmp_path / 'nothing'} is no run folder: it holds no recipe.toml"
    assert not (tmp_path / "nothing").exists()


def _own_data(recipe: Path, path: Path) -> Outcome:
    source = f'corpus.demonstrations=[{{path = "{path}"}}]'
    return limbeck("run", recipe, "--out", recipe.parent / "run", "--set", source)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"prompt": "a", "response": "b"}\n{"prompt": "c", \n', "row 2: not valid JSON ("),
        (b'{"prompt": "a", "response": "b"}\n["c"]\n', "row 2: expected a JSON object, found list"),
        (b'{"prompt": "a", "response": "b"}\n{"prompt": "c"}\n', "row 2: the field 'response' is missing"),
        (b'{"prompt": "a", "response": 7}\n', "row 1: "),
        (b'{"question": "a"}\n', "its fields (question) are those of no known format"),
        (b"\xff\xfe\n", ": not valid UTF-8 text"),
        (b"", " holds no rows"),
        (b"\n\n", " holds no rows"),
    ],
)
def test_a_data_file_with_a_mistake_is_named_with_its_row(recipe: Path, content: bytes, words: str) -> None:
    path = recipe.parent / "own.jsonl"
    path.write_bytes(content)
    failed = _own_data(recipe, path)
    assert str(path) in failed.complaint
    assert words in failed.complaint
    assert litter(recipe.parent) == []
    assert not list((recipe.parent / "run" / "corpus").glob("*.json*"))


def test_a_data_file_that_is_missing_or_damaged_is_named(recipe: Path) -> None:
    path = recipe.parent / "own.jsonl.gz"
    assert _own_data(recipe, path).complaint == f"{path} does not exist"
    path.write_bytes(gzip.compress(json.dumps(DEMONSTRATIONS[0]).encode())[:-9])
    assert _own_data(recipe, path).complaint == f"{path}: a damaged or unfinished gzip file"


def test_a_missing_data_file_shows_before_the_run_begins(recipe: Path) -> None:
    for section in ("demonstrations", "prompts", "evaluation", "preferences", "judging"):
        source = f'corpus.{section}=[{{path = "absent/own.jsonl"}}]'
        assert refuse(recipe, "--set", source) == "absent/own.jsonl does not exist"


def test_what_was_put_right_runs_in_the_same_folder(recipe: Path) -> None:
    path = recipe.parent / "own.jsonl"
    path.write_text('{"prompt": 1}\n')
    assert _own_data(recipe, path).code == 2
    write_lines(path, DEMONSTRATIONS)
    source = f'corpus.demonstrations=[{{path = "{path}"}}]'
    again = limbeck("run", recipe, "--out", recipe.parent / "run", "--until", "corpus", "--set", source).done()
    assert "8 demonstrations" not in again.err  # its own rows came on top of the tasks


def test_an_arm_that_asks_for_more_pairs_than_there_are_is_told_how_many(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    complaint = limbeck("run", recipe, "--out", out, "--set", "arms.random.random=40").complaint
    assert complaint.startswith("an arm asks for 40 random pairs and 1 are held out (mix.heldout_pairs), each on a ")
    assert "corpus.tasks.pool is 12" in complaint
    assert not out.exists()  # before anything is trained


def test_a_run_without_an_evaluation_prompt_is_refused_before_it_begins(recipe: Path) -> None:
    complaint = refuse(recipe, "--set", "corpus.tasks.test=0")
    assert complaint.startswith("no held-out prompt to judge by: ask for corpus.tasks.test")


def test_more_tasks_or_chat_than_there_are_is_an_error(recipe: Path, tmp_path: Path) -> None:
    complaint = limbeck("run", recipe, "--out", tmp_path / "run", "--set", "corpus.chat.train=100000").complaint
    assert "there are" in complaint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds too little for a run; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if LIBC.mount(b"none", os.fsencode(place), b"tmpfs", 0, b"size=400k") != 0:
        pytest.skip(f"a small disk cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    yield place
    LIBC.umount2(os.fsencode(place), MNT_DETACH)


def test_a_full_disk_is_one_sentence_and_a_larger_one_goes_on(recipe: Path, small_disk: Path) -> None:
    out = small_disk / "run"
    complaint = limbeck("run", recipe, "--out", out, "--until", "sft").complaint
    assert complaint.startswith(f"the disk that holds {out}/sft/")
    assert "free some space and run the same command again" in complaint
    assert litter(out) == [] or all(name.startswith(".best-") or name == ".checkpoint.pt" for name in litter(out))
    assert LIBC.mount(b"none", os.fsencode(small_disk), b"tmpfs", MS_REMOUNT, b"size=9m") == 0
    assert limbeck("run", recipe, "--out", out, "--until", "sft").done().ran == ["sft"]


def test_no_sentence_holds_the_key(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very secret")
    assert "very" not in refuse(recipe, *settings("teach.teacher=openai:gpt-4o"))


def test_a_folder_of_the_users_own_is_never_cleared_nor_written_over(recipe: Path, tmp_path: Path) -> None:
    mine = tmp_path / "project"
    (mine / "corpus").mkdir(parents=True)
    (mine / "corpus" / "rows.jsonl").write_text("{}")
    (mine / "recipe.toml").write_text(recipe.read_text() + "# a comment of mine\n")
    complaint = limbeck("run", mine / "recipe.toml", "--out", mine).complaint
    assert complaint.startswith(f"{mine} holds a recipe.toml and no run: it may be a recipe of yours")
    assert (mine / "recipe.toml").read_text().endswith("# a comment of mine\n")
    (mine / "recipe.toml").unlink()
    (mine / ".lock").touch()
    limbeck("run", recipe, "--out", tmp_path / "begun", "--until", "corpus").done()
    (mine / "recipe.toml").write_text((tmp_path / "begun" / "recipe.toml").read_text())
    complaint = limbeck("run", recipe, "--out", mine).complaint
    assert complaint == f"{mine / 'corpus'} holds rows.jsonl, which no run wrote there; give --out another folder"
    assert (mine / "corpus" / "rows.jsonl").read_text() == "{}"


def test_an_export_into_the_run_itself_is_refused(recipe: Path, tmp_path: Path) -> None:
    limbeck("run", recipe, "--out", tmp_path / "run", "--until", "corpus").done()
    before = (tmp_path / "run" / "recipe.toml").read_bytes()
    complaint = limbeck("export", tmp_path / "run", "--out", tmp_path / "run", "--set", "seed=9").complaint
    assert "is the run itself" in complaint
    assert (tmp_path / "run" / "recipe.toml").read_bytes() == before


@pytest.mark.parametrize("damage", ["version https://git-lfs.github.com/spec/v1\n", ""])
def test_damaged_weights_of_any_kind_are_one_sentence(recipe: Path, tmp_path: Path, damage: str) -> None:
    broken = student(tmp_path / "broken")
    (broken / "model.safetensors").write_text(damage)
    words = ("--set", f"model.student={broken}", "--out", tmp_path / "run")
    assert f"the model {broken} cannot be loaded: " in limbeck("run", recipe, *words).complaint
    (broken / "config.json").write_text("[]")
    assert f"the model {broken} cannot be loaded: " in limbeck("run", recipe, *words).complaint


def test_a_path_that_cannot_be_is_one_sentence(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (("init", tmp_path / "file" / "r.toml"), ("inspect", "x" * 300), ("status", tmp_path / ("y" * 300))):
        assert limbeck(*words).complaint
    plan = limbeck("run", recipe, "--plan", "--set", 'model.student="my models/foo bar"', "--out", tmp_path / "run")
    assert "is not on this machine" in plan.done().out
    complaint = limbeck("run", recipe, "--set", "teach.endpoint.base_url=''", "--out", tmp_path / "run").complaint
    assert "teach.endpoint.base_url: an address must not be empty" in complaint
    bom = tmp_path / "bom.toml"
    bom.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes())
    assert limbeck("run", bom, "--out", tmp_path / "bom", "--until", "corpus").done().ran == ["corpus"]
    bom.write_text("name = 'x'\nseed = " + "9" * 5000)
    assert "not valid TOML" in limbeck("run", bom, "--out", tmp_path / "z").complaint
