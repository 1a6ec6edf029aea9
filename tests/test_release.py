"""What a release needs: the version stands in one place, and what repeats it agrees."""

import re
from pathlib import Path

import jax_leaky

ROOT = Path(__file__).parents[1]


def test_the_version_is_the_same_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == jax_leaky.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)", citation, re.MULTILINE)[1] == jax_leaky.__version__
