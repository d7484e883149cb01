"""CONTRIBUTING.md is right: whatever its table names is enough to add a thing, and nothing more.

Each row is tried on a copy of the package. The copy refuses to write a file that the row does not
name, and every file that the row names has to be written.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import test_house
from normlab.runs import RunConfig, identity

ROOT = Path(__file__).parents[1]


def _table() -> dict[str, tuple[str, ...]]:
    """What to add, and the files to touch for it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = text.partition("| to add | touch |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: tuple(re.findall(r"`([^`]+)`", row[1])) for row in cells}


TABLE = _table()


class House:
    """A copy of the package in which only the files of one row can be written."""

    def __init__(self, root: Path, row: tuple[str, ...]) -> None:
        self.root = root
        self.patterns = [path.replace("NAME", "dummy") for path in row]
        self.touched: set[str] = set()
        for name in ("src", "tests"):
            shutil.copytree(
                ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )
        shutil.copy(ROOT / "pyproject.toml", root)

    def write(self, path: str, text: str) -> None:
        found = [p for p in self.patterns if fnmatchcase(path, f"{p}*" if p.endswith("/") else p)]
        assert found, f"CONTRIBUTING.md does not name {path}"
        self.touched |= set(found)
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        text = self.read(path)
        assert old in text, f"{path} does not contain {old!r}: change this test with it"
        self.write(path, text.replace(old, new, 1))

    def add_import(self, path: str, line: str) -> None:
        self.replace(path, "from __future__ import annotations\n",
                     f"from __future__ import annotations\n{line}\n")  # fmt: skip

    def add_item(self, path: str, name: str, item: str) -> None:
        """A line in a tuple or dictionary of a module."""
        text = self.read(path)
        for node in ast.parse(text).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] \
                if isinstance(node, ast.AnnAssign) else []  # fmt: skip
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                end = _offset(text, node.value)  # type: ignore[attr-defined]
                before = text[: end - 1].rstrip().removesuffix(",")
                self.write(path, f"{before}, {item},{text[end - 1 :]}")
                return
        raise AssertionError(f"{path} has no {name}: change this test with it")

    def add_to_class(self, path: str, name: str, code: str, *, after_fields: bool = False) -> None:
        text = self.read(path)
        (made,) = (
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef) and node.name == name
        )
        fields = [node for node in made.body if isinstance(node, ast.AnnAssign)]
        end = _offset(text, fields[-1] if after_fields else made)
        self.write(path, f"{text[:end]}\n{code}\n{text[end:]}")

    def python(self, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), "COLUMNS": "160"}
        environment |= {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def normlab(self, *commands: str) -> str:
        """Command lines, one after the other in one process, which imports torch once."""
        listed = [command.split() for command in commands]
        code = (
            "from normlab.cli import main\n"
            f"for command in {listed!r}:\n"
            "    assert main(command) == 0, command"
        )
        return self.python("-c", code)


def _offset(text: str, node: ast.AST) -> int:
    """Where a node ends."""
    lines = text.splitlines(keepends=True)
    line = lines[node.end_lineno - 1].encode()  # type: ignore[attr-defined]
    column = len(line[: node.end_col_offset].decode())  # type: ignore[attr-defined]
    return sum(map(len, lines[: node.end_lineno - 1])) + column  # type: ignore[attr-defined]


def _photos(folder: Path) -> Path:
    """Two classes of files that are easy to read."""
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def _layer(house: House) -> None:
    methods = "src/normlab/norms/methods"
    spec = house.read(f"{methods}/instance.py").partition('name="in",')[2]
    spec = spec.replace("InstanceNorm2d", "DummyNorm2d", 1)
    house.write(
        f"{methods}/dummy.py",
        "from torch import nn\n"
        "from ..spec import NormSpec\n"
        "from .instance import InstanceNorm2d\n\n\n"
        'class DummyNorm2d(InstanceNorm2d):\n    """A dummy."""\n\n\n'
        f'SPEC = NormSpec(name="dummy",{spec}',
    )
    listed = f"{methods}/__init__.py"
    house.replace(listed, "from . import (\n", "from . import (\n    dummy,\n")
    house.add_item(listed, "SPECS", "dummy.SPEC")
    mistakes = (
        "@mutation('forward_matches_reference', families=['dummy'], written=False)\n"
        "class Dummy{0}(nn.Module):\n"
        "    def forward(self, x):\n        return super().forward(x) + {0}\n\n\n"
    )
    house.write(
        "tests/norms/methods/dummy.py",
        "from torch import nn\n\nfrom ..mutants import mutation\n\n\n"
        + "".join(mistakes.format(k) for k in range(1, 5)),
    )
    said = house.python(
        "-c",
        "from normlab.cli import main\n"
        "from normlab.models import ResNet\n"
        "from normlab.norms import make_norm\n"
        "from normlab.studies import Request, make_plan\n"
        "main(['norms', '--pictures', 'pictures'])\n"
        "main(['norms'])\n"
        "assert 'dummy' in make_plan(Request.of('norms', arms='all')).arms\n"
        "print(make_norm('dummy', 4))\n"
        "ResNet(1, 2, norm='dummy')",
    )
    assert re.search(r"^dummy +", said, re.MULTILINE)
    assert "DummyNorm2d(4" in said
    assert "one image, one channel, all positions" in house.read("pictures/dummy.svg")
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/norms/test_conformance.py"]
    tests.append("tests/norms/test_mutations.py")
    conformed = house.python(*tests, "-k", "dummy")
    assert int(re.findall(r"(\d+) passed", conformed)[0]) > 10


def _section(house: House) -> None:
    folder = "src/normlab/report/sections/dummy"
    house.write(
        f"{folder}/__init__.py",
        "from ...section import FolderSection\n\n\n"
        "class DummySection(FolderSection):\n"
        "    def title(self, report):\n        return 'A dummy section'\n\n"
        "    def context(self, report):\n        return {'arms': len(report.results.arms)}\n\n"
        "    def markdown(self, report):\n        return ['Words of the dummy.']\n",
    )
    house.write(f"{folder}/template.html.j2", "<p>{{ arms }} arms in a dummy</p>")
    house.write(f"{folder}/style.css", ".dummy { color: inherit; }")
    house.write(f"{folder}/script.js", "/* script of the dummy */")
    sections = "src/normlab/report/sections/__init__.py"
    house.add_import(sections, "from .dummy import DummySection")
    house.add_item(sections, "SECTIONS", "DummySection()")
    house.python(
        "-c",
        "from pathlib import Path\n"
        "from tests.report.folders import make_study\n"
        "from normlab.report import write_report\n"
        "from normlab.results import read_results\n"
        "study = make_study(Path('study'), arms=['bn', 'gn'], seeds=2)\n"
        "write_report(read_results(study))",
    )
    page = house.read("study/report.html")
    assert "<p>2 arms in a dummy</p>" in page
    for text in ("A dummy section", ".dummy {", "script of the dummy", 'id="h-dummy"'):
        assert text in page
    assert "Words of the dummy." in house.read("study/results.md")


def _check(house: House) -> None:
    folder = "src/normlab/checks/dummy"
    house.write(
        f"{folder}/__init__.py",
        "from ...pages.findings import Finding, Level\n"
        "from ..protocol import Check, PagePart, Section\n\n\n"
        "class Found:\n"
        "    def findings(self):\n"
        "        return [Finding('dummy', Level.LOOK, 'A dummy looked.', 'Look again.')]\n\n"
        "    def describe(self):\n        return {'seen': 24}\n\n\n"
        "class _Dummy(Check):\n"
        "    name = key = 'dummy'\n    version = '1'\n\n"
        "    def run(self, image_set, earlier, progress):\n        return Found()\n\n"
        "    def glance(self, image_set):\n        return Found()\n\n"
        "    def page_part(self, image_set, results):\n"
        "        section = Section('dummy', 'A dummy section', 'dummy.html.j2', {'seen': 24})\n"
        "        return PagePart(__name__, (section,))\n\n\n"
        "DUMMY = _Dummy()\n",
    )
    house.write(f"{folder}/templates/dummy.html.j2", "<p>{{ seen }} images in a dummy</p>")
    registry = "src/normlab/checks/registry.py"
    house.add_import(registry, "from .dummy import DUMMY")
    house.add_item(registry, "CHECKS", "DUMMY")
    photos = _photos(house.root / "photos")
    tiny = "--arms none --n 1 --seeds 1 --epochs 1 --dry-run"
    said = house.normlab(
        f"check-data {photos} --out checked --workers 1", f"compare --data {photos} {tiny}"
    )
    assert said.count("A dummy looked.") == 2
    described = json.loads(house.read("checked/data.json"))
    assert described["dummy"] == {"seen": 24}
    assert "A dummy looked." in [finding["sentence"] for finding in described["findings"]]
    page = next((house.root / "checked").glob("*.html")).read_text(encoding="utf-8")
    assert "24 images in a dummy" in page
    assert "A dummy section" in page


def _preset(house: House) -> None:
    house.write(
        "src/normlab/studies/presets/dummy.toml",
        'title = "A dummy"\nseeds = 2\n\n[grid]\nnorm = ["none"]\nn = [1, 2]\n',
    )
    said = house.normlab("compare --help", "compare dummy --limit-per-class 8 --dry-run")
    assert re.search(r"A preset \([\w, -]*\bdummy\b", said)
    assert "(2 arms, 2 seeds)" in said
    assert "none,n=2" in said


def _source(house: House) -> None:
    house.write(
        "src/normlab/data/sources/dummy.py",
        "import numpy as np\n\nfrom .base import Listing\n\n\n"
        "def holds(root):\n    return (root / 'labels.npy').is_file()\n\n\n"
        "def find(root):\n"
        "    labels = np.load(root / 'labels.npy')\n"
        "    return Listing(\n"
        "        kind='dummy', source=str(root), name=root.name, classes=('ant', 'bee'),\n"
        "        channels=1, names=[str(row) for row in range(len(labels))], labels=labels,\n"
        "        found={'train': np.arange(len(labels))}, stamp=labels[:, None], side=8,\n"
        "        arrays=lambda: np.load(root / 'images.npy'), has_splits=False,\n"
        "    )\n",
    )
    sources = "src/normlab/data/sources/__init__.py"
    house.replace(sources, "from . import cifar,", "from . import dummy, cifar,")
    house.replace(
        sources,
        "        batches = cifar.holds(root)\n",
        "        if dummy.holds(root):\n            return dummy.find(root)\n"
        "        batches = cifar.holds(root)\n",
    )
    folder = house.root / "arrays"
    folder.mkdir()
    generator = np.random.default_rng(0)
    np.save(folder / "labels.npy", np.repeat([0, 1], 20))
    np.save(folder / "images.npy", generator.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    said = house.normlab(f"compare --data {folder} --n 1 --arms none --dry-run")
    assert "2 classes, 28 train" in said


def _setting(house: House) -> None:
    config = "src/normlab/runs/config.py"
    maker = re.findall(r"threads: int = (\w+)\(", house.read(config))[0]
    field = f'    dummy_setting: float = {maker}(0.5, "A dummy of a setting.", "> 0")'
    house.add_to_class(config, "RunConfig", field, after_fields=True)
    assert "--dummy-setting" in house.normlab("compare --help")
    page = house.python("-m", "normlab.workflow.settings")
    assert re.search(r"`dummy_setting` \| `--dummy-setting` \| number > 0 \| 0.5 \|", page)
    known = [{}, {"norm": "gn:groups=4", "epochs": 3, "step_at": [0.5]}]
    before = [identity(RunConfig.from_dict(values), "data", {}) for values in known]
    said = house.python(
        "-c",
        "import json\n"
        "from normlab.runs import RunConfig, identity\n"
        f"known = {known!r} + [{{'dummy_setting': 1.5}}]\n"
        "print(json.dumps([identity(RunConfig.from_dict(v), 'data', {}) for v in known]))",
    )
    *after, other = json.loads(said)
    assert after == before, "finished studies stay valid"
    assert other not in before


def _statistic(house: House) -> None:
    house.write(
        "src/normlab/results/statistics/dummy.py",
        "def signs(values):\n"
        '    """How many seeds are above 0."""\n'
        "    return sum(value > 0 for value in values)\n",
    )
    judgement = "src/normlab/results/statistics/judgement.py"
    house.add_import(judgement, "from .dummy import signs")
    house.add_to_class(
        judgement,
        "PairedComparison",
        "\n    @property\n    def signs(self):\n        return signs(self.difference.values)",
    )
    said = house.python(
        "-c",
        "from tests.simulated import simulated\n"
        "from normlab.results.statistics import judge\n"
        "results = simulated({'bn': [0.5, 0.5, 0.5], 'gn': [0.6, 0.4, 0.7]})\n"
        "print([found.signs for found in judge(results).comparisons])",
    )
    assert said.strip() == "[2]"


def _command(house: House) -> None:
    house.write(
        "src/normlab/workflow/dummy.py",
        "from ..errors import InputError\n\n\n"
        "def count(number: int) -> str:\n"
        "    if number < 0:\n        raise InputError(f'{number} is below 0.')\n"
        "    return f'counted to {number}'\n",
    )
    house.add_item("src/normlab/workflow/__init__.py", "_HOME", '"dummy": ("count",)')
    house.replace(
        "src/normlab/cli.py",
        "\ndef main(",
        "\n@app.command\n"
        "def dummy(number: int) -> int:\n"
        '    """Count, for the sake of a test."""\n'
        "    from .workflow import count\n\n"
        "    Console().print(count(number))\n"
        "    return OK\n\n\n"
        "def main(",
    )
    assert "Count, for the sake of a test." in (said := house.normlab("--help", "dummy 3"))
    assert said.endswith("counted to 3\n")
    house.python("-c", "from normlab.cli import main; assert main(['dummy', '--', '-1']) == 2")


ADD: dict[str, Callable[[House], None]] = {
    "a method": _layer,
    "a section of the report": _section,
    "a check of the data": _check,
    "a preset": _preset,
    "a data source": _source,
    "a setting of a run": _setting,
    "a statistic": _statistic,
    "a command": _command,
}


def test_every_row_is_tried() -> None:
    assert list(TABLE) == list(ADD)


@pytest.mark.parametrize("what", ADD)
def test_the_files_of_a_row_are_enough(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path / "house", TABLE[what])
    ADD[what](house)
    assert house.touched == set(house.patterns), "CONTRIBUTING.md names a file that is not needed"
    monkeypatch.setattr(test_house, "SOURCE", house.root / "src/normlab")
    test_house.test_imports_follow_the_arrows()
    test_house.test_the_ground_floor_imports_no_room()
    test_house.test_norms_need_torch_alone()
