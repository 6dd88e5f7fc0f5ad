"""`limbeck chat`: one conversation, two models, side by side."""

from pathlib import Path

from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table

from limbeck.console import literal, results, say
from limbeck.errors import RunFolderError
from limbeck.lm.generate import PromptIds, Sampling, generate
from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.machine import place
from limbeck.recipe import Recipe
from limbeck.recipe.rounds import unit_going_on
from limbeck.records import Message
from limbeck.records.rounds import Round, RoundsRecord
from limbeck.round_folders import ROUNDS, place_in_round
from limbeck.store import read_record

MAX_NEW_TOKENS = 400
_ROUND = "round-"


def talk(recipe: Recipe, base: Path, folder: Path, model: str | None, before: str, temperature: float) -> None:
    """Read lines from the terminal and answer each with both models; each keeps its own side of the conversation.

    Raises:
        RunFolderError: where a model of that name is not there (yet).
    """
    chosen = model or _last_round(folder) or next(iter(recipe.arms), "sft")
    device, dtype = place(recipe.model)
    models = {name: load_model(str(_folder_of(name, base, folder, recipe)), device, dtype) for name in (before, chosen)}
    histories: dict[str, list[Message]] = {name: [] for name in models}
    say(f"{before} on the left, {chosen} on the right; an empty line or Ctrl-D ends the talk")
    turn = 0
    while line := _read_line():
        panels = []
        for name, one in models.items():
            histories[name].append(Message(role="user", content=line))
            text = _reply(one, histories[name], Sampling(MAX_NEW_TOKENS, temperature, seed=turn, slots=1))
            histories[name].append(Message(role="assistant", content=text))
            panels.append(Panel(literal(text), title=escape(name)))
        beside = Table.grid(*(Column(ratio=1) for _ in panels), expand=True)
        beside.add_row(*panels)
        results.print(beside)
        turn += 1


def _folder_of(name: str, base: Path, folder: Path, recipe: Recipe) -> Path:
    places = {"base": base, "sft": folder / "sft" / "model"}
    if trained := unit_going_on(recipe.rounds, recipe.arms):  # of a round's folder: `sft` is the last round's model
        places["sft"] = folder / place_in_round(Path("sft/model"), recipe.rounds.number, trained)
    places |= {f"{_ROUND}{one.number}": folder / one.model for one in _rounds(folder) if one.number > 1}
    places |= {arm: folder / recipe.arm_unit(arm) / "model" for arm in recipe.arms}
    if name not in places:
        raise RunFolderError(f"no model {name!r} in this run; it has {', '.join(places)}")
    if not places[name].is_dir():
        raise RunFolderError(f"the model {name!r} is not trained yet: {places[name]} does not exist")
    return places[name]


def _rounds(folder: Path) -> tuple[Round, ...]:
    path = folder / ROUNDS / "rounds.json"
    return read_record(path, RoundsRecord).rounds if path.is_file() else ()


def _last_round(folder: Path) -> str | None:
    """The name of the last round's model, where there is more than one round."""
    last = max((one.number for one in _rounds(folder)), default=1)
    return f"{_ROUND}{last}" if last > 1 else None


def _read_line() -> str:
    try:
        return input("> ").strip().encode("utf-8", "replace").decode()  # a byte that is no text is a question mark
    except EOFError:
        return ""


def _reply(model: LanguageModel, history: list[Message], sampling: Sampling) -> str:
    """The model's reply to as many of the last turns as leave room for one in its context."""
    turns, most = list(history), model.context_tokens
    ids = model.chat.prompt_ids(turns)
    while most is not None and len(turns) > 1 and len(ids) + sampling.max_new_tokens > most:
        turns = turns[2:]  # the first question and its reply
        ids = model.chat.prompt_ids(turns)
    if most is not None and len(ids) >= most:
        say(f"that is longer than what {model.name} can read: {len(ids)} of its {most} tokens")
        return ""
    if len(turns) < len(history):
        say(f"(of {len(history)} turns the last {len(turns)} fit into the model's {most} tokens)", style="dim")
    (sample,) = generate(model, [PromptIds("chat", ids)], sampling)
    return sample.text
