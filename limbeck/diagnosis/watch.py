"""The watch over one training run: points in, alarms out, each said once.

Start reading at: `Watch`.
"""

from limbeck.diagnosis.history import Finding, History, Training
from limbeck.diagnosis.loss_rules import loss_findings
from limbeck.diagnosis.pair_rules import pair_findings
from limbeck.diagnosis.problem_rules import problem_findings
from limbeck.recipe.alarms import Alarms
from limbeck.records import Metric
from limbeck.records.alarms import Alarm

_WORSE_BY = 0.5  # of the threshold, or of the figure as it was said last: then it is said again


class Watch:
    """Sees every point of a run in its order, and knows nothing else: the same points give the same alarms."""

    def __init__(self, about: str, rules: Alarms, training: Training) -> None:
        self.about, self.rules = about, rules
        self._history = History(training, rules)
        self._said: dict[str, float] = {}

    @property
    def silence(self) -> str | None:
        """Why most alarms of what is held out cannot be raised, where other settings would let them be."""
        return self._history.silence

    def see(self, metric: Metric) -> list[Alarm]:
        """Take in one point; return the alarms that it raises and that were not said before, or not as bad."""
        self._history.add(metric)
        rules = (loss_findings, problem_findings, *((pair_findings,) if "accuracy" in metric.values else ()))
        alarms = []
        for find in rules:
            for finding in find(self._history, metric.split):
                if self._is_news(finding):
                    self._said[finding.key] = finding.value
                    alarms.append(self._alarm(finding, metric.step))
        return alarms

    def _is_news(self, finding: Finding) -> bool:
        last = self._said.get(finding.key)
        if last is None:
            return True
        worse = abs(finding.value - finding.threshold) - abs(last - finding.threshold)
        return worse >= _WORSE_BY * max(abs(finding.threshold), abs(last))

    def _alarm(self, finding: Finding, step: int) -> Alarm:
        return Alarm(
            about=self.about,
            field=f"alarms.{finding.field}",
            value=finding.value,
            threshold=finding.threshold,
            sentence=f"{self.about}, step {step}: {finding.sentence}",
            advice=finding.advice,
            step=step,
        )
