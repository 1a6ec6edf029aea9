"""A graph attention layer, as the first of the network for Cora: 2708 nodes of 1433 features, 8 heads of 8 units.

References:
    Veličković et al.: Graph attention networks. ICLR 2018 (arXiv 1710.10903), section 2.1 and section 3.3. Without its
    dropout, which has nothing to do with the activation.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from experiments.models.activation import Activation
from jax_leaky import leaky_relu

NEGATIVE_SLOPE = 0.2


class GraphAttention(nn.Module):
    """Each node becomes the mean of its neighbours' projections, weighted by an attention per head.

    Attributes:
        activation: function of the attention's logits, one per edge and head.
        heads: number of attention heads.
        features: number of units in each head's output.
    """

    activation: Activation = leaky_relu
    heads: int = 8
    features: int = 8

    @nn.compact
    def __call__(self, x: Array, senders: Array, receivers: Array) -> Array:
        """x: (nodes, features of a node), senders and receivers: (edges,) -> (nodes, heads * features)."""
        nodes = x.shape[0]
        x = nn.Dense(self.heads * self.features, use_bias=False)(x).reshape(nodes, self.heads, self.features)

        def score(name: str) -> Array:
            vector = self.param(name, nn.initializers.glorot_uniform(), (self.heads, self.features), x.dtype)
            return (x * vector).sum(-1)

        logits = score("sender")[senders] + score("receiver")[receivers]
        logits = self.activation(logits, negative_slope=NEGATIVE_SLOPE)
        greatest = jax.lax.stop_gradient(jax.ops.segment_max(logits, receivers, nodes))
        weights = jnp.exp(logits - greatest[receivers])
        weights /= jax.ops.segment_sum(weights, receivers, nodes)[receivers]
        y = jax.ops.segment_sum(weights[..., None] * x[senders], receivers, nodes).reshape(nodes, -1)
        return nn.elu(y + self.param("bias", nn.initializers.zeros, (y.shape[-1],), x.dtype))


def random_graph(key: Array, nodes: int = 2708, edges: int = 5429, features: int = 1433) -> tuple[Array, ...]:
    """Arguments of the layer, of Cora's shape by default.

    Args:
        key: random key of the graph.
        nodes: number of nodes.
        edges: number of undirected edges; each is taken both ways, and each node has an edge to itself.
        features: number of features of a node.

    Returns:
        The nodes' features (nodes, features), and the senders and the receivers of the 2 edges + nodes edges.
    """
    key, ends = jax.random.split(key)
    first, second = jax.random.randint(ends, (2, edges), 0, nodes)
    itself = jnp.arange(nodes)
    senders, receivers = (
        jnp.concatenate(parts) for parts in ((first, second, itself), (second, first, itself))
    )
    return jax.random.normal(key, (nodes, features)), senders, receivers
