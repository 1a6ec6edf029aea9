"""Compiling for an H100 or a TPU v5e on a machine that has neither: `pip install -e ".[deviceless]"`."""

from __future__ import annotations

import importlib.util
import os

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from experiments.lab.run.errors import LabError

DEVICES = {"cpu": "the CPU at hand", "cuda": "NVIDIA H100 SXM (described)", "tpu": "TPU v5e (described)"}
_PACKAGES = {"cpu": (), "cuda": ("jax_cuda12_plugin", "nvidia.cuda_nvcc"), "tpu": ("libtpu",)}

# NVIDIA's figures of an H100 SXM, as XLA's GPU compiler asks for them.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000 device_memory_size: 84942979072 l2_cache_size: 52428800
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 patch: 0 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


def missing(platform: str) -> str:
    """Why this machine cannot compile for a platform, in one sentence; "" if it can."""
    absent = [name for name in _PACKAGES[platform] if not _installed(name)]
    if absent:
        return f'the compiler for {platform} needs {", ".join(absent)}: pip install -e ".[deviceless]".'
    return ""


def sharding(platform: str) -> NamedSharding | None:
    """Where the arguments of a function compiled for `platform` lie: on one device that need not be there.

    Call it in a process that JAX_PLATFORMS=cpu has kept from looking for accelerators.

    Raises:
        LabError: the compiler is not installed.
    """
    if missing(platform):
        raise LabError(missing(platform))
    if platform == "cpu":
        return None
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or libtpu asks the cloud's metadata server, in vain
    if platform == "cuda":
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name="H100", target_config=_H100, topology="1x1x1"
        )
    else:
        topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    return NamedSharding(jax.sharding.Mesh(topology.devices[:1], ("device",)), PartitionSpec())


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package around it
        return False
