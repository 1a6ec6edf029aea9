"""What the mode experiment shows: each choice of activations against ReLU in both players, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.gan_modes.plots import changes_plot, over_steps, scatter
from experiments.lab.analysis.lives import Life, Lives, Measure, last, late, lives_of
from experiments.lab.analysis.paired import is_shown
from experiments.lab.analysis.verdict import Finding, verdict_table
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table

TITLE = "Does LeakyReLU keep a generative adversarial network from losing modes?"
ARM_NAMES = {
    "relu": "ReLU in both",
    "discriminator_0.01": "D leaky 0.01",
    "discriminator_0.2": "D leaky 0.2",
    "generator_0.01": "G leaky 0.01",
    "generator_0.2": "G leaky 0.2",
    "both_0.2": "both leaky 0.2",
}
MODES = {"ring": 8, "grid": 25}
# PacGAN's table: mean and standard error of 10 trials, of modes, good samples and reverse KL.
PACGAN = {
    "ring": ((6.3, 0.5), (0.982, 0.002), (0.45, 0.09)),
    "grid": ((17.3, 0.8), (0.948, 0.007), (0.70, 0.07)),
}
_T9 = 2.262  # Student's t at 97.5 % with 9 degrees of freedom: their standard error to a 95 % interval


def swing(life: Life) -> float | None:
    """By how many modes two successive looks differ, on average over the second half of training."""
    modes = [record["modes"] for record in life[len(life) // 2 :]]
    return float(np.abs(np.diff(modes)).mean()) if len(modes) > 1 else None


MEASURES = {
    "modes": Measure("modes at the end", last("modes"), 1, 1, True),
    "late_modes": Measure("modes, second half", late("modes"), 1, 1, True),
    "quality": Measure("high quality, second half, points", late("high_quality"), 100, 1, True),
    "reverse_kl": Measure("reverse KL, second half", late("reverse_kl"), 1, 2, False),
    "swing": Measure("modes won or lost between looks", swing, 1, 2, False),
}


def collapsed(life: Life) -> bool:
    """Whether it ends with a quarter of the modes or fewer."""
    modes = life[-1]["modes"]
    return modes is not None and modes <= MODES[life[-1]["mixture"]] / 4


def report(config: Any, outcome: Outcome) -> None:
    """Prints the tables and writes everything but the rows."""
    lives = lives_of(outcome.records, ("mixture", "optimizer"))
    lead = [
        "A mode is covered when one of the generated samples lies within 3 standard deviations of it; such samples are "
        "of high quality (98.9 % of the mixture's own are). Reverse KL: of the histogram of nearest modes against the "
        "uniform one; 0 is best.",
        "Each choice of activations is compared with ReLU in both players at the same mixture and optimiser, pair by "
        "pair: networks of one seed share first weights, samples and noise. A difference is shown where its interval "
        f"leaves out 0; intervals are corrected (Bonferroni) for the {lives.comparisons} comparisons of each measure. "
        "The optimisers were named before any run; the width, the number of steps and the two late measures were fixed "
        "after pilots with other seeds (1000 and 1001), before this run.",
        f"D: discriminator, hidden layers {_widths(config.discriminator)}; G: generator, {_widths(config.generator)}, "
        f"with batch normalisation. {config.steps:,} steps of both at once, batch {config.batch_size}, {config.seeds} "
        f"seeds; {config.looks} looks at n = {config.samples:,} generated samples.",
    ]
    write_up(
        "gan_modes",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[verdicts(lives), counts_table(lives), *(table for table in main_tables(lives))],
        figures=[
            (
                "changes.png",
                "Differences from ReLU in both players; hollow where the corrected interval holds 0.",
                lambda: changes_plot(lives, MEASURES, ARM_NAMES),
            ),
            (
                "over_steps.png",
                "Modes, samples of high quality and the generator's gradient over training; bands: 95 % intervals.",
                lambda: over_steps(lives, ARM_NAMES, MODES),
            ),
            (
                "samples.png",
                "Generated samples of seed 0 at the end (colour) and the modes (crosses).",
                lambda: scatter(lives, ARM_NAMES),
            ),
        ],
    )


def verdicts(lives: Lives) -> Table:
    """PacGAN's and VEEGAN's plain GANs beside our ReLU in both players."""
    findings = []
    for mixture, published in PACGAN.items():
        cell = (mixture, "pacgan", "relu")
        if cell not in lives.lives:
            continue
        for name, (mean, error), scale, digits in zip(
            ("modes", "high_quality", "reverse_kl"), published, (1, 100, 1), (1, 1, 2), strict=True
        ):
            half = _T9 * error
            what = {"modes": "modes", "high_quality": "high quality, %", "reverse_kl": "reverse KL"}[name]
            findings.append(
                Finding(
                    f"{mixture}: {what}",
                    f"{mean * scale:g} ± {error * scale:g} (PacGAN)",
                    lives.mean(cell, last(name)),
                    mean - half,
                    mean + half,
                    digits,
                    scale,
                )
            )
    return verdict_table(
        "Published plain GANs, and ours with ReLU in both players and PacGAN's optimiser",
        findings,
        [
            "Reproduced: in the 95 % interval of PacGAN's 10 trials (± is their standard error). Their networks are "
            "wider, their discriminator's units are maxout, and they train for 400,000 steps; `--full` has their "
            "widths and steps. VEEGAN's table gives its plain GAN 1 mode on the ring and 3.3 on the grid. Neither "
            "varies the activation."
        ],
    )


def counts_table(lives: Lives) -> Table:
    """For each choice of activations: where a difference is shown, and who collapsed or diverged."""
    lines = []
    for arm in lives.arms:
        line = [ARM_NAMES[arm]]
        for measure in MEASURES.values():
            shown = [
                found.mean
                for setting in lives.settings
                if is_shown(found := lives.against_baseline((*setting, arm), measure))
            ]
            better = sum((mean > 0) == measure.more_is_better for mean in shown)
            line.append(f"{better} better, {len(shown) - better} worse" if arm != "relu" else "")
        some = [life for setting in lives.settings for life in lives.lives[*setting, arm].values()]
        line += [
            f"{sum(map(collapsed, some))}/{len(some)}",
            f"{sum(life[-1]['diverged'] for life in some)}/{len(some)}",
        ]
        lines.append(line)
    return Table(
        f"Shown differences from ReLU in both, of {len(lives.settings)} combinations of mixture and optimiser",
        ["activations", *(_broken(one.name) for one in MEASURES.values()), "collapsed", "diverged"],
        lines,
        notes=[
            "Collapsed: a quarter of the modes or fewer at the end. Diverged: a value that is not finite."
        ],
    )


def main_tables(lives: Lives) -> list[Table]:
    """The means, and the differences from ReLU in both."""
    means, changes = [], []
    for mixture, optimizer in lives.settings:
        for arm in lives.arms:
            cell = mixture, optimizer, arm
            line = [f"{mixture}, {optimizer}", ARM_NAMES[arm]]
            means.append(
                [
                    *line,
                    *(lives.mean(cell, one.of).format(one.scale, one.digits) for one in MEASURES.values()),
                    lives.mean(cell, last("discriminator_never_active")).format(100),
                    lives.mean(cell, last("generator_never_active")).format(100),
                    lives.mean(cell, late("discriminator_gradient")).format(1, 2),
                    lives.mean(cell, late("generator_gradient")).format(1, 2),
                ]
            )
            if arm != "relu":
                found = [
                    lives.against_baseline(cell, one).format(one.scale, one.digits, sign=True)
                    + (" *" if is_shown(lives.against_baseline(cell, one)) else "")
                    for one in MEASURES.values()
                ]
                changes.append([*line, *found])
    names = [_broken(one.name) for one in MEASURES.values()]
    header = ["mixture", "activations", *names]
    more = ["always\nnegative, D, %", "always\nnegative, G, %", "gradient\nnorm, D", "gradient\nnorm, G"]
    return [
        Table(
            "Differences from ReLU in both, with corrected intervals; * shown",
            header,
            changes,
            text_columns=2,
            sections=len(lives.arms) - 1,
        ),
        Table(
            "Means ± 95 % intervals over seeds",
            [*header, *more],
            means,
            text_columns=2,
            sections=len(lives.arms),
            notes=[
                "Never active: hidden units that fire on no sample of the last look, on which silence shows a "
                "frequency below 3 / n. Gradient norms: of each player's loss, mean of the second half."
            ],
        ),
    ]


def _widths(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def _broken(name: str) -> str:
    """The name over two lines, for a narrow column."""
    first, _, rest = name.partition(", ")
    return f"{first}\n{rest}" if rest else first.replace(" between ", "\nbetween ").replace(" at ", "\nat ")
