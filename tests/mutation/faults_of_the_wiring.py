"""Faults of the wiring and the remedies: a row for a column, a sum told apart, a loop walked once, ..."""

from tests.mutation.fault import Fault

NETWORK = "wiring/test_truth.py::test_of_each_network"
USE = "wiring/test_use.py"
REFUSES = f"{USE}::test_removal_refuses_what_would_not_fit"
RESTART = "wiring/test_restart.py::test_entries_are_as_init_gives_them_and_all_others_untouched[adam]"
PAPER = "wiring/test_remedies.py::test_each_step_is_that_of_the_paper_and_published_faults_are_told_apart"
ALONE = "wiring/test_remedies.py::test_outputs_are_left_alone_and_new_parameters_are_new_each_time"
LOOPS = "wiring/test_waste.py::test_a_residual_stream_a_scan_over_layers_and_one_over_time"

WIRING = [
    Fault(
        "channels of a flattened image come one after the other",
        "_wiring/_values.py",
        "return operand.reshape(eqn.outvars[0].aval.shape)",
        'return operand.reshape(eqn.outvars[0].aval.shape, order="F")',
        f"{USE}::test_the_atari_head_has_every_right_row_and_no_other",
    ),
    Fault(
        "the members of an ensemble of convolutions come behind their channels",
        "_wiring/_values.py",
        '        operand = operand.transpose(eqn.params["dimensions"])\n',
        "        pass\n",
        f"{NETWORK}[an_ensemble_of_convolutions]",
    ),
    Fault(
        "parts are joined in the wrong order",
        "_wiring/_values.py",
        "np.concatenate(operands, axis=",
        "np.concatenate(operands[::-1], axis=",
        f"{NETWORK}[concatenated_branches_and_a_value_with_itself]",
    ),
    Fault(
        "an array is not turned round",
        "_wiring/_values.py",
        'return np.flip(operand, eqn.params["dimensions"])',
        "return operand",
        f"{NETWORK}[split_slice_pad_reverse_and_transpose]",
    ),
    Fault(
        "a group of a convolution reads the channels of another",
        "_wiring/_products.py",
        "sets.union_over(part.direct, places).reshape(groups, 1, inside)",
        "sets.union_over(part.direct, places).reshape(groups, 1, inside)[::-1]",
        f"{NETWORK}[depthwise_and_grouped_convolutions]",
    ),
    Fault(
        "an entry that several units share is no obstacle",
        "_wiring/_verdict.py",
        "            if len(shared) and not reason:",
        "            if False:",
        f"{NETWORK}[group_norms_and_layer_norm]",
    ),
    Fault(
        "a unit in a residual sum is told apart",
        "_wiring/_records.py",
        "elif not is_alone:",
        "elif False:",
        f"{NETWORK}[a_stream_that_activations_write_into]",
    ),
    Fault(
        "a mean over units mixes nothing",
        "_wiring/_mixing.py",
        "            self.records.mix(differing, name)\n",
        "",
        f"{NETWORK}[layer_norm_behind_an_activation]",
    ),
    Fault(
        "a reader that is used elsewhere too is no obstacle",
        "_wiring/_records.py",
        "            self._check(self.sets.members(number), weight)",
        "            pass",
        f"{NETWORK}[tied_weights]",
    ),
    Fault(
        "a loop is walked through once",
        "_wiring/_flow.py",
        "if all(map(_same, carry, after)):",
        "if True:",
        f"{NETWORK}[a_recurrent_cell]",
    ),
    Fault(
        "of branches only the first is walked through",
        "_wiring/_flow.py",
        "in enumerate(zip(branches, plans, strict=True)):",
        "in enumerate(zip(branches[:1], plans[:1], strict=True)):",
        f"{NETWORK}[a_branch_that_data_choose]",
    ),
    Fault(
        "an entry between two recycled units is fresh",
        "_wiring/_wiring.py",
        "jnp.where(reads, jnp.zeros((), old.dtype), leaf)",
        "jnp.where(reads if feeds is None else reads & ~feeds, jnp.zeros((), old.dtype), leaf)",
        f"{USE}::test_recycled_entries_are_fresh_or_0_and_all_others_untouched",
    ),
    Fault(
        "the state of outgoing entries goes on",
        "_wiring/_wiring.py",
        "for shape, feeds, reads in zip(self._shapes, *self._both(masks), strict=True)",
        "for shape, feeds, reads in zip(self._shapes, *[self._both(masks)[0]] * 2, strict=True)",
        RESTART,
    ),
    Fault(
        "the whole state begins anew",
        "_wiring/_state.py",
        "return jnp.where(mask, new if",
        "return new if True else jnp.where(mask, new if",
        RESTART,
    ),
    Fault(
        "the greatest z is that of the least input",
        "_wiring/_bounds.py",
        "bound(data.high, data.low, 1)",
        "bound(data.low, data.high, 1)",
        "wiring/test_bounds.py::test_each_unit_of_a_perceptron_is_that_of_numpy",
    ),
    Fault(
        "sums of products are taken to be exact",
        "_wiring/_bounds.py",
        "total + sign * width",
        "total",
        "wiring/test_bounds.py::test_terms_that_cancel",
    ),
    Fault(
        "a test whose outcome is open is taken for one that fails",
        "_wiring/_bounds.py",
        "jnp.where(jnp.equal(which.low, which.high), chosen, either[side])",
        "chosen",
        "wiring/test_bounds.py::test_each_operation",
    ),
    Fault(
        "each layer of a scan has the weights of the first",
        "_wiring/_bounds.py",
        "operator.itemgetter(step), operand",
        "operator.itemgetter(0), operand",
        "wiring/test_bounds.py::test_loops",
    ),
    Fault(
        "a unit is cut out of a grouped convolution",
        "_wiring/_remove.py",
        "if verdict.grouped[leaf] and",
        "if False and",
        REFUSES,
    ),
    Fault(
        "one of two units that are multiplied is removed",
        "_wiring/_remove.py",
        "if gone and len(gone) < len(units):",
        "if False:",
        REFUSES,
    ),
    Fault(
        "products in a loop count for one step",
        "_wiring/_flow.py",
        "self.records.times = times * loop.length",
        "self.records.times = times",
        LOOPS,
    ),
    Fault(
        "products in a loop count for each round of the walk",
        "_wiring/_flow.py",
        "            self.records.forget_products(noted)\n",
        "",
        LOOPS,
    ),
    Fault(
        "a convolution multiplies at one place",
        "_wiring/_products.py",
        "image.shape[1] * math.prod(len(at) for at, _ in taps)",
        "image.shape[1]",
        "wiring/test_waste.py::test_a_convolution_with_batch_norm_from_its_census",
    ),
    Fault(
        "the offset of a norm takes over what a unit gave",
        "_wiring/_operations.py",
        "if name in _SUMS and all(operand.is_plain for operand in operands):",
        "if name in _SUMS:",
        "wiring/test_remedies.py::test_only_a_bias_behind_the_kernel_itself_takes_over_what_a_unit_gave",
    ),
]

REMEDIES = [
    Fault(
        "a unit at the threshold is not dormant",
        "remedies/_redo.py",
        "(score <= threshold)",
        "(score < threshold)",
        ALONE,
    ),
    Fault("units are reset in every step", "remedies/_redo.py", " & (step % every == 0)", "", ALONE),
    Fault(
        "the same new parameters are drawn each time",
        "remedies/_resets.py",
        "jax.random.fold_in(state.key, step)",
        "state.key",
        ALONE,
    ),
    Fault(
        "the optimiser goes on with the moments of the old unit",
        "remedies/_resets.py",
        "wires.restart(optimizer, inner_state, recycled, masks)",
        "inner_state",
        f"{PAPER}[continual_backprop]",
    ),
    Fault(
        "young units rank below old ones",
        "remedies/_continual_backprop.py",
        "utility / correction, jnp.inf",
        "utility, jnp.inf",
        f"{PAPER}[continual_backprop]",
    ),
]
