"""The shape of the package: imports go down, the ground is light, files and functions stay small."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "limbeck"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
STREET = {
    "browse",
    "cli",
    "commands",
    "conductor",
    "disk",
    "pipeline",
    "planning",
    "reference",
    "rounds",
    "run_folder",
    "units",
}
GROUND = {
    "apart",
    "console",
    "containers",
    "data",
    "errors",
    "likeness",
    "manifest",
    "recipe",
    "records",
    "responses",
    "round_folders",
    "seeds",
    "store",
    "stream",
    "turns",
    "untrusted",
}
# A room may import what lies on a lower floor, and itself; rooms of one floor do not know each other.
FLOOR = (
    dict.fromkeys(STREET, 7)
    | {
        "stages": 6,
        "judges": 5,
        "teachers": 5,
        "students": 5,
        "screening": 5,
        "chat_engine": 4,
        "quiz": 4,
        "lm": 3,
        "tasks": 3,
        "api": 3,
        "diagnosis": 2,
        "statistics": 1,
        "tracking": 1,
    }
    | dict.fromkeys(GROUND, 0)
)
SHARED_FLOORS = {FLOOR["cli"], FLOOR["records"]}  # within the street and on the ground, modules use each other
HEAVY = {"torch", "transformers", "llguidance", "httpx", "huggingface_hub", "datasets", "reasoning_gym"}


class Arrow(NamedTuple):
    """An import: which file, in which line, of which module."""

    file: str
    line: int
    module: str


def arrows(file: str) -> Iterator[Arrow]:
    """Every import of a file, those inside functions too; `from x import y` counts as x.y where that is a module."""
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Arrow(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import hides where it points"
            module = str(node.module)
            for alias in node.names:
                inner = PACKAGE.parent.joinpath(*module.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield Arrow(file, node.lineno, f"{module}.{alias.name}" if is_module else module)


ARROWS = [arrow for file in FILES for arrow in arrows(file)]
OWN = [arrow for arrow in ARROWS if arrow.module.startswith("limbeck.")]


def room(file_or_module: str) -> str:
    """The room that a file or a module of limbeck lies in."""
    return file_or_module.removeprefix("limbeck.").replace("/", ".").removesuffix(".py").split(".")[0]


def test_every_file_lies_in_a_room_of_the_house() -> None:
    assert {room(file) for file in FILES} - {"__init__"} == set(FLOOR)


def test_no_import_points_upwards() -> None:
    assert [arrow for arrow in OWN if FLOOR[room(arrow.module)] > FLOOR[room(arrow.file)]] == []


def test_rooms_of_one_floor_do_not_import_each_other() -> None:
    def sideways(arrow: Arrow) -> bool:
        source, target = room(arrow.file), room(arrow.module)
        return source != target and FLOOR[source] == FLOOR[target] and FLOOR[source] not in SHARED_FLOORS

    assert [arrow for arrow in OWN if sideways(arrow)] == []


def test_no_stage_imports_another_stage() -> None:
    def stage(name: str) -> str:
        return name.replace("/", ".").removesuffix(".py").removeprefix("limbeck.").split(".")[1]

    between = [arrow for arrow in OWN if room(arrow.file) == "stages" == room(arrow.module)]
    assert [arrow for arrow in between if stage(arrow.file) != stage(arrow.module)] == []


def test_only_the_street_and_the_report_itself_import_the_report() -> None:
    users = {arrow.file for arrow in OWN if arrow.module.startswith("limbeck.stages.report")}
    assert {file for file in users if not file.startswith("stages/report/") and room(file) not in STREET} == set()


def test_the_ground_imports_neither_torch_nor_the_network() -> None:
    heavy = [arrow for arrow in ARROWS if arrow.module.split(".")[0] in HEAVY]
    assert [arrow for arrow in heavy if room(arrow.file) in GROUND | {"statistics", "diagnosis"}] == []


def test_only_the_language_model_knows_torch_and_only_the_api_speaks_http() -> None:
    def users(library: str) -> set[str]:
        return {room(arrow.file) for arrow in ARROWS if arrow.module.split(".")[0] == library}

    assert users("torch") == {"lm"}
    assert users("transformers") == {"lm"}
    assert users("peft") == {"lm"}
    assert users("llguidance") == {"lm"}
    assert users("httpx") == {"api", "stages"}
    naming_its_errors = {arrow.file for arrow in ARROWS if arrow.module == "httpx" and room(arrow.file) == "stages"}
    assert naming_its_errors == {"stages/corpus/hub.py"}  # what the hub's library raises when there is no network
    assert users("reasoning_gym") <= {"tasks"}
    assert users("tensorboard") == users("trackio") == users("wandb") == {"tracking"}


def test_start_up_imports_nothing_heavy() -> None:
    """What `limbeck --help` loads: everything that is imported at the top of a file, from the command line down."""
    seen: set[str] = set()
    waiting = ["cli.py"]
    while waiting:
        file = waiting.pop()
        seen.add(file)
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        top = {node.lineno for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
        for arrow in arrows(file):
            if arrow.line not in top:
                continue
            assert arrow.module.split(".")[0] not in {"torch", "transformers", "datasets"}, arrow
            path = arrow.module.removeprefix("limbeck.").replace(".", "/")
            waiting += [name for name in (f"{path}.py", f"{path}/__init__.py") if name in FILES and name not in seen]
    assert "commands/runs.py" in seen


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_can_be_read_in_one_go(file: str) -> None:
    text = (PACKAGE / file).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: size for name, size in sizes.items() if size > 60} == {}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("stages/") and file.count("/") == 1])
def test_every_stage_opens_by_saying_what_it_reads_and_writes(file: str) -> None:
    if file.endswith("__init__.py"):
        return
    opening = ast.get_docstring(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))) or ""
    assert [word for word in ("Reads:", "Writes:", "Start reading at:") if word not in opening] == []
