"""What each unit computes: rows, steps, tokens. Pure: a recipe and the lengths of its rows in, work out."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from limbeck.planning.lengths import Lengths
from limbeck.planning.pairs import Texts
from limbeck.planning.ranges import ZERO, Range, exact, mean_of, total
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Arm, PairKind
from limbeck.recipe.training import Optimisation
from limbeck.recipe.verdict import AGAINST
from limbeck.units.unit import BASE, SFT, Unit

_REWARD_VALIDATION, _MOST_REWARD_VALIDATION = 0.1, 200  # as the stage `reward` has them
_WHOLE_REPLIES = 0.7  # of chat replies, about
_DEEPENING = 0.5  # of the steps of a failing reply that may be tried, a middling share is


@dataclass(frozen=True)
class Work:
    """One unit. Tokens `trained` are computed forward and backward, `scored` forward only, `sampled` written one after
    the other. `rows`: pairs, demonstrations or prompts. `longest`: tokens of the longest row (training) or of the
    longest conversation (sampling). `unknown`: what must be read before anything can be said.
    """

    rows: Range | None = None
    steps: Range | None = None
    trained: Range = ZERO
    scored: Range = ZERO
    sampled: Range = ZERO
    longest: int = 0
    settings: Optimisation | None = None
    responses: int = 1
    unknown: str | None = None


def steps_of(settings: Optimisation, rows: int) -> int:
    """Optimizer steps, as the trainer counts them."""
    from limbeck.lm.schedule import num_steps

    return num_steps(settings, rows) if rows else 0


def trained_rows(settings: Optimisation, rows: int) -> int:
    """Rows that all steps of a run hold together, each as often as it comes."""
    return min(round(settings.epochs * rows), steps_of(settings, rows) * settings.batch_size)


def validations(settings: Optimisation, steps: int) -> int:
    """How often the held-out rows are looked at: before the first step, every so many, and after the last."""
    every = settings.validate_every_steps
    return 1 + steps // every + (1 if steps % every else 0)


def training(settings: Optimisation, rows: Range, tokens: Range, heldout: Range) -> Work:
    """A training run on `rows` of `tokens` each; `heldout`: tokens of all rows that a validation looks at."""
    steps = rows.each(lambda number: steps_of(settings, round(number)))
    seen = rows.each(lambda number: trained_rows(settings, round(number)))
    looks = steps.each(lambda number: validations(settings, round(number)))
    if settings.patience is not None:
        # At the earliest it stops when nothing was better than the weights it began with.
        least = min(steps.low, settings.patience * settings.validate_every_steps)
        share = least / max(steps.low, 1)
        steps, seen, looks = (Range(share * known.low, known.likely, known.high) for known in (steps, seen, looks))
    return Work(rows, steps, trained=seen * tokens, scored=looks * heldout, settings=settings)


@dataclass
class Works:
    """The work of a run's units, asked for in their order: what an earlier unit keeps is not computed again.

    `rows`: of each table, None where unknown. `measured`: how long they are. `chat_is_known`: the chat rows are the
    base model's replies, those that are kept.
    """

    recipe: Recipe
    rows: Mapping[str, Range | None]
    measured: Mapping[str, Lengths]
    chat_is_known: bool = False
    _scored: dict[tuple[str, str], dict[PairKind, int]] = field(default_factory=lambda: defaultdict(dict))

    def of(self, unit: Unit) -> Work:
        """What one unit computes."""
        whole: dict[str, Callable[[], Work]] = {
            "retain": self._retain,
            "reward": self._reward,
            "mine": self._mine,
            "branch": self._branch,
        }
        of_models: dict[str, Callable[[Unit], Work]] = {
            "sft": self._sft,
            "mix": self._mix,
            "dpo": self._dpo,
            "evaluate": self._evaluate,
            "heldout_pairs": self._heldout_pairs,
        }
        if unit.stage in whole:
            return whole[unit.stage]()
        return of_models[unit.stage](unit) if unit.stage in of_models else Work()

    @property
    def texts(self) -> Texts:
        """How long what is yet to be written will be."""
        return Texts(self.recipe, self.measured)

    def mined_prompts(self) -> Range:
        """Prompts that the student is asked; where nobody knows how many there are, as many as the recipe allows."""
        most = self.recipe.mine.max_prompts
        known = self.rows["pool"]
        return exact(most) if known is None else known.capped(most)

    @property
    def judged_table(self) -> Literal["test", "validation"]:
        """Of what kind the prompts are by which models are judged; transfer problems are as long as test problems."""
        return self.recipe.evaluate.on

    def judged_prompts(self) -> Range | None:
        """Held-out prompts, by which models are judged. None: unknown."""
        tables = ("test", "transfer") if self.judged_table == "test" else (self.judged_table,)
        known = [self.rows[table] for table in tables]
        return total(part for part in known if part is not None) if None not in known else None

    def judged_turns(self) -> Range | None:
        """Held-out prompts and what the user says after replies to them, each of which a model replies to."""
        prompts, known = self.judged_prompts(), self.rows[self.judged_table]
        if prompts is None or known is None:
            return None
        return prompts + known * (self.measured[self.judged_table].turns - 1)

    def retained(self) -> Range:
        """Chat replies of the base model that are trained on: nobody knows beforehand how many are cut off."""
        asked = self.rows["chat_train"] or ZERO
        return asked if self.chat_is_known else Range(0, _WHOLE_REPLIES * asked.likely, asked.high)

    def _retain(self) -> Work:
        chat = self.recipe.corpus.chat
        if chat is None:
            return Work()
        rows = total(self.rows[name] or ZERO for name in ("chat_train", "chat_heldout"))
        return self._sampling(rows, "chat_train", self._chat_reply(), chat.max_new_tokens)

    def _chat_reply(self) -> Range:
        """A chat reply of the base model, of which nothing is known but its limit."""
        most = self.recipe.corpus.chat.max_new_tokens if self.recipe.corpus.chat else 0
        return Range(most * 0.3, most * 0.8, most)

    def _sampling(self, prompts: Range, table: str, reply: Range, most: int, samples: int = 1) -> Work:
        """Replies to prompts; a prompt is computed once for all of its samples."""
        found, rows = self.measured[table], prompts * samples
        return Work(rows, scored=prompts * found.prompt, sampled=rows * reply, longest=found.longest_prompt + most)

    def _demonstrations(self) -> tuple[Range, Range] | None:
        """Rows that the plain SFT trains on, and mean tokens of one. None: unknown."""
        known, found = self.rows["demonstrations"], self.measured["demonstrations"]
        if known is None:
            return None
        rows, chat = known * found.fit, self.retained()
        words = self.measured["chat_train"].response if self.chat_is_known else self._chat_reply()
        replies = self.measured["chat_train"].prompt + words
        tokens = mean_of([(rows.likely, found.prompt + found.response), (chat.likely, replies)])
        return rows + chat, tokens

    def _validation(self) -> Range:
        """Tokens of the demonstrations that are held out."""
        found = self.measured["demonstrations_validation"]
        return (self.rows["demonstrations_validation"] or ZERO) * (found.prompt + found.response)

    def _sft(self, unit: Unit) -> Work:
        if unit.argument is not None:
            return self._sft_arm(unit, unit.argument)
        known = self._demonstrations()
        if known is None:
            return Work(unknown="demonstrations")
        return self._fits(self._training(self.recipe.sft, *known, self._validation()), ("demonstrations",))

    def _training(self, settings: Optimisation, rows: Range, tokens: Range, heldout: Range) -> Work:
        """A training run, with the problems that the model is asked at every validation."""
        work = training(settings, rows, tokens, heldout)
        if not settings.validate_problems:
            return work
        most, steps = self.recipe.evaluate.max_new_tokens, work.steps or ZERO
        asked = steps.each(lambda number: validations(settings, round(number)) * settings.validate_problems)
        sampling = self._sampling(asked, "test", self.texts.student(most, "test"), most)
        return replace(work, scored=work.scored + sampling.scored, sampled=sampling.sampled)

    def _fits(self, work: Work, tables: tuple[str, ...], responses: int = 1) -> Work:
        longest = max(self.measured[table].longest for table in tables)
        return replace(work, longest=longest, responses=responses)

    def _sft_arm(self, unit: Unit, arm: str) -> Work:
        settings, trains = self.recipe.arms[arm], self.recipe.sft_of(arm)
        counts = self._counts(unit, arm)
        pairs = exact(sum(counts.values()))
        answers = mean_of((n, self.texts.prompt(kind) + self.texts.pair(kind).chosen) for kind, n in counts.items())
        known = self._demonstrations()
        beside = settings.starts_from == "base" and not (settings.mixing == "sequential" and unit.step != "sft_first")
        if not beside:
            return self._fits(self._training(trains, pairs, answers, self._validation()), ("pool",))
        if known is None:
            return Work(unknown="demonstrations")
        tokens = mean_of([(known[0].likely, known[1]), (pairs.likely, answers)])
        work = self._training(trains, known[0] + pairs, tokens, self._validation())
        return self._fits(work, ("demonstrations", "pool"))

    def _counts(self, unit: Unit, arm: str) -> dict[PairKind, int]:
        """The pairs by kind that a training run of an arm takes."""
        settings: Arm = self.recipe.arms[arm]
        counts = settings.counts()
        if settings.mixing != "sequential":
            return counts
        first = unit.name == self.recipe.first_run_unit(arm)
        return {kind: number for kind, number in counts.items() if (kind == settings.stream_kind) == first}

    def _mix(self, unit: Unit) -> Work:
        arm = self.recipe.arms[str(unit.argument)]
        return Work(exact(sum(arm.counts().values())))

    def _dpo(self, unit: Unit) -> Work:
        arm = str(unit.argument)
        settings, counts = self.recipe.dpo_of(arm), self._counts(unit, arm)
        first = unit.name == self.recipe.first_run_unit(arm)
        kinds = counts if first else self.recipe.arms[arm].counts()
        heldout = dict.fromkeys(kinds, self.recipe.mix.heldout_pairs)
        tokens, aside = self.texts.computed(counts), self._tokens(heldout)
        work = self._training(settings, exact(sum(counts.values())), tokens, aside)
        wanted = {kind: counts.get(kind, 0) + held for kind, held in heldout.items()}
        reference = self._new((str(unit.inputs["reference"]), settings.scope), wanted)
        work = replace(work, scored=work.scored + reference)
        return self._fits(work, ("human", "pool") if "human" in counts else ("pool",), 2)

    def _tokens(self, counts: Mapping[PairKind, int]) -> Range:
        return total(self.texts.pair(kind).computed * count for kind, count in counts.items())

    def _new(self, scorer: tuple[str, str], wanted: Mapping[PairKind, int]) -> Range:
        """Tokens of pairs that no unit before has had scored by this (model, scope): every arm takes the first of each
        kind.
        """
        there = self._scored[scorer]
        new = {kind: max(0, number - there.get(kind, 0)) for kind, number in wanted.items()}
        there.update({kind: max(number, there.get(kind, 0)) for kind, number in wanted.items()})
        return self._tokens(new)

    def _heldout_pairs(self, unit: Unit) -> Work:
        arms = [arm for arm in self.recipe.arms.values() if arm.trains == "dpo"]
        kinds = {kind: self.recipe.mix.heldout_pairs for arm in arms for kind in arm.counts()}
        rows = exact(sum(kinds.values()))
        return Work(rows, scored=self._new((str(unit.inputs["model"]), "response"), kinds), responses=2)

    def _mine(self) -> Work:
        mine = self.recipe.mine
        prompts, reply = self.mined_prompts(), self.texts.student(mine.max_new_tokens)
        work = self._sampling(prompts, "pool", reply, mine.max_new_tokens, mine.samples_per_prompt)
        if self.recipe.mining().judge != "local":
            return work
        references = ZERO if self.recipe.mining().rule == "bottom_quantile" else prompts
        found = self.measured["pool"]
        judged = prompts * mine.samples_per_prompt * (found.prompt + reply)
        return replace(work, scored=work.scored + judged + references * (found.prompt + found.response))

    def _branch(self) -> Work:
        branch = self.recipe.branch
        failed = self.mined_prompts().capped(branch.most_prompts)
        most = branch.most_steps
        steps = Range(1, max(1.0, most * _DEEPENING), most)
        begun, reply = Range(0, failed.likely, failed.high) * steps, self.texts.student(branch.max_new_tokens)
        return self._sampling(begun, "pool", reply, branch.max_new_tokens, branch.samples_per_step)

    def _evaluate(self, unit: Unit) -> Work:
        judged = self.judged_turns()
        if judged is None:
            return Work(unknown="evaluation prompts")
        evaluate, chat, table = self.recipe.evaluate, self.recipe.corpus.chat, self.judged_table
        replies = judged * evaluate.samples_per_prompt
        reply = self.texts.student(evaluate.max_new_tokens, table)
        work = self._sampling(judged, table, reply, evaluate.max_new_tokens, evaluate.samples_per_prompt)
        scored, sampled = work.scored, work.sampled
        if chat is not None:
            talk = self.rows["chat_heldout"] or ZERO
            sampled += talk * self._chat_reply()
            scored += talk * (self.measured["chat_heldout"].prompt * 2 + self._chat_reply())
        if "local" in self.recipe.judged_by():
            scored += replies * (self.measured[table].prompt + reply)
        if unit.argument == AGAINST:
            return Work(replies, scored=scored if "local" in self.recipe.judged_by() else ZERO)
        return replace(work, scored=scored, sampled=sampled)

    def judging_pairs(self) -> Range | None:
        """Pairs of one reward model that is trained here. None: unknown."""
        recipe, models = self.recipe, len(self.recipe.reward_units())
        source = recipe.pairs_for_judging()
        if source == "teacher":
            return exact(sum(recipe.judging_pairs(kind) for kind in recipe.pair_kinds()))
        there = self.rows["judging" if source == "judging" else "human"]
        if there is None:
            return None
        if source == "human":
            there = there.each(lambda rows: max(0, min(rows // 2, rows - recipe.human_needed())))
        return there.each(lambda rows: min(rows, recipe.reward.pairs * models) // models)

    def _reward(self) -> Work:
        pairs, settings = self.judging_pairs(), self.recipe.reward
        if pairs is None:
            return Work(unknown="pairs for the judge")
        source = self.recipe.pairs_for_judging()
        table = "judging" if source == "judging" else "human"
        found = self.measured[table]
        tokens = found.prompt + found.response + found.rejected
        if source == "teacher":
            tokens = self.texts.computed(self.recipe.pair_kinds())
        heldout = pairs * settings.heldout_share
        chosen_by = pairs.each(partial(_chosen_by, share=settings.heldout_share))
        train = pairs.each(lambda n: round(n - n * settings.heldout_share - _chosen_by(n, settings.heldout_share)))
        work = training(settings, train, tokens, chosen_by * tokens)
        work = replace(work, scored=work.scored + heldout * tokens, rows=pairs)
        return self._fits(work, (table if source != "teacher" else "pool",), 2)


def _chosen_by(pairs: float, share: float) -> float:
    """Pairs by which a reward model's checkpoint is chosen, prompts taken to have a pair each."""
    return min(max(1, round(_REWARD_VALIDATION * (pairs - round(share * pairs)))), _MOST_REWARD_VALIDATION)


def samples_here(unit: Unit, recipe: Recipe) -> bool:
    """Whether a unit's replies are sampled by this machine, not by a server of the user's: a model in training is."""
    if unit.stage in {"sft", "dpo"}:
        return True
    name = BASE if unit.stage == "retain" else unit.argument or SFT
    return name not in recipe.servers
