"""The verdicts as a table, and under it every effect that they rest on, in Markdown and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.claims.evidence import Effect, Finding
from experiments.lab.analysis import DASH
from experiments.lab.run import store
from experiments.lab.show.page import Page
from experiments.lab.show.table import Table

TITLE = "What is said of LeakyReLU, and what the runs say to it"
COMMAND = "python -m experiments.claims"
LEAD = (
    "Each sentence is tested by the recorded rows of the experiments: leaky networks against ReLU networks of the same "
    "seed, in every setting that was run. Only that it is cheap is tested otherwise: by the times of twelve blocks on "
    "one machine, each a pair, and they are related.",
    "Supported: the interval of every difference leaves out 0, in favour. Supported only with: some do, named and "
    "counted. Not supported: none does. The measures and the intervals are those of the experiments' own reports: 95 % "
    "intervals corrected (Bonferroni) for all differences of one measure in one experiment, not for the measures of a "
    "sentence together. Pairs in which a network diverged are left out, but where the measure counts them, and fewer "
    "than three pairs show nothing. A difference that is not shown is not shown to be absent.",
    "The networks are small and trained for minutes on a CPU: a verdict is one on these runs.",
)
_SHOWN = {1: "in favour", 0: "not shown", -1: "against"}


def report(findings: Sequence[Finding], folder: Path) -> None:
    """Prints the table of verdicts and writes claims.md and claims.html."""
    verdicts = verdict_table(findings)
    details = [effects_table(finding) for finding in findings if finding.effects]
    shown = [table.to_markdown() for table in details]
    parts = [f"# {TITLE}", *LEAD, verdicts.to_markdown(), "## Every difference", *shown]
    store.write(folder / "claims.md", "\n\n".join(part.strip() for part in [*parts, f"`{COMMAND}`"]) + "\n")
    page = Page(TITLE, LEAD[0])
    for paragraph in LEAD[1:]:
        page.paragraph(paragraph)
    page.table(verdicts)
    page.heading("Every difference")
    for table in details:
        page.table(table)
    page.heading("How to repeat it")
    page.listing(COMMAND)
    store.write(folder / "claims.html", page.to_html())
    verdicts.show()
    print(f"every difference: {folder / 'claims.html'}")


def verdict_table(findings: Sequence[Finding]) -> Table:
    """The sentence, what tests it, the clearest effect, how many are shown, the verdict."""
    lines = []
    for finding in findings:
        tests = list(dict.fromkeys(each.experiment for each in finding.claim.comparisons))
        measured = _clearest(finding), _counts(finding)
        lines.append([finding.claim.sentence, ", ".join(tests) or "the formula", *measured, finding.verdict])
    header = ["what is said", "tested by", "the clearest difference", "in favour, against, of", "verdict"]
    return Table("The verdicts", header, lines, text_columns=5)


def effects_table(finding: Finding) -> Table:
    """Every difference of one sentence."""
    lines = [
        [
            effect.comparison.experiment,
            effect.comparison.measure.title,
            effect.setting or "as recorded",
            effect.arm,
            *figures(effect),
            str(effect.estimate.values),
            _SHOWN[effect.shown],
        ]
        for effect in finding.effects
    ]
    header = ["experiment", "measure", "setting", "with", "leaky - ReLU", "interval", "pairs", ""]
    if any(each.experiment == "residuals" for each in finding.claim.comparisons):
        header[4] = "difference"
    return Table(finding.claim.sentence, header, lines, text_columns=4)


def figures(effect: Effect) -> tuple[str, str]:
    """The difference and its interval, as text."""
    found, digits = effect.estimate, effect.comparison.measure.digits
    if not found.values:
        return DASH, DASH
    # An interval of no width would look like a slip.
    interval = "the same in every pair" if found.no_width else found.interval(digits)
    return f"{found.mean:+.{digits}f}", interval


def _clearest(finding: Finding) -> str:
    effect = finding.clearest
    if effect is None:
        return DASH
    difference, interval = figures(effect)
    where = ", ".join(part for part in (effect.arm, effect.setting) if part)
    return f"{effect.comparison.measure.title}: {difference} ({interval}), {where}"


def _counts(finding: Finding) -> str:
    shown = [effect.shown for effect in finding.effects]
    return f"{shown.count(1)}, {shown.count(-1)}, {len(shown)}" if shown else DASH
