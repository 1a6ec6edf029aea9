"""docs/conformance.md is what the comparisons give now, and not what somebody has written."""

from itertools import zip_longest

import pytest

from tests.conformance.write_table import MODULES, PAGE, command, page

pytestmark = pytest.mark.peer
VERSIONS = "What `leaky_relu` gives"  # the line that names the libraries' versions
TIMES = 10  # by which another processor's order of summation may change a largest difference


def same(written, found):
    """Whether two lines say the same; of two largest differences the size is compared."""
    if written == found or all((line or "").startswith(VERSIONS) for line in (written, found)):
        return True
    sides = [(line or "").split("|") for line in (written, found)]
    try:
        one, other = (float(cells.pop(-2)) for cells in sides)
    except (IndexError, ValueError):
        return False
    return sides[0] == sides[1] and 1 / TIMES <= one / other <= TIMES


def test_the_page_is_what_the_comparisons_give():
    for module in MODULES:
        if module != "jax_nn":
            pytest.importorskip(
                module, reason=f"{module}, of which docs/conformance.md tells, is not installed"
            )
    lines = zip_longest(PAGE.read_text().splitlines(), page().splitlines())
    differing = [
        f"  written: {written}\n  found:   {found}" for written, found in lines if not same(written, found)
    ]
    assert not differing, (
        f"docs/conformance.md is not up to date; write it anew with `{command()}`:\n" + "\n".join(differing)
    )


ROW = "| PyTorch | samples | value | 4 | 100 | 4.0e-05 |"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (ROW, True),
        (ROW.replace("4.0e-05", "6.1e-05"), True),
        (ROW.replace("4.0e-05", "6.1e-03"), False),
        (ROW.replace("4.0e-05", "none"), False),
        (ROW.replace("100", "101"), False),
        (None, False),
        ("", False),
        (f"{VERSIONS} beside", False),
    ],
)
def test_which_lines_are_the_same(found, verdict):
    assert same(ROW, found) == verdict
    assert same(f"{VERSIONS} with jax 1", f"{VERSIONS} with jax 2")
