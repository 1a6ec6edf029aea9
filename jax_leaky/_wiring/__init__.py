"""Which entries of a network's parameters feed each unit and which read it, and what to do about dead units."""

from jax_leaky._wiring._waste import SiteWaste as SiteWaste
from jax_leaky._wiring._waste import Waste as Waste
from jax_leaky._wiring._wiring import Wiring as Wiring
from jax_leaky._wiring._wiring import wiring as wiring
