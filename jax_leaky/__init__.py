"""LeakyReLU for JAX with a lean backward pass, and the instrument that tells whether a network needs it."""

from jax_leaky._census import Census as Census
from jax_leaky._census import CensusEvery as CensusEvery
from jax_leaky._census import CensusState as CensusState
from jax_leaky._census import Changes as Changes
from jax_leaky._census import ModuleCensus as ModuleCensus
from jax_leaky._census import Modules as Modules
from jax_leaky._census import SiteCensus as SiteCensus
from jax_leaky._census import SiteChange as SiteChange
from jax_leaky._census import census as census
from jax_leaky._census import census_every as census_every
from jax_leaky._census import value_and_census as value_and_census
from jax_leaky._compare_residuals import ResidualComparison as ResidualComparison
from jax_leaky._compare_residuals import compare_residuals as compare_residuals
from jax_leaky._op._initializers import leaky_he_normal as leaky_he_normal
from jax_leaky._op._initializers import leaky_he_uniform as leaky_he_uniform
from jax_leaky._op._leaky_relu import leaky_relu as leaky_relu
from jax_leaky._op._residual import Residual as Residual
from jax_leaky._tracing import Opaque as Opaque
from jax_leaky._tracing import Site as Site
from jax_leaky._tracing import SiteList as SiteList
from jax_leaky._tracing import list_sites as list_sites
from jax_leaky._tracing import observe as observe
from jax_leaky._tracing import register_kind as register_kind
from jax_leaky._tracing import swap as swap
from jax_leaky._wiring import SiteWaste as SiteWaste
from jax_leaky._wiring import Waste as Waste
from jax_leaky._wiring import Wiring as Wiring
from jax_leaky._wiring import wiring as wiring

__version__ = "0.1.0"
