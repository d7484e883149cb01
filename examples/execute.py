"""Runs notebooks in place, each in its own folder: ``python examples/execute.py NOTEBOOK...``.

``make notebook`` calls this after the code has changed; a test runs it on a copy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> None:
    """Run a notebook and keep its outputs, without the times that would change every time."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook, timeout=300, startup_timeout=180, resources=resources, record_timing=False
    ).execute()
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):  # says it all, and better
                output.data.pop("text/plain", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name).resolve())
