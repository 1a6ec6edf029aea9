"""The second engine: a table of runs -> records, as `experiments.lab.run.sweep`, by a Python loop of compiled steps.

It is for convolutions: XLA runs them several times slower inside `lax.scan` on the CPU than at the top of a program
(jax #12868). A training step of five 3x3 convolutions of 16 to 64 channels on 64 images of 28x28 took 41 ms of one
core in a loop and 303 ms in scan.

A run lives on one device from its start to its last evaluation. Each device takes one run at a time, driven by a Python
thread of its own, so that with one CPU device a core all cores work; an accelerator takes one run after another. A
run's result depends on nothing but the run: the devices compile the same programs, and XLA's CPU threads do not share
a convolution (`xla_cpu_multi_thread_eigen`). A finished run is saved at once, and the state of one that is not every
minute, from which the same command goes on: see `experiments.lab.run.checkpoint`.

Of several processes each computes every n-th run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from experiments.lab.run import memory
from experiments.lab.run.checkpoint import Checkpoint
from experiments.lab.run.store import Record, RunFolder
from experiments.lab.run.sweep import CPU_OPTIONS


class Loop(NamedTuple):
    """Runs that the same compiled functions compute; all are pure, and `run` is a pytree of scalars.

    What differs between runs is traced: with the slope in the run, ReLU and every leaky slope share one step.

    Attributes:
        name: name of the group, for people.
        begin: function (run, data) -> state, a pytree of arrays; what counts the steps is a part of it.
        step: function (run, state, data) -> state of the same structure, shapes and dtypes.
        evaluate: function (run, state, data) -> what one evaluation measures.
        evaluations: numbers of steps after which the state is evaluated, rising: 0 is before the first step, and the
            last is the end.
        runs: runs of the group, as pytrees of scalars of one structure and one set of dtypes.
        to_records: function (run, what each evaluation saw, on the host) -> the records that are kept of the run.
    """

    name: str
    begin: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], Any]
    evaluate: Callable[[Any, Any, Any], Any]
    evaluations: Sequence[int]
    runs: Sequence[Any]
    to_records: Callable[[Any, list[Any]], list[Record]]

    def programs(self, data: Any) -> Iterator[str]:
        """What XLA is given to compile; for `experiments.lab.run.sweep.fingerprint`."""
        run = self.runs[0]
        yield jax.jit(self.begin).lower(run, data).as_text()
        state = jax.eval_shape(self.begin, run, data)
        for function in (self.step, self.evaluate):
            yield jax.jit(function).lower(run, state, data).as_text()
        yield str(list(self.evaluations))


def loop(
    groups: Sequence[Loop],
    data: Any,
    folder: RunFolder,
    advance: Callable[[int], None],
    *,
    devices: Sequence[Any] | None = None,
) -> None:
    """Computes those runs of this process that the folder lacks.

    Args:
        groups: groups whose runs, one after the other, are the sweep's.
        data: argument of every function.
        folder: folder in which finished runs are kept.
        advance: function that is told how many more runs are finished.
        devices: devices that compute; all of this process by default.
    """
    options: dict[str, str | bool] = CPU_OPTIONS if jax.default_backend() == "cpu" else {}
    compiled = [
        (
            jax.jit(group.begin, compiler_options=options),
            jax.jit(group.step, compiler_options=options, donate_argnums=1),
            jax.jit(group.evaluate, compiler_options=options),
        )
        for group in groups
    ]
    computing = devices if devices is not None else jax.local_devices()
    todo: queue.SimpleQueue[tuple[int, tuple[int, Any]]] = queue.SimpleQueue()
    for index, entry in enumerate((place, run) for place, group in enumerate(groups) for run in group.runs):
        if folder.lacks(index):
            todo.put((index, entry))
    saving, failed = threading.Lock(), threading.Event()

    def work(device: Any) -> None:
        """Takes runs until there are none, or another device's thread has failed."""
        own = jax.device_put(data, device)
        known: set[int] = set()  # groups whose programs fit into this device's memory
        try:
            while not failed.is_set():
                try:
                    index, (place, run) = todo.get_nowait()
                except queue.Empty:
                    return
                group, (begin, step, evaluate) = groups[place], compiled[place]
                given = jax.device_put(run, device)
                if place not in known:
                    memory.check(group.name, begin.lower(given, own).compile(), computing)
                state, done = begin(given, own), 0
                if place not in known:
                    # The calls below find this compiled program in JAX's cache.
                    memory.check(group.name, step.lower(given, state, own).compile(), computing)
                    known.add(place)
                seen: list[Any] = []
                checkpoint = Checkpoint(folder, index)
                if kept := checkpoint.load(state, jax.eval_shape(group.evaluate, given, state, own)):
                    done, seen, state = kept
                for moment in group.evaluations[len(seen) :]:
                    while done < moment:
                        state, done = step(given, state, own), done + 1
                        if failed.is_set():
                            return
                        if checkpoint.due():
                            checkpoint.save(done, seen, state)
                    # Fetched at once: the host is ahead of the device by no more than one evaluation's steps.
                    seen.append(jax.device_get(evaluate(given, state, own)))
                records = group.to_records(run, seen)
                with saving:
                    folder.save(index, records)
                    checkpoint.remove()
                    advance(1)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(thread_name_prefix="device") as pool:
        list(pool.map(work, computing))
