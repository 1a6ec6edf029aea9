"""What the reinforcement learning experiment shows: published directions, each arm against ReLU, shares over frames."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.lab.analysis import Cell, Estimate, Finding, Measure, Runs, change, estimate, late, share
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show import plots
from experiments.lab.show.table import Table, listed, verdict_table

TITLE = "Do units die in deep reinforcement learning, and does resetting them help?"
ARM_NAMES = {
    "relu": "ReLU",
    "leaky_0.01": "leaky 0.01",
    "leaky_0.2": "leaky 0.2",
    "relu_redo": "ReLU, ReDo",
    "relu_norm": "ReLU, layer norm",
    "leaky_0.2_redo": "leaky 0.2, ReDo",
}
METHOD_NAMES = {
    "dqn_0.25": "DQN, replay ratio 0.25",
    "dqn_1": "DQN, replay ratio 1",
    "dqn_4": "DQN, replay ratio 4",
    "ppo": "PPO",
}
GAME_NAMES = {"breakout": "Breakout", "space_invaders": "SpaceInvaders", "freeway": "Freeway"}


def last_third(of: Any) -> Any:
    """The mean over the counts of the last third of the frames, in which every method has one."""
    return late(of, 1 / 3)


def mean_return(records: pd.DataFrame) -> Any:
    """The mean return of the episodes that ended in the last third of the frames; none without an episode."""
    episodes = last_third("episodes")(records)
    return (last_third("returns")(records) / episodes).where(episodes > 0)


def _share(name: str) -> Measure:
    return Measure(name, last_third(share(name)), more_is_better=False)


MEASURES = {
    "dormant\n@0.025": _share("dormant@0.025"),
    "dormant\n@0.1": _share("dormant@0.1"),
    "never\nactive": Measure("never-active units", last_third(share("never_active")), more_is_better=False),
    "gradient-\ndead": Measure("gradient-dead", last_third(share("grad_dead")), more_is_better=False),
    "effective\nrank": Measure("effective rank", last_third("effective_rank"), 1),
    "return": Measure("return", mean_return, 1, 2),
}
DORMANT, NEVER_ACTIVE, RETURN = (MEASURES[name] for name in ("dormant\n@0.025", "never\nactive", "return"))
_RISE = Measure("change", change(share("dormant@0.025"), last_third))
_RESTARTED = Measure("reset at a count", last_third("restarted"), 1)


def runs_of(records: Any, config: Mapping[str, Any]) -> Runs:
    """The runs, compared with ReLU of the same game and method; a step is a frame.

    Args:
        records: records of the runs.
        config: settings of the experiment by name: `hidden` and `convolution` tell the widths of the layers.
    """
    frame = pd.DataFrame(records).rename(columns={"frame": "step"})
    widths = (*([16] if config["convolution"] else []), *config["hidden"])
    frame["channels"] = [widths] * len(frame)
    return Runs(frame, "arm", ("environment", "method"), "relu")


def report(config: Any, outcome: Outcome) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records, {"hidden": config.hidden, "convolution": config.convolution})
    network = f"{'a 3 x 3 convolution and ' if config.convolution else ''}{'-'.join(map(str, config.hidden))}"
    without = (
        " (Freeway's take 2,500 frames, so that none may end)" if "freeway" in config.environments else ""
    )
    lead = [
        "A unit is dormant at a threshold when its mean absolute output is at most that part of its layer's mean "
        "(Sokar et al.), and gradient-dead when no sample's loss sends it a gradient. Units are counted on "
        f"{config.probe:,} frames: of DQN's replay every {config.every:,} updates, of PPO's last rollout every "
        f"{32 * config.ppo_every:,}. ReDo resets those dormant at {config.tau:g} after they were counted.",
        f"MinAtar's {', '.join(GAME_NAMES[name] for name in config.environments)} in gymnax; hidden layers {network}; "
        f"DQN learns from {config.frames:,} frames, PPO from {config.ppo_frames:,}; {runs.seeds}, and the networks of "
        "one seed share their first weights. Shares are of all hidden units, and they are means over the counts of the "
        f"last third of the frames; the return is that of the episodes that end in it{without}, exploration included. "
        "The published networks play for millions of frames: the direction is compared, not the figure.",
    ]
    directions = findings_of(runs)
    write_up(
        "reinforcement_learning",
        config,
        outcome,
        title=TITLE,
        answer=" ".join(filter(None, (of_redo(runs), answer(directions)))),
        lead=lead,
        tables=[verdicts(runs, directions), differences_table(runs), main_table(runs)],
        figures=[
            (
                f"over_frames_{game}.png",
                f"{GAME_NAMES[game]}: dormant and never-active units and the effective rank of the last hidden layer "
                "over the frames; bands: 95 % intervals over seeds. Where ReDo resets no unit, a network's curve "
                "covers that of the same network without it.",
                functools.partial(over_frames, runs, game),
            )
            for game in config.environments
        ],
    )


def _finding(
    game: str, what: str, published: str, ours: Estimate, *, rises: bool, scale: float = 100
) -> Finding:
    low, high = (0.0, 1e9) if rises else (-1e9, 0.0)
    digits = 1 if scale == 100 else 2
    return Finding(f"{GAME_NAMES[game]}, {what}", published, ours, low, high, digits, scale, whole=True)


def of_redo(runs: Runs) -> str:
    """What resetting ReLU's dormant units changes."""
    dormant, returns = (
        [runs.difference((*setting, "relu_redo"), measure) for setting in runs.settings]
        for measure in (DORMANT, RETURN)
    )
    fewer = [-100 * one.mean for one in dormant if one.shown and one.mean < 0]
    if not fewer:
        return ""
    return (
        f"In {len(fewer)} of {len(dormant)} settings ReDo lowers the share of dormant units, by {min(fewer):.0f} to "
        f"{max(fewer):.0f} points; a difference in return is shown in {sum(one.shown for one in returns) or 'none'}."
    )


def answer(directions: Sequence[Finding]) -> str:
    """How many of the published directions are reproduced."""
    found = collections.Counter(one.verdict for one in directions)
    if len(directions) == found["not measured"]:
        return ""
    return (
        f"Of {len(directions)} published directions "
        + listed([f"{n} {_are(n)} {name}" for name, n in found.items()])
        + "."
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def findings_of(runs: Runs) -> list[Finding]:
    """The published directions beside ours."""
    findings = []
    for game in dict.fromkeys(setting[0] for setting in runs.settings):
        methods = [method for name, method in runs.settings if name == game and method.startswith("dqn")]
        for method in methods:
            found = estimate(runs.by_seed((game, method, "relu"), _RISE), len(methods))
            what = f"{METHOD_NAMES[method]}: dormant units, change in training"
            findings.append(_finding(game, what, "rise", found, rises=True))
        for method in methods[1:]:
            higher, least = (runs.by_seed((game, one, "relu"), DORMANT) for one in (method, methods[0]))
            found = estimate(higher - least, len(methods) - 1)
            what = f"dormant units at replay ratio {method[4:]}, minus at {methods[0][4:]}"
            findings.append(_finding(game, what, "more at a higher ratio", found, rises=True))
        for method in methods:
            found = runs.difference((game, method, "relu_redo"), DORMANT)
            what = f"{METHOD_NAMES[method]}: dormant units, ReDo minus none"
            findings.append(_finding(game, what, "fewer with ReDo", found, rises=False))
        for method in methods[-1:]:
            found = runs.difference((game, method, "relu_redo"), RETURN)
            what = f"{METHOD_NAMES[method]}: return, ReDo minus none"
            findings.append(_finding(game, what, "not hurt, or gains", found, rises=True, scale=1))
    return findings


def verdicts(runs: Runs, findings: Sequence[Finding]) -> Table:
    """The published directions beside ours."""
    return verdict_table(
        "Published directions (Sokar et al.) and ours, with ReLU; dormant at 0.025, in percentage points",
        findings,
        [
            "Reproduced: the whole interval has the published sign; not excluded: it holds both signs; not reproduced: "
            "it has the opposite sign. "
            "Intervals are over pairs of one seed, corrected (Bonferroni) for the lines of one kind, those of ReDo for "
            f"all comparisons with ReLU, which are {runs.comparisons}."
        ],
    )


def differences_table(runs: Runs) -> Table:
    """Each arm minus ReLU, seed by seed, with intervals that hold together."""
    lines = [
        [*_names(cell), *(one.text(runs.difference(cell, one), sign=True) for one in MEASURES.values())]
        for cell in runs.cells
        if cell[-1] != runs.baseline and runs.baseline in runs.arms
    ]
    return Table(
        "Minus ReLU of the same game, method and seed, with corrected intervals; * shown",
        _header("points"),
        lines,
        text_columns=2,
        sections=max(1, len(runs.arms) - 1),
        notes=[
            f"95 % intervals over pairs, {runs.corrected}; a difference is shown where its interval leaves out 0. "
            "Shares in percentage points."
        ],
    )


def main_table(runs: Runs) -> Table:
    """One line per game, method and arm."""
    measures = [*MEASURES.values(), _RESTARTED]
    lines = [[*_names(cell), *(one.text(runs.mean(cell, one)) for one in measures)] for cell in runs.cells]
    return Table(
        "Last third of the frames; mean ± 95 % interval over seeds",
        [*_header("%"), "reset\nat a count"],
        lines,
        text_columns=2,
        sections=len(runs.arms),
        notes=[
            "A layer norm before the activation lets all units of a layer meet, so that `wiring` tells none of them "
            "apart and ReDo is not tried there."
        ],
    )


def over_frames(runs: Runs, game: str) -> Any:
    """A column per method, a line per arm."""
    methods = [method for name, method in runs.settings if name == game]
    rows: Sequence[tuple[str, Any, float]] = (
        ("dormant@0.025, %", share("dormant@0.025"), 100),
        ("never active, %", share("never_active"), 100),
        ("effective rank", "effective_rank", 1),
    )
    figure, axes = plots.panels(
        len(rows),
        len(methods),
        "Units over the frames",
        f"{GAME_NAMES[game]}; {runs.seeds}, bands: 95 % intervals",
        width=1.5 + 3.2 * len(methods),
        height=8.2,
        sharex="col",
        sharey="row",
    )
    styles = {arm: {"color": plots.COLORS[arm], "label": ARM_NAMES[arm]} for arm in runs.arms}
    for column, method in enumerate(methods):
        for panel, (title, of, scale) in zip(axes[:, column], rows, strict=True):
            plots.curves(panel, runs, (game, method), of, styles, scale)
            if not column:
                panel.set_ylabel(title)
        axes[0, column].set_title(METHOD_NAMES[method], loc="left", fontweight="bold")
        axes[-1, column].set_xlabel("frame")
    for panel in axes[:, 0]:  # which holds for its row, and would end it at what is drawn so far
        panel.set_ylim(bottom=0)
    plots.legend(figure)
    return figure


def _names(cell: Cell) -> list[str]:
    game, method, arm = cell
    return [f"{GAME_NAMES[game]}, {METHOD_NAMES[method]}", ARM_NAMES[arm]]


def _header(unit: str) -> list[str]:
    titles = [f"{name}, {unit}" if one.scale == 100 else name for name, one in MEASURES.items()]
    return ["game, method", "network", *titles]
