"""A leaderboard's file: one `{"prompt", "response"}` a line, in exactly the prompts file's order, with its exact text.

Written whole or not at all, never appended to. `check` takes anybody's file and names the first line that offends.
"""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from limbeck import seeds
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.records import PromptRow
from limbeck.responses import conversation, match, read_responses
from limbeck.store import digest_json, digest_path, read_json_lines, write_text

FIELDS = ("prompt", "response")
_SHOWN = 60  # characters of a prompt in a message


class Prompt(NamedTuple):
    """A line of the prompts file: `value` is its `prompt` as it stands there, text or messages."""

    line: int
    value: Any
    row: PromptRow


class Responses(NamedTuple):
    """A response a prompt, in order, and how many of them were cut at the limit (of a file that is not known).

    `extra`: lines of a file that answer none of the prompts.
    """

    texts: list[str]
    num_cut: int
    extra: Sequence[int] = ()


def read_prompts(path: Path) -> list[Prompt]:
    """Read a JSON Lines file whose lines have a `prompt`: a text, or messages.

    Raises:
        InputError: naming file and line, where one has none, or there is none at all.
    """
    found: list[Prompt] = []
    for line, value in read_json_lines(path):
        if "prompt" not in value:
            raise InputError(f"{path}, line {line}: the field 'prompt' is missing")
        asked = conversation(value["prompt"], f"{path}, line {line}: prompt")
        found.append(Prompt(line, value["prompt"], PromptRow(id=f"line-{line}", prompt=asked, source="submission")))
    if not found:
        raise InputError(f"{path} holds no prompt")
    return found


def see_place(out: Path, read: Sequence[Path]) -> None:
    """See that a file can be written at `out`, before anything is sampled.

    Raises:
        InputError: where a folder stands there, or a file that this command reads, or a file in place of its folder.
    """
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name the file to write")
    if any(out.exists() and path.exists() and out.samefile(path) for path in read):
        raise InputError(f"--out {out} would take the place of a file that is read; name another")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"--out {out}: {above} is a file, not a folder")


def responses_of_file(path: Path, prompts: Sequence[Prompt], where: Path) -> Responses:
    """The responses that a file gives to the prompts, whatever their order there.

    Raises:
        InputError: naming the first prompt without a response, or with two.
    """
    given = read_responses(path)
    if [each.prompt for each in given] == [prompt.row.prompt for prompt in prompts]:
        return Responses([each.response for each in given], 0)  # also where a prompt is asked twice
    found = match([prompt.row for prompt in prompts], given)
    if found.repeated:
        raise InputError(f"{path}, line {found.repeated[0]}: a second response to a prompt; which one is meant?")
    for prompt in prompts:
        if prompt.row.id not in found.by_id:
            raise InputError(f"{path}: no response to the prompt of {_place(prompt, where)}")
    return Responses([found.by_id[prompt.row.id] for prompt in prompts], 0, found.extra)


def responses_of_model(folder: Path, prompts: Sequence[Prompt], recipe: Recipe, out: Path, where: Path) -> Responses:
    """The model's own responses, sampled as `evaluate` says; what an interrupted call sampled is kept beside `out`.

    Raises:
        InputError: naming the first prompt that the model cannot be asked.
    """
    from limbeck.lm.generate import Sampling
    from limbeck.students.choice import student_for

    sampling = Sampling.of(recipe.evaluate, seeds.derive(recipe.seed, "evaluate"))
    kept = _kept(folder, prompts, recipe, out)
    asked = student_for("model", recipe, folder).ask(
        [prompt.row for prompt in prompts], sampling, recipe.model, kept, "responses"
    )
    texts = {reply.prompt_id: reply.text for reply in asked.replies}
    for prompt in prompts:
        if prompt.row.id not in texts:
            why = ", ".join(asked.drops)
            raise InputError(f"{where}, line {prompt.line}: the model cannot be asked this prompt ({why}), and a "
                             "submission needs a response to each")  # fmt: skip
    cut = sum(reply.finish_reason == "length" for reply in asked.replies)
    return Responses([texts[prompt.row.id] for prompt in prompts], cut)


def _kept(folder: Path, prompts: Sequence[Prompt], recipe: Recipe, out: Path) -> Path:
    # Another model, prompt or setting is another file, so that no response can come from what was asked before.
    decides = [digest_path(folder), [prompt.value for prompt in prompts], recipe.model_dump(mode="json")]
    return out.with_name(f".{out.name}.{digest_json(decides)[:16]}.replies")


def write_submission(out: Path, prompts: Sequence[Prompt], texts: Sequence[str], where: Path) -> None:
    """Write the file, atomically; then remove what sampling had kept beside it.

    Raises:
        InputError: naming the first prompt whose response is empty.
    """
    for prompt, text in zip(prompts, texts, strict=True):
        if not text.strip():
            raise InputError(f"the response to the prompt of {_place(prompt, where)} is empty")
    rows = ({"prompt": prompt.value, "response": text} for prompt, text in zip(prompts, texts, strict=True))
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for file in out.parent.glob(f".{glob.escape(out.name)}.*.replies"):
        file.unlink()


def check(path: Path, prompts: Sequence[Prompt], where: Path) -> int:
    """See that a file is a submission for these prompts; returns how many lines it has.

    Raises:
        InputError: naming the first line that offends, and how.
    """
    count = 0
    for count, (line, value) in enumerate(read_json_lines(path), 1):
        place = f"{path}, line {line}"
        if set(value) != set(FIELDS):
            raise InputError(f"{place}: expected the fields prompt and response, found {', '.join(value) or 'none'}")
        if count > len(prompts):
            raise InputError(f"{place}: one line more than the {len(prompts)} prompts of {where}")
        if value["prompt"] != prompts[count - 1].value:
            raise InputError(_misplaced(place, value["prompt"], count - 1, prompts, where))
        if not isinstance(value["response"], str) or not value["response"].strip():
            raise InputError(f"{place}: the response should be a text that is not empty")
    if count < len(prompts):
        raise InputError(f"{path} ends after {count} of {len(prompts)} prompts: the response to that of "
                         f"{_place(prompts[count], where)} is missing")  # fmt: skip
    return count


def _misplaced(place: str, value: Any, index: int, prompts: Sequence[Prompt], where: Path) -> str:
    expected = f"expected that of {_place(prompts[index], where)}"
    for other, prompt in enumerate(prompts):
        if prompt.value == value:
            why = "was answered before" if other < index else "comes later"
            return f"{place}: the prompt of {where}, line {prompt.line}, which {why}; {expected}"
    if isinstance(value, str) and value.split() == str(prompts[index].value).split():
        return f"{place}: the prompt differs in white space; {expected}"
    return f"{place}: a prompt that does not stand in {where}; {expected}"


def _place(prompt: Prompt, where: Path) -> str:
    return f"{where}, line {prompt.line} ({_shown(prompt.value)})"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else str(value[-1].get("content"))
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
