"""What is said of LeakyReLU, each sentence with the comparisons that decide it.

The measures and settings are those of the experiments' own tables; none is left out for what it gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.claims.evidence import Claim, Comparison
from experiments.claims.measures import (
    diverged_rates,
    end,
    late,
    log_gradient,
    log_time,
    spread,
    swing,
    trained,
)

_RELU = {"negative_slope": 0.0}
_SLOPES = {"slope 0.01": {"negative_slope": 0.01}, "slope 0.2": {"negative_slope": 0.2}}
_RATES = ("optimizer", "learning_rate")
_CLASSIFIER = {"slope 0.01": {"activation": "leaky_0.01"}, "slope 0.2": {"activation": "leaky_0.2"}}
_DETECTOR = {**_SLOPES, "slope 0.1": {"negative_slope": 0.1}}
_PLAYERS = {
    "0.01 in the discriminator": {"arm": "discriminator_0.01"},
    "0.2 in the discriminator": {"arm": "discriminator_0.2"},
    "0.2 in both players": {"arm": "both_0.2"},
}
_IMAGE_PLAYERS = {
    "0.01 in the discriminator": {"arm": "leaky_0.01"},
    "0.2 in the discriminator": {"arm": "leaky_0.2"},
}


def _speed(experiment: str, arms: Mapping[str, Mapping[str, Any]], settings: tuple[str, ...]) -> Comparison:
    baseline = {"activation": "relu"} if experiment == "image_classification" else _RELU
    measure = "steps to the target loss"
    return Comparison(
        experiment, measure, end("steps_to_target"), baseline, arms, settings, more_is_better=False
    )


_CLASSES = Comparison(
    "image_classification",
    "test accuracy, points",
    end("test_accuracy"),
    {"activation": "relu"},
    _CLASSIFIER,
    ("network", "learning_rate"),
    scale=100,
)
_BOXES = tuple(
    Comparison("object_detection", f"{name}, points", end(key), _RELU, _DETECTOR, scale=100)
    for name, key in (("mAP 0.5", "map50"), ("mAP 0.5:0.95", "map"))
)
_DIVERGENCE = tuple(
    Comparison(
        experiment,
        "learning rates at which training diverges, % of those tried",
        diverged_rates,
        baseline,
        arms,
        settings,
        more_is_better=False,
        scale=100,
    )
    for experiment, baseline, arms, settings in (
        ("learning_rate_map", _RELU, _SLOPES, ("optimizer",)),
        ("image_classification", {"activation": "relu"}, _CLASSIFIER, ("network",)),
    )
)

CLAIMS = (
    Claim(
        "It prevents neuron death.",
        (
            Comparison(
                "learning_rate_map",
                "never-active units, points",
                end("never_active"),
                _RELU,
                _SLOPES,
                _RATES,
                more_is_better=False,
                scale=100,
            ),
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
            Comparison(
                "collapse",
                "networks that train, points",
                trained,
                _RELU,
                _SLOPES,
                ("function", "initialisation"),
                scale=100,
            ),
            Comparison(
                "plasticity",
                "online accuracy in the last tenth of the tasks, points",
                late("online_accuracy", 0.1),
                {"arm": "relu"},
                {"slope 0.01": {"arm": "leaky_0.01"}, "slope 0.2": {"arm": "leaky_0.2"}},
                scale=100,
            ),
        ),
        "that its own derivative is never 0 is true by definition",
    ),
    Claim(
        "It avoids the saturation of gradients.",
        (
            Comparison(
                "signal_gain",
                "gradient through 50 layers, powers of ten (0.3, a factor of 2, counts)",
                log_gradient,
                {**_RELU, "gain": "own"},
                {f"slope {slope:g}": {"negative_slope": slope, "gain": "own"} for slope in (0.01, 0.2)},
                digits=2,
                least=0.3,
            ),
        ),
        "that the derivative stays between the slope and 1 is true by definition",
    ),
    Claim("Training is more stable.", _DIVERGENCE),
    Claim(
        "Training converges faster.",
        (
            _speed("learning_rate_map", _SLOPES, _RATES),
            _speed("image_classification", _CLASSIFIER, ("network", "learning_rate")),
        ),
    ),
    Claim(
        "The model becomes better.",
        (
            Comparison(
                "learning_rate_map",
                "test accuracy, points",
                end("accuracy"),
                _RELU,
                _SLOPES,
                _RATES,
                scale=100,
            ),
            _CLASSES,
            *_BOXES,
        ),
    ),
    Claim(
        "It is simple and cheap to compute.",
        tuple(
            Comparison(
                "residuals",
                f"extra time of a step {with_what}, % (up to 10 is cheap)",
                log_time,
                {"activation": activation},
                {"this op": {"activation": "bits"}, "jax.nn": {"activation": "jax.nn"}},
                more_is_better=False,
                scale=100,
                margin=10,
            )
            for activation, with_what in (("relu", "over ReLU"), ("none", "over no activation"))
        ),
        "that it is one comparison and one product per element is true by definition",
    ),
    Claim(
        "In a GAN's discriminator it prevents the collapse of modes.",
        (
            Comparison(
                "gan_modes",
                "modes, second half of training",
                late("modes"),
                {"arm": "relu"},
                _PLAYERS,
                ("mixture", "optimizer"),
            ),
            Comparison(
                "gan_images",
                "classes covered at the end",
                end("modes"),
                {"arm": "relu"},
                _IMAGE_PLAYERS,
                ("normalisation",),
            ),
            Comparison(
                "gan_images",
                "Frechet distance",
                end("frechet"),
                {"arm": "relu"},
                _IMAGE_PLAYERS,
                ("normalisation",),
                more_is_better=False,
            ),
        ),
    ),
    Claim(
        "It keeps both players of a GAN stable.",
        (
            Comparison(
                "gan_modes",
                "modes won or lost between looks",
                swing("modes"),
                {"arm": "relu"},
                _PLAYERS,
                ("mixture", "optimizer"),
                more_is_better=False,
                digits=2,
            ),
            *(
                Comparison(
                    "gan_images",
                    f"spread of the {player}'s gradient norm over its mean",
                    spread(player),
                    {"arm": "relu"},
                    _IMAGE_PLAYERS,
                    ("normalisation",),
                    more_is_better=False,
                    digits=2,
                )
                for player in ("discriminator", "generator")
            ),
        ),
    ),
    Claim("It improves image classification.", (_CLASSES,)),
    Claim("It improves object detection.", _BOXES),
)
