"""The training of `experiments.dead_neurons` written in PyTorch eager, as the thing to beat."""

from __future__ import annotations

import time

import numpy as np
import torch

from experiments.lab.batches import Images

OPTIMIZERS = {
    "sgd": lambda parameters, rate, **how: torch.optim.SGD(parameters, rate, momentum=0.9, **how),
    "adam": lambda parameters, rate, **how: torch.optim.Adam(parameters, rate, **how),
}
# Which implementation of the optimiser is the fastest depends on the machine; the benchmark takes the best.
IMPLEMENTATIONS: tuple[dict[str, bool], ...] = ({"foreach": False}, {"foreach": True}, {"fused": True})


def train(
    images: Images,
    hidden: tuple[int, ...],
    slope: float,
    optimizer: str,
    rate: float,
    seed: int,
    steps: int,
    size: int,
    how: dict[str, bool],
) -> float:
    """Trains one network and returns the seconds that its steps took.

    The batches are shuffled and standardised as in the experiment, the images lying in memory as bytes.
    """
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    features = images.train_images.shape[1]
    for width in hidden:
        layers += [torch.nn.Linear(features, width), torch.nn.LeakyReLU(slope) if slope else torch.nn.ReLU()]
        features = width
    model = torch.nn.Sequential(*layers, torch.nn.Linear(features, 10))
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    pixels, labels = (torch.from_numpy(np.asarray(array)) for array in images[:2])
    labels, mean, scale = labels.long(), float(np.asarray(images.mean)), float(np.asarray(images.scale))
    rule, loss_of = OPTIMIZERS[optimizer](model.parameters(), rate, **how), torch.nn.functional.cross_entropy
    per_epoch = len(labels) // size

    began = time.perf_counter()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(labels))
        chosen = order[step % per_epoch * size :][:size]
        x = (pixels[chosen].float() - mean) * scale
        loss = loss_of(model(x), labels[chosen])
        rule.zero_grad()
        loss.backward()
        rule.step()
    return time.perf_counter() - began
