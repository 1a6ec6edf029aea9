"""The nonlinear operations that are no site: listed as opaque, or left out for one of the reasons below.

A value bends if it is no linear function of what precedes it. Left out, since it is no activation, is

    what depends on no floating-point argument    positions, masks, dropout, random numbers
    products, whole powers and quotients          gates, attention scores, squares
    a gradient and what is made of it             an optimiser's update, a clip of gradients or of new parameters
    a function of a parameter                     exp(log_std), a clip of weights: broadcast, or used as weights
    a root or a guard of a statistic              the variance of a norm kept above 0
    an exponential divided by its own sum         softmax; likewise a log-sum-exp
    what only a root, a logarithm or a loss uses  guards against 0; all that ends in one number
    what stands in a loss of optax's              the logarithms of log_cosh; its log-sigmoids are no sites either
    or a distribution of NumPyro's or distrax's   the softplus in a Bernoulli's likelihood is no site
    a sine beside a cosine of the same value      a position or a time, embedded
    a check for infinities and NaN

What only the backward pass of a derivative uses, which the function takes itself, is written there in other words than
the user's, and is one entry for the whole function.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jax_leaky._tracing import _jax_internals as internals
from jax_leaky._tracing._graph import BITS, ONWARD, PARAMETRIC, PRODUCTS, Frame, Graph, Node, Origin, Use
from jax_leaky._tracing._site import Opaque

_GUARDS = {
    "max": "maximum",
    "min": "minimum",
    "clamp": "clip",
    "select_n": "where",
    "abs": "abs",
    "sign": "sign",
}
_ROOTS = {name: name for name in ("sqrt", "rsqrt", "cbrt", "pow", "log")}
_CURVES = {
    name: name
    for name in (
        "exp", "exp2", "expm1", "log1p", "tanh", "erf", "erfc", "erf_inv", "sin", "cos", "tan", "asin", "acos", "atan",
        "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "floor", "ceil", "round", "rem", "lgamma", "digamma",
        "bessel_i0e", "bessel_i1e", "igamma", "igammac", "polygamma", "zeta", "regularized_incomplete_beta",
    )
} | {"logistic": "sigmoid", "convert_element_type": "comparison", BITS: "bits"}  # fmt: skip
_COMPARISONS = {"gt": "comparison", "ge": "comparison", "lt": "comparison", "le": "comparison"}
_MARKS = frozenset({*_COMPARISONS, "eq", "sign"})
"""Primitives by which a derivative asks on which side of a bend a value lies."""
_EXTREMES = frozenset({"reduce_max", "reduce_min", "scatter-max", "scatter-min"})
_SPREADS = frozenset({"broadcast_in_dim", "reshape", "expand_dims", "gather"})
"""Primitives by which the derivative of an extreme lays it beside the elements that it was taken of."""
_NAMES = _GUARDS | _ROOTS | _CURVES
"""Primitives that bend, by the name that a user knows."""

UNKNOWN = "nonlinear and not a known activation; register_kind makes it one"


def bends(graph: Graph, inputs: Iterable[int], outputs: Iterable[int]) -> list[Opaque]:
    """The entries for what bends in a function and is no site.

    Args:
        graph: graph of the function, in which the sites are covered.
        inputs: numbers of the values that are the inputs of sites.
        outputs: numbers of the values that are the outputs of sites.
    """
    seeds = [node for node in graph.nodes if _bends(graph, node)]
    onward = [node for node in seeds if node.name in _NAMES and graph.uses[node.outputs[0]] & ONWARD]
    circles = _circles(onward)
    listed = [
        node
        for node in onward
        if not _is_excused(graph, node) and (node.frame, node.inputs[0]) not in circles
    ]
    losses = [node for node in seeds if graph.uses[node.outputs[0]] & Use.NUMBER]
    known = {*inputs, *(i for node in (*listed, *losses) for i in node.inputs if i is not None)}
    ends = {*outputs, *(i for node in listed for i in node.outputs)}
    entries = _entries(graph, listed)
    lines = {entry.source for entry in entries}  # a checkpoint computes again what is listed
    hidden = [
        node for node in _hidden(graph, seeds, known, ends) if _line(node) not in lines or not _line(node)
    ]
    return [*entries, *_of_derivative(hidden)]


def _bends(graph: Graph, node: Node) -> bool:
    """Whether a node bends what depends on the function's arguments, one number for each element."""
    if node.eqn is None or node.backward or node.frame.is_covered(node.position):
        return False
    if node.name not in _NAMES and node.name not in _COMPARISONS:
        return False
    if not internals.shape_of(node.eqn.outvars[0]):
        return False
    if node.name not in {*_COMPARISONS, BITS} and not graph.is_float(node.outputs[0]):
        return False
    if node.name == "convert_element_type" and internals.dtype_of(node.eqn.invars[0]) != np.bool_:
        return False
    # A choice is bent by what it is made by: by a mask that is given, it is linear.
    deciding = node.inputs[:1] if node.name == "select_n" else node.inputs
    return any(i is not None and graph.origins[i] & Origin.FLOATS for i in deciding)


def _is_excused(graph: Graph, node: Node) -> bool:
    source = _source(node)
    if source is not None and source.is_of_loss:
        return True
    deciding = node.inputs[:1] if node.name == "select_n" else node.inputs
    made = [graph.origins[i] for i in deciding if i is not None and graph.origins[i] & Origin.FLOATS]
    if all(origin & Origin.GRADIENT for origin in made):
        return True
    uses = graph.uses[node.outputs[0]]
    if not any(origin & Origin.PRODUCT for origin in made) and uses & PARAMETRIC == Use.PARAMETER:
        return True
    if node.name not in _CURVES and all(origin & Origin.STATISTIC for origin in made):
        return True
    return node.name in {"exp", "exp2"} and bool(uses & Use.NORMALIZES)


def _circles(seeds: Sequence[Node]) -> set[tuple[Frame, int | None]]:
    """The values of which both the sine and the cosine are taken in one place."""
    sines, cosines = (
        {(node.frame, node.inputs[0]) for node in seeds if node.name == name} for name in ("sin", "cos")
    )
    return sines & cosines


def _hidden(graph: Graph, seeds: Sequence[Node], known: set[int], ends: set[int]) -> list[Node]:
    """What only a backward pass uses, unless it belongs to a site or to what is listed: is made of its input."""
    extremes: set[int | None] = set()  # maxima and minima over an axis or a segment
    for node in graph.nodes:
        if node.name in PRODUCTS or node.backward:
            continue
        if node.name in _EXTREMES or (node.name in _SPREADS and node.inputs[0] in extremes):
            extremes.update(node.outputs)
        # The derivative of a maximum asks whether z or the bound is its value, that of a pool which element is.
        of_site = node.name == "eq" and any(i in ends or i in extremes for i in node.inputs)
        of_parameter = node.name in _MARKS and _is_of_parameter(graph, node)
        if of_site or of_parameter or any(i in known for i in node.inputs):
            known.update(number for number in node.outputs if number not in ends)
    return [
        node
        for node in seeds
        if node.derivative
        and graph.uses[node.outputs[0]] & (ONWARD | Use.BACKWARD) == Use.BACKWARD
        and not any(i in known for i in node.inputs)
        and not _is_excused(graph, node)
        and not _is_of_parameter(graph, node)
    ]


def _is_of_parameter(graph: Graph, node: Node) -> bool:
    """Whether what a node is made of is used as parameters are, though only a backward pass uses the node."""
    made = [i for i in node.inputs if i is not None and graph.origins[i] & Origin.FLOATS]
    used = [graph.uses[i] & PARAMETRIC for i in made if not graph.origins[i] & Origin.PRODUCT]
    return bool(made) and used == [Use.PARAMETER] * len(made)


def _entries(graph: Graph, listed: Sequence[Node]) -> list[Opaque]:
    """One entry for each line, and for what is computed on the way to it."""
    last: dict[int, int] = {}  # value -> the place in `listed` of the last one that it is made of
    place = {id(node): number for number, node in enumerate(listed)}
    into = list(range(len(listed)))
    for node in graph.nodes:
        if node.name in PRODUCTS or node.frame.is_covered(node.position):
            continue
        before = {last[i] for i in node.inputs if i is not None and i in last}
        own = place.get(id(node))
        if own is not None:
            into = [own if target in before else target for target in into]
        if own is not None or before:
            last |= dict.fromkeys(node.outputs, max(before) if own is None else own)
    lines: dict[str, dict[str, set[int]]] = {}  # line -> operation -> how often it is computed there
    for node, target in zip(listed, into, strict=True):
        lines.setdefault(_line(listed[target]), {}).setdefault(_name(node), set()).add(target)
    entries = []
    for line, names in lines.items():
        times = max(map(len, names.values()))
        entries.append(Opaque(", ".join(names), UNKNOWN + (f" ({times} times)" if times > 1 else ""), line))
    return entries


def _of_derivative(hidden: Sequence[Node]) -> list[Opaque]:
    if not hidden:
        return []
    lines: dict[str, dict[str, None]] = {}
    for node in hidden:
        lines.setdefault(_line(node), {})[_name(node)] = None
    shown = [f"{line} ({', '.join(parts)})" if line else ", ".join(parts) for line, parts in lines.items()]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    why = (
        "the function takes it itself, and only its backward pass uses what bends at "
        f"{', '.join(shown[:3])}{more}, which may be an activation in other words"
    )
    return [Opaque("derivative", why, "")]


def _name(node: Node) -> str:
    assert node.eqn is not None
    # What a function of the user's computes, called by one of JAX's own, has a line of the user's.
    caller = node.caller if internals.source(node.eqn) is None else None
    called = internals.call_name(caller).lstrip("_") if caller is not None else ""
    return called if called.isidentifier() else _NAMES.get(node.name) or _COMPARISONS[node.name]


def _line(node: Node) -> str:
    source = _source(node)
    return "" if source is None else f"{Path(source.file).name}:{source.line}"


def _source(node: Node) -> internals.Source | None:
    sources = (internals.source(eqn) for eqn in (node.eqn, *reversed(node.around)) if eqn is not None)
    return next((source for source in sources if source is not None), None)
