"""What the names of files say: a class, a word, a style. The folder plays no part."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NONE = -1

_LONG = 6
_SHORT = 3
_KEPT = 200

_GAP = re.compile(r"[\W_]+")
# A long hexadecimal number, such as a hash or a UUID, that is a word of its own; or digits.
_TOKEN = re.compile(
    r"(?<![^\W_])(?P<hex>(?=[a-f]*\d)(?=\d*[a-f])[\da-f]{8,}(?:-[\da-f]{4,})*)(?![^\W_])|\d+",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z\u00df-\u00ff])(?=[A-Z\u00c0-\u00de])")
_SHORTENED = 4


@dataclass(frozen=True)
class FileNames:
    """One row per file.

    Attributes:
        carried: index of the class whose name the file name contains; -1 if it contains none.
        word: code of the letters before the first number; the 200 most frequent have their own.
        style: code of the name's pattern, in which class names, numbers and words are symbols.
        shape: (n, 4): length, digits, separators and letters in capitals, without class names.
        extension: code of what follows the last dot, case and all.
        own: whether the letters of the name are nothing but the file's own class in other words:
            part of its name, written together or apart, in singular or plural, shortened, or as
            initials.
        words: the words by code; the last one is for all rarer ones.
        styles: likewise the patterns: C is a class name, 9 a number, x a hexadecimal number, a
            letters.
    """

    carried: Ints
    word: Ints
    style: Ints
    shape: npt.NDArray[np.float32]
    extension: Ints
    own: npt.NDArray[np.bool_]
    words: tuple[str, ...]
    styles: tuple[str, ...]


def carried_classes(
    names: Sequence[str], labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> Ints:
    """``FileNames.carried`` alone.

    A class name of six letters or more is found anywhere in a name, a shorter one (three at least)
    only if no letter is on either side, except a plural s; upper and lower case, spaces,
    hyphens and underscores make no difference. Where several are found, the file's own class
    counts, otherwise the longest. Class names with digits in them are not searched for.
    """
    return _Searched(names, classes).carried(labels)


def file_names(
    names: Sequence[str], labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> FileNames:
    """What these names say."""
    searched = _Searched(names, classes)
    words = [template.split("9")[0].split("x?")[0].strip("-") for template in searched.templates]
    word, kept_words = _codes([words[which] for which in searched.which])
    left = searched.without_classes()
    style, kept_styles = _codes([_style(text) for text in left])
    shape = [
        (
            len(text),
            sum(map(str.isdigit, text)),
            len(text) - sum(map(str.isalnum, text)),
            sum(map(str.isupper, text)),
        )
        for text in left
    ]
    carried = searched.carried(labels)
    own = searched.own(labels, classes) & ((carried == NONE) | (carried == labels))
    return FileNames(
        carried=carried,
        word=word,
        style=style,
        shape=np.array(shape, dtype=np.float32).reshape(-1, 4),
        extension=_codes(searched.extensions)[0],
        own=own,
        words=kept_words,
        styles=kept_styles,
    )


class _Searched:
    """File names without folder and extension, and the classes found in them.

    Numbered files share a template, so few have to be searched.
    """

    def __init__(self, names: Sequence[str], classes: Sequence[str]) -> None:
        files = [name.rsplit("/", 1)[-1] for name in names]
        parts = [file.rpartition(".") if "." in file[1:] else (file, "", "") for file in files]
        self.stems = [unicodedata.normalize("NFC", part[0]) for part in parts]
        self.extensions = [part[2] for part in parts]
        code: dict[str, int] = {}
        self.which = [
            code.setdefault(_GAP.sub("-", _TOKEN.sub(_short, stem)), len(code))
            for stem in self.stems
        ]
        self.templates = [template.casefold() for template in code]
        self._finder = _Finder(classes)
        self._found = [self._finder.classes_in(template) for template in self.templates]

    def carried(self, labels: npt.NDArray[np.int64]) -> Ints:
        carried = np.full(len(self.which), NONE, np.int64)
        for row, (which, label) in enumerate(zip(self.which, labels.tolist(), strict=True)):
            found = self._found[which]
            if found:
                carried[row] = label if label in found else found[0]
        return carried

    def own(self, labels: npt.NDArray[np.int64], classes: Sequence[str]) -> npt.NDArray[np.bool_]:
        """``FileNames.own``, before other classes' names are considered."""
        spoken = [_Spoken(name) for name in classes]
        letters: dict[tuple[int, tuple[str, ...]], bool] = {}
        found = np.zeros(len(self.stems), np.bool_)
        for row, (stem, label) in enumerate(zip(self.stems, labels.tolist(), strict=True)):
            words = tuple(_words(_TOKEN.sub(" ", stem)))
            if words:
                key = label, words
                if key not in letters:
                    letters[key] = spoken[label].is_said_by(words)
                found[row] = letters[key]
        return found

    def without_classes(self) -> list[str]:
        """The stems with each class name replaced by NUL."""
        return [
            self._finder.without(stem, self._found[which])
            for stem, which in zip(self.stems, self.which, strict=True)
        ]


def _short(match: re.Match[str]) -> str:
    return "x?" if match.group("hex") else "9"


def _style(text: str) -> str:
    text = _TOKEN.sub(lambda match: "\1" if match.group("hex") else "9", text)
    text = _LETTERS.sub("a", text)
    return text.replace("\1", "x").replace("\0", "C")


def _codes(values: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """A code for each, most frequent first, and the values by code; rare ones share the last."""
    known, which, count = np.unique(
        np.array(values, dtype=np.str_), return_inverse=True, return_counts=True
    )
    order = np.argsort(-count, kind="stable")
    place = np.empty(len(known), np.int64)
    place[order] = np.arange(len(known))
    kept = known[order[:_KEPT]].tolist()
    return np.minimum(place, _KEPT)[which], (*kept, "others")


class _Finder:
    """Finds class names in the names of files."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._patterns: dict[int, re.Pattern[str]] = {}
        named = [(index, _plain(name)) for index, name in enumerate(classes)]
        for index, name in sorted(named, key=lambda pair: -len(pair[1])):
            letters = sum(map(str.isalpha, name))
            if letters < _SHORT:
                continue
            inner = r"[\W_]*".join(map(re.escape, name.split("-")))
            if letters < _LONG:
                inner = rf"(?<![^\W\d_]){inner}(?=s?(?![^\W\d_]))"
            self._patterns[index] = re.compile(inner, re.IGNORECASE)

    def classes_in(self, template: str) -> list[int]:
        """Longest name first; a name within a longer one that was found does not count."""
        found = []
        for index, pattern in self._patterns.items():
            template, times = pattern.subn("\0", template)
            if times:
                found.append(index)
        return found

    def without(self, stem: str, classes: Sequence[int]) -> str:
        for index in classes:
            stem = self._patterns[index].sub("\0", stem)
        return stem


class _Spoken:
    """The name of a class, and other ways to say it."""

    def __init__(self, name: str) -> None:
        words = [_singular(word) for word in _words(name)]
        self.initials = "".join(word[0] for word in words)
        self.parts = {
            "".join(words[start:stop])
            for start in range(len(words))
            for stop in range(start + 1, len(words) + 1)
        }

    def is_said_by(self, words: Sequence[str]) -> bool:
        """Whether each word, or all together, are part of the name or its initials."""
        return all(map(self._is_said, words)) or self._is_said("".join(words))

    def _is_said(self, word: str) -> bool:
        if word in self.parts or _singular(word) in self.parts:
            return True
        if len(word) > 1 and word == self.initials:
            return True
        return len(word) >= _SHORTENED and any(part.startswith(word) for part in self.parts)


def _words(name: str) -> list[str]:
    """Letters that belong together, in small letters; a capital after a small one starts a word."""
    return [word.casefold() for word in _LETTERS.findall(_HUMP.sub(" ", name))]


def _singular(word: str) -> str:
    if len(word) > _SHORT and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > _SHORT and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > _SHORT and word.endswith("s") and word[-2] != "s" else word


def _plain(name: str) -> str:
    return _GAP.sub("-", unicodedata.normalize("NFC", name).casefold()).strip("-")
