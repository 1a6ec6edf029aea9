"""A sentence that is said of LeakyReLU, the comparisons that test it, and the verdict that follows from their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.lab.analysis.paired import differences, simultaneous
from experiments.lab.analysis.statistics import Estimate
from experiments.lab.run.store import Record

Life = list[Record]  # one network's records, in the order they were written
Rows = Mapping[str, Sequence[Record]]  # by the experiment's name


class Comparison(NamedTuple):
    """One measure of one experiment, leaky against ReLU in networks of the same seed, in every setting there is.

    Attributes:
        experiment: its name.
        measure: in words, with the unit.
        of: a network's value; None where it has none.
        baseline: what the rows of ReLU hold, by key.
        arms: what the rows of the others hold, by what they are called.
        settings: the keys of what else was varied.
        more_is_better: or less.
        scale: 100 for percent.
        digits: that are shown.
        least: the smallest difference that matters; a smaller one is not shown, however sure it is.
        margin: a difference for the worse that is still taken as none; with one, the claim is that there is no cost.
    """

    experiment: str
    measure: str
    of: Callable[[Life], float | None]
    baseline: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    settings: tuple[str, ...] = ()
    more_is_better: bool = True
    scale: float = 1.0
    digits: int = 1
    least: float = 0.0
    margin: float = 0.0


class Claim(NamedTuple):
    """What is said.

    Attributes:
        sentence: as it is said.
        comparisons: that decide it.
        by_definition: what follows from the formula alone, and needs no rows.
    """

    sentence: str
    comparisons: tuple[Comparison, ...] = ()
    by_definition: str = ""


class Effect(NamedTuple):
    """One difference between leaky and ReLU.

    Attributes:
        comparison: that it belongs to.
        arm: in words.
        setting: in words; empty where nothing else was varied.
        estimate: the mean difference, leaky minus ReLU, with an interval that holds for all of a claim's effects.
        shown: 1 in favour, -1 against, 0 where neither is shown.
    """

    comparison: Comparison
    arm: str
    setting: str
    estimate: Estimate
    shown: int


class Finding(NamedTuple):
    """A claim, its effects, and what follows.

    Attributes:
        claim: that was tested.
        effects: all of them, in the order of the tests.
        missing: the experiments whose rows are not there; there is no verdict while one is.
    """

    claim: Claim
    effects: list[Effect]
    missing: list[str]

    @property
    def verdict(self) -> str:
        """One of: supported, not supported, supported only when, true or false by definition, no verdict."""
        if self.missing:
            return f"no verdict: {' and '.join(self.missing)} must be recorded first"
        parts = [self.claim.by_definition] if self.claim.by_definition else []
        if self.claim.comparisons:
            parts.append(_judge(self.effects))
        return "; ".join(parts)

    @property
    def clearest(self) -> Effect | None:
        """The effect that is farthest from the margin beside its interval, whichever way it points."""
        with_interval = [effect for effect in self.effects if effect.estimate.values >= 3]
        return max(with_interval, key=_clarity, default=None)


def examine(claim: Claim, rows: Rows) -> Finding:
    """The effects of a claim's comparisons, with intervals corrected (Bonferroni) for their number."""
    needed = dict.fromkeys(comparison.experiment for comparison in claim.comparisons)
    missing = [experiment for experiment in needed if not rows.get(experiment)]
    pairs = [
        (comparison, arm, setting, values)
        for comparison in claim.comparisons
        if comparison.experiment not in missing
        for setting, lives in _settings(comparison, rows[comparison.experiment]).items()
        for arm, values in _differences(comparison, lives)
    ]
    effects = []
    for comparison, arm, setting, values in pairs:
        estimate = simultaneous([value * comparison.scale for value in values], len(pairs))
        shown = _shown(estimate, comparison, len(pairs))
        effects.append(Effect(comparison, arm, setting, estimate, shown))
    return Finding(claim, effects, missing)


def _settings(comparison: Comparison, records: Sequence[Record]) -> dict[str, list[Record]]:
    settings: dict[str, list[Record]] = {}
    for record in records:
        setting = " ".join(_words(record[key]) for key in comparison.settings)
        settings.setdefault(setting, []).append(record)
    return settings


def _words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differences(comparison: Comparison, records: Sequence[Record]) -> list[tuple[str, list[float]]]:
    baseline = _by_seed(comparison, records, comparison.baseline)
    arms = ((arm, _by_seed(comparison, records, holds)) for arm, holds in comparison.arms.items())
    return [(arm, differences(values, baseline)) for arm, values in arms if values]


def _by_seed(
    comparison: Comparison, records: Sequence[Record], holds: Mapping[str, Any]
) -> dict[int, float | None]:
    lives: dict[int, Life] = {}
    for record in records:
        if all(record[key] == value for key, value in holds.items()):
            lives.setdefault(record["seed"], []).append(record)
    return {seed: comparison.of(life) for seed, life in lives.items()}


def _shown(estimate: Estimate, comparison: Comparison, many: int) -> int:
    mean, half, pairs = estimate
    if pairs < 3:
        return 0
    if half <= 1e-9 * abs(mean) and mean != 0 and 2.0 ** (1 - pairs) > 0.05 / many:
        return 0  # equal differences have an interval of no width; by the sign test there are too few of them
    gain = _gain(estimate, comparison)
    if gain - half > comparison.least:
        return 1
    return -1 if gain + half < -comparison.least else 0


def _gain(estimate: Estimate, comparison: Comparison) -> float:
    """How far a difference is on the good side of what the claim allows."""
    return (estimate.mean if comparison.more_is_better else -estimate.mean) + comparison.margin


def _clarity(effect: Effect) -> float:
    half, gain = effect.estimate.half_width, _gain(effect.estimate, effect.comparison)
    return abs(gain) / half if half else float(gain != 0) * 1e9


def _judge(effects: Sequence[Effect]) -> str:
    if not effects:
        return "no verdict: the rows hold no pair of the networks that are compared"
    in_favour, against = _conditions(effects, 1), _conditions(effects, -1)
    opposite = f"the opposite is shown with {against}" if against else ""
    if all(effect.shown > 0 for effect in effects):
        return "supported"
    if in_favour:
        return f"supported only with {in_favour}" + (f"; {opposite}" if opposite else "")
    return f"not supported: {opposite or 'it is shown in no setting'}"


def _conditions(effects: Sequence[Effect], shown: int) -> str:
    """`slope 0.2 in test accuracy (8 of 10 settings)`, for each arm and measure that shows it somewhere."""
    groups: dict[tuple[str, str], list[Effect]] = {}
    for effect in effects:
        groups.setdefault((effect.arm, effect.comparison.measure.partition(",")[0]), []).append(effect)
    parts = []
    for (arm, measure), group in groups.items():
        if settings := [effect.setting for effect in group if effect.shown == shown]:
            counted = f" ({len(settings)} of {len(group)} settings)" if len(group) > 1 else ""
            parts.append(f"{arm} in {measure}{counted}")
    return ", ".join(parts)
