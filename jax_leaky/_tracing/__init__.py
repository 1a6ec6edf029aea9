"""Seeing the activations of any JAX function: list them, observe what they see, swap them.

A function is traced to a jaxpr, its activation sites are recognised there, and the jaxpr is replayed with a
visitor at each site. Nothing of the user's model is edited, subclassed or patched; replay can be traced, so all
of it composes with jit, grad, vmap and scan.
"""

from jax_leaky._tracing._activations import KINDS as KINDS
from jax_leaky._tracing._observe import list_sites as list_sites
from jax_leaky._tracing._observe import observe as observe
from jax_leaky._tracing._observe import swap as swap
from jax_leaky._tracing._register import register_kind as register_kind
from jax_leaky._tracing._replay import Reached as Reached
from jax_leaky._tracing._site import Loop as Loop
from jax_leaky._tracing._site import Opaque as Opaque
from jax_leaky._tracing._site import Site as Site
from jax_leaky._tracing._site import SiteList as SiteList
from jax_leaky._tracing._trace import Traced as Traced
from jax_leaky._tracing._trace import traced_leaves as traced_leaves
from jax_leaky._tracing._visitor import Visit as Visit
from jax_leaky._tracing._visitor import Visitor as Visitor
