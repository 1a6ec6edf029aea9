"""A published figure beside ours, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.lab.analysis.statistics import Estimate
from experiments.lab.show.table import Table


class Finding(NamedTuple):
    """One published figure and what we measured.

    Attributes:
        what: is compared.
        published: the figure as it is printed, with its source where the table has several.
        ours: mean and 95 % interval.
        low: the least value that still counts as the published one.
        high: the greatest.
        digits: of our figure in the table.
        scale: 100 where the figure is shown in percent.
        whole: the whole interval must lie in the range, as where a difference is to be shown; it takes 3 seeds.
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
        """`reproduced`: our mean, or interval, is in the range; `within our interval`: they meet; `not reproduced`.

        Without a figure `not measured`; `too few seeds` where the interval decides and there are not three.
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
        return (
            "within our interval"
            if self.low <= mean + half and mean - half <= self.high
            else "not reproduced"
        )


def binomial(successes: int, trials: int) -> Estimate:
    """A share with the half-width of Wilson's 95 % interval, measured from the share to its farther end.

    References:
        Wilson, Probable inference, the law of succession, and statistical inference. JASA 22, 1927.
    """
    if not trials:
        return Estimate(math.nan, math.nan, 0)
    z, share = 1.959963984540054, successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Estimate(share, abs(centre - share) + half, trials)


def verdict_table(title: str, findings: Sequence[Finding], notes: Sequence[str] = ()) -> Table:
    """What, published, ours with its interval, verdict."""
    lines = [[finding.what, finding.published, *_ours(finding), finding.verdict] for finding in findings]
    header = ["", "published", "ours", "95 % interval", "verdict"]
    return Table(title, header, lines, notes=notes)


def _ours(finding: Finding) -> tuple[str, str]:
    mean, half, values = finding.ours.scaled(finding.scale)
    if not values or math.isnan(mean):
        return "\N{EN DASH}", "\N{EN DASH}"
    digits = finding.digits
    interval = "\N{EN DASH}" if math.isnan(half) else f"{mean - half:.{digits}f} to {mean + half:.{digits}f}"
    return f"{mean:.{digits}f}", interval
