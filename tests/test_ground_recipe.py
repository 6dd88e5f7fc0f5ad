"""Recipes: every mistake is one sentence that names the field, and what is written is what is read back."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import RecipeError
from limbeck.recipe import Model, Recipe
from limbeck.recipe.corpus import Corpus, Dataset, Tasks
from limbeck.recipe.file import load_recipe, write_recipe
from limbeck.recipe.pairs import Arm, MadeKind, Mix, Teach
from limbeck.recipe.training import Dpo, Lora

GOOD = """
name = "mine"
[corpus.tasks]
test = 7
[arms.zero]
zero_shot = 12
[dpo]
beta = 0.2
"""


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(path, overrides)


def test_a_good_recipe_is_read_and_the_rest_is_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert (recipe.name, recipe.dpo.beta, recipe.sft.learning_rate) == ("mine", 0.2, 2e-4)
    assert recipe.arms == {"zero": Arm(zero_shot=12)}
    assert recipe.corpus.tasks == Tasks(test=7)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\n[dpo]\nbeta = 0.1\nbetta = 1", "unknown key 'dpo.betta'; did you mean 'beta'?"),
        ("\n[arms.mine]\non_polcy = 1", "unknown key 'arms.mine.on_polcy'; did you mean 'on_policy'?"),
        ("\n[dop]\nbeta = 1", "unknown key 'dop'; did you mean 'dpo'?"),
        ("\n[sft]\nlearningrate = 1", "unknown key 'sft.learningrate'; did you mean 'learning_rate'?"),
        ("\n[teach.endpoint]\ntimeout = 1", "unknown key 'teach.endpoint.timeout'; did you mean 'timeout_seconds'?"),
        ("\n[dpo]\nbeta = 'strong'", "dpo.beta: input should be a valid number, .* \\(found 'strong'\\)"),
        ("\n[dpo]\nbeta = 0.0", "dpo.beta: input should be greater than 0 \\(found 0.0\\)"),
        ("\n[dpo]\nbeta = nan", "dpo.beta: input should be "),
        ("\n[sft]\nbatch_size = 1.5", "sft.batch_size: input should be a valid integer"),
        ("\n[sft]\nbatch_size = 0", "sft.batch_size: input should be greater than 0 \\(found 0\\)"),
        ("\n[model]\ndtype = 'fp16'", "model.dtype: input should be 'auto', 'bf16' or 'fp32' \\(found 'fp16'\\)"),
        ("\n[arms.'a b']\nhuman = 1", "arms"),
        ("\n[arms.empty]", "arms.empty: an arm needs at least one pair of some kind"),
        ("\n[arms.sft]\nzero_shot = 1", "an arm cannot be called 'sft': that names a model before DPO"),
        ("\n[arms.Against]\nzero_shot = 1", "an arm cannot be called 'against': somebody else's responses stand under"),
        ("\n[mine]\nrule = 'gap'", "mine.rule 'gap' wants a reward model, and there is none before mining"),
        (
            "\n[mine]\nweights = 'int8'\n[servers.sft]\nbase_url = 'http://x/v1'\nmodel = 'm'",
            "mine.weights 'int8' is the built-in engine's, and servers.sft samples elsewhere",
        ),
        ("\n[dpo", "not valid TOML: "),
        ("\n[dpo]\nbeta = 1\nbeta = 2", "not valid TOML: "),
    ],
)
def test_a_mistake_is_one_sentence_that_names_file_and_field(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as raised:
        load(tmp_path, 'name = "mine"\n[corpus.tasks]' + text)
    assert str(raised.value).startswith(f"{tmp_path / 'recipe.toml'}: ")
    assert "\n" not in str(raised.value)


def test_a_recipe_without_a_name_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml: name: field required$"):
        load(tmp_path, "[corpus.tasks]\n")


def test_a_missing_unreadable_or_binary_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml does not exist; `limbeck init` writes a recipe"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not valid UTF-8 text"):
        load_recipe(tmp_path / "binary.toml")


def test_overrides_are_toml_values_and_bare_words_are_strings(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        GOOD,
        "dpo.beta=0.5",
        "model.student=models/my student",
        "model.dtype=fp32",
        "sft.epochs = 3",
        "corpus.tasks.families=['a', 'b']",
        "arms.more.few_shot=4",
        "teach.endpoint.base_url=http://localhost:8000/v1=x",
    )
    assert recipe.dpo.beta == 0.5
    assert recipe.model.student == "models/my student"
    assert recipe.model.dtype == "fp32"
    assert recipe.sft.epochs == 3
    assert recipe.corpus.tasks == Tasks(test=7, families=("a", "b"))
    assert recipe.arms == {"zero": Arm(zero_shot=12), "more": Arm(few_shot=4)}
    assert recipe.teach.endpoint.base_url == "http://localhost:8000/v1=x"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("dpo.beta", "--set 'dpo.beta': expected section.field=value, for instance dpo.beta=0.2"),
        ("=3", "expected section.field=value"),
        ("dpo..beta=3", "expected section.field=value"),
        ("name.first=3", "'name' is not a section"),
        ("dpo.betta=3", "unknown key 'dpo.betta'; did you mean 'beta'?"),
        ("dpo.beta=strong", "dpo.beta: input should be a valid number"),
        ("dpo=3", "dpo: input should be a valid dictionary or instance of Dpo"),
    ],
)
def test_a_wrong_override_is_one_sentence(tmp_path: Path, override: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        load(tmp_path, GOOD, override)


def test_an_empty_section_asks_for_adapters_and_one_name_is_a_list_of_one(tmp_path: Path) -> None:
    assert load(tmp_path, 'name = "mine"').dpo.lora is None
    assert load(tmp_path, 'name = "mine"\n[dpo.lora]').dpo.lora == Lora()
    recipe = load(tmp_path, 'name = "mine"', "sft.lora={}", "dpo.lora.rank=4", "dpo.lora.target_modules=q_proj")
    assert (recipe.sft.lora, recipe.dpo.lora) == (Lora(), Lora(rank=4, target_modules=("q_proj",)))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("dropout = 0.1", "unknown key 'dpo.lora.dropout'"),
        ("modules_to_save = ['lm_head']", "unknown key 'dpo.lora.modules_to_save'"),
        ("rank = 0", "dpo.lora.rank: input should be greater than or equal to 1"),
        ("target_modules = []", "dpo.lora.target_modules: tuple should have at least 1 item"),
        ("target_modules = 3", "dpo.lora.target_modules: input should be a valid tuple"),
    ],
)
def test_a_wrong_adapter_is_one_sentence(tmp_path: Path, settings: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        load(tmp_path, f'name = "mine"\n[dpo.lora]\n{settings}')


arms = st.builds(Arm, human=st.integers(1, 9), zero_shot=st.integers(0, 9))
recipes = st.builds(
    Recipe,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,20}", fullmatch=True),
    seed=st.integers(0, 2**31 - 1),
    model=st.builds(Model, student=st.text(max_size=20), dtype=st.sampled_from(["auto", "bf16", "fp32"])),
    corpus=st.builds(
        Corpus,
        tasks=st.just(Tasks(families=("a", "b"))),
        preferences=st.lists(st.builds(Dataset, path=st.text(max_size=20)), min_size=1, max_size=2).map(tuple),
    ),
    arms=st.dictionaries(st.sampled_from(["human", "human+zero", "a.b"]), arms, max_size=3),
    dpo=st.builds(
        Dpo,
        beta=st.floats(1e-9, 100),
        patience=st.none() | st.integers(1, 9),
        learning_rate=st.floats(1e-30, 0.1),
        lora=st.none() | st.builds(Lora, rank=st.integers(1, 64), target_modules=st.just(("q_proj", "v_proj"))),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes)
def test_a_written_recipe_is_read_back_as_it_was(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(path, recipe)
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("override", "blamed"),
    [
        ("dpo.beta=-1", "--set dpo.beta: "),
        ("dpo.nothing=1", "--set dpo.nothing: unknown key"),
        ("sft.learning_rate.x=1", "--set sft.learning_rate.x: sft.learning_rate"),
        ("dpo.beta=0.5", "recipe.toml: sft.epochs"),
    ],
)
def test_what_is_wrong_is_said_of_where_it_stands(tmp_path: Path, override: str, blamed: str) -> None:
    text = GOOD if override != "dpo.beta=0.5" else GOOD + "\n[sft]\nepochs = -1\n"
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, override)
    assert blamed in str(caught.value)


def test_arms_whose_folders_would_be_one_on_some_disks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names that differ in case alone"):
        load(tmp_path, GOOD + "[arms.Zero]\nzero_shot = 3\n")
    with pytest.raises(RecipeError, match="an arm cannot be called 'sft'"):
        load(tmp_path, GOOD + "[arms.SFT]\nzero_shot = 3\n")


def test_a_key_in_an_override_is_refused_unseen(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, GOOD, "teach.endpoint.api_key_env=sk-proj-topsecret")
    assert str(caught.value).startswith("--set teach.endpoint.api_key_env: ")
    assert "topsecret" not in str(caught.value)


def test_a_written_recipe_spells_its_defaults_and_overrides_out(tmp_path: Path) -> None:
    path = tmp_path / "written.toml"
    write_recipe(path, load(tmp_path, GOOD, "dpo.beta=0.7"))
    text = path.read_text()
    assert "beta = 0.7" in text
    assert "warmup_steps = 20" in text


def test_the_arms_need_of_a_kind_is_the_largest_of_any_arm(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD, "arms.more.zero_shot=30", "arms.more.few_shot=4")
    assert recipe.pair_kinds() == {"zero_shot": 30, "few_shot": 4}


def quotas(arms: dict[str, Arm], heldout: int = 10, **teach: Any) -> Recipe:
    return Recipe(
        name="r",
        corpus=Corpus(tasks=Tasks()),
        arms=arms,
        mix=Mix(heldout_pairs=heldout),
        teach=Teach.model_validate(teach),
    )


def test_as_many_pairs_are_accepted_as_the_neediest_arm_and_validation_take_and_twice_as_many_are_tried() -> None:
    recipe = quotas({"a": Arm(random=100), "b": Arm(human=5, random=40)})
    assert (recipe.accept("random"), recipe.max_candidates("random")) == (110, 220)
    assert (recipe.accept("zero_shot"), recipe.max_candidates("zero_shot")) == (0, 0)


def test_kinds_that_share_prompts_in_an_arm_need_what_the_others_hold_out_as_well() -> None:
    recipe = quotas({"a": Arm(zero_shot=100, revise=50, few_shot=70, human=9)})
    kinds: tuple[MadeKind, ...] = ("zero_shot", "revise", "few_shot")
    assert [recipe.accept(kind) for kind in kinds] == [120, 70, 80]


def test_what_is_accepted_and_tried_can_be_set_for_each_kind() -> None:
    recipe = quotas({"a": Arm(zero_shot=100)}, accept={"zero_shot": 300}, max_candidates={"zero_shot": 310})
    assert (recipe.accept("zero_shot"), recipe.max_candidates("zero_shot")) == (300, 310)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("teach.accept={zero_shot = 20}", "teach.accept.zero_shot is 20, and an arm asks for 20 such pairs besides the "
         "24 that are held out"),
        ("teach.max_candidates={zero_shot = 43}", "teach.max_candidates.zero_shot is 43, less than the 44 that are"),
        ("teach.accept={human = 5}", "teach.accept.human"),
        ("teach.accept={zero_shot = 0}", "teach.accept.zero_shot: input should be greater than 0"),
        ("teach.accept=2000", "teach.accept: input should be a valid dictionary"),
        ("teach.reasks=4", "teach.reasks: input should be less than or equal to 3"),
        ("teach.structured=xml", "teach.structured: input should be 'auto', 'json_schema', 'json_object' or 'off'"),
        ("teach.context_pairs_shown=0", "teach.context_pairs_shown: input should be greater than or equal to 1"),
        ("teach.spare_share=0.1", "unknown key 'teach.spare_share'"),
        ("mine.samples_per_prompt=0", "mine.samples_per_prompt: input should be greater than or equal to 1"),
        ("mine.weak_below_pass_rate=0", "mine.weak_below_pass_rate: input should be greater than 0"),
        ("teach.accept={few_shot = 50, revise = 9}", "teach.accept names kinds of which no arm asks for pairs: "
         "few_shot, revise$"),
        ("teach.max_candidates={rolling = 9}", "teach.max_candidates names kinds of which no arm asks .*: rolling$"),
        ("mine={rule = 'gap', judge = 'nemotron', weak_below_pass_rate = 0.5}", "weak_below_pass_rate goes with rule "
         "'failed' only, and rule is 'gap'"),
        ("teach={teacher = 'openai:m', batch = true, contrast_endpoint = {style = 'azure'}}", "batch = true needs "
         "contrast_endpoint.style = \"openai\", not 'azure'"),
        ("arms.a.synthetic_share=0.25", "arms.a: synthetic_share goes with mixing 'ratio' only, and mixing is "
         "'uniform'"),
        ("mine={samples_per_prompt = 4, temperature = 0}", "mine: samples_per_prompt is 4, and at temperature 0 all "),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_mining_or_teaching_is_one_sentence(tmp_path: Path, settings: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        load(tmp_path, 'name = "mine"\n[corpus.tasks]\n[arms.a]\nzero_shot = 20', settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("loss = 'ipo'\nlabel_smoothing = 0.1", "dpo: label_smoothing above 0 goes with loss 'sigmoid' only, and loss "
         "is 'ipo'"),
        ("loss = 'apo_zero'\nlabel_smoothing = 0.1", "dpo: label_smoothing above 0 goes with loss 'sigmoid' only"),
        ("keep = 'solved'", "dpo: keep 'solved' needs problems that are solved"),
        ("validate_problems = 3\nlora = {}", "dpo: validate_problems asks a model with weights of its own, and lora"),
        ("keep = 'last'\npatience = 3", "dpo: patience ends training some validations after the best one"),
        ("loss = 'apo_zero'\nlength_normalised = true", "dpo: length_normalised goes with loss 'sigmoid' or 'ipo'"),
        ("label_smoothing = 0.5", "dpo.label_smoothing: input should be less than 0.5"),
        ("loss = 'hinge'", "dpo.loss: input should be 'sigmoid', 'ipo' or 'apo_zero' \\(found 'hinge'\\)"),
    ],
)  # fmt: skip
def test_losses_that_do_not_go_with_a_setting_say_which_do(tmp_path: Path, settings: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        load(tmp_path, f'name = "mine"\n[dpo]\n{settings}')


def test_an_arm_that_keeps_the_last_weights_does_not_inherit_patience(tmp_path: Path) -> None:
    arm = "[dpo]\npatience = 5\nbeta = 0.3\n[arms.a]\nown = 2\ndpo = { keep = 'last' }"
    found = load(tmp_path, f'name = "mine"\n[corpus.tasks]\n{arm}').dpo_of("a")
    assert (found.keep, found.patience, found.beta) == ("last", None, 0.3)
    with pytest.raises(RecipeError, match="patience ends training"):
        load(tmp_path, f'name = "mine"\n[corpus.tasks]\n{arm[:-2]}, patience = 2 }}')


@pytest.mark.parametrize(
    "settings",
    ["loss = 'ipo'\nlength_normalised = true", "loss = 'sigmoid'\nlength_normalised = true\nlabel_smoothing = 0.1",
     "loss = 'apo_zero'\nlabel_smoothing = 0"],
)  # fmt: skip
def test_losses_take_the_settings_that_go_with_them(tmp_path: Path, settings: str) -> None:
    assert load(tmp_path, f'name = "mine"\n[dpo]\n{settings}').dpo.loss in settings
