"""`limbeck evaluate`: against somebody's responses, and on other people's test files."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from street import SMALL, Outcome, limbeck, settings, student, write_lines

from limbeck import tasks
from limbeck.api.fake_server import FakeServer, completion
from limbeck.judges import Verifier
from limbeck.records import Judgement, PromptRow, Reply
from limbeck.statistics import clustered_proportion
from limbeck.store import read_records, write_records

SHORT = settings(*SMALL, "evaluate.max_new_tokens=6")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("evaluate") / "base")


@pytest.fixture(scope="module")
def problems(base: Path) -> Path:
    counts = dict.fromkeys(tasks.SPLITS, 0) | {"pool": 6}
    rows = tasks.draw_splits(counts, ("chain_sum",), 1)["pool"]
    write_records(base.parent / "problems.jsonl", rows)
    return base.parent / "problems.jsonl"


def evaluate(base: Path, *words: object) -> Outcome:
    return limbeck("evaluate", "--model", base, *words, *SHORT)


def responses(problems: Path, path: Path, right: int, missing: int = 0) -> Path:
    """Responses to the problems, the first few of them right, the last few missing."""
    rows = read_records(problems, PromptRow)
    return write_lines(path, [
        {"prompt": row.prompt[0].content, "response": f"#### {row.problem.answer if n < right else 'none'}"}
        for n, row in enumerate(rows[: len(rows) - missing]) if row.problem
    ])  # fmt: skip


@pytest.mark.parametrize(("ties", "rate", "words"), [
    ("half", "30.0 %", "a tie is half a win"), ("loss", "0.0 %", "a tie is a loss"),
])  # fmt: skip
def test_against_responses_the_win_rate_is_shown_with_its_counts(
    base: Path, problems: Path, tmp_path: Path, ties: str, rate: str, words: str
) -> None:
    given = responses(problems, tmp_path / "r.jsonl", right=2, missing=1)  # of five; the random model solves none
    done = evaluate(base, "--prompts", problems, "--against", given, "--ties", ties, "--out", tmp_path / "out").done()
    _, win_rate, unmatched, folder = done.out.splitlines()
    assert win_rate.startswith(f"win rate against {given} {rate} [")
    assert win_rate.endswith(f"n = 5; 0 W, 3 T, 2 L, 0 unscored; {words}")
    last = read_records(problems, PromptRow)[-1].id
    assert unmatched == f"  1 times: held-out prompt without a given response (ids {last})"
    assert len(read_records(Path(folder) / "replies.jsonl", Reply)) == 6


def test_other_responses_ties_and_confidence_ask_the_model_nothing_anew(
    base: Path, problems: Path, tmp_path: Path
) -> None:
    words = ("--prompts", problems, "--out", tmp_path / "out")
    evaluate(base, *words).done()
    given = responses(problems, tmp_path / "r.jsonl", right=2)
    first = evaluate(base, *words, "--against", given).done()
    assert "evaluate/model: fresh" in first.err
    strict = evaluate(base, *words, "--against", given, "--ties", "loss", "--set", "evaluate.confidence=0.8").done()
    assert "evaluate/model: fresh" in strict.err
    assert "evaluate/against: fresh" in strict.err
    responses(problems, given, right=6)
    assert "evaluate/against: the recipe or an input changed" in evaluate(base, *words, "--against", given).done().err


def test_right_responses_win_every_time(base: Path, problems: Path, tmp_path: Path) -> None:
    given = responses(problems, tmp_path / "r.jsonl", right=6)
    done = evaluate(base, "--prompts", problems, "--against", given, "--out", tmp_path / "out").done()
    assert "win rate against" in done.out
    judged = read_records(tmp_path / "out" / "evaluate" / "against" / "judgements_verifier.jsonl", Judgement)
    assert [j.solved for j in judged] == [True] * 6
    assert "0 W, 0 T, 6 L" in done.out


def test_responses_named_by_set_are_compared_with_too_and_not_dropped_in_silence(
    base: Path, problems: Path, tmp_path: Path
) -> None:
    given = responses(problems, tmp_path / "r.jsonl", right=6)
    named = ("--set", f"evaluate.against={given}")
    done = evaluate(base, "--prompts", problems, *named, "--out", tmp_path / "out").done()
    assert f"win rate against {given} " in done.out
    assert "0 W, 0 T, 6 L" in done.out
    refused = evaluate(base, "--suite", f"gsm8k={problems}", *named, "--out", tmp_path / "suites")
    assert "evaluate.against goes with --prompts or --tasks" in refused.complaint


def test_a_mistake_in_the_responses_shows_before_sampling(base: Path, problems: Path, tmp_path: Path) -> None:
    given = write_lines(tmp_path / "r.jsonl", [{"prompt": "x"}])
    refused = evaluate(base, "--prompts", problems, "--against", given, "--out", tmp_path / "out")
    assert refused.complaint.endswith("r.jsonl, line 1: the field 'response' is missing; a line is "
                                      '{"prompt": ..., "response": ...}')  # fmt: skip
    assert not (tmp_path / "out" / "evaluate" / "model").exists()


def test_a_gsm8k_file_gives_accuracy_and_the_share_of_no_answer(base: Path, problems: Path, tmp_path: Path) -> None:
    done = evaluate(base, "--suite", f"gsm8k={problems}", "--out", tmp_path / "out").done()
    name, accuracy, failures, place = done.out.splitlines()
    assert name == f"gsm8k ({problems})"
    assert accuracy == "accuracy 0.0 % [0.0, 39.0], n = 6; 0 unscored"  # Wilson's interval for 0 of 6
    folder = tmp_path / "out" / "gsm8k_problems" / "evaluate" / "model"
    assert Path(place) == folder
    replies = read_records(folder / "replies.jsonl", Reply)
    by_id = {row.id: row for row in read_records(problems, PromptRow)}
    judged = list(Verifier().judge([(by_id[reply.prompt_id], reply) for reply in replies]))
    share = 100 * sum(not judgement.parsed for judgement in judged) / 6
    cut = sum(reply.finish_reason == "length" for reply in replies)
    assert failures.startswith(f"no answer found in {share:.1f} % [")
    assert failures.endswith(f"{cut} of 6 cut at the limit")


def test_several_replies_a_problem_are_no_certainty_where_none_is_right(
    base: Path, problems: Path, tmp_path: Path
) -> None:
    several = settings("evaluate.samples_per_prompt=3", "evaluate.temperature=1.0")
    done = evaluate(base, "--suite", f"gsm8k={problems}", *several, "--out", tmp_path / "out").done()
    _, accuracy, failures, where = done.out.splitlines()
    assert where.endswith("evaluate/model")
    assert accuracy == "accuracy 0.0 % [0.0, 39.0], n = 6; 0 unscored"  # six problems, however often they are asked
    judged = read_records(
        tmp_path / "out" / "gsm8k_problems" / "evaluate" / "model" / "judgements_verifier.jsonl", Judgement
    )
    slow = clustered_proportion([not j.parsed for j in judged], [j.prompt_id for j in judged])
    assert f"in {100 * slow.estimate:.1f} % [{100 * slow.low:.1f}, {100 * slow.high:.1f}] of the replies" in failures


def test_a_file_of_pairs_gives_the_implicit_accuracy_beside_that_of_length(base: Path, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"What is {n}?",
            "chosen": "A number." if n else "It is a long story.",
            "rejected": "Who would know?",
        }
        for n in range(4)
    ]
    file = write_lines(tmp_path / "bench.jsonl", rows)
    done = evaluate(base, "--suite", f"pairs={file}", "--out", tmp_path / "out").done()
    _, likelier, per_token, longer, _ = done.out.splitlines()
    assert likelier.startswith("chosen response likelier than rejected ")
    assert likelier.endswith(", n = 4")
    assert "per token" in per_token
    assert longer.startswith("  the longer one is chosen 25.0 % [")  # one of four


def test_pairs_that_share_a_prompt_do_not_count_as_many(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n // 2}", "chosen": "x" * (n + 1), "rejected": f"no {n}"} for n in range(6)]
    file = write_lines(tmp_path / "bench.jsonl", rows)
    done = evaluate(base, "--suite", f"pairs={file}", "--out", tmp_path / "out").done()
    assert ", n = 3 prompts, 6 pairs" in done.out


def test_an_mt_bench_file_is_asked_turn_by_turn_and_scored_by_turn(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "k")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rows = [{"question_id": n, "category": "writing", "turns": [f"Write {n} words.", "Shorter."]} for n in range(3)]
    file = write_lines(tmp_path / "mt.jsonl", rows)
    judged: list[list[str]] = []

    def reward(body: dict[str, Any]) -> Any:
        judged.append([message["content"] for message in body["messages"]])
        return completion(f"reward:-{len(judged[-1])}")  # two messages a first turn, four a second

    with FakeServer(reward, models=("nvidia/llama-3.1-nemotron-70b-reward",)).listen() as url:
        at = settings(f"judges.nemotron.endpoint.base_url={url}", "judges.nemotron.endpoint.concurrency=1")
        words = ("--suite", f"mt_bench={file}", "--judge", "nemotron", *at, "--out", tmp_path / "out")
        done = evaluate(base, *words).done()
    _, mean, first, second, _ = done.out.splitlines()
    assert mean.startswith("mean reward -3.000 [")
    assert mean.endswith("], n = 3; 0 unscored")  # three conversations, not six prompts
    assert first == "  turn 1: -2.000 [-2.000, -2.000], n = 3"
    assert second == "  turn 2: -4.000 [-4.000, -4.000], n = 3"
    replies = read_records(tmp_path / "out" / "mt_bench_mt" / "evaluate" / "model" / "replies.jsonl", Reply)
    said = {reply.prompt_id: reply.text for reply in replies}
    later = [turns for turns in judged if len(turns) == 4]
    assert sorted(turns[1] for turns in later) == sorted(text for id_, text in said.items() if "/turn-" not in id_)
    assert {turns[2] for turns in later} == {"Shorter."}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--suite", "mmlu=x"], "--suite 'mmlu=x': expected NAME=PATH, with NAME one of gsm8k, mt_bench, pairs"),
        (["--suite", "gsm8k"], "--suite 'gsm8k': expected NAME=PATH"),
        (["--suite", "gsm8k=absent.jsonl"], "--suite gsm8k: absent.jsonl does not exist"),
        (
            ["--suite", "mt_bench=HERE"],
            "--suite mt_bench: its prompts have no exact answer; give --judge nemotron or local",
        ),
        (["--suite", "gsm8k=HERE", "--suite", "gsm8k=HERE"], "two files of that name"),
        (["--suite", "gsm8k=HERE", "--tasks", "3"], "--suite and --harness bring their own prompts"),
        (["--tasks", "3", "--judge", "pairwise"], "--judge pairwise compares two replies"),
        (["--suite", "gsm8k=HERE", "--ties", "loss"], "--suite and --harness bring their own prompts"),
        (["--tasks", "3", "--ties", "win"], "evaluate.ties: input should be 'half' or 'loss' (found 'win')"),
        (["--tasks", "3", "--against", "absent.jsonl"], "responses: "),
    ],
)
def test_a_mistake_is_one_sentence(
    base: Path, problems: Path, words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.replace("HERE", str(problems)) for word in words]
    assert complaint in evaluate(base, *given, "--out", "out").complaint


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm-evaluation-harness is installed")
def test_without_the_harness_one_sentence_says_what_to_install(base: Path, tmp_path: Path) -> None:
    refused = evaluate(base, "--harness", "gsm8k", "--out", tmp_path / "out")
    assert refused.complaint == (
        "limbeck evaluate --harness needs the library 'lm-eval': pip install 'limbeck[harness]'"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_runs_a_task_of_the_users_own_and_its_figures_are_kept(base: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [{"q": f"Is {n} even?", "label": n % 2} for n in range(6)])
    (tmp_path / "even.yaml").write_text(
        "task: limbeck_even\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {tmp_path / 'rows.jsonl'}\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: label\ndoc_to_choice: ["yes", "no"]\nmetric_list:\n  - metric: acc\n'
    )
    words = ("--harness", tmp_path / "even.yaml", "--out", tmp_path / "out")
    done = evaluate(base, *words).done()
    assert "limbeck_even: acc " in done.out
    kept = json.loads((tmp_path / "out" / "harness" / "results.json").read_text())
    assert 0 <= kept["results"]["limbeck_even"]["acc,none"] <= 1
    assert {"limbeck", "lm-eval", "transformers"} <= kept["library_versions"].keys()
    assert "the harness has no task 'limbeck_odd'" in evaluate(base, "--harness", "limbeck_odd").complaint
