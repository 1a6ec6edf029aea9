"""The rate of training in PyTorch: in one process with its best number of threads, or in one process a core."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from experiments.benchmark.sweep import torch_mlp
from experiments.dead_neurons.experiment import LEARNING_RATES, Config
from experiments.lab.data.batches import Images


class TorchRate:
    """Measurements in PyTorch, over one network of each optimiser.

    Attributes:
        way: number of threads and, per optimiser, the implementation that were the fastest on this machine.
    """

    def __init__(self, images: Images, config: Config, cores: int) -> None:
        self._images, self._config, self._cores = images, config, cores
        self.way = self._fastest()
        torch.set_num_threads(self.way["threads"])
        # Spawned, because a fork would inherit JAX's threads; one thread each, set before the first operation.
        self._pool = ProcessPoolExecutor(
            cores, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
        )
        self.one_per_core(0, (), steps=2)  # the processes begin, import and warm up

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()

    def one_process(self, seed: int, records: Sequence[int], *, compiled: bool = False) -> float:
        """Network steps a second of one process that trains network after network, compilation not counted."""
        lives = (self._life(name, seed, records) for name in self._config.optimizers)
        spans = [
            torch_mlp.train(images, setting._replace(compiled=compiled), *rest)
            for images, setting, *rest in lives
        ]
        return len(spans) * self._config.steps / sum(ended - began for began, ended in spans)

    def one_per_core(self, seed: int, records: Sequence[int], steps: int | None = None) -> float:
        """Network steps a second of one process a core, side by side."""
        steps = steps or self._config.steps
        names = [name for name in self._config.optimizers for _ in range(self._cores)]
        waiting = [
            self._pool.submit(torch_mlp.train, *self._life(name, seed + place, records, steps))
            for place, name in enumerate(names)
        ]
        spans = [future.result() for future in waiting]
        # One clock serves all processes of a machine.
        return len(spans) * steps / (max(ended for _, ended in spans) - min(began for began, _ in spans))

    def _life(
        self, optimizer: str, seed: int, records: Sequence[int], steps: int | None = None
    ) -> tuple[Any, ...]:
        slope, rate = self._config.negative_slopes[-1], LEARNING_RATES[optimizer][0]
        setting = torch_mlp.Setting(
            self._config.hidden, self._config.batch_size, optimizer, rate, slope, self.way[optimizer]
        )
        return self._images, setting, seed, steps or self._config.steps, records

    def _fastest(self) -> dict[str, Any]:
        best: dict[str, Any] = {}
        least = float("inf")
        for threads in range(1, self._cores + 1):
            torch.set_num_threads(threads)
            self.way, seconds = {"threads": threads}, 0.0
            for optimizer in self._config.optimizers:
                timed = []
                for how in torch_mlp.IMPLEMENTATIONS:
                    self.way[optimizer] = how
                    spans = [torch_mlp.train(*self._life(optimizer, 0, (), 60)) for _ in range(3)]
                    timed.append((min(ended - began for began, ended in spans), how))
                fastest, self.way[optimizer] = min(timed, key=lambda pair: pair[0])
                seconds += fastest
            if seconds < least:
                least, best = seconds, self.way
        return best
