"""Balance and health: how many images of what, and what looks like a mistake of handling."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import counted, percent, shortened, span
from ...splits import SPLITS
from ..image_set import ImageSet
from ..measures.filenames import NONE, carried_classes
from ..measures.headers import headers
from ..measures.pixels import pixel_measures
from ..proportions import wilson

Ints = npt.NDArray[np.int64]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
DISAGREEMENTS = (0.1, 0.2)

_Z = 1.959964
_POINT = 0.01
_IMBALANCE = 3.0
_FEW = 0.1
_SHARED = 0.5
_UPSCALED = 0.05
_LONG = 2.0
_LONG_SHARE = 0.01
_GREY = 0.25
_SAME_NAME = 3
_LONG_NAME = 10

_SPLIT_WORDS = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "testing", "holdout", "dev"}
)
_STRAY = re.compile(
    r"new folder.*|untitled.*|copy of .*|kopie von .*|.* - copy.*|.*[ _-]copy|.* ?\(\d+\)"
    r"|te?mp|backup|images?|data|dataset|output|annotations|labels"
)


@dataclass(frozen=True)
class SizeOfTest:
    """What the test images can show.

    Attributes:
        images: distinct ones.
        half_widths: disagreement d of two networks, as a share of the images, to half the width of
            the 95 % interval of the difference of their accuracies in points,
            100 * 1.96 * sqrt(d / n): both are tested on the same images, and the difference is
            small.
        unpaired: the same for different images, 100 * 1.96 * sqrt(2 p (1 - p) / n), at accuracy
            p = 0.9.
        needed: d to the images that make it one point.
    """

    images: int
    half_widths: dict[float, float]
    unpaired: float
    needed: dict[float, int]


@dataclass(frozen=True)
class FileSizes:
    """How large the files are, in pixels.

    Attributes:
        width: at ``QUANTILES``; ``height`` and ``aspect`` (longer side by shorter) likewise.
        bytes: at ``QUANTILES``.
        upscaled: files whose shorter side is smaller than the images used.
        long: files more than twice as long as wide, of which cropping leaves less than half.
        unread: files whose header could not be read any more.
        formats: name to number.
    """

    width: tuple[float, ...]
    height: tuple[float, ...]
    aspect: tuple[float, ...]
    bytes: tuple[float, ...]
    upscaled: int
    long: int
    unread: int
    formats: dict[str, int]


@dataclass(frozen=True)
class GreyImages:
    """Images without colour among coloured ones.

    Attributes:
        counts: class to number, where there are some.
        marked: classes in which their share exceeds the median of the other classes' by 0.25,
            measured from the lower end of its 95 % interval (Wilson).
    """

    counts: dict[str, int]
    marked: tuple[str, ...]


@dataclass(frozen=True)
class Health:
    """Result of :func:`health` and :func:`quick_health`.

    Attributes:
        image_size: side of the images used, in pixels.
        counts: class to the number of images in train, val and test.
        skipped: unreadable file to the reason.
        suspects: classes that look like a mistake, and why.
        alike: pairs of classes whose names are almost the same.
        shared: pairs of classes, and the share of the smaller one's distinct images that are in
            the other too, where it is half or more.
        clashes: files of one folder whose names differ in case or Unicode form alone.
        misnamed: (class, class in the name, files): names that carry another class's name, three
            files or more, and no word that most classes use.
        test_size: what the test images can show.
        sizes: None where images are not files, and in the quick part.
        grey: None for sources of one channel, and in the quick part.
    """

    image_size: int
    counts: dict[str, tuple[int, ...]]
    skipped: dict[str, str]
    suspects: dict[str, str]
    alike: tuple[tuple[str, str], ...]
    shared: tuple[tuple[str, str, float], ...]
    clashes: tuple[tuple[str, ...], ...]
    misnamed: tuple[tuple[str, str, int], ...]
    test_size: SizeOfTest
    sizes: FileSizes | None = None
    grey: GreyImages | None = None

    @property
    def images(self) -> int:
        return sum(map(sum, self.counts.values()))

    @property
    def imbalance(self) -> float:
        """Training images of the largest class to those of the smallest."""
        train = [counts[0] for counts in self.counts.values()]
        return max(train) / max(min(train), 1)

    def findings(self) -> list[Finding]:
        """One or more of balance, files, folders, test size, and of sizes and grey if known."""
        found = [
            self._balance(),
            self._unreadable(),
            *self._folders(),
            *self._file_names(),
            self._test_size(),
        ]
        if self.sizes:
            found.append(self._sizes(self.sizes))
        if self.grey:
            found.append(self._grey(self.grey))
        return found

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "counts": {
                name: dict(zip(SPLITS, counts, strict=True)) for name, counts in self.counts.items()
            },
            "imbalance": self.imbalance,
            "skipped": self.skipped,
            "suspects": self.suspects,
            "alike": [list(pair) for pair in self.alike],
            "shared": [{"classes": [one, two], "share": share} for one, two, share in self.shared],
            "clashes": [list(group) for group in self.clashes],
            "misnamed": [
                {"class": name, "named": other, "files": files}
                for name, other, files in self.misnamed
            ],
            "test_size": {
                "images": self.test_size.images,
                "unpaired_points": self.test_size.unpaired,
                "paired": [
                    {
                        "disagreement": share,
                        "points": points,
                        "needed": self.test_size.needed[share],
                    }
                    for share, points in self.test_size.half_widths.items()
                ],
            },
            "sizes": self.sizes and {"quantiles": list(QUANTILES), **asdict(self.sizes)},
            "grey": self.grey and asdict(self.grey),
        }

    def _balance(self) -> Finding:
        train = {name: counts[0] for name, counts in self.counts.items()}
        least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
        each = (
            f"{train[least]:,}"
            if train[least] == train[most]
            else f"{train[least]:,} ({least}) to {train[most]:,} ({most})"
        )
        whole = (
            f"{counted(self.images, 'image')} of {counted(len(train), 'class', 'classes')}; for "
            f"training {each} a class"
        )
        if self.imbalance < _IMBALANCE:
            return Finding("balance", Level.FINE, f"{whole}.")
        share = train[most] / sum(train.values())
        return Finding(
            "balance",
            Level.LOOK,
            f"{whole}: {self.imbalance:.1f} times as many. Always guessing {most} is right for "
            f"{percent(share)} of them.",
            "Judge by macro F1 beside accuracy, and read the results of each class.",
        )

    def _unreadable(self) -> Finding:
        check = "unreadable-files"
        if not self.skipped:
            return Finding(check, Level.FINE, "Every file can be read.")
        reasons = Counter(self.skipped.values()).most_common(3)
        file = next(iter(self.skipped))
        return Finding(
            check,
            Level.LOOK,
            f"{counted(len(self.skipped), 'file')} cannot be used, for example {file}. "
            f"Reasons: {'; '.join(f'{reason} ({count:,})' for reason, count in reasons)}.",
            "Mend or remove them; studies refuse them unless told to skip them.",
        )

    def _folders(self) -> list[Finding]:
        found = []
        if self.shared:
            one, two, share = self.shared[0]
            pairs = shortened(f"{first} and {second}" for first, second, _ in self.shared)
            found.append(
                Finding(
                    "folders",
                    Level.INVALID,
                    f"{counted(len(self.shared), 'pair')} of classes "
                    f"{'shares' if len(self.shared) == 1 else 'share'} most of their images: "
                    f"{pairs}. {percent(share)} of the distinct images of the smaller of {one} and "
                    f"{two} are in both, so no network can be right about them.",
                    "Merge these classes, or remove the copies.",
                )
            )
        if self.suspects:
            reasons = shortened(f"{name} ({why})" for name, why in self.suspects.items())
            found.append(
                Finding(
                    "folders",
                    Level.LOOK,
                    f"{counted(len(self.suspects), 'class looks', 'classes look')} like a mistake: "
                    f"{reasons}.",
                    "Every folder counts as a class. Remove or merge those that are none.",
                )
            )
        if self.alike:
            found.append(
                Finding(
                    "folders",
                    Level.LOOK,
                    "Names of classes are almost the same: "
                    f"{shortened(f'{one} and {two}' for one, two in self.alike)}.",
                    "Merge them if they mean the same.",
                )
            )
        return found or [
            Finding(
                "folders",
                Level.FINE,
                "No class looks like a mistake: none is tiny, a copy, or named like one.",
            )
        ]

    def _file_names(self) -> list[Finding]:
        found = []
        if self.misnamed:
            files = sum(count for _, _, count in self.misnamed)
            which = shortened(
                f"{count:,} of {name} are named {other}" for name, other, count in self.misnamed
            )
            found.append(
                Finding(
                    "file-names",
                    Level.LOOK,
                    f"{counted(files, 'file')} carry another class's name than their folder's: "
                    f"{which}. The folder is taken as the label.",
                    "Look at some of them: either the names are wrong or the labels are.",
                )
            )
        if self.clashes:
            found.append(
                Finding(
                    "file-names",
                    Level.LOOK,
                    f"{counted(len(self.clashes), 'group')} of files in one folder differ only in "
                    "upper and lower case or Unicode form, for example "
                    f"{' and '.join(self.clashes[0][:2])}.",
                    "On Windows and macOS one overwrites the other. Rename them.",
                )
            )
        return found or [
            Finding(
                "file-names",
                Level.FINE,
                "No file is named like another class or clashes with another file.",
            )
        ]

    def _test_size(self) -> Finding:
        size = self.test_size
        widths = " and ".join(
            f"±{points:.1f} points if they disagree on {percent(share)} of the images"
            for share, points in size.half_widths.items()
        )
        needed = " to ".join(f"{count:,}" for count in size.needed.values())
        sentence = (
            f"With {counted(size.images, 'distinct test image')} the difference in accuracy of two "
            f"networks is known to {widths} (95 % interval, both tested on the same images). For "
            f"±1 point {needed} are needed."
        )
        if size.half_widths[DISAGREEMENTS[0]] <= 100 * _POINT:
            return Finding("test-size", Level.FINE, sentence)
        return Finding(
            "test-size",
            Level.LOOK,
            sentence,
            "Smaller differences than that are no finding, however many seeds are run: more seeds "
            "do not make up for few test images. Use more test images.",
        )

    def _sizes(self, sizes: FileSizes) -> Finding:
        middle = QUANTILES.index(0.5)
        sentence = (
            f"Files are {_range(sizes.width)} pixels wide and {_range(sizes.height)} high "
            f"(median {sizes.width[middle]:.0f} x {sizes.height[middle]:.0f}); images of "
            f"{self.image_size} x {self.image_size} are used."
        )
        advice = []
        if sizes.upscaled:
            sentence += f" {counted(sizes.upscaled, 'is', 'are')} smaller and enlarged."
            if sizes.upscaled >= _UPSCALED * self.images:
                advice.append(
                    "Enlarged images are blurred: choose a smaller image size, or leave them out."
                )
        if sizes.long:
            sentence += (
                f" {counted(sizes.long, 'is', 'are')} more than twice as long as wide, so the "
                "square in the middle leaves out more than half."
            )
            if sizes.long >= _LONG_SHARE * self.images:
                advice.append("Crop long images to the object beforehand.")
        level = Level.LOOK if advice else Level.FINE
        return Finding("image-sizes", level, sentence, " ".join(advice))

    def _grey(self, grey: GreyImages) -> Finding:
        total = sum(grey.counts.values())
        if not total:
            return Finding("grey-images", Level.FINE, "Every image has colours.")
        sentence = f"{total:,} of {self.images:,} images are grey ({percent(total / self.images)})"
        if not grey.marked:
            return Finding(
                "grey-images", Level.FINE, f"{sentence}, no class far more often than others."
            )
        of_class = {name: sum(self.counts[name]) for name in grey.marked}
        shares = [grey.counts[name] / of_class[name] for name in grey.marked]
        return Finding(
            "grey-images",
            Level.LOOK,
            f"{sentence}, and {shortened(grey.marked)} far more often than the other classes "
            f"({span(min(shares), max(shares))} of its images).",
            "A network can tell a class by its lack of colour. Make all images grey, or replace "
            "those.",
        )


def health(subject: ImageSet, *, progress: Progress | None = None) -> Health:
    """Everything of :func:`quick_health`, and what headers and pixels say.

    An image is grey where the largest less the smallest channel is at most 3 levels on average and
    above 16 in at most 0.5 % of its pixels.

    Args:
        subject: the images.
        progress: called with a stage, and how many of how many images are done.
    """
    return replace(
        quick_health(subject),
        sizes=_file_sizes(subject, progress),
        grey=_grey_images(subject, progress),
    )


def quick_health(subject: ImageSet) -> Health:
    """What counts, names and hashes say, without opening a file.

    Levels: a class may have three times the training images of another before it is something to
    look at; a class looks like a mistake with less than a tenth of the median class's images, or
    with a name such as ``train``, ``New folder``, ``X copy`` or ``X (1)``; two names are almost the
    same when they differ by a plural s, or are ten characters or longer and differ by one letter
    (not the first of a word) or by two that are swapped. Two classes that share half the distinct
    images of the smaller one invalidate accuracies.
    """
    classes = subject.classes
    counts = np.stack(
        [
            np.bincount(subject.labels[subject.split == split], minlength=len(classes))
            for split in range(len(SPLITS))
        ],
        1,
    )
    in_test = subject.split == SPLITS.index("test")
    return Health(
        image_size=subject.data.image_size,
        counts={name: tuple(row) for name, row in zip(classes, counts.tolist(), strict=True)},
        skipped=dict(subject.skipped),
        suspects=_suspects(classes, counts.sum(1)),
        alike=_alike(classes),
        shared=_shared(subject),
        clashes=() if subject.root is None else _clashes(subject.names.tolist()),
        misnamed=() if subject.root is None else _misnamed(subject),
        test_size=size_of_test(len(np.unique(subject.digests[in_test]))),
    )


def size_of_test(images: int) -> SizeOfTest:
    """What so many test images can show, see :class:`SizeOfTest`."""
    n = max(images, 1)
    return SizeOfTest(
        images=images,
        half_widths={share: 100 * _Z * math.sqrt(share / n) for share in DISAGREEMENTS},
        unpaired=100 * _Z * math.sqrt(2 * 0.9 * 0.1 / n),
        needed={share: math.ceil(share * (_Z / _POINT) ** 2) for share in DISAGREEMENTS},
    )


def _suspects(classes: Sequence[str], images: Ints) -> dict[str, str]:
    found = {}
    median = float(np.median(images))
    splits = [name for name in classes if name.casefold().strip() in _SPLIT_WORDS]
    # One class called train may well be a locomotive.
    splits = [] if [name.casefold() for name in splits] == ["train"] else splits
    for name, count in zip(classes, images.tolist(), strict=True):
        plain = name.casefold().strip()
        if name in splits:
            found[name] = "named like a split"
        elif _STRAY.fullmatch(plain):
            found[name] = "named like a copy or a stray folder"
        elif count < _FEW * median:
            found[name] = f"{counted(count, 'image')}, the median class has {median:,.0f}"
    return found


def _alike(classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names that share what is left when one character is dropped, looked at in turn."""
    groups: dict[str, set[int]] = defaultdict(set)
    plain = [unicodedata.normalize("NFC", name).casefold() for name in classes]
    for index, name in enumerate(plain):
        for key in {name, *(name[:at] + name[at + 1 :] for at in range(len(name)))}:
            groups[key].add(index)
    pairs = {pair for group in groups.values() for pair in combinations(sorted(group), 2)}
    return tuple(
        (classes[one], classes[two]) for one, two in sorted(pairs) if _slip(plain[one], plain[two])
    )


def _slip(one: str, two: str) -> bool:
    """Whether one is the other's plural, or a slip of the pen away from it."""
    short, long = sorted((one, two), key=len)
    if len(short) >= 3 and long == f"{short}s" and short[-1].isalpha():
        return True
    if min(len(one), len(two)) < _LONG_NAME:
        return False
    start = 0
    while start < len(short) and short[start] == long[start]:
        start += 1
    if start == 0 or not long[start - 1].isalpha():
        return False
    if len(long) > len(short):
        return long[start].isalpha() and short[start:] == long[start + 1 :]
    changed = [at for at in range(start, len(long)) if short[at] != long[at]]
    letters = all(short[at].isalpha() and long[at].isalpha() for at in changed)
    if len(changed) == 1:
        return letters
    swapped = len(changed) == 2 and changed[1] == start + 1
    return (
        swapped and letters and short[start] == long[start + 1] and short[start + 1] == long[start]
    )


def _shared(subject: ImageSet) -> tuple[tuple[str, str, float], ...]:
    """The pixels decide, so that the same image saved twice counts."""
    order = np.lexsort((subject.labels, subject.digests))
    digests, labels = subject.digests[order], subject.labels[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (digests[1:] != digests[:-1]) | (labels[1:] != labels[:-1])
    digests, labels = digests[new], labels[new]
    distinct = np.bincount(labels, minlength=len(subject.classes))
    several = np.flatnonzero(digests[1:] == digests[:-1])
    groups: dict[int, set[int]] = defaultdict(set)
    for at in several.tolist():
        groups[int(digests[at])] |= {int(labels[at]), int(labels[at + 1])}
    both = Counter(pair for group in groups.values() for pair in combinations(sorted(group), 2))
    found = [
        (subject.classes[one], subject.classes[two], count / int(min(distinct[one], distinct[two])))
        for (one, two), count in both.items()
    ]
    most = [entry for entry in found if entry[2] >= _SHARED]
    return tuple(sorted(most, key=lambda entry: -entry[2]))


def _clashes(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name if name.isascii() and name.islower() else _folded(name)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _misnamed(subject: ImageSet) -> tuple[tuple[str, str, int], ...]:
    carried = carried_classes(subject.names.tolist(), subject.labels, subject.classes)
    wrong = (carried != NONE) & (carried != subject.labels)
    pairs = Counter(zip(subject.labels[wrong].tolist(), carried[wrong].tolist(), strict=True))
    users = Counter(other for _, other in pairs)
    found = [
        (subject.classes[label], subject.classes[other], count)
        for (label, other), count in pairs.items()
        if count >= _SAME_NAME and users[other] <= max(len(subject.classes) // 2, 1)
    ]
    return tuple(sorted(found, key=lambda entry: -entry[2]))


def _file_sizes(subject: ImageSet, progress: Progress | None) -> FileSizes | None:
    about = headers(subject, progress=progress)
    if about is None or not about.read.any():
        return None
    read = about.read
    width, height = about.width[read], about.height[read]
    aspect = np.maximum(width, height) / np.minimum(width, height)
    codes = Counter(about.format[read].tolist())
    return FileSizes(
        width=_quantiles(width),
        height=_quantiles(height),
        aspect=_quantiles(aspect),
        bytes=_quantiles(about.size[read]),
        upscaled=int((np.minimum(width, height) < subject.data.image_size).sum()),
        long=int((aspect > _LONG).sum()),
        unread=int((~read).sum()),
        formats={about.formats[code]: count for code, count in codes.most_common()},
    )


def _quantiles(values: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple(np.quantile(values, QUANTILES).tolist())


def _grey_images(subject: ImageSet, progress: Progress | None) -> GreyImages | None:
    if subject.data.channels == 1:
        return None
    grey = pixel_measures(subject, progress=progress).grey
    classes = len(subject.classes)
    images = np.bincount(subject.labels, minlength=classes)
    counts = np.bincount(subject.labels[grey], minlength=classes)
    shares = counts / np.maximum(images, 1)
    marked = [
        subject.classes[index]
        for index in range(classes)
        if wilson(float(shares[index]), int(images[index]))[0]
        - float(np.median(np.delete(shares, index)))
        >= _GREY
    ]
    some = {subject.classes[index]: int(counts[index]) for index in np.flatnonzero(counts)}
    return GreyImages(counts=some, marked=tuple(marked))


def _range(quantiles: Sequence[float]) -> str:
    low, high = quantiles[0], quantiles[-1]
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
