"""`wiring`: which entries of the parameters feed each unit of a network, and which read it.

The function is traced, and one walk through the program carries two things along for every element of every value:
which parameter entries and which units it comes from, and which of them make it 0 by being 0. Reshaping, slicing,
padding and the like move these labels exactly as they move numbers; sums join them; means over units, softmax and
anything unknown mix them, and what is mixed is told apart no more. At an activation the labels of its input are its
incoming entries, and its output gets new labels, one per unit. At a product with weights the labels of the data meet
those of the weights: these entries read these units, and the path ends. If each weight that reads a unit can be set
to 0 by an entry that reads nothing else, the unit can be silenced alone; otherwise the table gives the reason. No name
of a layer and no order of a dictionary is used, so an entry can be wrong only where the rule of an operation is.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_leaky._tracing import Site
from jax_leaky._wiring import _remove, _state, _waste
from jax_leaky._wiring._bounds import Bounds, Interval, check_ends, given
from jax_leaky._wiring._flow import Flow
from jax_leaky._wiring._mesh import placed_as
from jax_leaky._wiring._program import Program, parameters_of, split_module, structure_of
from jax_leaky._wiring._records import Records
from jax_leaky._wiring._values import Value, full
from jax_leaky._wiring._verdict import Verdict, Wires, nowhere
from jax_leaky._wiring._waste import Waste

Masks = Mapping[str, Any]


def wiring(
    fn: Callable[..., Any],
    params: Any,
    *args: Any,
    unit_axis: int | Mapping[str, int] | None = None,
    **kwargs: Any,
) -> Wiring:
    """Finds which entries of the parameters feed each unit of each activation, and which read it.

    Incoming entries of a unit are those that its input is made of: a column of the kernel, the bias, scale and offset
    of a norm between; and those that scale its output before weights read it (the other half of a gated unit, a slope
    of its own). Outgoing entries are the weights that read it: a row of each kernel, through flattening, pooling,
    dropout, concatenation and the like. An entry that feeds all units of a site (one scale for a layer) belongs to
    none of them.

    A unit that cannot be told from others gets a reason instead: the sum of a residual stream that others write into,
    a norm over units, an offset between it and what reads it, weights used at several places, an operation that is
    not known here. All outputs of `fn` count: let it return what the network is for, not statistics or a penalty.

    Args:
        fn: network as a function of its parameters: `lambda params, x: model.apply({"params": params}, x)`.
        params: pytree of arrays, or of shapes. An NNX module stands for its `nnx.state(module, nnx.Param)`, here and
            wherever parameters are asked for. Arrays that have a place per unit and shall be cut by `remove` (running
            statistics) belong in here, and `fn` must read them: a network in evaluation mode.
        *args: other arguments of `fn`, its data among them; one example is enough, and `jax.ShapeDtypeStruct` will do
            for an array.
        unit_axis: axis of each activation's input that holds its units, one for all sites or a dictionary from site
            to axis. By default the last one along which each place has weights of its own: channels, wherever they are.
        **kwargs: keyword arguments of `fn`.

    Returns:
        The wiring; printed, a table.

    Raises:
        TypeError: `fn` is an NNX module or does not trace, or `params` holds what is no array.
        ValueError: `unit_axis` fits no site, or a loop is not followed.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax_leaky import wiring
        >>> def network(params, x):
        ...     with jax.named_scope("hidden"):
        ...         h = jax.nn.relu(x @ params["in"] + params["bias"])
        ...     return h @ params["out"]
        >>> params = {"in": jnp.ones((3, 4)), "bias": jnp.ones(4), "out": jnp.ones((4, 2))}
        >>> wires = wiring(network, params, jnp.ones((1, 3)))
        >>> wires
        site         units  incoming  outgoing  reason
        hidden/relu  4      16        8
        >>> dead = {"hidden/relu": jnp.array([False, True, False, False])}
        >>> wires.entries(params, dead)[1]["out"].any(axis=1).tolist()
        [False, True, False, False]
    """
    fn, params = split_module(fn, params)
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    for path, leaf in leaves:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            name = jax.tree_util.keystr(path) or "params"
            raise TypeError(
                f"wiring: {name} is a {type(leaf).__name__}, no array: params must be a pytree of arrays (of an NNX "
                "module, the state that nnx.split gives)."
            )
    names = [jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path, _ in leaves]
    shapes = [tuple(leaf.shape) for _, leaf in leaves]
    program = Program(fn, params, args, kwargs)
    axes = _axes(program.sites, unit_axis)
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
    records = Records(names, sizes, sum(map(_most_units, program.sites)))
    flow = Flow(records, lambda site: axes.get(site.name))
    flow.outermost(program.plan, _arguments(records, shapes, program))
    verdict = Verdict(records, flow.places, shapes)
    wires = {site.name: verdict.wires.get(site.name) or nowhere(site) for site in program.sites}
    return Wiring(structure_of(params), names, shapes, wires, verdict, program)


class Wiring:
    """Which entries of a network's parameters feed each unit, and which read it; printed, a table.

    It never changes, so a jitted function may close over it or take it as a static argument.

    Attributes:
        units: shape of a mask of a site's units, by the site's name; the steps of a scan over layers come first.
        reasons: reason why a site's units cannot be told from others, "" if they can, by the site's name.
    """

    def __init__(
        self,
        structure: Any,
        names: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        wires: Mapping[str, Wires],
        verdict: Verdict,
        program: Program,
    ) -> None:
        self._structure, self._names, self._shapes = structure, tuple(names), tuple(shapes)
        self._wires, self._verdict, self._program = wires, verdict, program
        self.units = {name: own.shape for name, own in wires.items()}
        self.reasons = {name: own.reason for name, own in wires.items()}

    def entries(self, params: Any, masks: Masks, *, even_if_shared: bool = False) -> tuple[Any, Any]:
        """The incoming and the outgoing entries of some units.

        Args:
            params: pytree of parameters, or of anything of their shapes.
            masks: units meant, by the name of each site concerned: booleans of the shape in `units`, traced or not.
            even_if_shared: whether to go on where units cannot be told apart, with the entries that lead straight to
                a unit or read it straight; other units are affected.

        Returns:
            Two pytrees of the structure of `params` with booleans of its shapes.

        Raises:
            TypeError: `masks` is no dictionary, or a mask does not hold booleans.
            ValueError: a site is not known or cannot be told apart, a mask has another shape, or `params` another
                structure or shape.
        """
        params = self._parameters("entries", params)

        def both(masks: Masks) -> tuple[Any, Any]:
            incoming, outgoing = self._both(masks)
            return self._like(params, incoming), self._like(params, outgoing)

        return placed_as((params, params), both, self._checked("entries", masks, even_if_shared))

    def recycle(self, params: Any, masks: Masks, fresh: Any, *, even_if_shared: bool = False) -> Any:
        """The parameters with some units reset: incoming entries from `fresh`, outgoing entries 0.

        An entry that is both (it reads one such unit and feeds another) becomes 0. Units whose output is 0 on some
        data are exchanged without a change of the network's output there, to the bit.

        Args:
            params: pytree of parameters.
            masks: units meant, by the name of each site concerned: booleans of the shape in `units`, traced or not.
            fresh: pytree of newly initialised parameters, of the structure and shapes of `params`.
            even_if_shared: whether to go on where units cannot be told apart, as for `entries`.

        Returns:
            The new parameters; arrays that no unit concerns are those of `params`.

        Raises:
            TypeError: `masks` is no dictionary, or a mask does not hold booleans.
            ValueError: as for `entries`, or `fresh` has another structure or shape than `params`.
        """
        params = self._parameters("recycle", params)
        fresh = self._parameters("recycle", fresh, "fresh")

        def reset(params: Any, fresh: Any, masks: Masks) -> Any:
            leaves = []
            for old, new, feeds, reads in zip(
                jax.tree.leaves(params), jax.tree.leaves(fresh), *self._both(masks), strict=True
            ):
                leaf = old if feeds is None else jnp.where(feeds, jnp.asarray(new, old.dtype), old)
                leaves.append(leaf if reads is None else jnp.where(reads, jnp.zeros((), old.dtype), leaf))
            return jax.tree.unflatten(jax.tree.structure(params), leaves)

        return placed_as(params, reset, params, fresh, self._checked("recycle", masks, even_if_shared))

    def restart(
        self, optimizer: Any, state: Any, params: Any, masks: Masks, *, even_if_shared: bool = False
    ) -> Any:
        """The state of an optax optimiser, reset for the entries of some units, incoming and outgoing.

        Those entries are as `optimizer.init(params)` gives them, all others as they were. What has no place per entry
        stays untouched: step counts, learning rates, the factored second moments of Adafactor and SM3, the past
        gradients of L-BFGS, and the row that `optax.flatten` makes of some parameters alone, under `optax.masked`. So
        Adam's bias correction goes on at the old count: late in training the first step of a reset entry is up to
        (1 - b1) / sqrt(1 - b2) times the learning rate (3.2 at the defaults), and under a steady gradient the twelfth
        is 6.6 times; `jax_leaky.remedies.entrywise_adam` counts the steps of each entry, so that one that is reset
        starts as a new parameter does.

        Args:
            optimizer: optimiser, an `optax.GradientTransformation`, or anything with its `init`.
            state: state of the optimiser, as the `opt_state` of an `nnx.Optimizer`.
            params: pytree of the parameters that go with the new state, those that `recycle` gives.
            masks: units meant, by the name of each site concerned: booleans of the shape in `units`, traced or not.
            even_if_shared: whether to go on where units cannot be told apart, as for `entries`.

        Returns:
            The new state, of the structure of `state`.

        Raises:
            TypeError: `optimizer` is none, `masks` is no dictionary, or a mask does not hold booleans.
            ValueError: as for `entries`, or the state differs from `optimizer.init(params)` in structure or shapes.
        """
        params = self._parameters("restart", params)
        checked = self._checked("restart", masks, even_if_shared)
        fresh = _state.begun(optimizer, state, params)
        own: Any = jax.tree.structure(state)
        # `nnx.Optimizer` keeps every array of its state in a variable of its own, of which optax knows nothing.
        state = jax.tree.unflatten(jax.tree.structure(fresh), jax.tree.leaves(state))

        def reset(state: Any, fresh: Any, params: Any, masks: Masks) -> Any:
            either = [
                np.zeros(shape, bool)
                | (False if feeds is None else feeds)
                | (False if reads is None else reads)
                for shape, feeds, reads in zip(self._shapes, *self._both(masks), strict=True)
            ]
            return _state.restarted(
                state, fresh, params, jax.tree.unflatten(jax.tree.structure(params), either)
            )

        begun = placed_as(state, reset, state, fresh, params, checked)
        return jax.tree.unflatten(own, jax.tree.leaves(begun))

    def remove(
        self, params: Any, masks: Masks, *, even_if_shared: bool = False
    ) -> tuple[Any, dict[str, int]]:
        """The parameters without some units: their entries are cut out of the arrays.

        The same network built with the widths that are left takes these parameters. It gives the same outputs, within
        rounding, wherever the removed units gave 0: those of a census on its data, those of `dead_by_bounds` on all
        data in its range. A network whose widths follow from its arrays runs as it is.

        Args:
            params: pytree of parameters.
            masks: units to be removed, by the name of each site concerned: concrete booleans of the shape in `units`.
            even_if_shared: whether to go on where units cannot be told apart, as for `entries`.

        Returns:
            The parameters, and for every site the number of units that are left.

        Raises:
            TypeError: `masks` is no dictionary, or a mask does not hold booleans.
            ValueError: as for `entries`; or the entries are no whole slices of an array (a grouped convolution, a scan
                whose layers would differ), all units of a site would go, or a unit that stays would lose its weights.
        """
        params = self._parameters("remove", params)
        checked = {
            name: np.asarray(mask) for name, mask in self._checked("remove", masks, even_if_shared).items()
        }
        _remove.check(self._verdict, checked, self._names, _units_of)
        gone = self._either(checked)
        _remove.check_left(self._wires, checked, gone, self._names)
        leaves = map(_remove.cut, self._names, jax.tree.leaves(params), gone)
        left = {
            name: int(np.prod(own.shape)) - int(checked[name].sum() if name in checked else 0)
            for name, own in self._wires.items()
        }
        return jax.tree.unflatten(jax.tree.structure(params), list(leaves)), left

    def dead_by_bounds(self, params: Any, low: Any = None, high: Any = None) -> dict[str, jax.Array]:
        """The units that give 0 on all data, not only on those of a census.

        Interval arithmetic carries the range of the data through the network, layer by layer. A ReLU whose input is at
        most max(W, 0) high + min(W, 0) low + b <= 0 is dead for every input between `low` and `high`, and `remove`
        changes no output there, rounding apart. The test is sufficient and not necessary: bounds widen from layer to
        layer, and what is not followed (attention, a loop over time, random numbers) has none. They allow for what the
        network's own precision rounds: a sum of k terms by (k + 2) machine epsilons of their absolute values, which is
        much in half precision.

        Args:
            params: pytree of parameters.
            low: least values of the data, the first argument after the parameters: a number or an array that
                broadcasts against it; None for no bound. All other arguments have none.
            high: greatest values of the data, likewise.

        Returns:
            For each site whose units can be told from others, booleans of the shape in `units`: masks for `remove`,
            `recycle` and `waste`.

        Raises:
            TypeError: `low` or `high` is no number and no array.
            ValueError: they do not broadcast, `low` is above `high`, or the first argument holds no array; `params`
                has another structure or shape.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jax_leaky import wiring
            >>> def network(params, x):
            ...     with jax.named_scope("hidden"):
            ...         h = jax.nn.relu(x @ params["in"] + params["bias"])
            ...     return h @ params["out"]
            >>> params = {"in": jnp.ones((3, 2)), "bias": jnp.array([-2.0, -4.0]), "out": jnp.ones((2, 1))}
            >>> wires = wiring(network, params, jnp.zeros((1, 3)))
            >>> wires.dead_by_bounds(params, low=0.0, high=1.0)["hidden/relu"].tolist()  # inputs sum to 3 at most
            [False, True]
        """
        params = self._parameters("dead_by_bounds", params)
        plan, others = self._program.plan, self._program.others
        check_ends(low, high, others[: self._program.data])

        @jax.jit  # one program compiles faster than its operations one by one
        def walked(leaves: Any, low: Any, high: Any) -> dict[str, jax.Array]:
            ends = [
                (low, high) if place < self._program.data else (None, None) for place in range(len(others))
            ]
            data = [given(shape, *pair) for shape, pair in zip(others, ends, strict=True)]
            bounds = Bounds(self._verdict.places)
            bounds.walk(plan.body, plan, [*(Interval(leaf, leaf) for leaf in leaves), *data])
            told = {name: shape for name, shape in self.units.items() if not self.reasons[name]}
            return {name: bounds.dead.get(name, jnp.zeros(shape, bool)) for name, shape in told.items()}

        with (
            jax.debug_nans(False),
            jax.debug_infs(False),
        ):  # what has no end is infinite, and nothing is wrong with it
            return placed_as(None, walked, jax.tree.leaves(params), low, high)

    def waste(self, dead: Any, by_bounds: Masks | None = None) -> Waste:
        """What dead units cost: parameters, and multiplications of a forward pass.

        An entry belongs to a dead unit if it feeds or reads it, so that `remove` would cut it out. Counted are the
        multiplications of data by weights in matrix products and convolutions, padding included, for the arguments
        that the wiring was found with: of a batch of 32 they are 32 times those of one sample. All branches of a `cond`
        count, and one step of a `while` loop.

        Args:
            dead: census of the network, whose dead units are meant, or masks as for `entries`. A census tells of no
                dead units where an activation has a slope other than 0.
            by_bounds: what `dead_by_bounds` gives, to say apart how many of these units are dead on all data.

        Returns:
            The cost of the dead units of each site, and of all of them; printed, a table. A site whose units cannot
            be told apart has a reason in place of numbers.

        Raises:
            TypeError: `dead` is neither a census nor a dictionary, or a mask does not hold booleans.
            ValueError: a site is not known, or a mask or the census has another number of units.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jax_leaky import census, wiring
            >>> def network(params, x):
            ...     with jax.named_scope("hidden"):
            ...         h = jax.nn.relu(x @ params["in"] + params["bias"])
            ...     return h @ params["out"]
            >>> params = {"in": jnp.ones((3, 4)), "bias": jnp.array([0.0, -9, 0, 0]), "out": jnp.ones((4, 2))}
            >>> x = jnp.ones((1, 3))
            >>> wiring(network, params, x).waste(census(network, [(params, x)]))
            site         dead    parameters       multiplications  reason
            hidden/relu  1 of 4  6                5
            in all               6 of 24 (25.0%)  5 of 20 (25.0%)
        """
        masks, reasons = _waste.masks_of(dead, self.units)
        certain = {} if by_bounds is None else self._checked("waste", by_bounds, False)
        reasons |= {name: self._wires[name].reason for name in masks if self.reasons.get(name)}
        sites, known = {}, {}
        for name, mask in self._checked(
            "waste", {name: mask for name, mask in masks.items() if name not in reasons}, False
        ).items():
            known[name] = np.asarray(mask)
            gone = self._either({name: known[name]})
            parameters, products = sum(int(part.sum()) for part in gone), self._verdict.products(gone)[1]
            sites[name] = _waste.SiteWaste(int(known[name].sum()), known[name].size, parameters, products)
            if name in certain:
                both = int((known[name] & np.asarray(certain[name])).sum())
                sites[name] = dataclasses.replace(sites[name], by_bounds=both)
        for name, reason in reasons.items():
            sites[name] = _waste.SiteWaste(0, int(np.prod(self.units[name])), 0, 0, reason)
        gone = self._either(known)
        everything, products = self._verdict.products(gone)
        return Waste(
            {name: sites[name] for name in self._wires if name in sites},
            sum(int(part.sum()) for part in gone),
            sum(part.size for part in gone),
            products,
            everything,
        )

    def _either(self, masks: Masks) -> list[Any]:
        """For each parameter the entries that feed or read the units of concrete masks."""
        both = zip(self._shapes, *self._both(masks), strict=True)
        return [_waste.union((feeds, reads), shape) for shape, feeds, reads in both]

    def _both(self, masks: Masks) -> tuple[list[Any], list[Any]]:
        """For each parameter the incoming and the outgoing entries, None where there are none."""
        # Outside jit, NumPy spares the compilation of a dozen small operations for each shape.
        xp = np if all(isinstance(mask, np.ndarray) for mask in masks.values()) else jnp
        both = []
        for kind in ("incoming", "outgoing"):
            leaves: list[Any] = [None] * len(self._shapes)
            for name, mask in masks.items():
                for leaf, planes in getattr(self._wires[name], kind).items():
                    for plane in planes:
                        part = xp.broadcast_to(_units_of(mask, plane, xp), self._shapes[leaf])
                        leaves[leaf] = part if leaves[leaf] is None else leaves[leaf] | part
            both.append(leaves)
        return both[0], both[1]

    def _like(self, params: Any, leaves: Sequence[Any]) -> Any:
        whole = [
            jnp.asarray(np.zeros(shape, bool) if leaf is None else leaf)
            for leaf, shape in zip(leaves, self._shapes, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(params), whole)

    def _parameters(self, who: str, params: Any, what: str = "params") -> Any:
        params = parameters_of(params)
        if structure_of(params) != self._structure:
            raise ValueError(
                f"{who}: {what} has another structure than the parameters that the wiring was found for."
            )
        for name, shape, leaf in zip(self._names, self._shapes, jax.tree.leaves(params), strict=True):
            if jnp.shape(leaf) != shape:
                raise ValueError(
                    f"{who}: {what} has shape {jnp.shape(leaf)} at {name}, where the wiring has {shape}."
                )
        return params

    def _checked(self, who: str, masks: Masks, even_if_shared: bool) -> dict[str, Any]:
        if not isinstance(masks, Mapping):
            raise TypeError(
                f"{who}: masks must be a dictionary from sites to booleans, got {type(masks).__name__}; of a census it "
                'is {site.name: site.per_unit("never_active") == 1 for site in census}.'
            )
        checked = {}
        for name, mask in masks.items():
            if name not in self._wires:
                known = ", ".join(self._wires) or "none"
                raise ValueError(f"{who}: no site is named {name!r}; the sites are {known}.")
            own = self._wires[name]
            if not isinstance(mask, jax.core.Tracer) and getattr(mask, "is_fully_addressable", True):
                mask = np.asarray(mask)
            if who in {"remove", "waste"} and isinstance(mask, jax.core.Tracer):
                raise TypeError(
                    f"{who}: the mask of {name} is traced, but what {who} gives depends on it: call it outside of jit."
                )
            if mask.dtype != bool:
                raise TypeError(
                    f"{who}: the mask of {name} must hold booleans, one for each unit, got {mask.dtype}; of indices it "
                    f"is jnp.zeros({own.shape}, bool).at[indices].set(True)."
                )
            if own.reason and (own.is_lost or not even_if_shared):
                remedy = "" if own.is_lost else "; pass even_if_shared=True to go on"
                raise ValueError(
                    f"{who}: the units of {name} cannot be told from others: {own.reason}{remedy}."
                )
            if mask.shape != own.shape:
                raise ValueError(f"{who}: the mask of {name} must have shape {own.shape}, got {mask.shape}.")
            checked[name] = mask
        return checked

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("site", "units", "incoming", "outgoing", "reason")]
        for name, own in self._wires.items():
            units = " x ".join(map(str, own.shape)) or "-"
            rows.append((name, units, *(f"{count:,}" for count in own.counts), own.reason))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)

    __repr__ = __str__


def _units_of(mask: Any, plane: Any, xp: Any = np) -> Any:
    """The mask at the unit that each place of a plane holds, False where it holds none."""
    return xp.concatenate([xp.ravel(mask), xp.zeros(1, bool)])[plane]


def _arguments(records: Records, shapes: Sequence[tuple[int, ...]], program: Program) -> list[Value]:
    """What is known of the function's arguments: each entry of a parameter comes from itself."""
    values = []
    start = 0
    for shape in shapes:
        size = int(np.prod(shape, dtype=np.int64))
        singles = records.sets.singles(np.arange(start, start + size)).reshape(shape)
        values.append(Value(singles, full(0, shape), singles, data=False, plain=True))
        start += size
    for variable in program.plan.body.jaxpr.invars[len(shapes) :]:
        none = full(0, getattr(variable.aval, "shape", ()))
        values.append(Value(none, none, none, data=True))
    return values


def _most_units(site: Site) -> int:
    return int(np.prod([loop.length for loop in site.loops])) * max(site.shape, default=1)


def _axes(sites: Sequence[Site], unit_axis: int | Mapping[str, int] | None) -> dict[str, int]:
    if unit_axis is None:
        return {}
    given = (
        dict(unit_axis)
        if isinstance(unit_axis, Mapping)
        else dict.fromkeys([site.name for site in sites], unit_axis)
    )
    by_name = {site.name: site for site in sites}
    axes = {}
    for name, axis in given.items():
        if name not in by_name:
            raise ValueError(
                f"wiring: unit_axis names {name!r}, which is none of the sites {', '.join(by_name)}."
            )
        try:
            number = operator.index(axis)
        except TypeError:
            raise TypeError(f"wiring: unit_axis={axis!r} at {name} is no integer.") from None
        count = len(by_name[name].shape)
        if not -count <= number < count:
            raise ValueError(
                f"wiring: unit_axis={number} is no axis of the input of {name}, whose shape is {by_name[name].shape}."
            )
        axes[name] = number % count
    return axes
