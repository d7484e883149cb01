"""The notebook in examples/ runs as it is, and the outputs in it are those of a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "compare.ipynb"
MOST_BYTES = 30_000


def _outputs(path: Path) -> list[str]:
    """What the code cells say, in HTML where they show HTML."""
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    said = []
    for cell in cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            said.append("".join(output.get("text") or data.get("text/html") or data["text/plain"]))
    return said


def test_the_notebook_runs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = shutil.copy(NOTEBOOK, tmp_path)
    settings = tmp_path_factory.mktemp("jupyter")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(settings / "ipython")}
    environment |= {"JUPYTER_CONFIG_DIR": str(settings), "JUPYTER_DATA_DIR": str(settings)}
    environment |= {"JUPYTER_RUNTIME_DIR": str(settings), "JUPYTER_NO_CONFIG": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "execute.py"), str(copy)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    table, differences, model, shape = _outputs(Path(copy))
    for arm in ("bn", "gn", "none"):
        assert f">{arm}<" in table
    assert [line.split()[0] for line in differences.splitlines()] == ["gn", "none"]
    assert model.endswith("test images\n")
    assert shape == "torch.Size([2, 64, 6, 6])"
    assert (tmp_path / "studies/notebook/report.html").is_file()


def test_the_outputs_in_the_repository_are_small_and_tell_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    assert len(_outputs(NOTEBOOK)) == 4, "run `make notebook`"
    for path in (str(Path.home()), "/tmp/", "site-packages"):
        assert path not in text
