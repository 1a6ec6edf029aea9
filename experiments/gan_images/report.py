"""What the image GAN shows: each slope of the discriminator against ReLU, pair by pair."""

from __future__ import annotations

import math
from typing import Any

from experiments.gan_images.judge import Judge
from experiments.gan_images.plots import changes_plot, over_steps, pictures_plot
from experiments.lab.analysis import Measure, Runs, last, second_half, spread
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table, answer_of

TITLE = "Does LeakyReLU in the discriminator make a GAN on images better or steadier?"
ARM_NAMES = {"relu": "ReLU", "leaky_0.01": "leaky 0.01", "leaky_0.2": "leaky 0.2"}
SETTING_NAMES = {"batch": "D with batch norm", "none": "D without norm"}


MEASURES = {
    "modes": Measure("classes covered at the end", last("modes"), 1),
    "entropy": Measure("entropy, second half", second_half("entropy"), 1, 3),
    "frechet": Measure("Fréchet distance at the end", last("frechet"), 1, more_is_better=False),
    "late_frechet": Measure("Fréchet distance, second half", second_half("frechet"), 1, more_is_better=False),
    "spread_d": Measure(
        "spread of D's gradient, second half", spread("discriminator"), 1, 2, more_is_better=False
    ),
    "spread_g": Measure(
        "spread of G's gradient, second half", spread("generator"), 1, 2, more_is_better=False
    ),
}
_PLAYERS = {
    "never\nactive, D, %": Measure("never active, D", last("discriminator_never_active")),
    "never\nactive, G, %": Measure("never active, G", last("generator_never_active")),
    "gradient\nnorm, D": Measure("gradient norm, D", second_half("discriminator_gradient"), 1, 2),
    "gradient\nnorm, G": Measure("gradient norm, G", second_half("generator_gradient"), 1, 2),
    "loss, D": Measure("loss, D", second_half("discriminator_loss"), 1, 3),
    "loss, G": Measure("loss, G", second_half("generator_loss"), 1, 3),
}


def runs_of(records: Any) -> Runs:
    """The runs, compared by the discriminator's activation with ReLU under the same normalisation."""
    return Runs(records, "arm", ("normalisation",), "relu")


def collapsed(records: Any) -> Any:
    """Whether each run ends with half of the classes or fewer."""
    return last("modes")(records) <= 5


def report(config: Any, outcome: Outcome, judge: Judge, source: str, real: Any) -> None:
    """Prints the tables and writes everything but the rows."""
    runs = runs_of(outcome.records)
    side = real.shape[-1]
    lead = [
        "Each slope of the discriminator is compared with ReLU, pair by pair: networks of one seed share first "
        "weights, images and noise. A difference is shown where its interval leaves out 0; intervals are "
        f"{runs.corrected}. The generator has ReLU and batch normalisation.",
        "A class is covered when at least 1 % of the generated images are classified as it; the entropy is that of the "
        f"histogram of predicted classes (at most ln 10 = {math.log(10):.3f}; of the test images {judge.entropy:.3f}). "
        f"The judge classifies {100 * judge.accuracy:.1f} % of the test images as labelled. The Fréchet distance is "
        "that of its last hidden layer's features to those of the train images; the test images' own is "
        f"{judge.floor:.2f}. It is no FID: the features are not an Inception network's.",
        f"Images of {side} x {side}; {config.steps:,} steps of both players at once, batch {config.batch_size}, Adam "
        f"2e-4 with b1 0.5, {config.seeds} seeds; evaluated on n = {config.samples:,} generated images, in "
        "evaluation mode.",
        f"Data: {source}.",
    ]
    write_up(
        "gan_images",
        config,
        outcome,
        title=TITLE,
        answer=answer_of(
            runs, MEASURES["frechet"], lambda cell: f"{ARM_NAMES[cell[-1]]}, {SETTING_NAMES[cell[0]]}"
        ),
        lead=lead,
        tables=[changes_table(runs), main_table(runs), players_table(runs)],
        figures=[
            (
                "changes.png",
                "Differences from ReLU; hollow where the corrected interval holds 0.",
                lambda: changes_plot(runs, list(MEASURES.values()), ARM_NAMES, SETTING_NAMES),
            ),
            (
                "over_steps.png",
                "Classes, Fréchet distance and gradient norms over training; bands: 95 % intervals over seeds.",
                lambda: over_steps(runs, ARM_NAMES, SETTING_NAMES),
            ),
            (
                "samples.png",
                "Generated images of seed 0 after the last step, and real ones.",
                lambda: pictures_plot(runs, ARM_NAMES, SETTING_NAMES, real),
            ),
        ],
    )


def changes_table(runs: Runs) -> Table:
    """The differences from ReLU: the verdicts."""
    lines = []
    for cell in runs.cells:
        if cell[1] == runs.baseline:
            continue
        found = {one: runs.difference(cell, one) for one in MEASURES.values()}
        words = [
            ("better" if (one.mean > 0) == measure.more_is_better else "worse") + f": {measure.name}"
            for measure, one in found.items()
            if one.shown
        ]
        texts = [measure.text(one, sign=True) for measure, one in found.items()]
        verdict = "; ".join(words) or "no difference shown"
        lines.append([SETTING_NAMES[cell[0]], ARM_NAMES[cell[1]], *texts, verdict])
    return Table(
        "Differences from ReLU in the discriminator, with corrected intervals; * shown",
        ["", "activation", *_names(), "verdict"],
        lines,
        text_columns=2,
        sections=len(runs.arms) - 1,
        notes=[
            "Published: DCGAN's authors found the leaky activation to work well in the discriminator, and give no "
            "figure of the difference."
        ],
    )


def main_table(runs: Runs) -> Table:
    """The means, and who collapsed or diverged."""
    lines = [
        [
            SETTING_NAMES[cell[0]],
            ARM_NAMES[cell[1]],
            *(one.text(runs.mean(cell, one)) for one in MEASURES.values()),
            "{}/{}".format(*runs.count(collapsed, cell)),
            "{}/{}".format(*runs.diverged(cell)),
        ]
        for cell in runs.cells
    ]
    return Table(
        "Means ± 95 % intervals over seeds",
        ["", "activation", *_names(), "collapsed", "diverged"],
        lines,
        text_columns=2,
        sections=len(runs.arms),
        notes=[
            "Collapsed: half of the classes or fewer at the end. Diverged: a value that is not finite. Spread: the "
            "standard deviation of a player's gradient norm between two evaluations over its mean. Second half: the "
            "mean over the evaluations after half of the steps."
        ],
    )


def players_table(runs: Runs) -> Table:
    """Units, gradients and losses of both players."""
    lines = [
        [
            SETTING_NAMES[cell[0]],
            ARM_NAMES[cell[1]],
            *(one.text(runs.mean(cell, one)) for one in _PLAYERS.values()),
        ]
        for cell in runs.cells
    ]
    return Table(
        "Both players: mean ± 95 % interval over seeds",
        ["", "activation", *_PLAYERS],
        lines,
        text_columns=2,
        sections=len(runs.arms),
        notes=[
            "Never active: channels that are above zero at no position of any image of the last evaluation (for ReLU: "
            "dead). Gradient norms and losses: means of the second half of training."
        ],
    )


def _names() -> list[str]:
    """The measures' names over two lines."""
    return [
        one.name.replace(", ", "\n").replace(" covered", "\ncovered").replace(" distance at", "\ndistance at")
        for one in MEASURES.values()
    ]
