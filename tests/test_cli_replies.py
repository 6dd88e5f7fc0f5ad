"""`limbeck evaluate --replies`: replies that are there already are judged, and no model is asked."""

import subprocess
import sys
from pathlib import Path

import pytest
from street import SMALL, Outcome, limbeck, settings, student, write_lines

from limbeck import tasks
from limbeck.api.fake_server import FakeServer, completion
from limbeck.records import Judgement, PromptRow, Reply
from limbeck.store import read_json, read_records, write_records

WITHOUT_TORCH = """
import sys
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuses())
from limbeck.cli import main
main()
"""
CPU = settings(*SMALL, "evaluate.max_new_tokens=6")


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = dict.fromkeys(tasks.SPLITS, 0) | {"pool": 6}
    path = tmp_path_factory.mktemp("replies") / "problems.jsonl"
    write_records(path, tasks.draw_splits(counts, ("chain_sum",), 1)["pool"])
    return path


def replies(problems: Path, path: Path, marks: str) -> Path:
    """A reply a problem: right where its mark is 1, wrong where it is 0, none where it is a dash."""
    rows = read_records(problems, PromptRow)
    return write_lines(path, [
        {"prompt": row.prompt[0].content, "response": f"#### {row.problem.answer if mark == '1' else 'none'}"}
        for row, mark in zip(rows, marks, strict=True) if row.problem and mark != "-"
    ])  # fmt: skip


def evaluate(file: Path | str, out: Path, *words: object) -> Outcome:
    return limbeck("evaluate", "--replies", file, "--out", out, *words, *CPU)


def test_replies_are_judged_without_a_model_and_those_that_fit_no_prompt_are_counted(
    problems: Path, tmp_path: Path
) -> None:
    file = replies(problems, tmp_path / "r.jsonl", "1100-1")
    with file.open("a") as more:
        more.write('{"prompt": "Who is it?", "response": "Me."}\n' * 2)
    done = evaluate(file, tmp_path / "out", "--prompts", problems).done()
    accuracy, missing, extra, folder = done.out.splitlines()
    assert accuracy == "accuracy 60.0 % [23.1, 88.2], n = 5; 0 unscored"  # Wilson's interval for 3 of 5
    absent = read_records(problems, PromptRow)[4].id
    assert missing == f"  1 times: held-out prompt without a given response (ids {absent})"
    assert extra == "  2 times: given response to a prompt that is not held out (lines 6, 7)"
    assert Path(folder) == tmp_path / "out" / "evaluate" / "model"
    assert read_json(Path(folder) / "retention.json")["prompts"] == 0


def test_replies_are_judged_where_torch_cannot_even_be_imported(problems: Path, tmp_path: Path) -> None:
    file, theirs = (replies(problems, tmp_path / f"{marks}.jsonl", marks) for marks in ("110010", "100000"))
    words = ("--prompts", problems, "--against", theirs, "--out", tmp_path / "out")
    command = [sys.executable, "-c", WITHOUT_TORCH, "evaluate", "--replies", file, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "accuracy 50.0 %" in done.stdout
    assert "2 W, 4 T, 0 L" in done.stdout
    assert not (tmp_path / "out" / "machine.json").exists()  # nothing was decided of this machine


def test_several_lines_of_a_prompt_are_samples_of_it(problems: Path, tmp_path: Path) -> None:
    file, again = (replies(problems, tmp_path / f"{marks}.jsonl", marks) for marks in ("110000", "0101--"))
    file.write_text(file.read_text() + again.read_text())
    done = evaluate(file, tmp_path / "out", "--prompts", problems).done()
    accuracy, _ = done.out.splitlines()
    assert accuracy.startswith("accuracy 40.0 % [")  # 4 of 10
    assert accuracy.endswith("n = 6; 0 unscored")
    folder, ids = tmp_path / "out" / "evaluate" / "model", [row.id for row in read_records(problems, PromptRow)]
    keys = [(id_, sample) for at, id_ in enumerate(ids) for sample in range(2 if at < 4 else 1)]
    assert [(reply.prompt_id, reply.sample_index) for reply in read_records(folder / "replies.jsonl", Reply)] == keys
    solved = [judged.solved for judged in read_records(folder / "judgements_verifier.jsonl", Judgement)]
    assert solved == [bool(int(mark)) for mark in "1011000100"]


def test_only_other_replies_are_judged_anew(problems: Path, tmp_path: Path) -> None:
    file, out = replies(problems, tmp_path / "r.jsonl", "110000"), tmp_path / "out"
    evaluate(file, out, "--prompts", problems).done()
    assert "evaluate/model: fresh" in evaluate(file, out, "--prompts", problems).done().err
    replies(problems, file, "111000")
    again = evaluate(file, out, "--prompts", problems).done()
    assert "evaluate/model: the recipe or an input changed" in again.err
    assert "accuracy 50.0 %" in again.out


def test_judged_replies_are_compared_with_others_and_with_a_models(problems: Path, tmp_path: Path) -> None:
    for name, marks in (("before", "100000"), ("after", "111100")):
        evaluate(replies(problems, tmp_path / f"{name}.jsonl", marks), tmp_path / name, "--prompts", problems).done()
    base = student(tmp_path / "base")
    limbeck("evaluate", "--model", base, "--prompts", problems, "--out", tmp_path / "sampled", *CPU).done()
    told = limbeck("compare", tmp_path / "before", tmp_path / "after").done().out
    assert "3/3/0" in told
    assert "4/2/0" in limbeck("compare", tmp_path / "sampled", tmp_path / "after").done().out  # it solves none


def test_replies_to_a_suite_and_to_built_in_problems_win_against_responses(problems: Path, tmp_path: Path) -> None:
    file = replies(problems, tmp_path / "r.jsonl", "111000")
    suite = evaluate(file, tmp_path / "suite", "--suite", f"gsm8k={problems}").done()
    assert "accuracy 50.0 %" in suite.out
    assert "no answer found in" in suite.out
    assert "cut at the limit" not in suite.out  # nobody knows
    drawn = tmp_path / "drawn" / "corpus" / "test.jsonl"
    assert "none of its 6 prompts is one of the 4 held-out" in evaluate(file, drawn.parents[1], "--tasks", 4).complaint
    right = replies(drawn, tmp_path / "right.jsonl", "1111")
    theirs = replies(drawn, tmp_path / "theirs.jsonl", "10--")
    told = evaluate(right, drawn.parents[1], "--tasks", 4, "--against", theirs).done().out
    assert "accuracy 100.0 %" in told
    assert "n = 2; 1 W, 1 T, 0 L, 0 unscored" in told


def test_of_a_conversation_the_first_turn_is_judged_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "k")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rows = [{"question_id": n, "category": "writing", "turns": [f"Write {n} words.", "Shorter."]} for n in range(3)]
    suite = write_lines(tmp_path / "mt.jsonl", rows)
    said = [{"prompt": f"Write {n} words.", "response": "word " * n} for n in range(3)]
    file = write_lines(tmp_path / "r.jsonl", said)
    with FakeServer(
        lambda _: completion("reward:-2"), models=("nvidia/llama-3.1-nemotron-70b-reward",)
    ).listen() as url:
        words = ("--suite", f"mt_bench={suite}", "--judge", "nemotron")
        done = evaluate(file, tmp_path / "out", *words, *settings(f"judges.nemotron.endpoint.base_url={url}")).done()
    _, mean, later, _ = done.out.splitlines()
    assert mean == "mean reward -2.000 [-2.000, -2.000], n = 3; 0 unscored"
    assert later == "  3 times: later turn of a conversation, which a given response does not answer"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["absent.jsonl", "--tasks", "3"], "--replies: absent.jsonl is no file"),
        ([".", "--tasks", "3"], "--replies: . is no file; name one with `prompt` and `response` a line"),
        (["HERE", "--tasks", "3", "--model", "m"], "and no model is asked; leave out --model"),
        (["HERE", "--harness", "gsm8k"], "no model is asked; leave out --harness"),
        (["HERE", "--suite", "pairs=HERE"], "--suite pairs asks for log-probabilities, which replies do not have"),
        (["HERE", "--tasks", "3", *settings("servers.model.base_url=http://localhost:1/v1", "servers.model.model=m")],
         "no model is asked; leave out servers.model"),
        (["HERE"], "give either --prompts FILE or --tasks NUMBER"),
        (["HERE", "--tasks", "3"], "r.jsonl, line 1: the field 'response' is missing; a line is"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(write_lines(tmp_path / "r.jsonl", [{"prompt": "x"}]))
    first, *rest = [word.replace("HERE", file) for word in words]
    assert complaint in evaluate(first, tmp_path / "out", *rest).complaint


def test_compare_says_which_command_judges_replies(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "r.jsonl", [{"prompt": "Hi", "response": "Ho"}])
    other = write_lines(tmp_path / "s.jsonl", [{"prompt_id": "1", "score": 1}])
    complaint = limbeck("compare", other, file).complaint
    assert complaint.endswith("r.jsonl, line 1: prompt_id should be a text, found None; of replies that nobody has "
                              "judged, `limbeck evaluate --replies FILE` makes a folder to compare")  # fmt: skip
