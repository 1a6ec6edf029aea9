"""Every Python block of README.md and of the pages in docs/ runs and prints what the page says it prints."""

import base64
import doctest
import json
import re
from pathlib import Path

import pytest

from docs.notebook import notebook_of

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/**/*.md")))]

# What a page needs that only the environment of `make peers` has.
PEERS = {"docs/how_to/log.md": ("tensorboardX", "wandb"), "docs/ppo_script.md": ("gymnax",)}


def blocks_of(page):
    """The Python blocks of a page, each with the number of the line that it starts after."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(1)), found[1]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.peer if page in PEERS else ())
        for page in PAGES
        if any(blocks_of(page))
    ],
)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    """They share their names, as a reader would type them one after the other."""
    for package in PEERS.get(page, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # some write files
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")  # and one reads the recorded rows
    names: dict[str, object] = {"__name__": "page"}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for line, block in blocks_of(page):
        if ">>>" not in block:
            exec(compile("\n" * line + block, page, "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, page, page, line)
        runner.run(test, out=report.append, clear_globs=False)
        names.update(test.globs)  # it ran in a copy
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md" and any(blocks_of(page))])
def test_a_notebook_holds_the_code_the_output_and_the_pictures_of_its_page(page):
    """By nbformat 4.5; what runs above is therefore what the notebook runs, and what it prints is what it keeps."""
    markdown = (ROOT / page).read_text(encoding="utf-8")
    notebook = json.loads(notebook_of(markdown, (ROOT / page).parent))
    assert set(notebook) == {"nbformat", "nbformat_minor", "metadata", "cells"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len({*names}) == len(names)
    assert all(re.fullmatch("[a-zA-Z0-9-_]{1,64}", name) for name in names)

    code, shown, pictures = [], [], 0
    for cell in notebook["cells"]:
        keys = {*cell} - {"id", "metadata", "source"}
        if cell["cell_type"] == "markdown":
            assert keys - {"attachments"} == {"cell_type"}
            attached = cell.get("attachments", {})
            assert {*attached} == {*re.findall(r"\(attachment:([^)]+)\)", cell["source"])}
            assert all(base64.b64decode(one["image/png"]).startswith(b"\x89PNG") for one in attached.values())
            assert not re.search(r"\]\((?!https?:|attachment:)", cell["source"])  # a link that leads nowhere
            pictures += len(attached)
            continue
        assert keys == {"cell_type", "outputs", "execution_count"}
        code += cell["source"].splitlines()
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                assert output == {"output_type": "stream", "name": "stdout", "text": output["text"]}
                shown += output["text"].splitlines()
            else:
                assert {*output} == {"output_type", "execution_count", "data", "metadata"}
                assert output["output_type"] == "execute_result"
                shown += output["data"]["text/plain"].splitlines()

    lines = [line for _, block in blocks_of(page) for line in block.splitlines()]
    typed = [line for line in lines if re.match(r"(>>>|\.\.\.)( |$)", line)]
    assert code == ([line[4:] for line in typed] or lines)
    assert shown == [line for line in lines if line not in typed and typed]
    assert pictures == markdown.count("![")


def test_readme_is_a_screen_and_a_half():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "README.md" in PAGES
    assert len(lines) <= 120
