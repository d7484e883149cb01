"""The documentation: pages that commands print, the site, and the checks before a commit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from normlab.cli import main
from normlab.workflow import settings

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def _recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, with the environment's path in place."""
    (lines,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in lines.splitlines()]


def test_the_settings_page_is_printed_from_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert page == settings.as_markdown(), "run `make docs`"
    helped = {}
    for command in ("compare", "train"):
        assert main([command, "--help"]) == 0
        helped[command] = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    comparison, of_runs = page.split("## A run")
    for part, commands in ((comparison, ["compare"]), (of_runs, ["compare", "train"])):
        rows = re.findall(r"^\| `\w+` \| `(--[\w-]+)`(.*?) \|", part, re.MULTILINE)
        assert len(rows) > 5
        for option, note in rows:
            taking = ["train"] if "train only" in note else commands
            assert all(option in helped[command] for command in taking), option


def test_the_demo_ends_with_how_to_call_the_command() -> None:
    recipe = " ".join(_recipe("demo"))
    assert ".venv/bin/normlab compare --data FOLDER" in recipe
    assert ". .venv/bin/activate" in recipe
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "`.venv/bin/normlab`" in readme
    assert len(readme.split()) < 900


def test_make_docs_prints_every_page_that_is_printed() -> None:
    printed = {line.split("> ")[1] for line in _recipe("docs") if "> " in line}
    says_so = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "docs").glob("*.md")
        if "This page is printed by" in path.read_text(encoding="utf-8").replace("\n", " ")
    }
    assert printed == says_so


def test_what_the_pages_import_is_there() -> None:
    """Examples are written by hand: a name that moved must not be left behind in one."""
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("normlab"):
                    module = import_module(str(node.module))
                    missing = [a.name for a in node.names if not hasattr(module, a.name)]
                    assert not missing, f"{path.name}: {node.module} has no {missing}"


class _Links(HTMLParser):
    """What a page links to, what it loads, and the anchors in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.anchors.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag in ("script", "img", "link", "iframe"):
            self.loads |= {found[name] for name in ("src", "href") if name in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    out = tmp_path_factory.mktemp("docs")
    (line,) = (line for line in _recipe("docs") if "sphinx-build" in line)
    flags = line.split("sphinx-build ")[1].replace("build/", f"{out}/").split()
    assert "-W" in flags, "warnings are errors"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out / "site"


@pytest.mark.xdist_group("site")
def test_the_site_has_every_page_and_every_name(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written | {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "index.md"} <= pages
    for page, name in (
        ("norms", "normlab.norms.GroupNorm2d"),
        ("norms", "normlab.norms.make_norm"),
        ("normlab", "normlab.compare"),
        ("normlab", "normlab.load_model"),
        ("results", "normlab.results.statistics.judge"),
        ("runs", "normlab.runs.RunConfig"),
    ):
        assert name in _Links(site / f"docs/api/{page}.html").anchors


@pytest.mark.xdist_group("site")
def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    known = {page: _Links(page) for page in site.rglob("*.html") if "_modules" not in page.parts}
    for page, found in known.items():
        for link in found.links | found.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link not in found.loads, f"{page.name} loads {link}"
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), f"{page.name} links to {link}"
            if target in known:
                assert unquote(parts.fragment) in known[target].anchors, f"{page.name}: {link}"


def test_the_hooks_before_a_commit_are_the_commands_of_make_check() -> None:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repo,) = content["repos"]
    assert repo["repo"] == "local"
    assert [hook["entry"] for hook in repo["hooks"]] == _recipe("check")
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}, "nothing is downloaded"
    clientlib = pytest.importorskip("pre_commit.clientlib", reason="pre-commit is not installed")
    clientlib.load_config(str(ROOT / ".pre-commit-config.yaml"))
