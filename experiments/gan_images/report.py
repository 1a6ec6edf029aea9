"""What the image GAN shows: each slope of the discriminator against ReLU, pair by pair."""

from __future__ import annotations

import math
from typing import Any

from experiments.gan_images.judge import Judge
from experiments.gan_images.plots import changes_plot, over_steps, pictures_plot
from experiments.lab.analysis.lives import Life, Lives, Measure, last, late, lives_of
from experiments.lab.analysis.paired import is_shown
from experiments.lab.run.experiment import Outcome, write_up
from experiments.lab.show.table import Table

TITLE = "Does LeakyReLU in the discriminator make a GAN on images better or steadier?"
ARM_NAMES = {"relu": "ReLU", "leaky_0.01": "leaky 0.01", "leaky_0.2": "leaky 0.2"}
SETTING_NAMES = {"batch": "D with batch norm", "none": "D without norm"}


def unsteady(life: Life) -> float | None:
    """The generator's gradient norm: standard deviation over mean between looks, averaged over the second half."""
    some = life[len(life) // 2 + 1 :] or life[-1:]
    values = [(record["generator_gradient_deviation"], record["generator_gradient"]) for record in some]
    if any(deviation is None or not mean for deviation, mean in values):
        return None
    return sum(deviation / mean for deviation, mean in values) / len(values)


MEASURES = {
    "modes": Measure("classes covered at the end", last("modes"), 1, 1, True),
    "entropy": Measure("entropy, second half", late("entropy"), 1, 3, True),
    "frechet": Measure("Fréchet distance at the end", last("frechet"), 1, 1, False),
    "late_frechet": Measure("Fréchet distance, second half", late("frechet"), 1, 1, False),
    "unsteady": Measure("spread of G's gradient, second half", unsteady, 1, 2, False),
}


def collapsed(life: Life) -> bool:
    """Whether it ends with half of the classes or fewer."""
    modes = life[-1]["modes"]
    return modes is not None and modes <= 5


def report(config: Any, outcome: Outcome, judge: Judge, source: str, real: Any) -> None:
    """Prints the tables and writes everything but the rows."""
    lives = lives_of(outcome.records, ("normalisation",))
    side = real.shape[-1]
    lead = [
        "Each slope of the discriminator is compared with ReLU, pair by pair: networks of one seed share first "
        "weights, images and noise. A difference is shown where its interval leaves out 0; intervals are corrected "
        f"(Bonferroni) for the {lives.comparisons} comparisons of each measure. The generator has ReLU and batch "
        "normalisation.",
        "A class is covered when at least 1 % of the generated images are classified as it; the entropy is that of the "
        f"histogram of predicted classes (at most ln 10 = {math.log(10):.3f}; of the test images {judge.entropy:.3f}). "
        f"The judge classifies {100 * judge.accuracy:.1f} % of the test images as labelled. The Fréchet distance is "
        "that of its last hidden layer's features to those of the train images; the test images' own is "
        f"{judge.floor:.2f}. It is no FID: the features are not an Inception network's.",
        f"Images of {side} x {side}; {config.steps:,} steps of both players at once, batch {config.batch_size}, Adam "
        f"2e-4 with b1 0.5, {config.seeds} seeds; looks at n = {config.samples:,} generated images in evaluation mode.",
        f"Data: {source}.",
    ]
    write_up(
        "gan_images",
        config,
        outcome,
        title=TITLE,
        lead=lead,
        tables=[changes_table(lives), main_table(lives), players_table(lives)],
        figures=[
            (
                "changes.png",
                "Differences from ReLU; hollow where the corrected interval holds 0.",
                lambda: changes_plot(lives, MEASURES, ARM_NAMES, SETTING_NAMES),
            ),
            (
                "over_steps.png",
                "Classes, Fréchet distance and gradient norms over training; bands: 95 % intervals over seeds.",
                lambda: over_steps(lives, ARM_NAMES, SETTING_NAMES),
            ),
            (
                "samples.png",
                "Generated images of seed 0 after the last step, and real ones.",
                lambda: pictures_plot(lives, ARM_NAMES, SETTING_NAMES, real),
            ),
        ],
    )


def changes_table(lives: Lives) -> Table:
    """The differences from ReLU: the verdicts."""
    lines = []
    for setting in lives.settings:
        for arm in lives.arms[1:]:
            found = {name: lives.against_baseline((*setting, arm), one) for name, one in MEASURES.items()}
            words = [
                ("better" if (found[name].mean > 0) == one.more_is_better else "worse") + f": {one.name}"
                for name, one in MEASURES.items()
                if is_shown(found[name])
            ]
            cells = [found[name].format(one.scale, one.digits, sign=True) for name, one in MEASURES.items()]
            verdict = "; ".join(words) or "no difference shown"
            lines.append([SETTING_NAMES[setting[0]], ARM_NAMES[arm], *cells, verdict])
    return Table(
        "Differences from ReLU in the discriminator, with corrected intervals",
        ["", "activation", *_names(), "verdict"],
        lines,
        text_columns=2,
        sections=len(lives.arms) - 1,
        notes=[
            "Published: DCGAN's authors found the leaky activation to work well in the discriminator, and give no "
            "figure of the difference."
        ],
    )


def main_table(lives: Lives) -> Table:
    """The means, and who collapsed or diverged."""
    lines = []
    for setting in lives.settings:
        for arm in lives.arms:
            cell, some = (*setting, arm), lives.lives[*setting, arm].values()
            lines.append(
                [
                    SETTING_NAMES[setting[0]],
                    ARM_NAMES[arm],
                    *(lives.mean(cell, one.of).format(one.scale, one.digits) for one in MEASURES.values()),
                    f"{sum(map(collapsed, some))}/{len(some)}",
                    f"{sum(life[-1]['diverged'] for life in some)}/{len(some)}",
                ]
            )
    return Table(
        "Means ± 95 % intervals over seeds",
        ["", "activation", *_names(), "collapsed", "diverged"],
        lines,
        text_columns=2,
        sections=len(lives.arms),
        notes=[
            "Collapsed: half of the classes or fewer at the end. Diverged: a value that is not finite. Spread: the "
            "standard deviation of the generator's gradient norm over its mean, between two looks."
        ],
    )


def players_table(lives: Lives) -> Table:
    """Units, gradients and losses of both players."""
    columns = {
        "always\nnegative, D, %": (last("discriminator_never_active"), 100, 1),
        "always\nnegative, G, %": (last("generator_never_active"), 100, 1),
        "gradient\nnorm, D": (late("discriminator_gradient"), 1, 2),
        "gradient\nnorm, G": (late("generator_gradient"), 1, 2),
        "loss, D": (late("discriminator_loss"), 1, 3),
        "loss, G": (late("generator_loss"), 1, 3),
    }
    lines = [
        [
            SETTING_NAMES[setting[0]],
            ARM_NAMES[arm],
            *(
                lives.mean((*setting, arm), of).format(scale, digits)
                for of, scale, digits in columns.values()
            ),
        ]
        for setting in lives.settings
        for arm in lives.arms
    ]
    return Table(
        "Both players: mean ± 95 % interval over seeds",
        ["", "activation", *columns],
        lines,
        text_columns=2,
        sections=len(lives.arms),
        notes=[
            "Never active: channels that fire at no position of any image of the last look (for ReLU: dead). "
            "Gradient norms and losses: means of the second half of training."
        ],
    )


def _names() -> list[str]:
    """The measures' names over two lines."""
    return [
        one.name.replace(", ", "\n").replace(" covered", "\ncovered").replace(" distance at", "\ndistance at")
        for one in MEASURES.values()
    ]
