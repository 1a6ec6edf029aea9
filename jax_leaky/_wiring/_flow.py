"""The walk through the program: equation by equation, into calls, branches and loops, with a stop at each site."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jax_leaky._tracing import Site
from jax_leaky._wiring import _program as program
from jax_leaky._wiring._operations import Operations
from jax_leaky._wiring._records import Records
from jax_leaky._wiring._sets import EMPTY, Labels, compressed
from jax_leaky._wiring._values import Value, constant, full

LONGEST_FIXPOINT = 64
"""How many rounds the labels of a loop may take to settle; each adds a member to a set, and few do."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the units of a site are, and how they are numbered.

    Attributes:
        first: number of the first unit of the site.
        shape: shape of a mask of the units: lengths of the scans over layers around the site, then number of units.
        axis: axis of the activation's input that holds the units.
    """

    first: int
    shape: tuple[int, ...]
    axis: int

    @property
    def count(self) -> int:
        """Number of units, all layers together."""
        return math.prod(self.shape)


class Flow:
    """One walk.

    Attributes:
        places: places of the units of each site that the walk has reached, by the site's name.

    Args:
        records: notes of where paths end.
        axis_of: function from a site to the axis of its units, None where it is to be found out.
    """

    def __init__(self, records: Records, axis_of: Callable[[Site], int | None]) -> None:
        self.records = records
        self.operations = Operations(records)
        self.places: dict[str, Place] = {}
        self._axis_of = axis_of
        self._next = records.entries

    def outermost(self, plan: program.Plan, arguments: Sequence[Value]) -> None:
        """Walks through a whole function."""
        outputs = self.walk(plan.body, plan, arguments, (), [True] * len(plan.body.jaxpr.outvars))
        for output in outputs:
            if not output.data:
                none = full(EMPTY, output.shape)
                self.records.meet(output.direct, output.mixed, none)
                output = Value(output.direct, output.mixed, none, False)
            self.records.leave(output, "")

    def walk(
        self,
        body: Any,
        plan: program.Plan | None,
        arguments: Sequence[Value],
        steps: tuple[int | None, ...],
        needed: Sequence[bool],
    ) -> list[Value]:
        """The outputs of a jaxpr.

        Args:
            body: jaxpr with its constants.
            plan: plan of the jaxpr, None where tracing found no site in it.
            arguments: values of the jaxpr's arguments, its constants apart.
            steps: number of the step in each scan around the jaxpr, None where all steps are walked through as one.
            needed: for each output whether it is used. Equations that serve no such output are left out: those whose
                results are only printed are no dead code to JAX.
        """
        values: dict[Any, Value] = {}
        held = [constant(number, closed_over=True) for number in body.consts]
        for variable, argument in zip(body.invars, [*held, *arguments], strict=True):
            values[variable] = argument

        def read(atom: Any) -> Value:
            return constant(atom.val) if program.is_literal(atom) else values[atom]

        used = _used(body.jaxpr, needed)
        for index, eqn in enumerate(body.jaxpr.eqns):
            wanted = [out in used for out in eqn.outvars]
            if not any(wanted):
                continue
            outputs = self._equation(eqn, [read(atom) for atom in eqn.invars], plan, index, steps, wanted)
            spot = None if plan is None else plan.spots.get(index)
            if spot is not None:
                at = eqn.outvars.index(spot.match.a)
                outputs[at] = self._visit(spot.site, values[spot.match.z], outputs[at], steps)
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [
            read(atom) if is_needed else _nothing(atom)
            for atom, is_needed in zip(body.jaxpr.outvars, needed, strict=True)
        ]

    def _equation(
        self,
        eqn: Any,
        operands: list[Value],
        plan: program.Plan | None,
        index: int,
        steps: tuple[int | None, ...],
        wanted: list[bool],
    ) -> list[Value]:
        name = eqn.primitive.name
        if name in program.CALLS:
            (inner,) = program.plans(plan, index, 1)
            body = program.body(program.inner(eqn)) if inner is None else inner.body
            return self.walk(body, inner, operands, steps, wanted)
        if name == "cond":
            branches = program.branches(eqn)
            plans = program.plans(plan, index, len(branches))
            return self._cond(branches, operands, plans, steps, wanted)
        if name == "scan":
            (inner,) = program.plans(plan, index, 1)
            return self._scan(eqn, operands, inner, steps, wanted)
        if name == "while":
            (inner,) = program.plans(plan, index, 1)
            return self._while(eqn, operands, inner, steps)
        return self.operations.apply(eqn, operands)

    def _cond(
        self,
        branches: Sequence[Any],
        operands: list[Value],
        plans: Sequence[program.Plan | None],
        steps: tuple[int | None, ...],
        wanted: list[bool],
    ) -> list[Value]:
        which, *arguments = operands
        results = []
        for number, (jaxpr, plan) in enumerate(zip(branches, plans, strict=True)):
            if which.known is not None and number != np.clip(which.known, 0, len(plans) - 1):
                continue
            body = program.body(jaxpr) if plan is None else plan.body
            results.append(self.walk(body, plan, arguments, steps, wanted))
        joined = results[0]
        for other in results[1:]:
            joined = [self.operations.join(a, b) for a, b in zip(joined, other, strict=True)]
        return [self.operations.mixed_in(result, [which], "cond") for result in joined]

    def _scan(
        self,
        eqn: Any,
        operands: list[Value],
        plan: program.Plan | None,
        steps: tuple[int | None, ...],
        wanted: list[bool],
    ) -> list[Value]:
        loop = program.scan(eqn)
        carried = loop.carried
        held, moving = operands[: loop.consts], operands[loop.consts :]
        carry, stepwise = moving[:carried], moving[carried:]
        body = program.body(loop.jaxpr) if plan is None else plan.body
        together = [self.operations.first_axis(operand) for operand in stepwise]
        over_layers = plan is not None and any(
            spot.site.loops[len(steps)].over_layers for spot in plan.all_spots
        )
        needed = [True] * carried + wanted[carried:]
        if over_layers or not all(uniform for _, uniform in together):
            order = range(loop.length)[:: -1 if loop.options["reverse"] else 1]
            return self._unrolled(order, body, plan, (held, carry, stepwise), steps, needed)
        each = [value for value, _ in together]

        def step(state: list[Value]) -> list[Value]:
            return self.walk(body, plan, [*held, *state, *each], (*steps, None), needed)

        times = self.records.times
        self.records.times = times * loop.length
        outputs = self._settled(step, carry)
        self.records.times = times
        stacked = [
            output.moved(lambda part: np.broadcast_to(part, (loop.length, *part.shape)))
            for output in outputs[carried:]
        ]
        return [*outputs[:carried], *stacked]

    def _unrolled(
        self,
        order: Sequence[int],
        body: Any,
        plan: program.Plan | None,
        operands: tuple[list[Value], list[Value], list[Value]],
        steps: tuple[int | None, ...],
        needed: list[bool],
    ) -> list[Value]:
        held, carry, stepwise = operands
        rows: list[list[Value]] = [[] for _ in order]
        for step in order:
            each = [operand.at(0, step) for operand in stepwise]
            outputs = self.walk(body, plan, [*held, *carry, *each], (*steps, step), needed)
            carry, rows[step] = outputs[: len(carry)], outputs[len(carry) :]
        stacked = []
        for column in zip(*rows, strict=True):
            parts = [np.stack([getattr(row, part) for row in column]) for part in ("direct", "mixed", "zero")]
            direct, mixed, zero = parts
            stacked.append(Value(direct, mixed, zero, any(row.data for row in column)))
        return [*carry, *stacked]

    def _while(
        self, eqn: Any, operands: list[Value], plan: program.Plan | None, steps: tuple[int | None, ...]
    ) -> list[Value]:
        loop = program.while_loop(eqn)
        test, others = operands[: loop.tested], operands[loop.tested :]
        constants, carry = others[: loop.held], others[loop.held :]
        body = program.body(loop.step) if plan is None else plan.body
        condition = program.body(loop.test)

        def step(state: list[Value]) -> list[Value]:
            return self.walk(body, plan, [*constants, *state], steps, [True] * len(state))

        after = self._settled(step, carry)
        state = [self.operations.join(a, b) for a, b in zip(carry, after, strict=True)]
        going_on = self.walk(condition, None, [*test, *state], steps, [True])
        return [self.operations.mixed_in(value, going_on, "while") for value in state]

    def _settled(self, step: Callable[[list[Value]], list[Value]], carry: list[Value]) -> list[Value]:
        """The outputs of a loop's body once another round tells nothing new."""
        noted = self.records.product_notes
        for _ in range(LONGEST_FIXPOINT):
            self.records.forget_products(noted)
            outputs = step(carry)
            after = [self.operations.join(a, b) for a, b in zip(carry, outputs, strict=False)]
            if all(map(_same, carry, after)):
                return outputs
            carry = after
        raise ValueError(
            f"wiring does not follow a loop whose values depend on more with each of its first {LONGEST_FIXPOINT} "
            "steps, as where it moves its carry along an axis."
        )

    def _visit(self, site: Site, z: Value, output: Value, steps: tuple[int | None, ...]) -> Value:
        if site.name not in self.places:
            layers = tuple(loop.length for loop in site.loops if loop.over_layers)
            axis = self._axis_of(site)
            axis = self._found_axis(z) if axis is None else axis
            width = z.shape[axis] if z.shape else 1
            self.places[site.name] = Place(self._next, (*layers, width), axis)
            self._next += math.prod((*layers, width))
        place = self.places[site.name]
        first = 0
        for loop, step in zip(site.loops, steps, strict=True):
            if loop.over_layers:
                assert step is not None, "a scan over layers is walked through step by step"
                first = first * loop.length + step
        numbers = place.first + first * place.shape[-1] + np.arange(place.shape[-1])
        along = [place.shape[-1] if axis == place.axis else 1 for axis in range(len(z.shape))]
        units = np.broadcast_to(self.records.sets.singles(numbers).reshape(along), z.shape)
        self.records.arrive(z.direct, z.mixed, units, site.name)
        self._parameters(z, output, units)
        return Value(units, full(EMPTY, z.shape), units, data=True)

    def _parameters(self, z: Value, output: Value, units: Labels) -> None:
        """Notes the parameters of an activation, such as the slopes of a PReLU: they scale its output."""
        sets = self.records.sets
        joined = sets.union(output.direct, z.direct)
        if (compressed(joined) != compressed(np.broadcast_to(z.direct, joined.shape))).any():
            pairs = np.unique(
                np.stack([part.ravel() for part in np.broadcast_arrays(joined, z.direct, units)]), axis=1
            )
            for whole, own, unit in pairs.T.tolist():
                added = np.setdiff1d(sets.members(whole), sets.members(own))
                singles = sets.singles(added)
                none = np.zeros_like(singles)
                self.records.leave(Value(singles, none, np.full_like(singles, unit), True), "a slope")

    def _found_axis(self, z: Value) -> int:
        """The axis along which the weights that feed z differ: the last, if each of its places has some of its own."""
        sets = self.records.sets
        axes = list(range(len(z.shape)))
        for axis in [*axes[-1:], *axes[:-1]]:
            if axis != axes[-1] and z.shape[axis] == 1:
                continue
            others = [other for other in axes if other != axis]
            members = [sets.members(number) for number in sets.union_over(z.direct, others).tolist()]
            counts = np.bincount(np.concatenate([*members, np.zeros(0, np.int32)]))
            if all((counts[part] == 1).any() for part in members):
                return axis
        return axes[-1] if axes else 0


def _used(jaxpr: Any, needed: Sequence[bool]) -> set[Any]:
    """The variables that serve an output that is needed."""
    used = {
        atom
        for atom, is_needed in zip(jaxpr.outvars, needed, strict=True)
        if is_needed and not program.is_literal(atom)
    }
    for eqn in reversed(jaxpr.eqns):
        if not used.isdisjoint(eqn.outvars):
            used |= {atom for atom in eqn.invars if not program.is_literal(atom)}
    return used


def _nothing(atom: Any) -> Value:
    shape = getattr(atom.aval, "shape", ())
    none = full(EMPTY, shape)
    return Value(none, none, none, data=False)


def _same(one: Value, other: Value) -> bool:
    known = (one.known is None) == (other.known is None)
    parts = ("direct", "mixed", "zero")
    return (
        known
        and all(np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)
        and (one.data == other.data)
    )
