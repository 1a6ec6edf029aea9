"""The training of `experiments.dead_neurons` written in PyTorch, eager or compiled, as the thing to beat."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from experiments.lab.data.batches import Images

OPTIMIZERS = {
    "sgd": lambda parameters, rate, **how: torch.optim.SGD(parameters, rate, momentum=0.9, **how),
    "adam": lambda parameters, rate, **how: torch.optim.Adam(parameters, rate, **how),
}
# Which implementation of the optimiser is the fastest depends on the machine; the benchmark takes the best.
IMPLEMENTATIONS: tuple[dict[str, bool], ...] = ({"foreach": False}, {"foreach": True}, {"fused": True})


class Setting(NamedTuple):
    """The part of the experiment's configuration that matters here, and how the optimiser is built."""

    hidden: tuple[int, ...]
    batch_size: int
    optimizer: str
    learning_rate: float
    negative_slope: float
    implementation: dict[str, bool]
    compiled: bool = False


def train(
    images: Images, setting: Setting, seed: int, steps: int, records: Sequence[int]
) -> tuple[float, float]:
    """Trains one network and returns when its steps and records began and ended, in seconds of the machine's clock.

    The batches are shuffled and standardised as in the experiment, the images lying in memory as bytes.

    Args:
        images: images and labels of both splits.
        setting: architecture, optimiser and activation of the network.
        seed: seed of the initial weights and the order of the batches.
        steps: number of training steps.
        records: steps at which the units are counted on the test images.
    """
    torch.manual_seed(seed)
    model = _network(images.train_images.shape[1], setting)
    pixels, labels, test_pixels, test_labels = (torch.from_numpy(np.asarray(array)) for array in images[:4])
    labels, test_labels = labels.long(), test_labels.long()
    mean, scale = float(np.asarray(images.mean)), float(np.asarray(images.scale))
    rule = OPTIMIZERS[setting.optimizer](model.parameters(), setting.learning_rate, **setting.implementation)
    per_epoch = len(labels) // setting.batch_size
    probe = (test_pixels.float() - mean) * scale

    def loss_of(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(x), labels)

    if setting.compiled:  # forward and backward; the fused optimiser is one call as it is
        loss_of = torch.compile(loss_of, dynamic=False)
        loss_of(probe[: setting.batch_size], test_labels[: setting.batch_size]).backward()

    began = time.perf_counter()
    for step in range(steps + 1):
        if step in records:
            record(model, probe, test_labels)
        if step == steps:
            break
        if step % per_epoch == 0:
            order = torch.randperm(len(labels))
        chosen = order[step % per_epoch * setting.batch_size :][: setting.batch_size]
        x = (pixels[chosen].float() - mean) * scale
        loss = loss_of(x, labels[chosen])
        rule.zero_grad()
        loss.backward()
        rule.step()
    return began, time.perf_counter()


def record(model: torch.nn.Sequential, x: torch.Tensor, labels: torch.Tensor) -> list[dict[str, float]]:
    """Each hidden layer's shares on the test images, from one pass forward and one back."""
    inputs, z = x, []
    for layer in model:
        inputs = layer(inputs)
        if isinstance(layer, torch.nn.Linear):
            z.append(inputs)
    gradients = torch.autograd.grad(
        torch.nn.functional.cross_entropy(inputs, labels, reduction="sum"), z[:-1]
    )
    found = []
    for values, gradient in zip(z, gradients, strict=False):
        frequency = (values > 0).float().mean(0)
        found.append(
            {
                "never_active": (frequency == 0).float().mean().item(),
                "rare": (frequency < 0.01).float().mean().item(),
                "frequency": frequency.mean().item(),
                "grad_dead": (gradient == 0).all(0).float().mean().item(),
            }
        )
    return found


def _network(features: int, setting: Setting) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for width in setting.hidden:
        layers.append(torch.nn.Linear(features, width))
        layers.append(
            torch.nn.LeakyReLU(setting.negative_slope) if setting.negative_slope else torch.nn.ReLU()
        )
        features = width
    model = torch.nn.Sequential(*layers, torch.nn.Linear(features, 10))
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return model
