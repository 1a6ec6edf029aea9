"""The verdicts as a table, and under it every effect that they rest on, in Markdown and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.claims.evidence import Effect, Finding
from experiments.lab.analysis import DASH
from experiments.lab.run import store
from experiments.lab.show.page import Effect as Line
from experiments.lab.show.page import Page
from experiments.lab.show.table import Table

TITLE = "Common claims about LeakyReLU, and what the runs show"
COMMAND = "python -m experiments.claims"
LEAD = (
    "Each claim is tested by the recorded rows of the experiments named beside it: leaky networks against ReLU "
    "networks of the same seed, in every setting of those experiments. The cost is tested by the times of twelve "
    "blocks on one machine; each block is a pair, and the blocks are related.",
    "A claim is supported when the interval of every difference leaves out 0 in its favour, supported in some "
    "settings when some intervals do, and not supported when none does. The measures and the intervals are those of "
    "the experiments' own reports: 95 % intervals, corrected (Bonferroni) for all differences of one measure in one "
    "experiment, but not for the measures of a claim together. Pairs in which a network diverged are left out "
    "unless the measure counts them, and fewer than three pairs show nothing. A difference that is not shown is not "
    "shown to be absent.",
    "The networks are small and were trained for minutes on a CPU, so a verdict holds for these runs alone.",
)
_ALWAYS, _SOMETIMES = "Supported", "Supported in some settings"
_MIXED = "Mixed: shown in some settings, the opposite in others"
_NEVER, _OPPOSITE = "Not supported: shown in no setting", "Not supported: the opposite is shown"
_SHOWN = {1: "in favour", 0: "not shown", -1: "against"}


def report(findings: Sequence[Finding], folder: Path) -> None:
    """Prints the table of verdicts and writes claims.md and claims.html."""
    verdicts = verdict_table(findings)
    details = [effects_table(finding) for finding in findings if finding.effects]
    shown = [table.to_markdown() for table in details]
    parts = [f"# {TITLE}", _answer(findings), verdicts.to_markdown(), *LEAD, "## Every difference", *shown]
    store.write(folder / "claims.md", "\n\n".join(part.strip() for part in [*parts, f"`{COMMAND}`"]) + "\n")
    page = Page(TITLE, _answer(findings))
    for finding in findings:
        remarks = [f"{finding.verdict[0].upper()}{finding.verdict[1:]}."]
        if finding.effects:
            counts = "{} in favour and {} against, of {}".format(*_counted(finding))
            remarks.append(f"Differences that are shown: {counts}. The clearest: {_clearest(finding)}.")
        page.card(finding.claim.sentence, *_short(finding), *remarks)
    page.heading("How they are judged")
    for paragraph in LEAD:
        page.paragraph(paragraph)
    page.heading("Every difference")
    page.paragraph(
        "Leaky minus ReLU: a dot is the mean over the pairs and a line its interval. Blue differences are in favour of "
        "the sentence, orange ones against it, and hollow ones are not shown. The line in the middle is 0."
    )
    for finding in findings:
        if finding.effects:
            page.heading(finding.claim.sentence)
            for measure, effects in _by_measure(finding).items():
                page.forest(measure, [_line(effect) for effect in effects])
    page.heading("How to repeat it")
    page.listing(COMMAND)
    store.write(folder / "claims.html", page.to_html())
    short = [[finding.claim.sentence, _short(finding)[0]] for finding in findings]
    Table(_answer(findings), ["claim", "verdict"], short, text_columns=2).show()
    print(f"every difference: {folder / 'claims.html'}")


def _answer(findings: Sequence[Finding]) -> str:
    """How many claims the runs support."""
    tested = [finding for finding in findings if finding.claim.comparisons and not finding.missing]
    sides = [_short(finding)[0] for finding in tested]
    always, never = sides.count(_ALWAYS), sides.count(_NEVER) + sides.count(_OPPOSITE)
    return (
        f"Of {len(tested)} claims that the runs can test, {always or 'none'} hold{'s' * (always < 2)} for every slope "
        f"in every setting, {sides.count(_SOMETIMES)} in some settings, {sides.count(_MIXED)} in some with the "
        f"opposite in others, and {never} in none."
    )


def _short(finding: Finding) -> tuple[str, int]:
    """The verdict in a few words, and its side."""
    if finding.missing or (finding.claim.comparisons and not finding.effects):
        return "No verdict", 0
    if not finding.claim.comparisons:
        return f"{finding.verdict.partition(':')[0].capitalize()}", -1 if finding.verdict.startswith(
            "false"
        ) else 1
    in_favour, against, of = _counted(finding)
    if in_favour and against:
        return _MIXED, 0
    if in_favour:
        return (_ALWAYS if in_favour == of else _SOMETIMES), 1
    return (_OPPOSITE, -1) if against else (_NEVER, 0)


def _by_measure(finding: Finding) -> dict[str, list[Effect]]:
    """The effects of each measure of each experiment, which share a unit."""
    groups: dict[str, list[Effect]] = {}
    for effect in finding.effects:
        name = f"{effect.comparison.experiment}: {effect.comparison.measure.title}"
        groups.setdefault(name, []).append(effect)
    return groups


def _line(effect: Effect) -> Line:
    difference, interval = figures(effect)
    label = ", ".join(part for part in (effect.setting, effect.arm) if part)
    found, pairs = effect.estimate, f"{effect.estimate.values} pair{'s' * (effect.estimate.values != 1)}"
    text = f"{difference} ({interval}), {pairs}" if found.values else "no pair"
    return Line(label, found.mean, found.half_width, text, effect.shown)


def verdict_table(findings: Sequence[Finding]) -> Table:
    """The sentence, the verdict, the clearest effect, how many are shown, what tests it."""
    lines = []
    for finding in findings:
        tests = list(dict.fromkeys(each.experiment for each in finding.claim.comparisons))
        measured = _clearest(finding), _counts(finding)
        lines.append([finding.claim.sentence, finding.verdict, *measured, ", ".join(tests) or "the formula"])
    header = ["claim", "verdict", "the clearest difference", "in favour, against, of", "tested by"]
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
    return "{}, {}, {}".format(*_counted(finding)) if finding.effects else DASH


def _counted(finding: Finding) -> tuple[int, int, int]:
    """How many effects are in favour, how many against, of how many."""
    shown = [effect.shown for effect in finding.effects]
    return shown.count(1), shown.count(-1), len(shown)
