"""What the mode experiment shows: each choice of activations against ReLU in both players, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.gan_modes.plots import changes_plot, over_steps, scatter
from experiments.lab.analysis import Finding, Measure, Runs, last, second_half, swing
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table, answer_of, verdict_table

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


MEASURES = {
    "modes": Measure("modes at the end", last("modes"), 1),
    "late_modes": Measure("modes, second half", second_half("modes"), 1),
    "quality": Measure("high quality, second half, points", second_half("high_quality")),
    "reverse_kl": Measure("reverse KL, second half", second_half("reverse_kl"), 1, 2, more_is_better=False),
    "swing": Measure("modes won or lost between evaluations", swing("modes"), 1, 2, more_is_better=False),
}
_PUBLISHED = (
    Measure("modes", last("modes"), 1),
    Measure("high quality, %", last("high_quality")),
    Measure("reverse KL", last("reverse_kl"), 1, 2),
)
_PLAYERS = {
    "never\nactive, D, %": Measure("never active, D", last("discriminator_never_active")),
    "never\nactive, G, %": Measure("never active, G", last("generator_never_active")),
    "gradient\nnorm, D": Measure("gradient norm, D", second_half("discriminator_gradient"), 1, 2),
    "gradient\nnorm, G": Measure("gradient norm, G", second_half("generator_gradient"), 1, 2),
}


def runs_of(records: Any) -> Runs:
    """The runs, compared by the players' activations with ReLU in both at the same mixture and optimiser."""
    return Runs(records, "arm", ("mixture", "optimizer"), "relu")


def collapsed(records: Any) -> Any:
    """Whether each run ends with a quarter of the modes or fewer."""
    modes = last("modes")(records)
    return modes <= modes.index.get_level_values("mixture").map(MODES) / 4


def report(config: Any, outcome: Outcome) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    lead = [
        "A mode is covered when one of the generated samples lies within 3 standard deviations of it; such samples are "
        "of high quality (98.9 % of the mixture's own are). Reverse KL: of the histogram of nearest modes against the "
        "uniform one; 0 is best.",
        "Each choice of activations is compared with ReLU in both players at the same mixture and optimiser, pair by "
        "pair: networks of one seed share first weights, samples and noise. A difference is shown where its interval "
        f"leaves out 0; intervals are {runs.corrected}. "
        "The optimisers were named before any run; the width, the number of steps and the two late measures were fixed "
        "after pilots with other seeds (1000 and 1001), before this run.",
        f"D: discriminator, hidden layers {_widths(config.discriminator)}; G: generator, {_widths(config.generator)}, "
        f"with batch normalisation. {config.steps:,} steps of both at once, batch {config.batch_size}, {config.seeds} "
        f"seeds; evaluated {config.evaluations} times on n = {config.samples:,} generated samples.",
    ]
    write_up(
        "gan_modes",
        config,
        outcome,
        title=TITLE,
        answer=answer_of(
            runs,
            MEASURES["late_modes"],
            lambda cell: f"{ARM_NAMES[cell[-1]]} on the {cell[0]} ({cell[1]} optimiser)",
        ),
        lead=lead,
        tables=[verdicts(runs), counts_table(runs), differences_table(runs), means_table(runs)],
        figures=[
            (
                "changes.png",
                "Differences from ReLU in both players; hollow where the corrected interval holds 0.",
                lambda: changes_plot(runs, list(MEASURES.values()), ARM_NAMES),
            ),
            (
                "over_steps.png",
                "Modes, samples of high quality and the generator's gradient over training; bands: 95 % intervals.",
                lambda: over_steps(runs, ARM_NAMES, MODES),
            ),
            (
                "samples.png",
                "Generated samples of seed 0 at the end (colour) and the modes (crosses).",
                lambda: scatter(runs, ARM_NAMES),
            ),
        ],
    )


def verdicts(runs: Runs) -> Table:
    """PacGAN's and VEEGAN's plain GANs beside our ReLU in both players."""
    findings = []
    for mixture, published in PACGAN.items():
        cell = (mixture, "pacgan", "relu")
        for one, (mean, error) in zip(_PUBLISHED, published, strict=True):
            if cell in runs.cells:
                half, figure = _T9 * error, f"{mean * one.scale:g} ± {error * one.scale:g} (PacGAN)"
                what, ours = f"{mixture}: {one.name}", runs.mean(cell, one)
                findings.append(Finding(what, figure, ours, mean - half, mean + half, one.digits, one.scale))
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


def counts_table(runs: Runs) -> Table:
    """For each choice of activations: where a difference is shown, and who collapsed or diverged."""
    lines = []
    for arm in runs.arms:
        cells = [(*setting, arm) for setting in runs.settings]
        shown = ["{} better, {} worse".format(*runs.shown(arm, one)) for one in MEASURES.values()]
        lines.append(
            [
                ARM_NAMES[arm],
                *([""] * len(MEASURES) if arm == runs.baseline else shown),
                "{}/{}".format(*runs.count(collapsed, *cells)),
                "{}/{}".format(*runs.diverged(*cells)),
            ]
        )
    return Table(
        f"Shown differences from ReLU in both, of {len(runs.settings)} combinations of mixture and optimiser",
        ["activations", *_names(), "collapsed", "diverged"],
        lines,
        notes=[
            "Collapsed: a quarter of the modes or fewer at the end. Diverged: a value that is not finite."
        ],
    )


def differences_table(runs: Runs) -> Table:
    """Each choice minus ReLU in both."""
    lines = [
        [
            f"{mixture}, {optimizer}",
            ARM_NAMES[arm],
            *(
                one.text(runs.difference((mixture, optimizer, arm), one), sign=True)
                for one in MEASURES.values()
            ),
        ]
        for mixture, optimizer, arm in runs.cells
        if arm != runs.baseline
    ]
    return Table(
        "Differences from ReLU in both, with corrected intervals; * shown",
        ["mixture", "activations", *_names()],
        lines,
        text_columns=2,
        sections=len(runs.arms) - 1,
    )


def means_table(runs: Runs) -> Table:
    """The means themselves, and the players' units and gradients."""
    lines = [
        [
            f"{cell[0]}, {cell[1]}",
            ARM_NAMES[cell[2]],
            *(one.text(runs.mean(cell, one)) for one in (*MEASURES.values(), *_PLAYERS.values())),
        ]
        for cell in runs.cells
    ]
    return Table(
        "Means ± 95 % intervals over seeds",
        ["mixture", "activations", *_names(), *_PLAYERS],
        lines,
        text_columns=2,
        sections=len(runs.arms),
        notes=[
            "Never active: hidden units that are above zero for no sample of the last evaluation, which shows a "
            "frequency below 3 / n. Second half: the mean over the evaluations after half of the steps. Gradient "
            "norms: of each player's loss, mean of the second half."
        ],
    )


def _widths(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def _names() -> list[str]:
    """The measures' names over two lines, for narrow columns."""
    split = {", ": ",\n", " between ": "\nbetween ", " at ": "\nat "}
    names = []
    for one in MEASURES.values():
        mark = next(mark for mark in split if mark in one.name)
        names.append(one.name.replace(mark, split[mark].lstrip(","), 1))
    return names
