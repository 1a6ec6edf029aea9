"""What runs say: one table of their records, one definition of each word, differences by seed, and how sure they are.

A *run* is one network's training, a *record* one of its evaluations; a run is known by its setting, its arm and its
seed. The arms are what is compared, at one setting, with the baseline of the same seed. Every report and every claim
uses these words alike:

* last: at the last evaluation.
* second half, last tenth: the mean over the evaluations at steps beyond 1/2, or 9/10, of the training. What is
  measured between two evaluations is noted at the later one, so that the evaluation at exactly one half, which tells
  of the steps before it, belongs to the first half.
* change: last minus first evaluation. Swing: the mean absolute change from one evaluation to the next, noted at the
  later one, over the second half.
* diverged: some value of the run is not finite. Such a run has no measure, unless the measure says that it counts.
* difference: arm minus baseline, over the seeds that have both.
* shown: the interval of three pairs or more leaves out 0. It holds for all differences of that measure in that
  experiment together (Bonferroni), and it is the same interval wherever the difference is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

Cell = tuple[Any, ...]  # (*setting, arm)
PerRecord = Callable[[pd.DataFrame], "pd.Series[Any]"]  # the records to one value of each
PerRun = Callable[[pd.DataFrame], "pd.Series[Any]"]  # the records to one value of each run
Of = str | PerRecord  # a column of the records, or one worked out from them
DASH = "\N{EN DASH}"


_ENOUGH = 3  # values for an interval


class Estimate(NamedTuple):
    """The mean of some values and the half-width of its 95 % interval.

    Attributes:
        mean: mean of the values; NaN without any.
        half_width: half-width of Student's t-interval; NaN with fewer than three values, of which two would give an
            interval dozens of times as wide as they lie apart.
        values: number of values.
        comparisons: number of intervals that hold together with 95 %.
    """

    mean: float
    half_width: float
    values: int
    comparisons: int = 1

    @property
    def shown(self) -> bool:
        """Whether the interval of three values or more leaves out 0.

        Equal values have an interval of no width: they are judged by the sign test, whose p-value is 2 ** (1 - n).
        """
        if self.values < _ENOUGH or not abs(self.mean) > self.half_width:
            return False
        return not self.no_width or 2.0 ** (1 - self.values) <= 0.05 / self.comparisons

    @property
    def no_width(self) -> bool:
        """Whether all values are equal, but for rounding, and not 0."""
        return self.mean != 0 and self.half_width <= 1e-9 * abs(self.mean)

    def scaled(self, factor: float) -> Estimate:
        """The estimate in another unit: 100 for percent."""
        return self._replace(mean=self.mean * factor, half_width=self.half_width * factor)

    def format(self, scale: float = 1.0, digits: int = 1, *, sign: bool = False) -> str:
        """`12.3 ± 1.4`; the interval is left out with one value or two, and no value at all is a dash."""
        if not self.values or math.isnan(self.mean):
            return DASH
        if self.half_width * scale >= 10:
            digits = 0  # a decimal that the interval makes meaningless
        text = f"{self.mean * scale:{'+' if sign else ''}.{digits}f}"
        return text if math.isnan(self.half_width) else f"{text} ± {self.half_width * scale:.{digits}f}"

    def interval(self, digits: int, scale: float = 1.0) -> str:
        """`11.3 to 14.0`; a dash where there is none."""
        if math.isnan(self.half_width):
            return DASH
        low, high = scale * (self.mean - self.half_width), scale * (self.mean + self.half_width)
        return f"{low:.{digits}f} to {high:.{digits}f}"


def estimate(values: Iterable[float | None], comparisons: int = 1) -> Estimate:
    """Mean and interval of the finite values, such that all intervals of so many comparisons hold with 95 % together.

    The interval is mean ± t(1 - 0.025 / m, n - 1) s / sqrt(n), for m comparisons (Bonferroni) and n values: seeds are
    taken as independent draws of a normal variable.

    Args:
        values: values, (n,); None and values that are not finite are left out.
        comparisons: number m of intervals that hold together.
    """
    found = np.array(list(values), np.float64)
    found = found[np.isfinite(found)]
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    half = (
        float(stats.t.ppf(1 - 0.025 / comparisons, n - 1)) * float(found.std(ddof=1)) / math.sqrt(n)
        if n >= _ENOUGH
        else math.nan
    )
    return Estimate(mean, half, n, comparisons)


def ratio(pairs: Iterable[tuple[float, float]]) -> Estimate:
    """The sum of the first over the sum of the second, each pair being a seed's, with a 95 % interval over seeds.

    Not the mean of the seeds' own shares, which a seed with one unit would move as much as one with hundreds. The
    interval is t(0.975, n - 1) of the ratio estimator's standard error: seeds are the sampling units.

    References:
        Cochran: Sampling Techniques, third edition, 1977, section 2.11.
    """
    parts, wholes = np.array(list(pairs), np.float64).reshape(-1, 2).T
    if not wholes.sum():
        return Estimate(math.nan, math.nan, 0)
    n, share = len(wholes), parts.sum() / wholes.sum()
    if n < _ENOUGH:
        return Estimate(float(share), math.nan, n)
    error = math.sqrt(n / (n - 1) * np.sum((parts - share * wholes) ** 2)) / wholes.sum()
    return Estimate(float(share), float(stats.t.ppf(0.975, n - 1)) * error, n)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % interval of a share: not symmetric about it, and never outside 0 to 1.

    References:
        Wilson, Probable inference, the law of succession, and statistical inference. JASA 22, 1927.
    """
    return tuple(stats.binomtest(successes, trials).proportion_ci(method="wilson"))


def binomial(successes: int, trials: int) -> Estimate:
    """A share with the half-width of Wilson's interval, measured from the share to its farther end."""
    if not trials:
        return Estimate(math.nan, math.nan, 0)
    share, (low, high) = successes / trials, wilson(successes, trials)
    return Estimate(share, max(share - low, high - share), trials)


def fisher(ours: tuple[int, int], theirs: tuple[int, int], comparisons: int) -> float:
    """Fisher's exact two-sided p-value for two counts (of how many), times so many comparisons (Bonferroni), at most 1.

    It takes the two groups for independent. Networks that share a seed tend to fail together, which makes the
    difference of the counts vary less than the test supposes: it errs on the side of showing nothing. McNemar's test
    of the pairs has no p-value below 2^(1 - n) with n of them: 0.002 with ten, too coarse for fifty comparisons.
    """
    table = [[count, total - count] for count, total in (ours, theirs)]
    return min(1.0, float(stats.fisher_exact(table).pvalue) * comparisons)


class Measure(NamedTuple):
    """One number of each run.

    Attributes:
        name: words for people.
        of: function from the records to one value of each run.
        scale: factor from the value to what is shown: 100 for percent.
        digits: number of decimals that are shown.
        more_is_better: whether a larger value is the better one.
        of_diverged: whether diverged runs have the measure too.
    """

    name: str
    of: PerRun
    scale: float = 100
    digits: int = 1
    more_is_better: bool = True
    of_diverged: bool = False

    @property
    def title(self) -> str:
        """The name, with the unit of a difference in percent."""
        return f"{self.name}, points" if self.scale == 100 and "%" not in self.name else self.name

    def text(self, value: Estimate, *, sign: bool = False) -> str:
        """The estimate in the measure's unit; a difference, with its sign, has a star where it is shown."""
        return value.format(self.scale, self.digits, sign=sign) + ("*" if sign and value.shown else "")


def share(name: str) -> PerRecord:
    """A share of all units at each record, from shares per layer; the column `channels` has the layers' widths.

    Layers weigh alike where there is no such column. A layer that has no value leaves none to the network.
    """

    def of(records: pd.DataFrame) -> pd.Series[Any]:
        layers = [np.array(values, np.float64) for values in records[name]]
        widths = records["channels"] if "channels" in records else [None] * len(layers)
        means = [np.average(one, weights=width) for one, width in zip(layers, widths, strict=True)]
        return pd.Series(means, index=records.index, dtype=float)

    return of


def first(of: Of) -> PerRun:
    """The value at the first evaluation."""
    return lambda records: _by_run(_values(records, of)).head(1)


def last(of: Of) -> PerRun:
    """The value at the last evaluation."""
    return lambda records: _by_run(_values(records, of)).tail(1)


def change(of: Of, end: Callable[[Of], PerRun] = last) -> PerRun:
    """The value at the last evaluation, or another value of the end, minus that at the first."""
    return lambda records: end(of)(records) - first(of)(records)


def total(of: Of) -> PerRun:
    """The sum over all evaluations."""
    return lambda records: _whole(_by_run(_values(records, of)), "sum")


def late(of: Of, part: float) -> PerRun:
    """The mean over the evaluations of the last part of the training."""

    def measure(records: pd.DataFrame) -> pd.Series[Any]:
        steps = records["step"]
        ends = _by_run(steps).transform("max")
        return _whole(_by_run(_values(records, of)[(steps > (1 - part) * ends) | (steps == ends)]), "mean")

    return measure


def second_half(of: Of) -> PerRun:
    """The mean over the evaluations of the second half of the training."""
    return late(of, 0.5)


def last_tenth(of: Of) -> PerRun:
    """The mean over the evaluations of the last tenth of the training."""
    return late(of, 0.1)


def swing(of: Of) -> PerRun:
    """The mean absolute change from one evaluation to the next in the second half."""
    return second_half(lambda records: _by_run(_values(records, of)).diff().abs())


def spread(player: str) -> PerRun:
    """The standard deviation of a player's gradient norm between two evaluations over its mean, in the second half."""

    def of(records: pd.DataFrame) -> pd.Series[Any]:
        deviation, mean = (
            _values(records, f"{player}_{name}") for name in ("gradient_deviation", "gradient")
        )
        return deviation / mean

    return second_half(of)


class Runs:
    """The runs of an experiment, all of them or those that have finished, in any order.

    Attributes:
        records: records in the order of each run's training, indexed by (*setting, arm, seed).
        settings: settings that have a run, in the order of the records.
        arms: arms that have a run, the baseline first; slopes in ascending order.
        cells: combinations (*setting, arm) that have a run, setting by setting.
        baseline: arm that the others are compared with.

    Args:
        records: records of the runs; those of one run in the order of its training.
        arm: column whose values are compared.
        setting: columns of what else was varied.
        baseline: value of the column `arm` that the others are compared with.
    """

    def __init__(self, records: Any, arm: str, setting: Sequence[str] = (), baseline: Any = 0.0) -> None:
        frame = pd.DataFrame(records)
        found = dict.fromkeys(frame[[*setting, arm]].itertuples(index=False, name=None))
        self.settings: list[Cell] = list(dict.fromkeys(cell[:-1] for cell in found))
        arms = dict.fromkeys(cell[-1] for cell in found)
        rank = {one: (one != baseline, one if isinstance(one, float) else 0) for one in arms}
        self.arms: list[Any] = sorted(arms, key=rank.__getitem__)
        every = ((*setting, arm) for setting in self.settings for arm in self.arms)
        self.cells: list[Cell] = [cell for cell in every if cell in found]
        self.baseline = baseline
        if "diverged" not in frame:
            frame["diverged"] = False
        self.records = frame.set_index([*setting, arm, "seed"])
        self._finite = _by_cell(self.records[~_by_run(self.records["diverged"]).transform("any")])
        self._found: dict[PerRun, dict[Cell, pd.Series[Any]]] = {}

    def _of(self, of: PerRun) -> dict[Cell, pd.Series[Any]]:
        """One value of each run, by cell and seed."""
        if of not in self._found:
            self._found[of] = _by_cell(of(self.records))
        return self._found[of]

    def by_seed(self, cell: Cell, measure: Measure) -> pd.Series[Any]:
        """The measure of each run of a cell that has it, by seed."""
        if cell not in self.cells:
            return pd.Series(dtype=float)
        values = self._of(measure.of)[cell]
        has = np.isfinite(values)
        return values[has if measure.of_diverged else has & ~self._of(_diverged)[cell]]

    def mean(self, cell: Cell, measure: Measure) -> Estimate:
        """The mean over the runs of a cell."""
        return estimate(self.by_seed(cell, measure))

    def difference(self, cell: Cell, measure: Measure) -> Estimate:
        """The mean difference from the baseline of the same setting and seed, corrected for all `comparisons`."""
        base = self.by_seed(self.base_of(cell), measure)
        return estimate(self.by_seed(cell, measure) - base, self.comparisons)

    def shown(self, arm: Any, measure: Measure) -> tuple[int, int]:
        """In how many settings an arm is shown to be better than the baseline, and in how many worse."""
        found = [self.difference((*setting, arm), measure) for setting in self.settings]
        better = [(one.mean > 0) == measure.more_is_better for one in found if one.shown]
        return sum(better), len(better) - sum(better)

    def diverged(self, *cells: Cell) -> tuple[int, int]:
        """How many runs of some cells diverged, of how many."""
        return self.count(_diverged, *cells)

    def count(self, holds: PerRun, *cells: Cell) -> tuple[int, int]:
        """How many runs of some cells have a property, of how many; `holds` gives True or False for each run."""
        found = [self._of(holds)[cell] for cell in cells if cell in self.cells]
        return sum(int(one.sum()) for one in found), sum(map(len, found))

    def curve(self, cell: Cell, of: Of) -> tuple[list[float], list[Estimate]]:
        """The steps at which a cell was evaluated, and the mean over its runs at each; none without a value."""
        here = self.of_cell(cell)
        found = {step: estimate(some) for step, some in _values(here, of).groupby(here["step"].to_numpy())}
        kept = {step: one for step, one in found.items() if one.values}
        return list(kept), list(kept.values())

    def layers(self, cell: Cell, name: str, *, first: bool = False) -> list[Estimate]:
        """The mean over a cell's runs of each layer at the last evaluation, or the first; none without a run."""
        runs = self.of_cell(cell).groupby(level=0)[name]
        return [estimate(layer) for layer in zip(*(runs.head(1) if first else runs.tail(1)), strict=True)]

    def of_cell(self, cell: Cell) -> pd.DataFrame:
        """The records of a cell's runs that did not diverge, indexed by seed."""
        return self._finite.get(cell, self.records.iloc[:0])

    def kept(self, cell: Cell, name: str) -> list[Any]:
        """What seed 0 of a cell has kept at its last record; nothing where it has not finished or has diverged."""
        here = self.of_cell(cell)
        kept = here.loc[here.index == 0, name].iloc[-1:] if name in here else []
        return next((one for one in kept if isinstance(one, list)), [])

    def base_of(self, cell: Cell) -> Cell:
        """The baseline's cell of the same setting."""
        return (*cell[:-1], self.baseline)

    @property
    def comparisons(self) -> int:
        """How many differences from the baseline there are of each measure; 1 where there is none."""
        return max(1, sum(cell[-1] != self.baseline for cell in self.cells))

    @property
    def corrected(self) -> str:
        """What an interval of a difference is, in words."""
        if self.comparisons == 1:
            return "not corrected, as each measure has one comparison"
        return f"corrected (Bonferroni) for the {self.comparisons} comparisons of each measure"

    @property
    def seeds(self) -> str:
        """`10 seeds`, or `1 to 2 seeds` where a run that was cut short has more of one cell."""
        counts = [self.diverged(cell)[1] for cell in self.cells]
        least, most = min(counts), max(counts)
        return f"{most} seed{'s' if most > 1 else ''}" if least == most else f"{least} to {most} seeds"


class Finding(NamedTuple):
    """One published figure and what we measured.

    Attributes:
        what: words for what is compared.
        published: published figure as it is printed, with its source where the table has several.
        ours: our mean and 95 % interval.
        low: least value that still counts as the published one.
        high: greatest value that still counts as the published one.
        digits: number of decimals of our figure in the table.
        scale: factor from our figure to what is shown: 100 for percent.
        whole: whether the whole interval must lie in the range, as where a difference is to be shown; it takes three
            seeds.
    """

    what: str
    published: str
    ours: Estimate
    low: float
    high: float
    digits: int = 1
    scale: float = 1.0
    whole: bool = False

    @property
    def verdict(self) -> str:
        """`reproduced`: our mean, or interval, is in the range; `not excluded`: our interval meets the range.

        Else `not reproduced`. Without a figure `not measured`; `too few seeds` where the interval decides and there are
        not three.
        """
        mean, half = self.ours.mean, self.ours.half_width
        if not self.ours.values or math.isnan(mean):
            return "not measured"
        if self.whole and self.ours.values < 3:
            return "too few seeds"
        half = 0.0 if math.isnan(half) else half
        inside = half if self.whole else 0.0
        if self.low <= mean - inside and mean + inside <= self.high:
            return "reproduced"
        meet = self.low <= mean + half and mean - half <= self.high
        return "not excluded" if meet else "not reproduced"


def _values(records: pd.DataFrame, of: Of) -> pd.Series[Any]:
    """A number of each record; NaN where it has none that is finite."""
    values = (records[of] if isinstance(of, str) else of(records)).astype(float)
    return values.where(np.isfinite(values))


def _by_run(values: Any) -> Any:
    return values.groupby(level=list(range(values.index.nlevels)), sort=False)


def _diverged(records: pd.DataFrame) -> pd.Series[Any]:
    return _by_run(records["diverged"]).any()


def _by_cell(values: Any) -> dict[Cell, Any]:
    """The values or records of each cell, by seed."""
    levels = list(range(values.index.nlevels - 1))
    return {cell: some.droplevel(levels) for cell, some in values.groupby(level=levels, sort=False)}


def _whole(groups: Any, how: str) -> pd.Series[Any]:
    """A sum or mean of each run, NaN where one of its values is missing."""
    return groups.agg(how).where(groups.count() == groups.size())
