"""Code that is not ours: a person's own layer, found, imported and identified.

Everything that imports by a name goes through :func:`load`. A name stands for source code: the file
of the module and the files next to it that it imports. Edited code is different code, also in a
process that imported the module before.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

_DIGEST = "__normlab_code__"
"""Name in a module of the code that it was imported from."""


def is_foreign(name: str) -> bool:
    """Whether an arm is of the form ``package.module:Class``, with or without options."""
    module, colon, rest = name.partition(":")
    words = [*module.split("."), rest.split(":")[0]]
    return bool(colon) and all(map(str.isidentifier, words))


def load(module: str) -> ModuleType:
    """Import a module, also from the working folder, as its files are now.

    A module that this process imported earlier is reloaded where its files have changed since,
    and so are the modules next to it that it imports. Modules of installed packages are not.

    Raises:
        ImportError: there is no such module, or importing it fails.
    """
    if _is_ours(module):
        return importlib.import_module(module)
    with _working_folder():
        found = _Found(module)
        digest = found.digest()
        known = sys.modules.get(module)
        if known is not None and getattr(known, _DIGEST, None) == digest:
            return known
        importlib.invalidate_caches()
        for name, path in found.files.items():
            # Python takes bytecode for current by a file's size and the second it was written in.
            with suppress(OSError, NotImplementedError):
                Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
            if name in sys.modules:
                importlib.reload(sys.modules[name])
        made = importlib.import_module(module)
        if found.files:
            setattr(made, _DIGEST, digest)
        return made


def code_of(norm: str) -> dict[str, str]:
    """File to SHA-256 of the code that an arm's layer is made of; empty for layers of ours.

    The files are the module's own and, of the modules that it imports, those that are in its
    package or next to it. A module of an installed package counts by its file and the package's
    version. A module without a file (built in, or made in a session) counts as nothing.

    Args:
        norm: an arm's normalization, ``package.module:Class`` with or without options, or a name
            of the catalogue.
    """
    module = norm.partition(":")[0]
    if not is_foreign(norm) or _is_ours(module):
        return {}
    with _working_folder():
        return _Found(module).hashes()


class _Found:
    """The files that make up a module, dependencies first. Nothing is imported to find them."""

    def __init__(self, module: str) -> None:
        self.files: dict[str, Path] = {}
        self.installed: dict[str, str] = {}
        path = _file_of(module)
        self.base: Path | None = None
        if path is None:
            return
        depth = module.count(".") + (path.name == "__init__.py")
        self.base = path.parents[depth]
        if _is_installed(path):
            self._note_installed(module, path)
        else:
            self._add(module, path)

    def hashes(self) -> dict[str, str]:
        """Path below the folder that modules are imported from, to SHA-256."""
        assert self.base is not None or not self.files
        found = {
            path.relative_to(self.base).as_posix(): _sha256(path)
            for path in self.files.values()
            if self.base is not None
        }
        return {**dict(sorted(found.items())), **self.installed}

    def digest(self) -> str:
        return hashlib.sha256(repr(self.hashes()).encode()).hexdigest()

    def _note_installed(self, module: str, path: Path) -> None:
        top = module.partition(".")[0]
        try:
            release = version(top)
        except PackageNotFoundError:
            release = "unknown"
        self.installed = {f"{module} ({top} {release})": _sha256(path)}

    def _add(self, module: str, path: Path) -> None:
        if module in self.files:
            return
        self.files[module] = path  # marked first, so that modules that import each other end
        for parent in _parents(module):
            self._visit(parent)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return  # importing it will say what is wrong
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for name in _imported(tree, package):
            self._visit(name)
        self.files[module] = self.files.pop(module)  # after what it imports

    def _visit(self, module: str) -> None:
        if module in self.files or _is_ours(module):
            return
        path = _file_of(module)
        if path is None or self.base is None or _is_installed(path):
            return
        if path.is_relative_to(self.base):
            self._add(module, path)


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that may be modules which a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            base = parts[: len(parts) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            if target:
                yield from _with_parents(target)
            for alias in node.names:
                yield f"{target}.{alias.name}" if target else alias.name


def _with_parents(module: str) -> Iterator[str]:
    yield from _parents(module)
    yield module


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count])


def _file_of(module: str) -> Path | None:
    """The Python file of a module, found without importing it or its packages."""
    origin = _origin(module)
    if origin is None:  # imported from a place that is not searched any more, or in another way
        origin = getattr(sys.modules.get(module), "__file__", None)
    if origin is None or not origin.endswith(".py"):
        return None
    path = Path(origin).resolve()
    return path if path.is_file() else None


def _origin(module: str) -> str | None:
    """Where a search finds a module now, whatever was imported by its name before."""
    search: list[str] | None = None
    spec = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        if count > 1 and search is None:
            return None  # the part before is not a package
        spec = _spec(".".join(parts[:count]), search)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        search = None if places is None else list(places)
    return None if spec is None else spec.origin


def _spec(name: str, search: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, search) if find is not None else None
        if isinstance(spec, importlib.machinery.ModuleSpec):
            return spec
    return None


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __package__


def _is_installed(path: Path) -> bool:
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(Path(place).resolve()) for place in places if place)


def _sha256(path: Path) -> str:
    try:
        # A checkout with other line endings has the same code.
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except OSError:
        return "unreadable"


@contextmanager
def _working_folder() -> Iterator[None]:
    """The working folder, where a person's own layer usually is, is searched too."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)
