"""Templates of the user's own: read strictly, each mistake one sentence that names the file."""

from pathlib import Path

import pytest

from limbeck.errors import InputError
from limbeck.records import PromptRow, user_prompt
from limbeck.teachers.rendering import template_id, zero_shot_request
from limbeck.teachers.template_files import PLACES, Templates, read_template

GOOD = """=== system ===
Reply with one JSON object: {"preferred": "...", "dispreferred": "..."}
=== user ===
<prompt>{{prompt}}</prompt>
"""


def read(folder: Path, text: str | bytes, name: str = "zero_shot.txt") -> Templates:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Templates(folder)


def test_a_template_of_ones_own_replaces_limbecks_and_the_others_stay(tmp_path: Path) -> None:
    templates = read(tmp_path, GOOD)
    templates.check()
    asked = zero_shot_request(PromptRow(id="p", prompt=user_prompt("{{prompt}}"), source="s"), templates)
    assert asked.messages[1].content == '<prompt>"{{prompt}}"</prompt>'
    assert template_id("zero_shot", templates) != template_id("zero_shot")
    assert template_id("few_shot", templates) == template_id("few_shot")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has two turns, under the lines .*found none"),
        ("Write a pair for {{prompt}} as JSON.", "has two turns.*found none after other text"),
        (GOOD.replace("=== user ===", "=== assistant ==="), "has two turns.*found system and assistant"),
        ("Note.\n" + GOOD, "nothing before them; found system and user after other text"),
        (GOOD + "=== user ===\nmore", "has two turns.*found system and user and user"),
        (GOOD.replace("<prompt>{{prompt}}</prompt>", ""), "the user turn is empty"),
        (GOOD.replace("{{prompt}}", "{{question}}"), "nothing fills {{question}}; a zero_shot template has prompt"),
        (GOOD.replace("{{prompt}}", "{prompt}"), "the user turn has no place for {{prompt}}"),
        (GOOD.replace("one", "{{prompt}}"), "{{prompt}} stands in the system turn"),
        (GOOD.replace("JSON", "a"), "nowhere says JSON"),
        (GOOD.replace('"dispreferred"', '"rejected"'), 'nowhere says "dispreferred"; a reply has to be one JSON object '
         "with preferred and dispreferred and no other key"),
        (b"\xff\xfe" + GOOD.encode(), "not valid UTF-8 text"),
    ],
)  # fmt: skip
def test_a_malformed_template_is_one_sentence_that_names_the_file(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(tmp_path / "own", text).check()
    assert str(caught.value).startswith(f"{tmp_path / 'own' / 'zero_shot.txt'}: ")


def test_a_file_that_no_request_is_made_from_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"zeroshot\.txt: templates are called zero_shot\.txt, few_shot\.txt"):
        read(tmp_path, GOOD, "zeroshot.txt").check()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teach.templates: .*missing is no folder"):
        Templates(tmp_path / "missing").check()


def test_limbecks_own_templates_are_in_order() -> None:
    Templates().check()
    assert {template_id(kind) for kind in PLACES} == {Templates().of(kind).id for kind in PLACES}


def test_a_place_may_occur_twice() -> None:
    text = GOOD.replace("{{prompt}}", "{{prompt}}</prompt> again <prompt>{{prompt}}")
    assert read_template(text, "zero_shot", "here").user.count("{{prompt}}") == 2
