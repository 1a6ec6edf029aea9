"""The documentation site in a headless browser, where Chromium and the docs extra are installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.test_browser import CHROMIUM, check, seen

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, and its pages."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
        timeout=120,
    )
    pages = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("index.html"))]
    assert len(pages) > 40
    return folder, pages


# The colours are the same on all pages, so that some tell of the dark ones.
@pytest.mark.parametrize(("dark", "first", "apart"), [(False, 0, 2), (False, 1, 2), (True, 0, 10)])
def test_nothing_is_cut_or_fetched_and_pictures_load(site, tmp_path, dark, first, apart):
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    folder, pages = site[0], site[1][first::apart]
    # Whatever asks for a host finds none.
    frames = seen(folder, pages, tmp_path, "--host-resolver-rules=MAP * ~NOTFOUND", *flags)
    check(frames)
    assert len(frames) == 2 * len(pages)
    papers = {frame["paper"] for frame in frames}
    assert len(papers) == 1
    lightness = sum(map(int, re.findall(r"\d+", papers.pop())[:3]))
    assert lightness < 200 if dark else lightness > 700


def test_no_page_names_another_host_for_what_it_shows(site):
    folder, pages = site
    for page in pages:
        text = (folder / page).read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|img|iframe|link)\b[^>]*>", text):
            assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag) or 'rel="canonical"' in tag, (
                page,
                tag,
            )
    for style in folder.rglob("*.css"):
        assert not re.search(
            r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style
