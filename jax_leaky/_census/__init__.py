"""The census: which units of a function's activations are dead, rare, always active; over batches, or in training.

It ties `jax_leaky._tracing`, which finds the activations, to `jax_leaky.units`, which counts.
"""

from jax_leaky._census._census import census as census
from jax_leaky._census._census import value_and_census as value_and_census
from jax_leaky._census._compare import Changes as Changes
from jax_leaky._census._compare import SiteChange as SiteChange
from jax_leaky._census._every import CensusEvery as CensusEvery
from jax_leaky._census._every import CensusState as CensusState
from jax_leaky._census._every import census_every as census_every
from jax_leaky._census._modules import ModuleCensus as ModuleCensus
from jax_leaky._census._modules import Modules as Modules
from jax_leaky._census._result import Census as Census
from jax_leaky._census._site import SiteCensus as SiteCensus
