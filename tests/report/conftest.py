"""Studies to report on, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from normlab.report import ReportFiles, write_report
from normlab.results import Results, read_results

from .folders import make_study, write_pictures

ODD = {
    '<script>alert("1")<!--': {"norm": '<script>alert("1")<!--'},
    "a|b & `c` 100% #1 ~^{x}": {"norm": "a|b"},
    "_my_.module:Layer:groups=4": {"norm": "_my_.module:Layer:groups=4"},
    "[red]bn[blink]": {"norm": "bn"},
}
"""Names that mean something to a page, a table, LaTeX and a terminal."""


@pytest.fixture(scope="session")
def main_study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Seven arms, three seeds, eight epochs."""
    folder = make_study(tmp_path_factory.mktemp("report") / "main", predictions=True)
    write_pictures(folder)
    return read_results(folder)


@pytest.fixture(scope="session")
def main_report(main_study: Results) -> ReportFiles:
    return write_report(main_study)


@pytest.fixture(scope="session")
def hurt_study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Runs that diverged, were interrupted, or are not there yet."""
    folder = make_study(
        tmp_path_factory.mktemp("report") / "hurt",
        arms=("bn", "gn", "ln", "none"),
        ends={
            ("gn", 1): "diverged at step 97",
            ("gn", 2): "diverged at step 101",
            ("ln", 2): "interrupted",
            **{("none", seed): f"diverged at step {90 + seed}" for seed in range(3)},
        },
        missing=[("bn", 2)],
        predictions=True,
        memory=False,
    )
    return read_results(folder)


@pytest.fixture(scope="session")
def hurt_report(hurt_study: Results) -> ReportFiles:
    return write_report(hurt_study)


@pytest.fixture(scope="session")
def odd_study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Names of arms and classes that mean something elsewhere."""
    folder = make_study(
        tmp_path_factory.mktemp("report") / "odd",
        arms=ODD,
        seeds=2,
        epochs=3,
        predictions=True,
        classes=["</script><b>cat</b>", 'dog "&" \\co', "ünï – 鳥"],
        title='Cats & dogs </title><i>"quoted"</i>',
        data={"notes": ["<img src=x onerror=alert(1)>"], "skipped": {"a<b>.png": "cut <short>"}},
    )
    return read_results(folder)


@pytest.fixture(scope="session")
def odd_report(odd_study: Results) -> ReportFiles:
    return write_report(odd_study)


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    return tmp_path / "study"
