"""Faults of the tracing: an equation left out, a loop turned round, a layer taken for a minibatch, ..."""

from tests.mutation.fault import Fault

LOOPS = "tracing/test_loops.py"
SHARDS = "tracing/test_shards_units.py"
LOOK_ALIKES = "tracing/test_look_alikes.py::test_look_alikes_are_not_activations"
SWAP = "tracing/test_swap.py"
BENDS = "tracing/test_bends.py"
ROWS = f"{LOOPS}::test_layers_have_rows_and_time_and_minibatches_do_not"
SPREAD = f"{SHARDS}::test_units_spread_over_shards_are_those_of_the_whole_layer"

TRACING = [
    Fault(
        "what a swapped activation is made of is left out though it is used elsewhere",
        "_tracing/_replay.py",
        "elif index in inner and not needed.intersection(eqn.outvars):",
        "elif index in inner:",
        f"{SWAP}::test_a_part_that_is_used_elsewhere_is_still_computed",
    ),
    Fault(
        "a site that was not reached counts as reached",
        "_tracing/_replay.py",
        "Reached(jnp.zeros(front, jnp.int32), record)",
        "Reached(jnp.ones(front, jnp.int32), record)",
        "tracing/test_branches.py::test_a_switch_and_branches_without_sites",
    ),
    Fault(
        "the record of a step that was not reached takes the place of an older one",
        "_tracing/_replay.py",
        "jnp.where(newer.times == 0, old, jnp.where(older.times == 0, new, both))",
        "jnp.where(older.times == 0, new, both)",
        "tracing/test_branches.py::test_a_step_that_is_not_reached_leaves_the_merged_record_alone",
    ),
    Fault(
        "the gradient flows through the records",
        "_tracing/_visitor.py",
        "jax.tree.map(jax.lax.stop_gradient, visit)",
        "visit",
        "tracing/test_observe.py::test_no_gradient_flows_through_a_record",
    ),
    Fault(
        "a scan backwards is replayed forwards",
        "_tracing/_jax_internals.py",
        '"reverse": p["reverse"]',
        '"reverse": False',
        f"{LOOPS}::test_a_scan_stacks_records_per_step",
    ),
    Fault(
        "the weights of every product are its second input",
        "_tracing/_graph.py",
        "return 0 if len(internals.shape_of(eqn.invars[1])) - 1 in contracted else 1",
        "return 1",
        ROWS,
    ),
    Fault(
        "a scan that trains may be one over layers",
        "_tracing/_constructs.py",
        "internals.is_backward(eqn) or any(",
        "any(",
        ROWS,
    ),
    Fault(
        "a fori_loop over layers is not told by its counter",
        "_tracing/_constructs.py",
        "and depends.get(after) == {before}",
        "and depends.get(after) == set()",
        f"{LOOPS}::test_layers_that_a_loop_takes_by_number_are_layers",
    ),
    Fault(
        "an activation under a custom rule may be replaced",
        "_tracing/_constructs.py",
        'fixed=f"the {rule} rule of {name} is the derivative of the function as it is",',
        "",
        f"{SWAP}::test_an_activation_under_a_custom_rule_is_not_replaced_behind_its_back",
    ),
    Fault(
        "shards with weights of their own hold other samples",
        "_tracing/_sharding.py",
        "and not (is_product and WHOLE in states.values())",
        "",
        f"{SHARDS}::test_experts_of_their_own_weights_are_other_units",
    ),
    Fault(
        "copies of the same samples are counted once for each shard",
        "_tracing/_sharding.py",
        "copies = single | (axes - samples - placement.keys() - branching)",
        "copies: frozenset[str] = frozenset()",
        SPREAD,
    ),
    Fault(
        "a sum over all devices of a pmap is counted once for each",
        "_tracing/_sharding.py",
        '_MAKE_ALIKE = ("all_gather", "psum", "pmax", "pmin")',
        '_MAKE_ALIKE = ("all_gather",)',
        "tracing/test_shards.py::test_shard_map_without_types",
    ),
    Fault(
        "a site is named after the first parameter that enters",
        "_tracing/_origin.py",
        "return max((origin for",
        "return min((origin for",
        "tracing/test_listing.py::test_without_scopes_a_site_is_named_after_the_parameter_that_enters_last",
    ),
    Fault(
        "a part of a merged dimension is taken for all of it",
        "_tracing/_sharding.py",
        "return e if e < len(new) - 1 else DOUBTFUL",
        "return e",
        f"{SHARDS}::test_units_that_may_be_spread_in_an_unknown_way_are_opaque",
    ),
    Fault(
        "a guard against 0 is a relu",
        "_tracing/_activations.py",
        "bool(np.all(close)) and bool(np.all(v[formula == 0] == 0))",
        "bool(np.all(close))",
        LOOK_ALIKES,
    ),
    Fault(
        "an activation is one of its farthest ancestor",
        "_tracing/_recognise.py",
        "key=lambda z: self.made_by.get(z, -1), reverse=True",
        "key=lambda z: self.made_by.get(z, -1)",
        "tracing/test_sites.py::test_what_a_site_tells",
    ),
    Fault(
        "a guard before a logarithm is a relu",
        "_tracing/_recognise.py",
        '_ROOTS = frozenset({"sqrt", "rsqrt", "log"})',
        '_ROOTS = frozenset({"sqrt", "rsqrt"})',
        LOOK_ALIKES,
    ),
    Fault(
        "the variance guard of a norm is a relu where its average goes elsewhere",
        "_tracing/_recognise.py",
        "is_statistic = bool(origin & Origin.STATISTIC) and bool(use & Use.ROOT)",
        "is_statistic = False",
        f"{BENDS}::test_the_variance_of_a_batch_norm_is_no_relu_though_a_lifted_call_holds_its_average",
    ),
    Fault(
        "a clip of a gradient is a hard_tanh",
        "_tracing/_recognise.py",
        "return bool(origin & Origin.GRADIENT) or is_statistic or is_parameter",
        "return is_statistic or is_parameter",
        f"{BENDS}::test_a_clip_of_something_else_is_no_activation",
    ),
    Fault(
        "biases updated by a gradient make a gradient of the layer",
        "_tracing/_graph.py",
        "if any_product:",
        "if any_product and False:",
        f"{BENDS}::test_a_clip_of_a_forward_value_stays_one_beside_those_of_gradients",
    ),
    Fault(
        "an exponential that is divided by its own sum bends",
        "_tracing/_bends.py",
        'return node.name in {"exp", "exp2"} and bool(uses & Use.NORMALIZES)',
        "return False",
        f"{BENDS}::test_what_is_no_activation_is_not_listed",
    ),
    Fault(
        "what a derivative rule leaves behind is an activation",
        "_tracing/_recognise.py",
        "if kept and self._is_left_over(match, graph, frame):",
        "if False:",
        "tracing/test_derivatives.py::test_an_activation_whose_value_is_not_computed_is_hidden_and_never_another_kind",
    ),
    Fault(
        "a slope with its sign turned is taken as it stands",
        "_tracing/_replay.py",
        "if kind.negated and parameter is not None:",
        "if False:",
        "census/test_slopes.py::test_a_slope_that_is_written_with_its_sign_turned",
    ),
    Fault(
        "a registered kind is compared at the usual points alone",
        "_tracing/_recognise.py",
        "if added(kind.name) is not None and differs(",
        "if False and differs(",
        "tracing/test_register_kind.py::test_what_differs_between_the_usual_points_is_another_function",
    ),
    Fault(
        "the inside of JAX's own functions holds sites",
        "_tracing/_plan.py",
        "own = internals.is_plumbing(inner.jaxpr) and (scope.plumbing or name in CALLS)",
        "own = False",
        LOOK_ALIKES,
    ),
    Fault(
        "an activation is replaced without its backward pass",
        "_tracing/_plan.py",
        "fixed=scope.fixed or UNDER_DERIVATIVE * differentiated",
        "fixed=scope.fixed",
        "tracing/test_swap_derivatives.py::test_every_way_to_a_derivative_is_refused",
    ),
    Fault(
        "what a call changes in an NNX module is lost",
        "_tracing/_trace.py",
        "if self._modules:",
        "if not self._modules:",
        "tracing/test_nnx.py::test_nnx_modules_keep_their_state_updates",
    ),
    Fault(
        "a NumPy array among the arguments is a constant",
        "_tracing/_trace.py",
        "array = jnp.array(leaf)",
        "array = leaf",
        "tracing/test_numpy_arguments.py::test_every_activation_is_seen_and_swapped",
    ),
    Fault(
        "the bits of a number are an index",
        "_tracing/_graph.py",
        "or node.name == BITS",
        "",
        "tracing/test_bends.py::test_what_bends_and_is_not_known_is_listed",
    ),
    Fault(
        "a learned slope does not name its site",
        "_tracing/_plan.py",
        "and slope.time == 0 and slope.path",
        "and False",
        "tracing/test_nnx.py::test_a_module_with_a_learned_slope_gives_its_own_name",
    ),
]
