"""A page of the tutorials as a Jupyter notebook, in nbformat 4.5: the same text, code, printed output and pictures."""

import ast
import base64
import doctest
import json
import re
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^]]*)\]\(([^):]+\.png)\)")
LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!https?:)[^)]+\)")


def notebook_of(markdown: str, folder: Path) -> str:
    """The notebook as JSON.

    A notebook is read away from the site, so its pictures are inside it, and a link to another page is plain text.

    Args:
        markdown: text of the page.
        folder: folder of the page, from which it names its pictures.
    """
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(BLOCK.split(markdown)):  # text and code in turns
        if number % 2:
            cells += _code_cells(part)
        elif part.strip():
            cells.append(_text_cell(part.strip(), folder))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": cells}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _text_cell(text: str, folder: Path) -> dict[str, Any]:
    pictures = {name: (folder / name).read_bytes() for _, name in PICTURE.findall(text)}
    attached = {
        Path(name).name: {"image/png": base64.b64encode(picture).decode()}
        for name, picture in pictures.items()
    }
    text = PICTURE.sub(lambda picture: f"![{picture[1]}](attachment:{Path(picture[2]).name})", text)
    cell = {"cell_type": "markdown", "metadata": {}, "source": LINK.sub(r"\1", text)}
    return cell | ({"attachments": attached} if attached else {})


def _code_cells(block: str) -> list[dict[str, Any]]:
    """A cell ends where something is shown, since a notebook shows the value of a cell's last expression alone."""
    if ">>>" not in block:
        return [_code_cell(block, [])]
    cells, source = [], ""
    for example in doctest.DocTestParser().get_examples(block):
        source += example.source
        if example.want:
            cells.append(_code_cell(source, [_output(example)]))
            source = ""
    return cells + ([_code_cell(source, [])] if source else [])


def _code_cell(source: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    given = {"cell_type": "code", "metadata": {}, "execution_count": None}
    return given | {"source": source.removesuffix("\n"), "outputs": outputs}


def _output(example: doctest.Example) -> dict[str, Any]:
    """What is printed is a stream; what the prompt shows of an expression is its result."""
    last = ast.parse(example.source).body[-1]
    if not isinstance(last, ast.Expr) or ast.unparse(last).startswith("print("):
        return {"output_type": "stream", "name": "stdout", "text": example.want}
    data = {"text/plain": example.want.removesuffix("\n")}
    return {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data}
