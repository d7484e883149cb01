"""Code that is not ours: a person's own layer or network, found, imported and identified.

Everything that imports by a name goes through :func:`load`. A name stands for code: the file of the
module and the files that it imports, wherever a person keeps them; and the versions of installed
packages that it imports. Edited code is different code, also in a process that imported the module
before.

A name that a person typed is trusted. One that a file names is not: whoever reads it asks
:func:`check_trusted` first, and imports it inside :func:`named_in_a_file`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from .errors import InputError

_DIGEST = "__normlab_code__"
"""Name in a module of the code that it was imported from."""
_RECORDED = frozenset({"torch", "numpy", "PIL", "sklearn"})
"""Packages that runs of our own layers rest on as well. Records have their versions, and no run's
identity counts them."""
_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_working_folder_counts: ContextVar[bool] = ContextVar("working_folder_counts", default=True)
"""Whether modules are searched for in the working folder too."""


LIBRARIES = ("timm", "torchvision")
"""Packages that have networks by name: ``timm:NAME`` is one of these, and no class of a module."""


def library_of(network: str) -> str:
    """The package of :data:`LIBRARIES` that has the network of this name; "" for other names."""
    package, colon, _ = network.partition(":")
    return package if colon and package in LIBRARIES else ""


def factory_of(network: str) -> str:
    """The name of a network, where its factory is a person's own; "" for ours and for networks of
    :data:`LIBRARIES`."""
    return network if is_custom(network) and not library_of(network) else ""


def load_library(package: str) -> ModuleType:
    """Import one of :data:`LIBRARIES`, as it is installed: a file may name its networks, and the
    working folder may be a stranger's.

    Raises:
        ImportError: it is not installed, or fails when it is imported.
    """
    token = _working_folder_counts.set(False)
    try:
        with _search_path():
            path = _file_of(package)
            if path is None:
                raise ModuleNotFoundError(f"no module named {package!r} is installed", name=package)
            if not _is_installed(path):
                raise ImportError(f"{path} is not an installed package")
            return importlib.import_module(package)
    finally:
        _working_folder_counts.reset(token)


def library_code(network: str) -> dict[str, str]:
    """The library of a network with its version; empty for networks of no library."""
    if not (library := library_of(network)):
        return {}
    release = _release(library) or "of no version"
    return {f"{library} {release}": release}


def is_foreign(name: str) -> bool:
    """Whether a name is of the form ``package.module:Class``, with or without options."""
    module, colon, rest = name.partition(":")
    words = [*module.split("."), rest.split(":")[0]]
    return bool(colon) and all(map(str.isidentifier, words))


def is_custom(name: str) -> bool:
    """Whether a layer or a network is a person's own: of the form ``package.module:Class``, with or
    without options, and not of this package."""
    return is_foreign(name) and not is_ours(name.partition(":")[0])


def check_trusted(name: str, trusted: bool, named_by: str, kind: str = "layer") -> None:
    """Refuse a layer or a network that a file names, if it is not of this package and nobody said
    to trust it. Nothing is imported to find out.

    Args:
        name: its name.
        trusted: whether to trust it.
        named_by: the subject of the message: what has such a layer.
        kind: ``layer`` or ``network``.

    Raises:
        InputError: naming the module and the file that would be imported, and what to do.
    """
    if trusted or not is_custom(name):
        return
    module = name.partition(":")[0]
    with _search_path():
        file = _file_of(module)
    found = f"import {module:.200} from {file}, which runs that file"
    unknown = f"import {module:.200}, which runs its code"
    raise InputError(
        f"{named_by} the {kind} {name:.200}, which is not part of normlab. Using it would "
        f"{found if file else unknown}. If you trust that code, "
        f"add --trust (in Python: trust=True).{'' if file else not_found(module)}"
    )


@contextmanager
def named_in_a_file(origins: Mapping[str, str]) -> Iterator[None]:
    """Search for layers and networks that a file names on Python's path alone: not in the working
    folder, which may be a stranger's as the file is.

    The working folder is searched if there is one that is not ours, and every such one came from
    there when the file was written, or a person named that folder in PYTHONPATH, or this process
    has imported it from there already.

    Args:
        origins: their names, and the folders that they came from, as :func:`origin_of` says.
    """
    here = _here()
    custom = {name: origin for name, origin in origins.items() if is_custom(name)}
    counts = (
        bool(custom)
        and here is not None
        and all(
            origin == str(here)
            or _is_in_pythonpath(here)
            or _imported_from(name.partition(":")[0]) == here
            for name, origin in custom.items()
        )
    )
    token = _working_folder_counts.set(counts)
    try:
        yield
    finally:
        _working_folder_counts.reset(token)


def origin_of(name: str) -> str:
    """The folder that a layer or a network is imported from; empty for those of ours and of
    installed packages, and for what is not found."""
    if not is_custom(name):
        return ""
    module = name.partition(":")[0]
    with _search_path():
        path = _file_of(module)
    return "" if path is None or _is_installed(path) else str(_base(module, path))


def not_found(module: str) -> str:
    """What to do about a module that is not found where :func:`named_in_a_file` searches; with a
    space before it."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return " It is a part of Python, which has nothing of the kind."
    with _search_path():
        if _file_of(module):
            return ""
    token = _working_folder_counts.set(True)
    try:
        with _search_path():
            file = _file_of(module)
    finally:
        _working_folder_counts.reset(token)
    if file:
        return (
            f" {file} is not used, since a file that names a module does not say that it is in the "
            "folder you happen to work in. If it is the right one, set PYTHONPATH=. as well."
        )
    return f" {module:.200} is not found here. Set PYTHONPATH to the folder it is in."


def load(module: str) -> ModuleType:
    """Import a module, also from the working folder, as its files are now.

    A module that this process imported earlier is reloaded where its files have changed since,
    and so are the modules that it imports. Modules of installed packages are not.

    Raises:
        ImportError: there is no such module, importing it fails, it has no file (as what is
            defined in a notebook), or a compiled module has changed since this process imported it.
    """
    if is_ours(module):
        return importlib.import_module(module)
    with _search_path():
        found = _Found(module)
        if not _working_folder_counts.get():
            _check_import(module)
        if not found.hashes():
            importlib.import_module(module)  # says it if there is none
            raise ImportError(
                f"{module} has no file, so an edit of its code could not be told. Put the code "
                "into a file of its own, for example mine.py, and name it mine:Class"
            )
        digest = found.digest()
        known = sys.modules.get(module)
        if known is not None and getattr(known, _DIGEST, None) == digest:
            return known
        importlib.invalidate_caches()
        for name, path in found.files.items():
            if path.name.endswith(_COMPILED):
                _check_unchanged(name, path)
                continue
            # Python takes bytecode for current by a file's size and the second it was written in.
            with suppress(OSError, NotImplementedError):
                Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
            if name in sys.modules:
                importlib.reload(sys.modules[name])
        made = importlib.import_module(module)
        for name, path in found.files.items():
            if path.name.endswith(_COMPILED) and name in sys.modules:
                setattr(sys.modules[name], _DIGEST, _sha256(path))
        if found.files and module not in found.compiled:
            setattr(made, _DIGEST, digest)
        return made


def _check_import(module: str) -> None:
    """That importing a module runs the file that was found, and no other.

    Python looks for a part of a package where the package was imported from, which may be another
    place than the search path has now.
    """
    path = _file_of(module)
    if path is None:
        raise ModuleNotFoundError(f"no file of a module {module!r} is found", name=module)
    for parent in _parents(module):
        known = sys.modules.get(parent)
        expected = _base(module, path).joinpath(*parent.split("."))
        if known is not None and expected not in map(_resolved, getattr(known, "__path__", ())):
            raise ImportError(
                f"this process has imported {parent} from another place than {expected}. Start a "
                "new process (restart the notebook's kernel)"
            )


def _check_unchanged(name: str, path: Path) -> None:
    """Python imports a compiled module once in a process."""
    known = getattr(sys.modules.get(name), _DIGEST, None)
    if known is not None and known != _sha256(path):
        raise ImportError(
            f"{path.name} has changed since this process imported it, and a compiled module cannot "
            "be imported again. Start a new process (restart the notebook's kernel)"
        )


def code_of(name: str) -> dict[str, str]:
    """File to SHA-256 of the code that a layer or a network is made of; empty for ours.

    The files are the module's own and those of the modules that it imports, wherever in its code,
    that are not installed packages. An installed package that it imports counts by its version; one
    that the layer itself is from by its version and the module's file. Compiled modules count by
    their file. Files that a layer only reads do not count. A module without a file has no code to
    count, and :func:`load` refuses it.

    Args:
        name: an arm's normalization, or a network: ``package.module:Class`` with or without
            options.
    """
    if not is_custom(name):
        return {}
    module = name.partition(":")[0]
    with _search_path():
        return _Found(module).hashes()


class _Found:
    """The files that make up a module, dependencies first. Nothing is imported to find them."""

    def __init__(self, module: str) -> None:
        self.files: dict[str, Path] = {}
        self.installed: dict[str, str] = {}
        path = _file_of(module)
        if path is None:
            return
        if _is_installed(path):
            top = module.partition(".")[0]
            self.installed = {f"{module} ({top} {_release(top)})": _sha256(path)}
        else:
            self._add(module, path)

    @property
    def compiled(self) -> set[str]:
        """Modules among the files that are not source code."""
        return {name for name, path in self.files.items() if path.name.endswith(_COMPILED)}

    def hashes(self) -> dict[str, str]:
        """Path below the folder that a module is imported from, to SHA-256."""
        found = {
            path.relative_to(_base(name, path)).as_posix(): _sha256(path)
            for name, path in self.files.items()
        }
        return {**dict(sorted(found.items())), **dict(sorted(self.installed.items()))}

    def digest(self) -> str:
        return hashlib.sha256(repr(self.hashes()).encode()).hexdigest()

    def _add(self, module: str, path: Path) -> None:
        if module in self.files:
            return
        self.files[module] = path  # marked first, so that modules that import each other end
        for parent in _parents(module):
            self._visit(parent)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for name in _imports_of(path, package):
            self._visit(name)
        self.files[module] = self.files.pop(module)  # after what it imports

    def _visit(self, module: str) -> None:
        top = module.partition(".")[0]
        if module in self.files or is_ours(module) or top in sys.stdlib_module_names | _RECORDED:
            return
        path = _file_of(module)
        if path is None:
            return
        if _is_installed(path):
            release = _release(top)
            self.installed.setdefault(
                f"{top} {release or 'of no version'}", release or _sha256(path)
            )
        else:
            self._add(module, path)


def _base(module: str, path: Path) -> Path:
    """The folder that a module is imported from."""
    return path.parents[module.count(".") + (path.name == "__init__.py")]


@functools.lru_cache(maxsize=256)
def _release(package: str) -> str:
    """The version of an installed package; "" where its distribution has another name."""
    try:
        return version(package)
    except (PackageNotFoundError, ValueError):
        return ""


def _imports_of(path: Path, package: str) -> tuple[str, ...]:
    if path.name.endswith(_COMPILED):
        return ()
    try:
        return _parsed_imports(path.read_bytes(), package)
    except OSError:
        return ()


@functools.lru_cache(maxsize=256)
def _parsed_imports(code: bytes, package: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(_imported(ast.parse(code), package)))
    except (SyntaxError, ValueError):
        return ()  # importing it will say what is wrong


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that may be modules which a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            target = _absolute("." * node.level + (node.module or ""), package)
            if target:
                yield from _with_parents(target)
            for alias in node.names:
                yield f"{target}.{alias.name}" if target else alias.name
        elif isinstance(node, ast.Call) and (name := _called_import(node)):
            yield from _with_parents(_absolute(name, package))


def _called_import(node: ast.Call) -> str:
    """The name in ``importlib.import_module("name")`` or ``__import__("name")``, else nothing."""
    called = (
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    )
    first = node.args[0] if node.args else None
    if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
        return first.value if isinstance(first.value, str) else ""
    return ""


def _absolute(name: str, package: str) -> str:
    """A name with leading dots, as seen from a package."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = package.split(".") if package else []
    rest = name[level:]
    return ".".join([*parts[: len(parts) - level + 1], *([rest] if rest else [])])


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
    if origin is None or not origin.endswith((".py", *_COMPILED)):
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
        try:
            spec = find(name, search) if find is not None else None
        except KeyError:  # a namespace package in one that is not imported
            spec = _namespace(name, search or [])
        if isinstance(spec, importlib.machinery.ModuleSpec):
            return spec
    return None


def _namespace(name: str, search: list[str]) -> importlib.machinery.ModuleSpec | None:
    places = [Path(place) / name.rpartition(".")[2] for place in search]
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(place) for place in places if place.is_dir()]
    return spec if spec.submodule_search_locations else None


def is_ours(module: str) -> bool:
    """Whether a module is of this package."""
    return module.partition(".")[0] == __package__


def _is_installed(path: Path) -> bool:
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(Path(place).resolve()) for place in places if place)


def _sha256(path: Path) -> str:
    try:
        content = path.read_bytes()
        if not path.name.endswith(_COMPILED):
            content = content.replace(b"\r\n", b"\n")  # other line endings are the same code
        return hashlib.sha256(content).hexdigest()
    except OSError:
        return "unreadable"


@contextmanager
def _search_path() -> Iterator[None]:
    """The working folder, where a person's own layer usually is, is searched too; or not at all
    (see :func:`named_in_a_file`)."""
    here = _here()
    if _working_folder_counts.get():
        added = here is not None and not any(map(_is_here, sys.path))
        if added:
            sys.path.append(str(here))
        try:
            yield
        finally:
            if added and str(here) in sys.path:
                sys.path.remove(str(here))
        return
    away = [(place, entry) for place, entry in enumerate(sys.path) if _is_here(entry)]
    for place, _ in reversed(away):
        del sys.path[place]
    try:
        yield
    finally:
        for place, entry in away:
            sys.path.insert(place, entry)


def _here() -> Path | None:
    """The working folder; None if it has been removed."""
    try:
        return Path.cwd().resolve()
    except OSError:
        return None


def _is_here(entry: object) -> bool:
    """Whether an entry of the search path is the working folder, under whatever name."""
    if not isinstance(entry, str):
        return False
    here = _here()
    return here is not None and _resolved(entry or ".") == here


def _is_in_pythonpath(here: Path) -> bool:
    """Whether a person named the folder there. An empty entry, as a stray colon makes, does not."""
    if sys.flags.ignore_environment:
        return False
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return any(_resolved(entry) == here for entry in named if entry)


def _imported_from(module: str) -> Path | None:
    """The folder that this process imported a module from, if it did."""
    file = getattr(sys.modules.get(module), "__file__", None)
    path = _resolved(file) if isinstance(file, str) else None
    depth = module.count(".") + 1
    return None if path is None or len(path.parents) <= depth else _base(module, path)


def _resolved(path: str) -> Path | None:
    try:
        return Path(path).resolve()
    except (OSError, ValueError):
        return None
