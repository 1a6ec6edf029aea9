"""A sentence that is said of LeakyReLU, the comparisons that test it, and the verdict that follows from their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.lab.analysis import Cell, Estimate, Measure, Runs


class Comparison(NamedTuple):
    """One measure of one experiment, leaky against ReLU in networks of the same seed, in every setting there is.

    Attributes:
        experiment: name of the experiment.
        runs: name of the runs that are compared, in `experiments.claims.sentences.RUNS`.
        measure: measure that the experiment's own report shows.
        arms: words for each arm that is compared, by the arm.
        least: smallest difference that matters; a smaller one is not shown, however sure it is.
        margin: difference for the worse that is still taken as none; with one, the claim is that there is no cost.
    """

    experiment: str
    runs: str
    measure: Measure
    arms: Mapping[Any, str]
    least: float = 0.0
    margin: float = 0.0


class Claim(NamedTuple):
    """A claim about LeakyReLU.

    Attributes:
        sentence: sentence as it is said.
        comparisons: comparisons that decide it.
        by_definition: what follows from the formula alone, and needs no runs.
    """

    sentence: str
    comparisons: tuple[Comparison, ...] = ()
    by_definition: str = ""


class Effect(NamedTuple):
    """One difference between leaky and ReLU.

    Attributes:
        comparison: comparison that it belongs to.
        arm: words for the arm.
        setting: words for what else was varied; empty where nothing was.
        estimate: mean difference, leaky minus ReLU, with the interval that the experiment's report gives it.
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
        claim: claim that was tested.
        effects: all effects, in the order of the tests.
        missing: experiments whose rows are not there; there is no verdict while one is.
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


def examine(claim: Claim, found: Mapping[str, Runs]) -> Finding:
    """The effects of a claim's comparisons, from the runs by name."""
    missing = dict.fromkeys(each.experiment for each in claim.comparisons if each.runs not in found)
    effects = [
        _effect(comparison, found[comparison.runs], (*setting, arm))
        for comparison in claim.comparisons
        if comparison.runs in found
        for setting in found[comparison.runs].settings
        for arm in comparison.arms
        if (*setting, arm) in found[comparison.runs].cells
    ]
    return Finding(claim, effects, [*missing])


def _effect(comparison: Comparison, runs: Runs, cell: Cell) -> Effect:
    estimate = runs.difference(cell, comparison.measure).scaled(comparison.measure.scale)
    gain, half = _gain(estimate, comparison), estimate.half_width
    sure = estimate.values >= 3 and not (estimate.no_width and not estimate.shown)
    shown = int(sure and gain - half > comparison.least) - int(sure and gain + half < -comparison.least)
    setting = " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in cell[:-1])
    return Effect(comparison, comparison.arms[cell[-1]], setting, estimate, shown)


def _gain(estimate: Estimate, comparison: Comparison) -> float:
    """How far a difference is on the good side of what the claim allows."""
    return (estimate.mean if comparison.measure.more_is_better else -estimate.mean) + comparison.margin


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
        groups.setdefault((effect.arm, effect.comparison.measure.name), []).append(effect)
    parts = []
    for (arm, measure), group in groups.items():
        if settings := [effect.setting for effect in group if effect.shown == shown]:
            counted = f" ({len(settings)} of {len(group)} settings)" if len(group) > 1 else ""
            parts.append(f"{arm} in {measure.partition(', ')[0]}{counted}")
    return ", ".join(parts)
