"""Counting units: which are dead, always active, rare or dormant; streamed, merged, summed up in a row.

A layer's samples are folded into `UnitCounts` by `init`, `update` and `merge`; `summarize` turns the counts
into every measure. All of it is pure, works in jit, scan, vmap and shard_map, and keeps O(units) numbers.

A unit is born dead when it is never active at step 0; a network when its `constant_output` is 1 there.
"""

from jax_leaky.units._constant import constant_output as constant_output
from jax_leaky.units._counts import all_reduce as all_reduce
from jax_leaky.units._counts import init as init
from jax_leaky.units._counts import merge as merge
from jax_leaky.units._counts import update as update
from jax_leaky.units._fields import UnitCounts as UnitCounts
from jax_leaky.units._ranks import effective_rank as effective_rank
from jax_leaky.units._ranks import srank as srank
from jax_leaky.units._ranks import stable_rank as stable_rank
from jax_leaky.units._summary import Summary as Summary
from jax_leaky.units._summary import summarize as summarize
from jax_leaky.units._transitions import Transitions as Transitions
from jax_leaky.units._transitions import transitions as transitions
