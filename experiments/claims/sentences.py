"""Common claims about LeakyReLU, each with the comparisons that decide it.

The runs, the measures and the intervals are those of the experiments' own reports; none is left out for what it gave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.claims.evidence import Claim, Comparison
from experiments.collapse import report as collapse
from experiments.dead_neurons import report as dead_neurons
from experiments.gan_images import report as gan_images
from experiments.gan_modes import report as gan_modes
from experiments.image_classification import report as image_classification
from experiments.lab.analysis import Measure, Runs, last
from experiments.lab.run.store import Record
from experiments.learning_rate_map import report as learning_rate_map
from experiments.object_detection import report as object_detection
from experiments.plasticity import report as plasticity
from experiments.reinforcement_learning import report as reinforcement_learning
from experiments.remedies import report as remedies


class Source(NamedTuple):
    """Where runs come from.

    Attributes:
        experiment: name of the experiment whose rows they are.
        runs_of: function from the rows and the run's configuration to the runs.
    """

    experiment: str
    runs_of: Callable[[Sequence[Record], dict[str, Any]], Runs]


def _gain(records: Sequence[Record], _config: Any) -> Runs:
    own = [record for record in records if record["gain"] == "own"]
    return Runs(own, "negative_slope")


def _times(baseline: str) -> Callable[[Sequence[Record], Any], Runs]:
    """The blocks of the benchmark on the CPU, which stand for the seeds: each has all the activations."""

    def runs_of(figures: Sequence[Record], _config: Any) -> Runs:
        blocks = list(dict.fromkeys(figure["block"] for figure in figures))
        wanted = [figure for figure in figures if figure["activation"] in (baseline, *_OPS)]
        return Runs(
            [figure | {"seed": blocks.index(figure["block"])} for figure in wanted],
            "activation",
            (),
            baseline,
        )

    return runs_of


def _diverged_rates(records: pd.DataFrame) -> Any:
    """The share of the learning rates at which a seed's network diverges."""
    levels = records.index.names
    rates = records.reset_index().groupby([*levels, "learning_rate"], sort=False)["diverged"].any()
    return rates.groupby(level=levels, sort=False).mean()


def _log_time(figures: pd.DataFrame) -> Any:
    """The logarithm of a block's time: a hundredth is a percent."""
    times = figures["times_jax_nn"]
    return times.map(lambda one: np.log(one[0]) if isinstance(one, list) else np.nan)


_OPS = {"bits": "this op", "jax.nn": "jax.nn"}
RUNS = {
    "dead_neurons": Source("dead_neurons", lambda rows, config: dead_neurons.runs_of(rows, config["hidden"])),
    "learning_rate_map": Source(
        "learning_rate_map", lambda rows, config: learning_rate_map.runs_of(rows, config["steps"])
    ),
    "rates of learning_rate_map": Source(
        "learning_rate_map", lambda rows, _: Runs(rows, "negative_slope", ("optimizer",))
    ),
    "image_classification": Source(
        "image_classification", lambda rows, _: image_classification.runs_of(rows)
    ),
    "rates of image_classification": Source(
        "image_classification", lambda rows, _: Runs(rows, "activation", ("network",), "relu")
    ),
    "object_detection": Source("object_detection", lambda rows, _: object_detection.runs_of(rows)),
    "collapse": Source("collapse", lambda rows, _: collapse.runs_of(rows)),
    "plasticity": Source("plasticity", lambda rows, _: plasticity.runs_of(rows)),
    "remedies": Source("remedies", lambda rows, _: remedies.runs_of(rows)),
    "reinforcement_learning": Source("reinforcement_learning", reinforcement_learning.runs_of),
    "signal_gain": Source("signal_gain", _gain),
    "gan_modes": Source("gan_modes", lambda rows, _: gan_modes.runs_of(rows)),
    "gan_images": Source("gan_images", lambda rows, _: gan_images.runs_of(rows)),
    "relu of residuals": Source("residuals", _times("relu")),
    "none of residuals": Source("residuals", _times("none")),
}
_SLOPES = {0.01: "slope 0.01", 0.2: "slope 0.2"}
_CLASSIFIER = {"leaky_0.01": "slope 0.01", "leaky_0.2": "slope 0.2"}
_DETECTOR = {**_SLOPES, 0.1: "slope 0.1"}
_PLAYERS = {
    "discriminator_0.01": "0.01 in the discriminator",
    "discriminator_0.2": "0.2 in the discriminator",
    "both_0.2": "0.2 in both players",
}
_IMAGE_PLAYERS = {"leaky_0.01": "0.01 in the discriminator", "leaky_0.2": "0.2 in the discriminator"}


def _compare(
    runs: str, measure: Measure, arms: dict[Any, str], *, least: float = 0, margin: float = 0
) -> Comparison:
    return Comparison(RUNS[runs].experiment, runs, measure, arms, least, margin)


_RATES = Measure(
    "learning rates at which training diverges, % of those tried",
    _diverged_rates,
    more_is_better=False,
    of_diverged=True,
)
_GRADIENT = Measure(
    "gradient through 50 layers, powers of ten (0.3, a factor of 2, counts)",
    last(lambda records: records["gradient_norm"].map(lambda norms: np.log10(norms[0]))),
    1,
    2,
)
_CLASSES = _compare("image_classification", image_classification.MEASURES["accuracy"], _CLASSIFIER)
_BOXES = tuple(
    _compare("object_detection", measure, _DETECTOR) for measure in object_detection.MEASURES.values()
)

CLAIMS = (
    Claim(
        "It prevents neuron death.",
        (
            _compare("dead_neurons", dead_neurons.MEASURES["never\nactive"], _SLOPES),
            _compare("learning_rate_map", learning_rate_map.MEASURES["never_active"], _SLOPES),
            _compare("plasticity", plasticity.MEASURES["never_active"], _CLASSIFIER),
            _compare("remedies", remedies.MEASURES["never_active"], _CLASSIFIER),
            _compare("reinforcement_learning", reinforcement_learning.NEVER_ACTIVE, _CLASSIFIER),
        ),
        "that the activation itself stops no gradient is true by definition",
    ),
    Claim(
        "It is smooth.",
        (),
        "false by definition: at 0 the derivative jumps from the slope to 1, as ReLU's from 0 to 1",
    ),
    Claim(
        "Its gradient is never zero, which keeps learning going.",
        (
            _compare("collapse", collapse.TRAINED, _SLOPES),
            _compare("plasticity", plasticity.MEASURES["accuracy"], _CLASSIFIER),
        ),
        "that its own derivative is never 0 is true by definition",
    ),
    Claim(
        "It keeps a network able to learn, task after task.",
        (_compare("remedies", remedies.MEASURES["accuracy"], {**_CLASSIFIER, "prelu": "PReLU"}),),
    ),
    Claim(
        "It avoids the saturation of gradients.",
        (_compare("signal_gain", _GRADIENT, _SLOPES, least=0.3),),
        "that the derivative stays between the slope and 1 is true by definition",
    ),
    Claim(
        "Training is more stable.",
        (
            _compare("rates of learning_rate_map", _RATES, _SLOPES),
            _compare("rates of image_classification", _RATES, _CLASSIFIER),
        ),
    ),
    Claim(
        "Training converges faster.",
        (
            _compare("learning_rate_map", learning_rate_map.MEASURES["steps"], _SLOPES),
            _compare("image_classification", image_classification.MEASURES["steps"], _CLASSIFIER),
        ),
    ),
    Claim(
        "The model becomes better.",
        (
            _compare("learning_rate_map", learning_rate_map.MEASURES["accuracy"], _SLOPES),
            _CLASSES,
            *_BOXES,
        ),
    ),
    Claim(
        "It is simple and cheap to compute.",
        tuple(
            _compare(
                f"{baseline} of residuals",
                Measure(
                    f"extra time of a step over {what}, % (up to 10 is cheap)",
                    last(_log_time),
                    more_is_better=False,
                ),
                _OPS,
                margin=10,
            )
            for baseline, what in (("relu", "ReLU"), ("none", "no activation"))
        ),
        "that it is one comparison and one product per element is true by definition",
    ),
    Claim(
        "In a GAN's discriminator it prevents the collapse of modes.",
        (
            _compare("gan_modes", gan_modes.MEASURES["late_modes"], _PLAYERS),
            _compare("gan_images", gan_images.MEASURES["modes"], _IMAGE_PLAYERS),
            _compare("gan_images", gan_images.MEASURES["frechet"], _IMAGE_PLAYERS),
        ),
    ),
    Claim(
        "It keeps both players of a GAN stable.",
        (
            _compare("gan_modes", gan_modes.MEASURES["swing"], _PLAYERS),
            _compare("gan_images", gan_images.MEASURES["spread_d"], _IMAGE_PLAYERS),
            _compare("gan_images", gan_images.MEASURES["spread_g"], _IMAGE_PLAYERS),
        ),
    ),
    Claim("It improves image classification.", (_CLASSES,)),
    Claim("It improves object detection.", _BOXES),
)
