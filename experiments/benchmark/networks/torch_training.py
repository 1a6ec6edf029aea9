"""The networks of experiments/models written in PyTorch, as its users write them: in place wherever autograd allows.

Initial values are PyTorch's own; what agrees with the Flax networks is the number of parameters and the shapes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.models import darknet19, dcgan, esrgan, graph_attention, hifigan

LEARNING_RATE = 1e-5


def discriminator() -> nn.Module:
    """The discriminator of DCGAN: (batch, 3, 64, 64) -> (batch, 1, 1, 1)."""
    layers: list[nn.Module] = []
    channels = 3
    for features in dcgan.Discriminator.features:
        layers.append(nn.Conv2d(channels, features, 4, 2, 1, bias=False))
        if len(layers) > 1:
            layers.append(nn.BatchNorm2d(features))
        layers.append(nn.LeakyReLU(dcgan.NEGATIVE_SLOPE, inplace=True))
        channels = features
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, bias=False))


def darknet() -> nn.Module:
    """Darknet-19: (batch, 3, 224, 224) -> (batch, 1000)."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in darknet19.STAGES:
        if layers:
            layers.append(nn.MaxPool2d(2))
        for layer, features in enumerate(stage):
            side = 1 if layer % 2 else 3
            layers.append(nn.Conv2d(channels, features, side, padding=side // 2, bias=False))
            layers.append(nn.BatchNorm2d(features))
            layers.append(nn.LeakyReLU(darknet19.NEGATIVE_SLOPE, inplace=True))
            channels = features
    return nn.Sequential(*layers, nn.Conv2d(channels, 1000, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _DenseBlock(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * 4 + [channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + place * growth, width, 3, padding=1) for place, width in enumerate(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.layers[:-1]:
            maps.append(functional.leaky_relu_(layer(torch.cat(maps, 1)), esrgan.NEGATIVE_SLOPE))
        return x + esrgan.RESIDUAL_SCALE * self.layers[-1](torch.cat(maps, 1))


class RRDB(nn.Module):
    """The RRDB block of ESRGAN: (batch, 64, height, width) -> the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_DenseBlock(64, esrgan.DenseBlock.growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """The input and the scaled output of three dense blocks."""
        return x + esrgan.RESIDUAL_SCALE * self.blocks(x)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.ModuleList(
                nn.Conv1d(channels, channels, kernel, dilation=spacing, padding=spacing * (kernel // 2))
                for spacing in (dilation, 1)
            )
            for dilation in hifigan.ResidualBlock.dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        for pair in self.pairs:
            first, second = pair.children()
            y = first(functional.leaky_relu(x, hifigan.NEGATIVE_SLOPE))  # x is wanted below: not in place
            x = x + second(functional.leaky_relu_(y, hifigan.NEGATIVE_SLOPE))
        return x


class Generator(nn.Module):
    """The generator of HiFi-GAN V1: (batch, 80, frames) -> (batch, 1, 256 frames)."""

    def __init__(self) -> None:
        super().__init__()
        published = hifigan.Generator
        channels = published.channels
        self.first = nn.Conv1d(80, channels, 7, padding=3)
        self.up, self.blocks = nn.ModuleList(), nn.ModuleList()
        for factor, kernel in published.upsampling:
            padding = (kernel - factor) // 2
            self.up.append(nn.ConvTranspose1d(channels, channels // 2, kernel, factor, padding))
            channels //= 2
            self.blocks.append(nn.ModuleList(_ResidualBlock(channels, size) for size in published.kernels))
        self.last = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        """Mel frames to sound."""
        x = self.first(mel)
        for up, blocks in zip(self.up, self.blocks, strict=True):
            x = up(functional.leaky_relu_(x, hifigan.NEGATIVE_SLOPE))
            parts = [block(x) for block in blocks.children()]
            x = sum(parts[1:], parts[0]) / len(parts)
        return torch.tanh(self.last(functional.leaky_relu_(x, hifigan.LAST_NEGATIVE_SLOPE)))


class GraphAttention(nn.Module):
    """(nodes, 1433), (edges,), (edges,) -> (nodes, 64)."""

    def __init__(self) -> None:
        super().__init__()
        shape = graph_attention.GraphAttention.heads, graph_attention.GraphAttention.features
        self.project = nn.Linear(1433, shape[0] * shape[1], bias=False)
        self.sender, self.receiver = (nn.Parameter(torch.randn(shape) / 4) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(shape[0] * shape[1]))

    def forward(self, x: Tensor, senders: Tensor, receivers: Tensor) -> Tensor:
        """The weighted means of the neighbours' projections."""
        nodes, (heads, features) = x.shape[0], self.sender.shape
        x = self.project(x).view(nodes, heads, features)
        logits = (x * self.sender).sum(-1)[senders] + (x * self.receiver).sum(-1)[receivers]
        logits = functional.leaky_relu_(logits, graph_attention.NEGATIVE_SLOPE)
        index = receivers[:, None].expand_as(logits)
        start = torch.full((nodes, heads), -torch.inf)
        greatest = start.scatter_reduce(0, index, logits.detach(), "amax")
        weights = torch.exp(logits - greatest[receivers])
        weights = weights / torch.zeros(nodes, heads).index_add(0, receivers, weights)[receivers]
        y = torch.zeros_like(x).index_add(0, receivers, weights[..., None] * x[senders])
        return functional.elu(y.flatten(1) + self.bias, inplace=True)


TWINS: dict[str, Callable[[], nn.Module]] = {
    "DCGAN discriminator": discriminator,
    "Darknet-19": darknet,
    "ESRGAN RRDB block": RRDB,
    "HiFi-GAN V1 generator": Generator,
    "graph attention layer": GraphAttention,
}


class Trainer:
    """Training steps of one network, as often as they are timed.

    Attributes:
        model: PyTorch module that is trained.
    """

    def __init__(self, name: str, inputs: Sequence[Any], compiled: bool) -> None:
        torch.manual_seed(0)
        self.model = TWINS[name]()
        self._inputs = [_channels_first(torch.from_numpy(value.copy())) for value in inputs]
        self._rule = torch.optim.SGD(self.model.parameters(), LEARNING_RATE)
        self._forward = torch.compile(self.model) if compiled else self.model

    def run(self, steps: int) -> float:
        """Seconds a step."""
        began = time.perf_counter()
        for _ in range(steps):
            self._forward(*self._inputs).square().mean().backward()
            self._rule.step()
            self._rule.zero_grad()
        return (time.perf_counter() - began) / steps

    def peak(self) -> int:
        """Bytes allocated at the height of one step, beyond the parameters and the batch, from the profiler's events.

        PyTorch's allocator knows nothing of the scratch memory of oneDNN.
        """
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            self.run(1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profile.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        events = sorted(
            (event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"]
        )
        totals = [event["args"]["Total Allocated"] for event in events]
        return max(totals) - (totals[0] - events[0]["args"]["Bytes"])


def _channels_first(value: Tensor) -> Tensor:
    if value.ndim < 3:
        return value
    return value.movedim(-1, 1).contiguous()
