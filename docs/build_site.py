"""What mkdocs is told besides mkdocs.yml: pages that stand outside docs/, and docstrings as Markdown.

`make docs` builds the site. A page links to files of the repository as it does on GitHub; the site shows README.md of
the experiments, the summaries with their pictures, the benchmarks and the changelog where the repository has them.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook import BLOCK, notebook_of  # mkdocs has this folder on the path while it loads a hook

ROOT = Path(__file__).parents[1]
ELSEWHERE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "experiments/README.md",
    "experiments/*/results/*.md",
    "experiments/*/results/*.png",
    "experiments/*/results/*.html",
)
LINK = re.compile(r"(\]\()(?!https?:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the recorded runs to the results, each under its question."""
    results = _part_of(config, "Results")
    for pattern in ("experiments/*/results/summary.md", "experiments/benchmark/results/*.md"):
        results += sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the notebooks, and the files that stand outside docs/ under their paths in the repository."""
    for name in _notebooks(config):
        page = ROOT / "docs" / name
        content = notebook_of(page.read_text(encoding="utf-8"), page.parent)
        files.append(File.generated(config, name.replace(".md", ".ipynb"), content=content))
    for pattern in ELSEWHERE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def _part_of(config: MkDocsConfig, title: str) -> list[Any]:
    assert config.nav is not None
    return next(part[title] for part in config.nav if title in part)


def _notebooks(config: MkDocsConfig) -> list[str]:
    """The tutorials that have code to run."""
    pages = [page for entry in _part_of(config, "Tutorials") for page in entry.values()]
    return [page for page in pages if BLOCK.search((ROOT / "docs" / page).read_text(encoding="utf-8"))]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Links that hold in the repository, as links that hold on the site, whose root is docs/; sessions as sessions."""
    name = page.file.src_uri
    here = posixpath.dirname(name if page.file.generated_by else f"docs/{name}")

    def on_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[2])).removeprefix("docs/")
        return link[1] + posixpath.relpath(target, posixpath.dirname(name) or ".")

    markdown = LINK.sub(on_the_site, markdown).replace("```python\n>>>", "```pycon\n>>>")
    if name in _notebooks(config):
        notebook = posixpath.basename(name).replace(".md", ".ipynb")
        markdown = markdown.replace("\n", f"\n\n[Download as a notebook]({notebook}){{ download }}\n", 1)
    return markdown


class Docstrings(griffe.Extension):
    """Formulas as MathML, which browsers draw without a script, and references as links."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of one module, class, function or attribute."""
        if obj.docstring is None:
            return
        text = re.sub(
            r"^( *)\.\. math::(.*\n(?:\1 +.*\n|\n)*)",
            _displayed,
            obj.docstring.value + "\n",
            flags=re.MULTILINE,
        )
        text = re.sub(r":math:`([^`]+)`", lambda formula: convert(formula[1]), text)
        text = re.sub(r":func:`(?:jax_leaky\.)?(\w+)`", r"[`\1`][jax_leaky.\1]", text)
        obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE).rstrip()


def _displayed(formula: re.Match[str]) -> str:
    latex = " ".join(formula[2].split())
    return f"{formula[1]}{convert(latex, display='block')}\n\n"
