"""The second engine: a table of rows -> records, as `experiments.lab.run.sweep`, by a Python loop of compiled steps.

It is for convolutions: XLA runs them several times slower inside `lax.scan` on the CPU than at the top of a program
(jax #12868). A training step of five 3x3 convolutions of 16 to 64 channels on 64 images of 28x28 took 41 ms of one
core in a loop and 303 ms in scan.

A row lives on one device from its begin to its last look. Each device takes one row at a time, driven by a Python
thread of its own, so that with one CPU device a core all cores work; an accelerator takes one row after another. A
row's result depends on nothing but the row: the devices compile the same programs, and XLA's CPU threads do not share
a convolution (`xla_cpu_multi_thread_eigen`). A finished row is saved at once, and the state of one that is not every
minute, from which the same command goes on: see `experiments.lab.run.checkpoint`.

Of several processes each takes every n-th row that is to be computed.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from experiments.lab.run import memory, processes
from experiments.lab.run.checkpoint import Checkpoint, tidy
from experiments.lab.run.store import Record, RunFolder
from experiments.lab.run.sweep import CPU_OPTIONS


class Loop(NamedTuple):
    """Rows that the same compiled functions compute; all are pure, and `row` is a pytree of scalars.

    What differs between rows is traced: with the slope in the row, ReLU and every leaky slope share one step.

    Attributes:
        name: for people.
        begin: (row, data) -> state: a pytree of arrays; what counts the steps is a part of it.
        step: (row, state, data) -> state, of the same structure, shapes and dtypes.
        look: (row, state, data) -> what is measured.
        looks: after how many steps it is, rising; 0 is before the first. The last ends the row.
        rows: one structure and one set of dtypes.
        to_records: (row, what each look saw, on the host) -> the records that are kept of it.
    """

    name: str
    begin: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], Any]
    look: Callable[[Any, Any, Any], Any]
    looks: Sequence[int]
    rows: Sequence[Any]
    to_records: Callable[[Any, list[Any]], list[Record]]

    def programs(self, data: Any) -> Iterator[str]:
        """What XLA is given to compile; for `experiments.lab.run.sweep.fingerprint`."""
        row = self.rows[0]
        yield jax.jit(self.begin).lower(row, data).as_text()
        state = jax.eval_shape(self.begin, row, data)
        for function in (self.step, self.look):
            yield jax.jit(function).lower(row, state, data).as_text()
        yield str(list(self.looks))

    def sample(self, data: Any) -> list[Record]:
        """The records of its last row, made of ones in place of what is seen; for `experiments.lab.run.memory`."""
        row = self.rows[-1]
        seen = jax.eval_shape(self.look, row, jax.eval_shape(self.begin, row, data), data)
        return self.to_records(row, [memory.of_ones(seen)] * len(self.looks))


def loop(
    groups: Sequence[Loop],
    data: Any,
    folder: RunFolder,
    advance: Callable[[int], None],
    *,
    devices: Sequence[Any] | None = None,
) -> list[Record]:
    """Computes the rows that the folder lacks and returns the records of all, in the order of the groups' rows.

    Args:
        groups: whose rows, one after the other, are the sweep's.
        data: given to every function.
        folder: where finished rows are kept.
        advance: told how many more rows are finished.
        devices: that compute; all of this process by default.
    """
    on_cpu = jax.default_backend() == "cpu"
    options: dict[str, str | bool] = CPU_OPTIONS if on_cpu else {}
    compiled = [
        (
            jax.jit(group.begin, compiler_options=options),
            jax.jit(group.step, compiler_options=options, donate_argnums=1),
            jax.jit(group.look, compiler_options=options),
        )
        for group in groups
    ]
    computing = devices if devices is not None else jax.local_devices()
    for group in groups:
        # The least that a row takes, asked before anything is compiled.
        state = jax.eval_shape(group.begin, group.rows[0], data)
        memory.check_program(group.name, memory.size(state) + memory.size(data), computing)
    firsts = itertools.accumulate((len(group.rows) for group in groups), initial=0)
    memory.check_records(
        [
            (group, sum(first + place not in folder.finished for place in range(len(group.rows))))
            for first, group in zip(firsts, groups, strict=False)
        ],
        data,
    )
    table = enumerate((place, row) for place, group in enumerate(groups) for row in group.rows)
    todo: queue.SimpleQueue[tuple[int, tuple[int, Any]]] = queue.SimpleQueue()
    for entry in itertools.islice(
        (entry for entry in table if entry[0] not in folder.finished),
        jax.process_index(),
        None,
        jax.process_count(),
    ):
        todo.put(entry)
    tidy(folder)
    saving, failed = threading.Lock(), threading.Event()

    def work(device: Any) -> None:
        """Takes rows until there are none, or another device's thread has failed."""
        own = jax.device_put(data, device)
        known: set[int] = set()  # groups whose step fits into this device's memory
        try:
            while not failed.is_set():
                try:
                    index, (place, row) = todo.get_nowait()
                except queue.Empty:
                    return
                group, (begin, step, look) = groups[place], compiled[place]
                given = jax.device_put(row, device)
                state, done = begin(given, own), 0
                seen: list[Any] = []
                checkpoint = Checkpoint(folder, index)
                if kept := checkpoint.load(state, jax.eval_shape(group.look, given, state, own)):
                    done, seen, state = kept
                if place not in known:
                    # The calls below find this compiled program in JAX's cache.
                    analysis = step.lower(given, state, own).compile().memory_analysis()
                    if analysis is not None:
                        memory.check_program(group.name, analysis.temp_size_in_bytes, computing)
                    known.add(place)
                for moment in group.looks[len(seen) :]:
                    while done < moment:
                        state, done = step(given, state, own), done + 1
                        if failed.is_set():
                            return
                        if checkpoint.due():
                            checkpoint.save(done, seen, state)
                    # Fetched at once: the host is never ahead of the device by more than the steps between two looks.
                    seen.append(jax.device_get(look(given, state, own)))
                records = group.to_records(row, seen)
                with saving:
                    folder.save({index: records})
                    checkpoint.remove()
                    advance(1)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(thread_name_prefix="device") as pool:
        list(pool.map(work, computing))
    if jax.process_count() > 1:
        processes.meet("all rows are computed")
        folder.load()
    return folder.assemble() if processes.leads() else folder.records()
