"""A small run folder to report on: five models, four families, curves, costs, and replies that attack the page."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

from limbeck.manifest import MANIFEST, Manifest, StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Chat, Corpus, Tasks
from limbeck.recipe.pairs import Arm
from limbeck.records import Estimate, Judgement, Metric, Problem, PromptRow, Reply, user_prompt
from limbeck.records.alarms import Alarm
from limbeck.records.audit import Audit, Lengths, PairsAudit, PromptCoverage, Shortcut, Variety
from limbeck.records.verdict import Comparison, ModelScore, Verdict
from limbeck.statistics.intervals import proportion
from limbeck.store import digest_json, write_json, write_records, write_text

MODELS = ("base", "sft", "random", "random+zero_shot", "on_policy")
FAMILIES = ("basic_arithmetic", "calendar_arithmetic", "letter_counting", "family_relationships")
SKILL = {"base": 0.12, "sft": 0.45, "random": 0.5, "random+zero_shot": 0.62, "on_policy": 0.41}
SENTENCE = (
    "No arm is shown to differ from sft: random+zero_shot solves 15.0 points more of 60 held-out problems "
    "[−4.3, +34.3], p = 0.292 after Holm's correction; this run could have detected 27 points."
)
HOSTILE = (
    "<script>alert('owned')</script><img src=x onerror=alert(1)>",
    "</script></style><!-- <script>document.body.remove()</script>",
    "**bold** [link](https://evil.example/steal) ![img](http://evil.example/p.png) {{ 7 * 7 }} {% raw %}",
    "safe\u202egnihtemos\u202c then\u200bzero\u2066 width\ufeff and \u2028 line",
    "nul\x00bell\x07escape\x1b[31mred",
    "x" * 1_000_000,
    "\n" * 300 + "deep below",
    "שלום \"quotes\" 'n' &amp; &lt;b&gt; ${1+1} `tick`",
)
RECIPE_TEXT = """name = "tiny"   # </pre><script>alert("recipe")</script>
seed = 7

[corpus.tasks]
test = 60

[arms.random]
random = 40

[arms."random+zero_shot"]
random = 20
zero_shot = 20

[arms.on_policy]
on_policy = 40
"""


def recipe() -> Recipe:
    """The recipe of the fixture."""
    arms = {"random": Arm(random=40), "random+zero_shot": Arm(random=20, zero_shot=20), "on_policy": Arm(on_policy=40)}
    return Recipe(name="tiny", seed=7, corpus=Corpus(tasks=Tasks(test=60, transfer=12), chat=Chat()), arms=arms)


def build_run(root: Path, *, num_prompts: int = 60, hostile: bool = True, reply_length: int = 1) -> Path:
    """Write a run folder and return it. Same arguments, same bytes."""
    rows = [_row(index, "test") for index in range(num_prompts)]
    transfer = [_row(index, "transfer") for index in range(num_prompts // 5)]
    solved = {model: _answer(root, model, rows + transfer, hostile, reply_length) for model in MODELS}
    write_records(root / "corpus" / "test.jsonl", rows)
    write_records(root / "corpus" / "transfer.jsonl", transfer)
    write_text(root / "recipe.toml", RECIPE_TEXT)
    write_json(root / "verdict" / "verdict.json", _verdict(rows, transfer, solved).model_dump(mode="json"))
    write_json(root / "audit" / "audit.json", _audit().model_dump(mode="json"))
    write_records(root / "sft" / "metrics.jsonl", _sft_metrics())
    for index, arm in enumerate(MODELS[2:]):
        write_records(root / "dpo" / arm / "metrics.jsonl", _dpo_metrics(index))
    _write_manifests(root)
    return root


def _row(index: int, split: str) -> PromptRow:
    family = FAMILIES[index % len(FAMILIES)] if split == "test" else "coin_flips"
    a, b = 17 + index, 3 + index % 7
    question = f"A shop sells {a} pears a day. How many pears does it sell in {b} days?"
    solution = f"Each day {a} pears are sold.\nIn {b} days that is {a} x {b} = {a * b}.\n#### {a * b}"
    content = f"{split} {index}"
    answer = str(a * b)
    problem = Problem(family=family, question=question, answer=answer, metadata={}, solution=solution, content=content)
    return PromptRow(id=f"{split}-{index:04d}", prompt=user_prompt(question), source="tasks", problem=problem)


def _answer(root: Path, model: str, rows: Sequence[PromptRow], hostile: bool, length: int) -> dict[str, bool]:
    rng = random.Random(f"{model} replies")
    replies, judgements = [], []
    for index, row in enumerate(rows):
        assert row.problem is not None
        right = rng.random() < SKILL[model]
        answer = row.problem.answer if right else str(int(row.problem.answer) + rng.choice((-10, 1, 7)))
        text = f"Let me work it out step by step. {'It adds up. ' * rng.randrange(length, 12 * length)}\n#### {answer}"
        parsed, cut_off = right or rng.random() > 0.15, not right and rng.random() < 0.1
        if hostile and index < len(HOSTILE) and model != "base":
            text = HOSTILE[index]
        finish = "length" if cut_off else "stop"
        replies.append(Reply(prompt_id=row.id, text=text, finish_reason=finish, num_tokens=len(text) // 4))
        unscored = "the scorer timed out" if index == 11 and model == "base" else None
        judgements.append(
            Judgement(prompt_id=row.id, score=None if unscored else float(right), solved=None if unscored else right,
                      parsed=parsed, unscored_reason=unscored)
        )  # fmt: skip
    write_records(root / "evaluate" / model / "replies.jsonl", replies)
    write_records(root / "evaluate" / model / "judgements_verifier.jsonl", judgements)
    return {line.prompt_id: bool(line.solved) for line in judgements}


def _share(rows: Sequence[PromptRow], solved: dict[str, bool]) -> Estimate:
    return Estimate(**proportion(sum(solved[row.id] for row in rows), len(rows))._asdict())


def _verdict(rows: Sequence[PromptRow], transfer: Sequence[PromptRow], solved: dict[str, dict[str, bool]]) -> Verdict:
    scores = tuple(
        ModelScore(
            model=model,
            accuracy=_share(rows, solved[model]),
            transfer_accuracy=_share(transfer, solved[model]),
            accuracy_by_topic={f: _share([r for r in rows if r.topic == f], solved[model]) for f in FAMILIES},
            num_replies=len(rows) + len(transfer),
            unparsable=7 - index,
            truncated=index,
            unscored=int(model == "base"),
            mean_response_tokens=61.3 + 9 * index,
            repetition_rate=0.021 * (index + 1),
            retention_nats_per_token=0.91 + 0.047 * index,
        )
        for index, model in enumerate(MODELS)
    )
    pairs = [("base", "test"), *((model, "test") for model in MODELS[2:]), ("random+zero_shot", "transfer")]
    comparisons = (_comparison(model, split, rows if split == "test" else transfer, solved) for model, split in pairs)
    return Verdict(sentence=SENTENCE, confidence=0.95, scores=scores, comparisons=tuple(comparisons))


def _comparison(model: str, split: str, rows: Sequence[PromptRow], solved: dict[str, dict[str, bool]]) -> Comparison:
    wins = sum(solved[model][row.id] and not solved["sft"][row.id] for row in rows)
    losses = sum(solved["sft"][row.id] and not solved[model][row.id] for row in rows)
    n, change = len(rows), (wins - losses) / len(rows)
    half = 1.96 * math.sqrt(max(wins + losses, 1)) / n
    rate = 0.5 + change / 2
    return Comparison(
        candidate=model, baseline="sft", judge="verifier", split=split,
        difference=Estimate(estimate=change, low=change - half, high=change + half, n=n),
        win_rate=Estimate(estimate=rate, low=rate - half / 2, high=rate + half / 2, n=n),
        wins=wins, ties=n - wins - losses, losses=losses, unscored=int(model == "base"),
        p_value=math.exp(-3 * abs(change) / half), p_value_holm=min(1.0, 3 * math.exp(-3 * abs(change) / half)),
        minimum_detectable_difference=1.4 * half,
    )  # fmt: skip


def _audit() -> Audit:
    area = Estimate(estimate=0.934, low=0.901, high=0.957, n=400)
    shortcut = Shortcut(num_pairs=400, words_auc=area, length_auc=Estimate(estimate=0.52, low=0.47, high=0.57, n=400),
                        telling_chosen=("</script>", "\n", "therefore"), telling_rejected=())  # fmt: skip
    covered = PromptCoverage(anchor="random", num_clusters=20, num_compared=100, reached=0.4, reached_by_anchor=0.9,
                             effective=4.2, effective_of_anchor=12.5, far=0.031, num_vendi=100, vendi=21.0,
                             vendi_of_anchor=61.5)  # fmt: skip
    varied = Variety(num_texts=400, distinct_1=0.1, distinct_2=0.4, distinct_3=None, self_bleu=0.61, vendi=33.3)
    sides = {"prompts": varied, "chosen": varied, "rejected": varied}
    lengths = {"chosen_length": Lengths(characters=210.4, words=41.2),
               "rejected_length": Lengths(characters=198.7, words=38.9)}  # fmt: skip
    told = PairsAudit(name="zero_shot", of="kind", num_pairs=5_210, num_sampled=400, longer_is_chosen=area, **lengths,
                      **sides, shortcut=shortcut, coverage=covered)  # fmt: skip
    few = PairsAudit(name="random", of="arm", num_pairs=12, num_sampled=12, longer_is_chosen=None, **lengths, **sides,
                     shortcut=None, coverage=None, not_measured=("shortcut test: too few",))  # fmt: skip
    alarm = Alarm(about="zero_shot", field="audit.max_words_auc", value=0.901, threshold=0.8,
                  sentence="zero_shot: words alone tell <chosen> from rejected.", advice="Write both alike.",
                  )  # fmt: skip
    return Audit(audits=(told, few), alarms=(alarm,))


def _sft_metrics() -> list[Metric]:
    rng = random.Random(3)
    lines = []
    for step in range(1, 401):
        loss = 0.42 + 1.6 * math.exp(-step / 60)
        values = {"loss": loss * rng.uniform(0.9, 1.1), "learning_rate": 2e-4 * (1 - step / 400),
                  "grad_norm": 1.2 * rng.uniform(0.5, 1.6), "tokens_per_second": 1800.0}  # fmt: skip
        lines.append(Metric(step=step, split="train", values=values))
        if step % 40 == 0:
            lines.append(Metric(step=step, split="validation", values={"loss": loss * 1.08}))
    return lines


def _dpo_metrics(index: int) -> list[Metric]:
    rng = random.Random(index)
    lines = []
    for step in range(121):
        grown = 1 - math.exp(-step / (30 + 10 * index))
        noise = 1 if step % 20 == 0 else rng.uniform(0.85, 1.15)
        margin = 1.9 * grown * noise / (1 + index / 2)
        preference_loss = math.log1p(math.exp(-margin))
        nll = 0.45 + 0.02 * index - 0.05 * grown
        values = {"loss": preference_loss + 0.2 * nll, "preference_loss": preference_loss, "nll": nll, "margin": margin,
                  "accuracy": min(1.0, 0.5 + 0.42 * grown * noise), "chosen_logps_change": -4 * grown * noise * index,
                  "rejected_logps_change": -(19 - 3 * index) * grown * noise}  # fmt: skip
        if step % 20 == 0:
            lines.append(Metric(step=step, split="validation", values=values))
        if step:
            both = values | {"learning_rate": 1e-5, "grad_norm": 0.7}
            lines.append(Metric(step=step, split="train", values=both))
    return lines


def _write_manifests(root: Path) -> None:
    arms = MODELS[2:]
    seconds = {"corpus": 4.2, "retain": 95.0, "sft": 1260.5, "mine": 412.0, "teach": 66.1, "screen": 1.4}
    seconds |= (
        {"audit": 2.6}
        | {f"mix/{arm}": 0.3 for arm in arms}
        | {f"dpo/{arm}": 900.0 + 31 * i for i, arm in enumerate(arms)}
    )
    seconds |= {f"evaluate/{model}": 300.0 + 17 * i for i, model in enumerate(MODELS)} | {"verdict": 2.2}
    results = {
        "corpus": StageResult(counts_in={"problems": 2100}, counts_out={"test": 60, "sft": 600, "pool": 600},
                              drops={"duplicate": 31, "too long": 4}),
        "teach": StageResult(counts_in={"weak prompts": 260}, counts_out={"pairs": 231},
                             drops={"reply truncated": 9, "no JSON in the reply": 20},
                             tokens={"prompt": 181_202, "completion": 60_118}, money_usd=0.0721,
                             facts={"teacher": "worked", "<b>odd</b>": {"list": ["</script>"] * 100}}),
        "sft": StageResult(counts_in={"demonstrations": 740}, tokens={"target": 204_112, "processed": 610_000}),
    }  # fmt: skip
    for unit, took in seconds.items():
        manifest = Manifest(
            unit=unit, key=digest_json(unit), seed=7, inputs={"corpus": digest_json("corpus")}, recipe_part={},
            outputs={"out.jsonl": digest_json([unit, "out"])}, result=results.get(unit, StageResult()), seconds=took,
            finished_at="2025-01-01T00:00:00+00:00",
            versions={"python": "3.11.7", "limbeck": "0.1.0", "torch": "2.8.0" if unit != "sft" else "2.8.1"},
        )  # fmt: skip
        folder = root / unit
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json")), encoding="utf-8")
