"""The leaky ReLU: what users call, its derivative rules, what they keep, and the initialisers that go with it.

A call goes one way: `_leaky_relu` checks the arguments and chooses the rule, `_rules` holds each rule as a value, what
is kept and a linear map of tangents, and `_residual` the three forms of what is kept. Nothing but JAX is imported here.
"""
