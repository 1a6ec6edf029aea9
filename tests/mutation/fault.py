"""What a fault is: one text of the package put in place of another, and the test that must fail."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One text put in place of another.

    Attributes:
        what: is broken.
        file: in jax_leaky/.
        old: the text, of which there is one in the file.
        new: what stands in its place.
        test: that must fail, below tests/.
    """

    what: str
    file: str
    old: str
    new: str
    test: str
