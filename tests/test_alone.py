"""Every stage alone, on files in formats that people have: no recipe, no run of limbeck's before it."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from street import SMALL, Outcome, limbeck, settings, student, write_lines
from tiny_models import tiny_encoder
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.api.reply_store import FILE_NAME, ReplyStore
from limbeck.commands import stages
from limbeck.lm.reference_logps import ReferenceLogps
from limbeck.manifest import Manifest, read_manifest
from limbeck.records import Pair, WeakPrompt
from limbeck.store import read_records

ALPACA = [
    {"instruction": f"Add {n} and {n}.", "input": "" if n % 2 else "Be brief.", "output": f"It is {2 * n}."}
    for n in range(6)
]
TRL = [
    {
        "prompt": [{"role": "user", "content": f"How far is the moon, take {n}?"}],
        "chosen": [{"role": "assistant", "content": f"About {384 + n} thousand kilometres."}],
        "rejected": [{"role": "assistant", "content": f"Some {n} metres."}],
    }
    for n in range(6)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("alone") / "base")


@pytest.fixture(scope="module")
def mined(base: Path) -> Path:
    """What `limbeck mine` left: weak prompts with failing replies."""
    out = base.parent / "mined"
    return printed(small("mine", "mine.max_new_tokens=16", "--model", base, "--tasks", 24, "--out", out))


def small(command: str, *words: object) -> Outcome:
    """Run a stage on the CPU, in fp32; words with a point before an equals sign are settings."""
    is_setting = [isinstance(word, str) and "." in word.partition("=")[0] and "=" in word for word in words]
    overrides = [str(word) for word, setting in zip(words, is_setting, strict=True) if setting]
    rest = [word for word, setting in zip(words, is_setting, strict=True) if not setting]
    return limbeck(command, *rest, *settings(*SMALL, *overrides)).done()


def printed(outcome: Outcome) -> Path:
    """The folder that a command prints last."""
    return Path(outcome.out.splitlines()[-1])


def manifest(folder: Path) -> Manifest:
    found = read_manifest(folder)
    assert found is not None
    return found


def opens(folder: Path) -> None:
    """A plain user of transformers can load and prompt the model."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], return_tensors="pt", return_dict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers has opinions on generation settings
        written = network.generate(**ids, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert written.shape[1] > ids["input_ids"].shape[1]


def test_mining_says_where_it_asks_fewer_prompts_than_there_are(base: Path, tmp_path: Path) -> None:
    asked = ("mine.max_new_tokens=4", "mine.max_prompts=3", "--model", base, "--tasks", 5, "--out", tmp_path)
    assert "  mining: of 5 prompts 3 are asked, drawn at random (mine.max_prompts)\n" in small("mine", *asked).err
    assert "are asked" not in small("mine", *asked, "mine.max_prompts=5").err


def test_sft_learns_from_alpaca_json_and_leaves_a_model_that_opens(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "alpaca.json"
    data.write_text(json.dumps(ALPACA))
    words = ("sft", "sft.batch_size=2", "sft.learning_rate=0.01", "--model", base, "--data", data)
    done = small(*words, "--out", tmp_path / "out")
    model = printed(done)
    opens(model)
    counts = manifest(model.parent).result.counts_in
    assert counts == {"demonstrations": 5, "chat": 0, "validation": 1}
    assert (model / "model.safetensors").read_bytes() != (base / "model.safetensors").read_bytes()
    assert small(*words, "--out", tmp_path / "out").ran == []


def test_dpo_learns_from_trl_pairs_and_leaves_a_model_that_opens(base: Path, tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "trl.jsonl", TRL)
    model = printed(small("dpo", "dpo.batch_size=3", "dpo.epochs=1", "--model", base, "--pairs", pairs,
                          "--out", tmp_path / "out"))  # fmt: skip
    opens(model)
    result = manifest(model.parent).result
    assert result.counts_out["trained_on"] == 6
    assert result.counts_out["steps"] == 2


def test_dpo_stays_near_the_reference_it_is_given(base: Path, tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "trl.jsonl", TRL)
    words = ("dpo", "dpo.max_steps=1", "--model", base, "--pairs", pairs)
    near = printed(small(*words, "--out", tmp_path / "near"))
    far = printed(small(*words, "--reference", near, "--out", tmp_path / "far"))
    rows = [read_records(model.parent / "reference_logps.jsonl", ReferenceLogps) for model in (near, far)]
    assert [row.pair_id for row in rows[0]] == [row.pair_id for row in rows[1]]
    assert all(one.chosen_logps != two.chosen_logps for one, two in zip(*rows, strict=True))


def test_sft_and_dpo_train_adapters_when_asked_and_leave_models_that_open(base: Path, tmp_path: Path) -> None:
    data, pairs = write_lines(tmp_path / "d.jsonl", ALPACA), write_lines(tmp_path / "p.jsonl", TRL)
    student = printed(small("sft", "sft.lora.rank=4", "sft.max_steps=2", "--model", base, "--data", data,
                            "--out", tmp_path / "sft"))  # fmt: skip
    model = printed(small("dpo", "dpo.lora={}", "dpo.max_steps=2", "--model", student, "--pairs", pairs,
                          "--out", tmp_path / "dpo"))  # fmt: skip
    for folder, rank in ((student, 4), (model, 16)):
        opens(folder)
        assert json.loads((folder.parent / "adapter" / "adapter_config.json").read_text())["r"] == rank
    assert (model / "model.safetensors").read_bytes() != (student / "model.safetensors").read_bytes()


def test_memory_settings_change_nothing_in_what_is_trained_so_a_finished_stage_stays_fresh(
    base: Path, tmp_path: Path
) -> None:
    data = write_lines(tmp_path / "data.jsonl", ALPACA)
    words = ("--model", base, "--data", data, "--out", tmp_path / "out")
    assert "sft" in small("sft", "sft.max_steps=1", *words).ran
    assert small("sft", "sft.max_steps=1", "sft.gradient_checkpointing=on", *words).ran == []
    assert small("sft", "sft.max_steps=1", "sft.micro_batch_tokens=64", *words).ran == []
    assert "sft" in small("sft", "sft.max_steps=2", *words).ran


def test_a_stage_that_would_empty_the_folder_of_its_own_model_is_refused(base: Path, tmp_path: Path) -> None:
    data, out = write_lines(tmp_path / "data.jsonl", ALPACA), tmp_path / "out"
    trained = printed(small("sft", "sft.max_steps=1", "--model", base, "--data", data, "--out", out))
    again = limbeck("sft", "--model", trained, "--data", data, "--out", out, *settings(*SMALL, "sft.max_steps=2"))
    assert "would be emptied first; give --out another folder" in again.complaint
    opens(trained)


def test_a_layer_that_cannot_carry_adapters_and_a_missing_peft_are_each_one_sentence(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_lines(tmp_path / "p.jsonl", TRL)
    words = ("dpo", "--model", base, "--pairs", pairs, "--out", tmp_path / "out")
    complaint = limbeck(*words, *settings(*SMALL, "dpo.lora.target_modules=lm_head")).complaint
    assert complaint.startswith("lora.target_modules: 'lm_head' is the head or the embeddings of ")
    monkeypatch.setitem(sys.modules, "peft", None)
    complaint = limbeck(*words, *settings(*SMALL, "dpo.lora.rank=4")).complaint
    assert complaint == "dpo.lora needs the library 'peft': pip install 'limbeck[lora]'"


def test_mine_finds_what_a_model_fails_among_built_in_problems(mined: Path) -> None:
    weak = read_records(mined / "weak.jsonl", WeakPrompt)
    assert len(weak) == manifest(mined).result.counts_out["weak"] > 0
    assert all(row.problem and len(row.failures) <= 1 for row in weak)


def test_teach_writes_pairs_about_mined_prompts_which_screen_and_mix_then_take(
    mined: Path, base: Path, tmp_path: Path
) -> None:
    weak = mined / "weak.jsonl"
    taught = printed(small("teach", "--weak", weak, "--teacher", "worked", "--count", 8, "--out", tmp_path / "teach"))
    pairs = read_records(taught / "zero_shot.jsonl", Pair)
    assert len(pairs) == 8
    own = printed(small("teach", "--weak", weak, "--teacher", "worked", "--count", 4, "--kind", "on_policy",
                        "--out", tmp_path / "own"))  # fmt: skip
    screened = printed(small("screen", "--pairs", taught / "zero_shot.jsonl", "--out", tmp_path / "screen"))
    kept = read_records(screened / "human.jsonl", Pair)
    assert kept == pairs  # what teaching accepts, screening keeps
    mixed = printed(small("mix", "mix.heldout_pairs=1", f"zero_shot={screened / 'human.jsonl'}:4",
                          f"on_policy={own / 'on_policy.jsonl'}:2", "--out", tmp_path / "mix"))  # fmt: skip
    assert len(read_records(mixed / "train.jsonl", Pair)) == 6
    model = printed(small("dpo", "dpo.epochs=1", "--model", base, "--pairs", mixed / "train.jsonl",
                          "--validation", mixed / "validation.jsonl", "--out", tmp_path / "dpo"))  # fmt: skip
    assert manifest(model.parent).result.counts_in == {"pairs": 6, "validation": 2}


def test_screen_says_why_it_dropped_pairs_of_other_peoples_formats(tmp_path: Path) -> None:
    spoilt = [*TRL, TRL[0], {**TRL[1], "rejected": [{"role": "assistant", "content": ""}]}]
    done = small("screen", "--pairs", write_lines(tmp_path / "trl.jsonl", spoilt), "--out", tmp_path / "out")
    screened = printed(done)
    drops = manifest(tmp_path / "out" / "corpus").result.drops
    (reason,) = [line for line in done.err.splitlines() if line.startswith("corpus: done in")]
    assert reason.endswith(f" dropped ({', '.join(f'{count} x {why}' for why, count in drops.items())})")
    assert len(read_records(screened / "human.jsonl", Pair)) == 6
    assert manifest(tmp_path / "out" / "corpus").result.drops  # what no format allows is dropped, and counted, there


def test_evaluate_prints_the_accuracy_on_built_in_problems(base: Path, tmp_path: Path) -> None:
    words = ("evaluate", "evaluate.max_new_tokens=6", "--model", base, "--tasks", 12, "--out", tmp_path / "out")
    done = small(*words)
    first, folder = done.out.splitlines()
    assert first == "accuracy 0.0 % [0.0, 24.2], n = 12; 0 unscored"  # Wilson's interval for 0 of 12
    assert (Path(folder) / "replies.jsonl").is_file()
    again = small(*words)
    assert (again.ran, again.out) == ([], done.out)


def test_files_in_a_folder_called_corpus_are_the_users_own(
    mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "weak.jsonl").write_bytes((mined / "weak.jsonl").read_bytes())
    monkeypatch.chdir(tmp_path)
    small("teach", "--weak", "corpus/weak.jsonl", "--teacher", "worked", "--count", 2, "--out", "taught")
    pairs = Path("corpus/pairs.jsonl")
    pairs.write_bytes((tmp_path / "taught" / "teach" / "zero_shot.jsonl").read_bytes())
    assert manifest(printed(small("screen", "--pairs", pairs, "--out", "screened"))).result.counts_in == {"human": 2}
    small("mix", "mix.heldout_pairs=0", f"zero_shot={pairs}:2", "--out", "mixed")


def test_replies_that_were_stored_outlive_a_change_of_settings(mined: Path, tmp_path: Path) -> None:
    words = ("teach", "--weak", mined / "weak.jsonl", "--teacher", "worked", "--out", tmp_path / "out")
    folder = printed(small(*words, "--count", 3))
    assert manifest(folder).result.facts["replies"] == {"used": 3, "sent": 3, "from_store": 0}
    small(*words, "--count", 6)
    assert manifest(folder).result.facts["replies"] == {"used": 6, "sent": 3, "from_store": 3}
    with ReplyStore(folder / FILE_NAME) as store:
        assert set(store.times_sent().values()) == {1}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["mine", "--model", "BASE"], "limbeck mine: give either --prompts FILE or --tasks NUMBER"),
        (["evaluate", "--model", "BASE", "--tasks", "3", "--prompts", "x"], "limbeck evaluate: give either --prompts"),
        (["sft", "--model", "BASE", "--data", "nothing.jsonl"], "nothing.jsonl does not exist"),
        (["sft", "--model", "nothing", "--data", "x.jsonl"], "no model 'nothing': expected a local folder"),
        (["dpo", "--model", "BASE", "--pairs", "nothing.jsonl"], "nothing.jsonl does not exist"),
        (
            ["dpo", "--model", "BASE", "--pairs", "x.jsonl", "--set", "dpo.reference=base"],
            "limbeck dpo: dpo.reference 'base' names a model of a whole run; here, name the model to stay near with "
            "--reference MODEL",
        ),
        (["mix", "human=x.jsonl:²"], "'human=x.jsonl:²': expected KIND=FILE:COUNT"),
        (["mix", "human=x.jsonl"], "'human=x.jsonl': expected KIND=FILE:COUNT, for instance human=pairs.jsonl:400"),
        (["mix", "mine=x.jsonl:3"], "limbeck mix: unknown key 'arms.mixed.mine'"),
        (["mix", "human=x.jsonl:3", "human=y.jsonl:3"], "limbeck mix: one file for each kind"),
        (["mix", "human=x.jsonl:3"], "x.jsonl does not exist"),
        (["teach", "--weak", "x.jsonl", "--teacher", "oracle", "--count", "1"], "teach.teacher: 'oracle' is not known"),
        (["screen", "--pairs", "x.jsonl", "--set", "screen.min=1"], "--set screen.min: unknown key 'screen.min'"),
    ],
)
def test_a_mistake_is_one_sentence(
    base: Path, words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "oracle" in words:
        write_lines(tmp_path / "x.jsonl", [{"prompt": "a"}])
    refused = limbeck(*[str(base) if word == "BASE" else word for word in words], "--out", tmp_path / "out")
    assert complaint in refused.complaint


def test_a_torn_line_in_the_users_pairs_is_named(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(TRL[0]) + '\n{"prompt": \n')
    complaint = limbeck("dpo", "--model", base, "--pairs", path, "--out", tmp_path / "out").complaint
    assert complaint.startswith(f"{path}, row 2: not valid JSON")


def test_prompts_that_no_verifier_can_judge_are_refused_in_a_sentence(base: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "trl.jsonl", TRL)
    refused = limbeck("mine", "--model", base, "--prompts", path, "--out", tmp_path / "trl", *settings(*SMALL))
    assert refused.complaint.startswith("no prompt of the pool is a built-in problem or has a number")


def test_what_was_mined_can_be_mined_again_with_its_problems(base: Path, mined: Path, tmp_path: Path) -> None:
    again = printed(small("mine", "mine.max_new_tokens=4", "--model", base, "--prompts", mined / "weak.jsonl",
                          "--out", tmp_path / "again"))  # fmt: skip
    weak = read_records(mined / "weak.jsonl", WeakPrompt)
    assert [row.problem for row in read_records(again / "weak.jsonl", WeakPrompt) if row.problem]
    assert manifest(again).result.counts_in["pool"] == len(weak)


def test_another_model_in_a_folder_that_a_stage_alone_reads_makes_its_result_stale(
    mined: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder(tmp_path / "encoder")
    words = ("screen", f"screen.embedder={encoder}", "--pairs", write_lines(tmp_path / "trl.jsonl", TRL))
    assert "screen" in small(*words, "--out", tmp_path / "out").ran
    assert small(*words, "--out", tmp_path / "out").ran == []
    (encoder / "config.json").write_text((encoder / "config.json").read_text() + "\n")
    assert small(*words, "--out", tmp_path / "out").ran == ["screen"]
    given: dict[str, Path] = {}
    monkeypatch.setattr(stages, "run_alone", lambda _recipe, _name, inputs, out: given.update(inputs) or out)
    small("teach", "--weak", mined / "weak.jsonl", "--teacher", f"local:{base}", "--count", 1,
          "--out", tmp_path / "taught")  # fmt: skip
    assert given["teacher"] == base
