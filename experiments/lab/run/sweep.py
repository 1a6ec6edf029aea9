"""A sweep: the same pure function over a table of runs, on every device there is.

The runs of a group differ in numbers alone, so one compiled program serves them all. On CPUs each device, one a
core, takes one run at a time: `lax.map` inside `shard_map`. On accelerators a device takes many runs at once by
`vmap`. On one machine, with no more devices than cores, a run's result depends on nothing but the run: not on the runs
beside it, the number of devices, or which runs an earlier process has finished. That rests on two choices, both tested:
- a device always gets the same number of runs, which its platform alone decides, the last chunk being filled up by
  repetition, so that there is one program per group and XLA never specialises it to a length;
- XLA's CPU threads do not share a matrix product (`xla_cpu_multi_thread_eigen`), so no sum is split by their number.

With more devices than cores runs can differ in rounding, because XLA splits elementwise work by the number of its CPU
threads: as many as the cores, or as the devices where those are more. The environment variable NPROC sets another
least number; `python -m experiments.benchmark scaling` sets it, and its rows are equal.

Nothing crosses devices. Of several processes each computes every n-th run, on its own devices.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.lab.run import memory
from experiments.lab.run.store import Record, RunFolder

_RUNS_AT_ONCE = 64  # on one accelerator
_AXIS = "runs"
# Level 1 compiles such a program in 60 % of the time of level 2 and runs as fast: its time goes to matrix products.
CPU_OPTIONS: dict[str, str | bool] = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_backend_optimization_level": "1",
}


class Programs(Protocol):
    """What every kind of group has: `Group` here, and `Loop` of `experiments.lab.run.loop`."""

    @property
    def runs(self) -> Sequence[Any]:
        """Runs of the sweep's table that these programs compute."""
        ...

    def programs(self, data: Any) -> Iterator[str]:
        """The text of each function that XLA compiles for the runs."""
        ...


class Group(NamedTuple):
    """Runs that one compiled program computes.

    Attributes:
        name: name of the group, for people.
        train: pure function (run, data) -> result: the whole life of one run.
        runs: runs of the group, as pytrees of scalars of one structure and one set of dtypes.
        to_records: function (run, result on the host) -> the records that are kept of the run.
    """

    name: str
    train: Callable[[Any, Any], Any]
    runs: Sequence[Any]
    to_records: Callable[[Any, Any], list[Record]]

    def programs(self, data: Any) -> Iterator[str]:
        """What XLA is given to compile."""
        yield jax.jit(self.train).lower(self.runs[0], data).as_text()


class Program:
    """The compiled program of one group: runs in, results out, on all devices of the mesh.

    Attributes:
        group: group whose runs it computes.
        width: number of runs that it computes at a time.
    """

    def __init__(self, group: Group, data: Any, mesh: Mesh, per_device: int) -> None:
        self.group = group
        self.width = per_device * mesh.size
        spread, whole = PartitionSpec(_AXIS), PartitionSpec()
        on_cpu = mesh.devices.flat[0].platform == "cpu"

        def compute(runs: Any, data: Any) -> Any:
            if on_cpu:
                return lax.map(lambda run: group.train(run, data), runs)
            return jax.vmap(group.train, in_axes=(0, None))(runs, data)

        # Without check_vma, because `train` knows nothing of the mesh: its loops would otherwise need their carries
        # to be marked as varying over it.
        sharded = jax.shard_map(
            compute, mesh=mesh, in_specs=(spread, whole), out_specs=spread, check_vma=False
        )
        self._sharding = NamedSharding(mesh, spread)
        options = CPU_OPTIONS if on_cpu else {}
        lowered = jax.jit(sharded).lower(self._place(group.runs[:1]), data)
        self._compiled = lowered.compile(compiler_options=options)
        memory.check(group.name, self._compiled, list(mesh.devices.flat))

    def __call__(self, runs: Sequence[Any], data: Any) -> Any:
        """The results of up to `width` runs, along the first axis; dispatched, not waited for."""
        with jax.disable_jit(False):  # under which JAX refuses what is compiled already
            return self._compiled(self._place(runs), data)

    def _place(self, runs: Sequence[Any]) -> Any:
        filled = [*runs, *itertools.repeat(runs[-1], self.width - len(runs))]
        return jax.tree.map(lambda *scalars: jax.device_put(np.stack(scalars), self._sharding), *filled)


def compile_groups(
    groups: Sequence[Group], data: Any, *, devices: Sequence[Any] | None = None, per_device: int | None = None
) -> tuple[list[Program], Any]:
    """The groups' programs, compiled side by side, and the data placed on every device.

    Args:
        groups: groups to compile.
        data: argument of every `train`: closed over, it would be folded into the program as a constant.
        devices: devices of the mesh; all of this process by default.
        per_device: number of runs that a device is given at a time: 1 on CPUs and 64 on accelerators by default.
    """
    mesh = Mesh(np.array(devices if devices is not None else jax.local_devices()), (_AXIS,))
    if per_device is None:
        per_device = 1 if mesh.devices.flat[0].platform == "cpu" else _RUNS_AT_ONCE
    data = jax.device_put(data, NamedSharding(mesh, PartitionSpec()))
    with ThreadPoolExecutor(max(len(groups), 1)) as pool:
        return list(pool.map(lambda group: Program(group, data, mesh, per_device), groups)), data


def fingerprint(
    groups: Sequence[Programs], data: Any, advance: Callable[[int], None] = lambda _: None
) -> dict[str, str]:
    """What determines the runs beside the configuration: the programs themselves, and what compiles them.

    A change of the model, the optimiser's package or the measures changes the program and thus this; a change of a
    plot does not.

    Args:
        groups: groups of the sweep.
        data: argument of every program.
        advance: function that is told of each group that is traced.
    """
    digest = hashlib.sha256()
    for group in groups:
        for program in group.programs(data):
            digest.update(program.encode())
        advance(1)
    return {
        "program_sha256": digest.hexdigest(),
        "jaxlib": metadata.version("jaxlib"),
        "platform": jax.default_backend(),
    }


def sweep(
    groups: Sequence[Group],
    data: Any,
    folder: RunFolder,
    advance: Callable[[int], None],
    *,
    devices: Sequence[Any] | None = None,
    per_device: int | None = None,
) -> None:
    """Computes those runs of this process that the folder lacks.

    Args:
        groups: groups whose runs, one after the other, are the sweep's.
        data: argument of every `train`.
        folder: folder in which finished runs are kept.
        advance: function that is told how many more runs are finished.
        devices: devices of the mesh; all of this process by default.
        per_device: see `compile_groups`.
    """
    firsts = itertools.accumulate((len(group.runs) for group in groups), initial=0)
    todo = []
    for group, first in zip(groups, firsts, strict=False):
        runs = [run for run in range(len(group.runs)) if folder.lacks(first + run)]
        if runs:
            todo.append((group, first, runs))
    programs, data = compile_groups(
        [group for group, _, _ in todo], data, devices=devices, per_device=per_device
    )
    for program, (_, first, runs) in zip(programs, todo, strict=True):
        execute(program, data, folder, advance, first, runs)


def execute(
    program: Program,
    data: Any,
    folder: RunFolder,
    advance: Callable[[int], None],
    first: int,
    runs: Sequence[int],
) -> None:
    """Computes some runs of a program's group and saves them.

    Args:
        program: program of the group.
        data: data as `compile_groups` has placed it.
        folder: folder in which finished runs are kept.
        advance: function that is told how many more runs are finished.
        first: place of the group's first run in the sweep.
        runs: places of the runs in the group.
    """
    group = program.group

    def keep(chunk: Sequence[int], result: Any) -> None:
        host = jax.device_get(result)
        for place, run in enumerate(chunk):
            records = group.to_records(group.runs[run], jax.tree.map(operator.itemgetter(place), host))
            folder.save(first + run, records)
            advance(1)

    # One chunk ahead: the devices compute the next while the host writes the last.
    waiting: tuple[Sequence[int], Any] | None = None
    for begin in range(0, len(runs), program.width):
        chunk = runs[begin : begin + program.width]
        result = program([group.runs[run] for run in chunk], data)
        if waiting is not None:
            keep(*waiting)
        waiting = (chunk, result)
    if waiting is not None:
        keep(*waiting)
