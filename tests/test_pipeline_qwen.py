"""Qwen2.5's shape, tiny, through every stage of the paper's recipe: 24 tied layers, and an eos that ends no turn."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from hub_schemas import write_hub_folders
from street import Outcome, limbeck
from tiny_models import END_OF_TEXT, IM_END, VOCABULARY, tiny_folder, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.api.fake_server import FakeServer
from limbeck.api.fake_teacher import FakeTeacher
from limbeck.manifest import MANIFEST
from limbeck.recipe.file import packaged_recipe
from limbeck.records import Reply
from limbeck.records.verdict import Verdict
from limbeck.store import read_records

LAYERS, PADDING_ROWS = 24, 30  # the real embedding has 271 rows that are no token's
ARMS = ("human+few_shot", "human-base_reference", "sft_rolling")
COUNTS = {"human": 8, "zero_shot": 2, "few_shot": 2, "rolling": 3}
# The template that Qwen2.5's tokenizers ship, base models included, without its part for tools.
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    '{%- if (message.role == "user") or (message.role == "system" and not loop.first) '
    'or (message.role == "assistant") %}'
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def qwen(folder: Path) -> Path:
    """Qwen2.5-0.5B in small: the published config's proportions, and what its generation config says."""
    tokenizer = tiny_tokenizer("base_eos")
    tokenizer.chat_template = QWEN
    eos = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    tiny_folder(folder, "qwen2", num_hidden_layers=LAYERS, vocab_size=VOCABULARY + PADDING_ROWS,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
                eos_token_id=eos, bos_token_id=eos)  # fmt: skip
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():  # so that replies end now and then, and are never made of rows that are no token's
        weight = network.get_output_embeddings().weight
        weight[tokenizer.convert_tokens_to_ids(IM_END)] *= 2.5
        weight[VOCABULARY:] = 0.0
    network.generation_config.update(eos_token_id=eos, bos_token_id=eos, do_sample=False, max_new_tokens=2048)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rehearsal's recipe with a few of its arms, smaller still."""
    folder = tmp_path_factory.mktemp("qwen")
    write_hub_folders(folder)
    data: dict[str, Any] = tomllib.loads(packaged_recipe("paper-rehearsal").read_text(encoding="utf-8"))
    data["model"] |= {"student": str(qwen(folder / "base")), "device": "cpu", "dtype": "fp32", "max_prompt_tokens": 512}
    for name in ("demonstrations", "preferences", "evaluation"):
        (dataset,) = data["corpus"][name]
        dataset["path"] = str(folder / Path(dataset["path"]).name)
    data["corpus"]["demonstrations"][0]["limit"] = 16
    data["corpus"]["evaluation"][0]["limit"] = 6
    data["corpus"]["chat"] = {"train": 4, "heldout": 3, "max_new_tokens": 12}
    data["mine"] |= {"max_prompts": 24, "bottom_quantile": 0.6, "max_new_tokens": 16}
    data["evaluate"]["max_new_tokens"] = 16
    data["mix"]["heldout_pairs"] = 1
    data["teach"]["accept"] = {"zero_shot": 4, "few_shot": 3, "rolling": 4}
    data["sft"]["max_steps"] = data["dpo"]["max_steps"] = 1
    data["arms"] = {name: arm for name, arm in data["arms"].items() if name in ARMS}
    for arm in data["arms"].values():
        arm |= {kind: count for kind, count in COUNTS.items() if kind in arm}
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch, FakeServer(FakeTeacher()).listen() as url:
        patch.setenv("NO_PROXY", "127.0.0.1")
        for key in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
            patch.delenv(key, raising=False)
        where = [f"{place}.endpoint.base_url={url}" for place in ("teach", "judges.nemotron")]
        options = [word for one in where for word in ("--set", one)]
        limbeck("run", recipe, "--out", recipe.parent / "run", *options).done()
    return recipe.parent / "run"


def test_every_stage_carries_qwens_shape_through_to_a_verdict(run: Path) -> None:
    stages = {"corpus", "retain", "sft", "mine", "teach", "screen", "export", "audit", "verdict", "report"}
    found = {path.parent.relative_to(run).as_posix() for path in run.rglob(MANIFEST)}
    per_model = {f"{stage}/{m}" for stage in ("evaluate", "heldout_pairs") for m in ("base", "sft", *ARMS)}
    trained = {f"dpo/{arm}" for arm in ARMS[:2]} | {"sft_arms/sft_rolling"}
    assert found == stages | per_model | trained | {f"mix/{arm}" for arm in ARMS}
    verdict = Verdict.model_validate_json((run / "verdict" / "verdict.json").read_text())
    assert [score.model for score in verdict.scores] == ["base", "sft", *ARMS]
    assert all(score.num_replies == 6 for score in verdict.scores)


def test_replies_hold_neither_the_templates_marks_nor_ids_that_are_no_tokens(run: Path) -> None:
    replies = [reply for path in run.rglob("replies.jsonl") for reply in read_records(path, Reply)]
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    assert not any(mark in reply.text for reply in replies for mark in ("<|im_", END_OF_TEXT))


@pytest.mark.parametrize("folder", ["sft/model", "dpo/human-base_reference/model", "sft_arms/sft_rolling/model"])
def test_a_trained_model_stops_at_the_end_of_turn_wherever_it_is_loaded(run: Path, folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / folder)
    network = AutoModelForCausalLM.from_pretrained(run / folder, dtype=torch.float32)
    ends = {tokenizer.convert_tokens_to_ids(token) for token in (IM_END, END_OF_TEXT)}
    assert set(network.generation_config.eos_token_id) == ends
    assert network.config.tie_word_embeddings
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    assert (network.config.num_hidden_layers, network.config.vocab_size) == (LAYERS, VOCABULARY + PADDING_ROWS)
    assert tokenizer.chat_template == QWEN
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tell me of rivers."}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    written = network.generate(ids, max_new_tokens=200)[0, ids.shape[1] :].tolist()
    assert ends & set(written) == ends & set(written[-1:])  # nothing is written after an end of turn
    assert len(written) == 200 or written[-1] in ends


def talked(run: Path, *words: str) -> Outcome:
    return limbeck("chat", run, *words, stdin="Tell me of rivers.\n").done()


def test_chat_says_what_transformers_writes_from_the_saved_folder(run: Path) -> None:
    shown = talked(run, "--model", "human+few_shot", "--before", "sft").out
    folder = run / "dpo" / "human+few_shot" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tell me of rivers."}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    written = network.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    (start, *_) = tokenizer.decode(written, skip_special_tokens=True).split()
    assert start in shown


def test_a_base_model_without_any_template_is_refused_with_the_way_to_give_one(tmp_path: Path, recipe: Path) -> None:
    bare = tiny_folder(tmp_path / "bare", "qwen2", "no_template")
    words = ("sft", "--model", bare, "--data", recipe.parent / "smoltalk" / "data" / "all", "--out", tmp_path / "out")
    small = ("--set", "model.device=cpu", "--set", "model.dtype=fp32", "--set", "sft.max_steps=1")
    assert "save a `chat_template.jinja` beside its tokenizer" in limbeck(*words, *small).complaint
    (bare / "chat_template.jinja").write_text(QWEN, encoding="utf-8")
    limbeck(*words, *small).done()
    (written,) = (tmp_path / "out").rglob("generation_config.json")
    saved = json.loads(written.read_text(encoding="utf-8"))
    assert tiny_tokenizer().convert_tokens_to_ids(END_OF_TEXT) in saved["eos_token_id"]
