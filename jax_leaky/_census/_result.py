"""The census: what was counted at every site, and the forms in which it is told."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import jax
import numpy as np
from jax import lax

from jax_leaky._census import _json, _show
from jax_leaky._census._compare import Changes, changes
from jax_leaky._census._modules import Modules, by_module
from jax_leaky._census._site import Record, SiteCensus
from jax_leaky._tracing import Opaque
from jax_leaky._tracing._jax_internals import varying_axes
from jax_leaky.units._counts import check_axis

if TYPE_CHECKING:
    import rich.table
    from matplotlib.figure import Figure


@jax.tree_util.register_pytree_node_class
class Census:
    """What the activations of a function saw; from `census`, `value_and_census` or `load`.

    Printed, it is a table with a row per site; a site in a scan over layers has a row per layer, `name[0]`,
    `name[1]`, ... `census["MLP/relu"]` is the site's `SiteCensus`, which knows every unit.

    It is a pytree: a jitted train step returns it, `jax.device_get` fetches it. `a + b` is the census of the
    samples of a, then those of b; `sum` adds up several. Its arrays are no numbers to add: `all_reduce` brings the
    shares of devices together. A census over which psum or pmean went refuses to be read, and one over which pmax
    went does too, unless every unit fired equally often on all devices.

    Attributes:
        opaque: the parts of the function that were not looked into.
        rare_below: the share of samples below which a unit is rare.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import census
        >>> def layer(z):
        ...     with jax.named_scope("layer"):
        ...         return jax.nn.relu(z)
        >>> found = census(layer, [jnp.array([[1.0, -1.0]]), jnp.array([[-2.0, -3.0]])])
        >>> found["layer/relu"].where("never_active").tolist()
        [1]
        >>> found["layer/relu"].per_unit("act_freq").tolist()
        [0.5, 0.0]
    """

    def __init__(
        self, records: Iterable[Record], opaque: Iterable[Opaque] = (), rare_below: float = 0.01
    ) -> None:
        self._records = {record.info.name: record for record in records}
        self.opaque = tuple(opaque)
        self.rare_below = rare_below

    # A pytree

    def tree_flatten(self) -> tuple[tuple[Record, ...], tuple[tuple[Opaque, ...], float]]:
        """For JAX: what was counted is data, what is known of the function is not."""
        return tuple(self._records.values()), (self.opaque, self.rare_below)

    @classmethod
    def tree_unflatten(cls, static: tuple[tuple[Opaque, ...], float], records: Iterable[Any]) -> Census:
        """For JAX."""
        new = object.__new__(cls)
        # While JAX builds trees of anything but arrays, a record may be a placeholder.
        new._records = {getattr(getattr(r, "info", None), "name", str(i)): r for i, r in enumerate(records)}
        new.opaque, new.rare_below = static
        return new

    # Its sites

    @functools.cached_property
    def sites(self) -> dict[str, SiteCensus]:
        """The sites by name, in the order of the program."""
        return {
            name: SiteCensus(name, row, self.rare_below)
            for record in self._records.values()
            for name, row in record.layers()
        }

    @property
    def names(self) -> list[str]:
        """The names of the sites, in order."""
        return list(self.sites)

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> SiteCensus: ...
    @overload
    def __getitem__(self, key: slice) -> list[SiteCensus]: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> SiteCensus | list[SiteCensus]:
        """A site by its name or its position, or a part of the sites."""
        if isinstance(key, SupportsIndex | slice):
            return list(self.sites.values())[key]
        if key not in self.sites:
            raise KeyError(f"no site is named {key!r}: there are {', '.join(self.sites)}.")
        return self.sites[key]

    def __iter__(self) -> Iterator[SiteCensus]:
        return iter(self.sites.values())

    def __len__(self) -> int:
        return len(self.sites)

    def __contains__(self, item: object) -> bool:
        return (isinstance(item, str) and item in self.sites) or any(item is site for site in self)

    # Adding up

    def merge(self, other: Census) -> Census:
        """The census of the samples of both, those of `other` coming after.

        Raises:
            TypeError: `other` is no census.
            ValueError: the two are not of the same model: they differ in their sites; or in `rare_below`.
        """
        if not isinstance(other, Census):
            raise TypeError(f"other is of type {type(other).__name__}: a census adds up with a census.")
        if self._records.keys() != other._records.keys():
            alone = sorted(self._records.keys() ^ other._records.keys())
            raise ValueError(f"only one of the two censuses has {alone[0]}: those of the same model add up.")
        if self.rare_below != other.rare_below:
            raise ValueError(
                f"rare_below is {self.rare_below:g} in one census and {other.rare_below:g} in the other: take both "
                "with the same."
            )
        return self._with(
            [record.append(other._records[name]) for name, record in self._records.items()], other.opaque
        )

    __add__ = merge

    def __radd__(self, other: object) -> Census:
        """For `sum(censuses)`, which begins with 0."""
        return self if type(other) is int and other == 0 else NotImplemented

    def all_reduce(self, axis_name: Hashable) -> Census:
        """The census of the samples of all devices along a mesh axis, inside shard_map, pmap or vmap with that axis.

        It is the same on every device: the census of the whole batch, samples following in the order of the axis. Call
        it once on the census of a device's own samples, before adding it to what was counted before. `jax.lax.psum`
        would not do, since extremes and positions are no sums.

        Args:
            axis_name: name of the mesh axis whose devices hold other samples of the same units, or a tuple of names.

        Raises:
            NameError: there is no such axis where this is called.
            ValueError: shard_map knows that the census is the same along an axis already.

        Example:
            >>> from functools import partial
            >>> import jax, jax.numpy as jnp
            >>> from jax.sharding import PartitionSpec as P
            >>> from jax_leaky import value_and_census
            >>> mesh = jax.make_mesh((jax.device_count(),), ("data",), (jax.sharding.AxisType.Auto,))
            >>> @jax.jit
            ... @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=(P("data"), P()))
            ... def step(x):
            ...     y, counts = value_and_census(jax.nn.relu)(x)
            ...     return y, counts.all_reduce("data")
            >>> y, counts = step(jnp.ones((8 * jax.device_count(), 3)))
            >>> next(iter(counts)).n == 8 * jax.device_count()
            True
        """
        check_axis(axis_name)
        for axis in axis_name if isinstance(axis_name, tuple) else (axis_name,):
            place, *own = (
                varying_axes(jax.typeof(leaf)) for leaf in (lax.axis_index(axis), *jax.tree.leaves(self))
            )
            if axis in place and not any(axis in axes for axes in own):
                raise ValueError(
                    f"axis_name={axis_name!r}: the census is the same on every device along {axis!r}, so that samples "
                    "would count several times: call all_reduce once, for the axes over which the batch is spread."
                )
        return self._map(lambda record: record.all_reduce(axis_name))

    def sum_steps(self) -> Census:
        """The census of all steps of a census that is stacked, as `jax.lax.scan`, vmap or pmap return it.

        Samples follow in the order of the first axis, so that the sum is the census that was counted in one go.

        Raises:
            ValueError: the census is not stacked.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jax_leaky import value_and_census
            >>> counted = value_and_census(jax.nn.relu)
            >>> _, stacked = jax.lax.scan(lambda _, x: (None, counted(x)[1]), None, jnp.ones((5, 8, 3)))
            >>> next(iter(stacked.sum_steps())).n
            40
        """
        for record in self._records.values():
            if len(record.counts.shape) < 2 + len(record.info.layers):
                raise ValueError(
                    "sum_steps takes a census that is stacked, as scan and vmap return it, but this one has no axis of "
                    "steps: use `+` or sum for several censuses."
                )
        return self._with(_summed(tuple(self._records.values())), ())

    def _empty(self) -> Census:
        """The census of no sample; the arrays of this one may be shapes alone."""
        return self._map(Record.empty)

    def _joined(self, other: Census) -> Census:
        """The same, where batches of another shape have met other sites."""
        records = dict(self._records)
        for name, record in other._records.items():
            if name in records and records[name].counts.shape != record.counts.shape:
                first, second = records[name].counts.shape[-1], record.counts.shape[-1]
                raise ValueError(
                    f"census: {name} has {first} units in one batch and {second} in another. A unit is an index of the "
                    "last axis of the activation's input; after vmap, or where channels come first, samples may lie "
                    f"there: name the axis of the units, as in unit_axis={{{name!r}: 0}}."
                )
            records[name] = records[name].append(record) if name in records else record
        return self._with(records.values(), other.opaque)

    def _map(self, change: Callable[[Record], Record]) -> Census:
        return self._with(map(change, self._records.values()), ())

    def _with(self, records: Iterable[Record], opaque: Iterable[Opaque]) -> Census:
        return Census(records, dict.fromkeys((*self.opaque, *opaque)), self.rare_below)

    def compare(self, after: Census) -> Changes:
        """Which units died and which revived until another census: of the model later, or of a variant of it.

        A unit died that was alive before and is never active now. Sites are paired in the order of the program where
        both censuses hold as many sites with the same numbers of units, so that a model is also compared with one
        whose activations were swapped; otherwise by name. Both should have seen the same samples.

        Args:
            after: the census to compare with this one.

        Raises:
            TypeError: `after` is no census.
            ValueError: the two have no site in common.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jax_leaky import census
            >>> def layer(bias, x):
            ...     with jax.named_scope("layer"):
            ...         return jax.nn.relu(x + bias)
            >>> x = jnp.zeros((100, 2))
            >>> before, after = (census(layer, [(jnp.array(b), x)]) for b in ([1.0, -1.0], [-1.0, -1.0]))
            >>> row = before.compare(after).to_dicts()[0]
            >>> row["died"], row["revived"], row["never_active_after"]
            (1, 0, 1.0)
        """
        if not isinstance(after, Census):
            raise TypeError(f"compare: after is of type {type(after).__name__}: give a census.")
        return changes(self.sites, after.sites)

    def by_module(self, depth: int | None = None) -> Modules:
        """The census with a row per module, where one per activation would be too many to read.

        A site belongs to the module that its name begins with: `Generator/Block_0/relu_1` to `Generator/Block_0`.

        Args:
            depth: number of parts of a path that are kept: 1 folds all of `Generator` into one row; None for all parts.

        Raises:
            ValueError: `depth` is less than 1.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jax_leaky import census
            >>> def net(x):
            ...     for name in ("up", "down"):
            ...         with jax.named_scope(name):
            ...             x = jax.nn.relu(jax.nn.relu(x) - 1)
            ...     return x
            >>> print(census(net, jnp.array([[3.0, 1.0], [5.0, 1.0]])).by_module())
                                   never                  always   mean
            module  sites  units  active    dead    rare  active  slope
            up          2      4  25.0 %  25.0 %  25.0 %  75.0 %  0.750
            down        2      4  50.0 %  50.0 %  50.0 %  50.0 %  0.500
        """
        return by_module(self.sites.values(), depth)

    # Told in words, figures and pictures

    def __str__(self) -> str:
        return _show.text(self.sites.values(), self.opaque)

    def __repr__(self) -> str:
        count = f"{len(self)} site{'' if len(self) == 1 else 's'}"
        return f"<Census of {count}, {len(self.opaque)} opaque>"

    def table(self) -> rich.table.Table:
        """The table for a terminal, by rich."""
        return _show.rich_table(self.sites.values(), self.opaque)

    def __rich__(self) -> rich.table.Table:
        return self.table()

    def scalars(self) -> dict[str, Any]:
        """Every measure of every site as one flat dict for a logger: `{"MLP/relu/never_active": 0.25, ...}`.

        A measure that does not apply is left out; those of an invalid site are NaN, and its `nonfinite` says why.
        In jit the values are arrays, and XLA counts no more than what they need; every measure is there, NaN where it
        does not apply, but neither `n` nor `nonfinite`. Over devices take them after `all_reduce`: a mean of the
        devices' shares would call units never active that fire on another device.
        """
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self)):
            return {f"{s.name}/{key}": value for s in self for key, value in s.summary.layer.items()}
        return {f"{site.name}/{key}": value for site in self for key, value in _scalars(site)}

    def plot(self) -> Figure:
        """A picture: how often the units of each site are active, a histogram per site in the order of depth.

        Raises:
            ImportError: matplotlib is missing.
        """
        return _show.figure(self.sites.values())

    def html(self) -> str:
        """A page by itself: the table, with the histogram of `plot` in each row; matplotlib is not needed."""
        return _show.page(self.sites.values(), self.opaque)

    def _repr_html_(self) -> str:
        return _show.fragment(self.sites.values(), self.opaque)

    # Kept

    def to_json(self) -> str:
        """All of it as strict JSON (no NaN): the measures, for others to read, and the counts, for `from_json`.

        Raises:
            TypeError: the census is still a part of a trace.
        """
        return _json.dumps(self._records.values(), self.sites.values(), self.opaque, self.rare_below)

    @classmethod
    def from_json(cls, text: str) -> Census:
        """The census that `to_json` wrote.

        Raises:
            ValueError: the text is no such JSON.
        """
        return cls(*_json.loads(text))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_json` to a file; it is there whole or not at all."""
        _json.write(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Census:
        """The census of a file that `save` wrote.

        Raises:
            ValueError: the file is another one.
        """
        return cls(*_json.loads(_json.read(path), os.fspath(path)))


@jax.jit
def _summed(records: tuple[Record, ...]) -> tuple[Record, ...]:
    return tuple(record.summed() for record in records)


def _scalars(site: SiteCensus) -> Iterator[tuple[str, float]]:
    for key, value in site.measures.items():
        if key != "notes" and (
            value is not None or (site.invalid and key not in ("grad_dead", "grad_score"))
        ):
            yield key, math.nan if value is None else float(np.float64(value))
