"""What is done at the sites during replay."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jax_leaky._tracing._site import Loop, Site


class Visit(NamedTuple):
    """What stands at a site when it is reached.

    Attributes:
        z: the activation's input.
        a: the activation's output.
        parameter: the slope or alpha of the activation where it is no number in the program; else None.
    """

    z: Array
    a: Array | None
    parameter: Array | None = None


@dataclasses.dataclass(frozen=True)
class Visitor:
    """What is done at the sites. Each part is optional.

    Attributes:
        wants: whether a site concerns the visitor.
        tap: `tap(site, z, steps) -> z`: replaces z where it comes into being, for all that use it; not at a site that
            is fixed (`Site.fixed`). `steps` holds the number of the current step of each scan around the site
            (`Site.loops`), int32, outermost first.
        replace: `replace(site, visit) -> a`: gives the activation's output. `visit.a` is None.
        record: `record(site, visit)`: a pytree of arrays. No gradient flows out of it.
        merge: `merge(older, newer)`: one record out of two. With it, the records of loops and shards are folded.
        stacks: whether the records of a scan are stacked all the same, with merge.
        steps: numbers of the current steps of the scans that replay is in; not for the caller.
    """

    wants: Callable[[Site], bool] = lambda site: True  # noqa: ARG005 the argument has a name for the reader
    tap: Callable[[Site, Array, tuple[Array, ...]], Array] | None = None
    replace: Callable[[Site, Visit], Array] | None = None
    record: Callable[[Site, Visit], Any] | None = None
    merge: Callable[[Any, Any], Any] | None = None
    stacks: Callable[[Loop], bool] = lambda loop: False  # noqa: ARG005 as above
    steps: tuple[Array, ...] = ()

    def at_step(self, number: Array) -> "Visitor":
        """The same visitor inside one more scan."""
        return dataclasses.replace(self, steps=(*self.steps, number))

    def folds(self, loop: Loop) -> bool:
        """Whether the records of a scan's steps become one."""
        return self.merge is not None and not self.stacks(loop)

    def without_tap(self) -> "Visitor":
        """The same visitor, for a copy of a body through which no gradient flows."""
        return dataclasses.replace(self, tap=None)

    def record_of(self, site: Site, visit: Visit) -> Any:
        """The record of a visit, cut off from the gradient."""
        assert self.record is not None
        record = self.record(site, jax.tree.map(jax.lax.stop_gradient, visit))
        return jax.tree.map(jax.numpy.asarray, record)
