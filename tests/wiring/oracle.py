"""What feeds a unit and what reads it, by finite changes of a network whose activations' outputs are held fixed.

It knows nothing of `jax_leaky`: the network is given activations that return fixed numbers and keep their inputs.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = 1e-9  # of numbers around 1 in float64; what is 0 in truth is 0 to some 1e-16


class Fixed:
    """Activations with fixed outputs; those that are not given yet are their inputs' shapes' zeros."""

    unrolls = True

    def __init__(self, outputs=None):
        self.outputs = outputs
        self.inputs = {}

    def __call__(self, name, z):
        calls = self.inputs.setdefault(name, [])
        calls.append(z)
        return jnp.zeros_like(z) if self.outputs is None else self.outputs[name][len(calls) - 1]


class Truth(NamedTuple):
    """Of one site: (units, entries) whether an entry moves a unit's z, and whether it reads the unit's output."""

    moves: np.ndarray
    reads: np.ndarray


class Oracle:
    def __init__(self, network, seed=0):
        self.network = network
        # JAX remembers the dtype of an array that a jit has closed over, here float64 for the rest of the process.
        self.x = jax.tree.map(np.array, network.x)
        leaves, self.structure = jax.tree.flatten(network.params)
        self.shapes = [leaf.shape for leaf in leaves]
        self.params = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
        act = Fixed()
        jax.eval_shape(lambda p: network.apply(self.unravel(p), self.x, act), self.params)
        rng = np.random.default_rng(seed)
        self.outputs = {name: [rng.normal(size=z.shape) for z in calls] for name, calls in act.inputs.items()}
        self.other = {name: [rng.normal(size=z.shape) for z in calls] for name, calls in act.inputs.items()}
        both = lambda params, outputs: (self.values(params, outputs),) * 2  # noqa: E731 a formula in one line
        # It runs a few times on a few numbers: compiling it costs more than any gain in speed.
        options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        self._both = jax.jit(jax.jacrev(both, has_aux=True), compiler_options=options)
        self.places, start = {}, 0
        for name, calls in act.inputs.items():
            self.places[name] = []
            for z in calls:
                self.places[name].append(np.arange(start, start + z.size).reshape(z.shape))
                start += z.size

    def values(self, params, outputs):
        """All z and the network's output, as a function of JAX."""
        act = Fixed(outputs)
        out = self.network.apply(self.unravel(params), self.x, act)
        zs = [z.ravel() for calls in act.inputs.values() for z in calls]
        return jnp.concatenate([*zs, *(leaf.ravel() for leaf in jax.tree.leaves(out))])

    def unravel(self, flat):
        leaves, start = [], 0
        for shape in self.shapes:
            leaves.append(flat[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        return jax.tree.unflatten(self.structure, leaves)

    @property
    def moves_anything(self):
        """(entries,) whether an entry has any effect."""
        return (np.abs(np.asarray(self._both(self.params, self.outputs)[0])) > TOLERANCE).any(axis=0)

    def run(self, params, outputs=None):
        """All z and the network's output."""
        return np.asarray(self._both(params, self.outputs if outputs is None else outputs)[1])

    def units(self, name):
        """For each unit of a site where it lies: (call, index of its elements in that call's z)."""
        calls = self.places[name]
        axis = self.network.axes.get(name, -1)
        count = calls[0].shape[axis]
        index = np.moveaxis(np.arange(calls[0].size).reshape(calls[0].shape), axis, 0).reshape(count, -1)
        if name in self.network.layered:
            return [[(call, index[unit])] for call in range(len(calls)) for unit in range(count)]
        return [[(call, index[unit]) for call in range(len(calls))] for unit in range(count)]

    def changed(self, name, unit):
        """The outputs with those of one unit exchanged."""
        outputs = {site: [a.copy() for a in calls] for site, calls in self.outputs.items()}
        for call, index in self.units(name)[unit]:
            outputs[name][call].reshape(-1)[index] = self.other[name][call].reshape(-1)[index]
        return outputs

    def truth(self, name):
        jacobian = np.asarray(self._both(self.params, self.outputs)[0])
        moves, reads = [], []
        for unit, where in enumerate(self.units(name)):
            rows = np.concatenate([self.places[name][call].reshape(-1)[index] for call, index in where])
            moves.append((np.abs(jacobian[rows]) > TOLERANCE).any(axis=0))
            changed = np.asarray(self._both(self.params, self.changed(name, unit))[0])
            reads.append((np.abs(changed - jacobian) > TOLERANCE).any(axis=0))
        return Truth(np.array(moves), np.array(reads))
