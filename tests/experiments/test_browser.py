"""The HTML pages in a headless browser: nothing scrolls sideways, no text is cut, pictures load, light and dark."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from tests.experiments.recorded import EXPERIMENTS, rows_of, write_summary

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# The narrowest window of a browser is wider than a telephone, so the page stands in frames of these widths.
WIDTHS = 1100, 400
SCRIPT = """<script>
const found = frame => {
  const page = frame.contentDocument, all = [...page.body.querySelectorAll("*")]
  const scrolls = one => one.matches(".track") || getComputedStyle(one).overflowX == "auto"
  const free = one => one && (scrolls(one) || free(one.parentElement))
  const opening = all.filter(one => one.matches("p, img, .card, table")).slice(0, 2)
  return {
    width: frame.clientWidth,
    sideways: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    name: frame.getAttribute("src"),
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name),
    // The padding of code at the end of a line may stand out by some pixels.
    cut: all.filter(one => one.clientWidth && one.scrollWidth > one.clientWidth + 5 && !free(one))
      // In mkdocs-material a closed drawer stands to the left, the header repeats as much of the title as fits, and
      // blocks of code reach into the margins.
      .filter(one => one.getBoundingClientRect().right > 0 && !one.closest(".md-header"))
      .filter(one => !one.matches(".md-content__inner"))
      .map(one => one.outerHTML.slice(0, 80)),
    pictures: [...page.images].filter(one => !one.naturalWidth).length,
    paper: getComputedStyle(page.body).backgroundColor,
    opening: opening.map(one => `${one.tagName} ${one.className}`.trim()),
  }
}
onload = () => {
  const all = [...document.querySelectorAll("iframe")].map(found)
  document.body.textContent = "FOUND" + JSON.stringify(all) + "END"
}
</script>"""


def seen(folder, pages, tmp_path, *flags):
    """What a browser finds on each page of a folder at each width."""
    frames = "".join(
        f'<iframe src="{page}" style="width:{width}px;height:900px"></iframe>'
        for page in pages
        for width in WIDTHS
    )
    (folder / "frames.html").write_text(f"<!doctype html><body>{frames}{SCRIPT}")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        *flags,
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (folder / "frames.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(unescape(re.search("FOUND(.*)END", shown, re.DOTALL)[1]))


def check(frames):
    assert frames
    assert [frame["width"] for frame in frames] == [*WIDTHS] * (len(frames) // len(WIDTHS))
    for frame in frames:
        assert frame["sideways"] == 0, frame
        assert frame["cut"] == [], frame
        assert frame["pictures"] == 0, frame
        assert all(one.startswith(("file:", "data:")) for one in frame["fetched"]), frame


def test_the_claims_show_their_verdicts(tmp_path):
    shutil.copy(EXPERIMENTS / "claims" / "results" / "claims.html", tmp_path)
    frames = seen(tmp_path, ["claims.html"], tmp_path)
    check(frames)
    assert all(frame["opening"] == ["P lead", "DIV card for"] for frame in frames)
    dark = seen(tmp_path, ["claims.html"], tmp_path, "--blink-settings=preferredColorScheme=0")
    check(dark)
    assert dark[0]["paper"] != frames[0]["paper"]


def test_an_experiment_opens_with_its_answer_and_its_picture(tmp_path):
    write_summary("dead_neurons", rows_of("dead_neurons"), tmp_path)  # and the page
    frames = seen(tmp_path, ["report.html"], tmp_path)
    check(frames)
    assert all(frame["opening"] == ["P lead", "IMG"] for frame in frames)
