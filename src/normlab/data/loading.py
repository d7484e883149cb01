"""From a configuration to a data set: find, split, limit, decode, measure."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..keyed import key
from ..pages.words import counted, listed
from ..places import cache_folder
from ..splits import SPLIT_WORDS, SPLITS
from . import cache, sources, splitting
from .cache import Progress
from .config import MIN_SIZE, DataConfig, Resize
from .dataset import DataSet, Split, moments
from .decode import RESIZE_RULES, BadImageError, read, side_of, square_side
from .folds import Folds
from .grouping import Together, group_names, same
from .hashes import content_hashes
from .levels import Levels
from .sources import Listing
from .splitfile import LEFT_OUT, UNKNOWN, SplitFile

Rows = npt.NDArray[np.int64]

_LARGEST_OWN = 64
_HEADERS = 1000
_SHOWN = 10


def load(
    config: DataConfig,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    levels: Levels | None = None,
    listing: Listing | None = None,
) -> DataSet:
    """The data set that ``config`` asks for; decoded on first use, from the cache afterwards.

    Args:
        config: which images.
        progress: called with a stage, and how many of how many images are done.
        workers: processes that decode; None uses all cores, or no processes if there are few files.
        levels: black and white of grey values of more than 8 bits, where a model was trained with
            some; None takes what the images show.
        listing: of the source, where it has been listed already.

    Raises:
        InputError: when the source or any of its files cannot be used.
    """
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise InputError(f"workers must be a whole number of at least 1, not {workers!r}.")
    listing = listing or sources.find(config.source)
    ids = np.array([key(name) for name in listing.names], dtype=np.uint64)
    wanted = cache.Wanted(
        config.image_size or _own_size(listing, config.resize), config.resize, levels
    )
    size = wanted.size
    groups: Sequence[str] = ()
    if config.group_by is not None:
        groups = group_names(listing.names, config.group_by, listing.source)
    fractions: dict[str, float] = {}
    known: Rows | None = None
    if config.folds is not None:
        found, notes, known = _pooled(listing, config, progress)
        fractions = config.fractions({"val": listing.fractions["val"]})
    elif config.split is None:
        found, notes = dict(listing.found), [*listing.notes, *_ignored(listing, config)]
        missing = [name for name in ("val", "test") if name not in found]
        fractions = config.fractions({name: listing.fractions[name] for name in missing})
        whole = {name: part for name, part in found.items() if name != "train" or not missing}
        _whole(listing, whole, "It has none in the source.")
    else:
        found, notes = _from_file(listing, config, progress)

    bad = np.zeros(len(listing.names), np.bool_)
    # A draw depends on every image: on which can be read, and on which are copies of which.
    rows = _rows_of(found if fractions else _limited_to(found, listing, ids, config))
    while True:
        entry = cache.obtain(listing, rows, wanted, progress=progress, workers=workers)
        skipped = {listing.names[rows[row]]: why for row, why in sorted(entry.bad.items())}
        if skipped and not config.skip_bad:
            raise InputError(_refusal(listing, skipped, len(rows)))
        bad[rows[list(entry.bad)]] = True
        splits = {name: part[~bad[part]] for name, part in found.items()}
        if fractions or _all_in(_limited_to(splits, listing, ids, config), rows):
            break
        # Files that cannot be used take no place in the limit: others move up.
        rows = np.union1d(_rows_of(_limited_to(splits, listing, ids, config)), np.flatnonzero(bad))
    if skipped:
        notes.append(_left_out(skipped))
        if config.folds is None:
            _whole(listing, splits, "None of its files there can be used.")
    folds = None
    if config.folds is not None:
        used = rows[~bad[rows]]
        folds = _folds(listing, ids, entry, rows, used, config, fractions["val"], groups, known)
        splits = {name: used[part] for name, part in folds.rows(0).items()}
        notes += _dealt(listing, folds)
        notes += _kept_together(np.arange(len(used)), folds.together)
    elif fractions:
        digests = ids.copy()  # of what cannot be used: equal to no other
        digests[rows[~bad[rows]]] = entry.digests[~bad[rows]]
        together = Together.of(digests, groups)
        splits = splitting.carve(
            splits, listing.labels, ids, listing.classes, fractions, config.split_seed,
            together.number, together.told,
        )  # fmt: skip
        notes += _carved(listing, splits, _policy(listing, config, fractions))
        notes += _kept_together(listing.found["train"][~bad[listing.found["train"]]], together)
    drawn = splits
    splits = _limited_to(splits, listing, ids, config)
    notes += _limited(drawn, splits, config)
    notes += [*entry.said, *_several_frames(entry)]

    made = {
        name: _split_of(listing, ids, entry, part, np.searchsorted(rows, part))
        for name, part in splits.items()
    }
    trained = np.searchsorted(rows, splits["train"])
    mean, std = moments(entry.sums[trained], entry.squares[trained], size * size)
    rule = RESIZE_RULES[config.resize].format(size=size)
    return DataSet(
        config=replace(
            config,
            source=listing.source,
            # What was drawn, so that a record says it whatever the defaults become.
            val_fraction=fractions.get("val", config.val_fraction),
            test_fraction=fractions.get("test", config.test_fraction),
            split=None if config.split is None else str(Path(config.split).expanduser().resolve()),
        ),
        source=listing.source,
        kind=listing.kind,
        name=listing.name,
        classes=listing.classes,
        channels=listing.channels,
        image_size=size,
        splits=made,
        mean=mean,
        std=std,
        fingerprint=_fingerprint(listing, size, rule, made, folds),
        notes=tuple(notes),
        resize_rule=rule,
        split_policy=_policy(listing, config, fractions),
        split_seed=config.split_seed,
        limit_per_class=config.limit_per_class,
        skipped=skipped,
        levels=entry.levels,
        folds=folds,
    )


def _split_of(
    listing: Listing, ids: npt.NDArray[np.uint64], entry: cache.Entry, rows: Rows, places: Rows
) -> Split:
    """These rows of a listing, at their places in the cache."""
    return Split(
        names=np.array([listing.names[row] for row in rows.tolist()], dtype=np.str_),
        labels=listing.labels[rows],
        ids=ids[rows],
        digests=entry.digests[places],
        _rows=places,
        _pixels=entry.pixels,
    )


def _folds(
    listing: Listing,
    ids: npt.NDArray[np.uint64],
    entry: cache.Entry,
    rows: Rows,
    used: Rows,
    config: DataConfig,
    val_fraction: float,
    groups: Sequence[str],
    known: Rows | None,
) -> Folds:
    """The folds of a source.

    Args:
        listing, ids: of the source.
        entry: its images in the cache; ``rows`` those of the listing that it has.
        used: rows of the listing that can be used.
        config: what is asked.
        val_fraction: share of the other folds that is validation.
        groups: name of each row's group by the pattern; none without one.
        known: a number for each row of the listing, equal for those that a split file keeps
            together; None without one.
    """
    assert config.folds is not None
    places = np.searchsorted(rows, used)
    together = Together.of(
        entry.digests[places],
        [groups[row] for row in used.tolist()] if groups else (),
        *([] if known is None else [same(known[used])]),
    )
    return Folds(
        number=config.folds,
        whole=_split_of(listing, ids, entry, used, places),
        together=together,
        classes=listing.classes,
        val_fraction=val_fraction,
        split_seed=config.split_seed,
        sums=entry.sums[places],
        squares=entry.squares[places],
        pixels=math.prod(entry.pixels.shape[1:3]),
    )


def _pooled(
    listing: Listing, config: DataConfig, progress: Progress | None
) -> tuple[dict[str, Rows], list[str], Rows | None]:
    """All rows that are to be dealt into folds, notes, and which of them a split file keeps
    together."""
    every = np.arange(len(listing.names))
    if config.split is None:
        return {"train": every}, list(listing.notes), None
    path = Path(config.split).expanduser()
    file = SplitFile.read(path, len(listing.names))
    if file.together is None:
        raise InputError(
            f"{path} assigns images to splits, and --folds {config.folds} deals them anew for each "
            "run. Omit one of the two. To keep copies in one fold, give --clean-split instead of "
            "--split."
        )
    places = _places(listing, config, path, file, progress)
    contents = content_hashes(listing, progress=progress)
    number = {content: index for index, one in enumerate(file.together) for content in one}
    alone = itertools.count(len(file.together))
    known = [number.setdefault(content, next(alone)) for content in contents.tolist()]
    kept = "" if not _clean(path) else " (kept in split.json)"
    notes = [*listing.notes, f"Copies were searched for{kept}: " + " ".join(file.notes)]
    left_out = int((places == LEFT_OUT).sum())
    if left_out:
        notes.append(f"{left_out:,} images are in no fold.")
    return {"train": every[places != LEFT_OUT]}, notes, np.array(known, dtype=np.int64)


def _dealt(listing: Listing, folds: Folds) -> list[str]:
    """What is to be known of the folds."""
    number, images = folds.number, len(folds.whole)
    tested = [len(rows["test"]) for rows in map(folds.rows, range(number))]
    least, most = min(tested), max(tested)
    size = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    said = [
        f"The {images:,} images are dealt into {number} folds of {size}. Each run is tested on one "
        f"fold; {_percent(folds.val_fraction)} of the others are its validation and the rest its "
        f"training. Seeds 0 to {number - 1} test every image once, seeds {number} to "
        f"{2 * number - 1} again with the images dealt anew, and so on. With the same seed, all "
        "arms see the same images. Pixel statistics, and findings about train, val and test, are "
        "of seed 0."
    ]
    if own := [name for name in SPLITS if name in listing.found and listing.has_splits]:
        words = [SPLIT_WORDS[name] for name in own]
        said.append(
            f"The source's own splits ({listed(words)}) are not used: all its images are dealt "
            "anew. If its test images are apart for a reason, such as other people or places, name "
            "what belongs together with --group-by."
        )
    return said


def _limited_to(
    splits: Mapping[str, Rows], listing: Listing, ids: npt.NDArray[np.uint64], config: DataConfig
) -> dict[str, Rows]:
    """The splits within the limit per class, if there is one."""
    if config.limit_per_class is None:
        return dict(splits)
    return splitting.limit(
        splits,
        listing.labels,
        ids,
        listing.classes,
        config.limit_per_class,
        config.split_seed,
        all_splits=config.limit_all_splits,
    )


def _rows_of(splits: Mapping[str, Rows]) -> Rows:
    return np.sort(np.concatenate(list(splits.values())))


def _all_in(splits: Mapping[str, Rows], rows: Rows) -> bool:
    return bool(np.isin(_rows_of(splits), rows).all())


def _kept_together(pool: Rows, together: Together) -> list[str]:
    """What was kept in one split, among the images that the splits were drawn from."""
    said = []
    if copies := together.copied(pool):
        said.append(
            f"{copies:,} of {len(pool):,} images are exact copies of one another. All copies of an "
            "image are in one split."
        )
    if together.names:
        _, sizes = np.unique(np.array(together.names)[pool], return_counts=True)
        said.append(
            f"group_by puts {len(pool):,} images in {counted(len(sizes), 'group')}, the largest "
            f"with {sizes.max():,}. Every group is in one split."
        )
    return said


def _places(
    listing: Listing,
    config: DataConfig,
    path: Path,
    file: SplitFile,
    progress: Progress | None,
) -> npt.NDArray[np.int8]:
    """In which split a split file has each image; what cannot be decoded is in train."""
    if tuple(file.classes) != listing.classes:
        raise InputError(
            f"{path} was written for different classes: it has {len(file.classes)}, "
            f"{listing.source} has {len(listing.classes)}. Write it again with normlab check-data."
        )
    places = file.places(content_hashes(listing, progress=progress), listing.names)
    unknown = np.flatnonzero(places == UNKNOWN)
    # What cannot be decoded was never in the file, and is refused or skipped later.
    new = [row for row in unknown.tolist() if not _unreadable(listing, row)]
    if new:
        raise InputError(
            f"{len(new):,} of {len(places):,} images in {listing.source} are not in {path}, such "
            f"as {listing.names[new[0]]}. Write the split again: normlab check-data "
            f"{config.source} --write-split {path}"
        )
    if len(unknown):
        places[unknown] = SPLITS.index("train")
    return places


def _from_file(
    listing: Listing, config: DataConfig, progress: Progress | None
) -> tuple[dict[str, Rows], list[str]]:
    """The splits in a split file, and what it says about them."""
    assert config.split is not None
    path = Path(config.split).expanduser()
    file = SplitFile.read(path, len(listing.names))
    places = _places(listing, config, path, file, progress)
    splits = {name: np.flatnonzero(places == index) for index, name in enumerate(SPLITS)}
    _whole(listing, splits, f"It has none in {path}.")
    left_out = int((places == LEFT_OUT).sum())
    clean = _clean(path)
    start = f"The split is {clean}" if clean else f"The split comes from {path.name}"
    notes = [*listing.notes, f"{start}: " + " ".join(file.notes)]
    if left_out:
        notes.append(f"{left_out:,} images are in no split{'' if clean else f' of {path.name}'}.")
    return splits, notes


def _clean(path: Path) -> str:
    """A clean split in words; empty where the file is the user's own."""
    made = path.expanduser().resolve().parent == cache_folder("splits").resolve()
    return "a clean split (kept in split.json)" if made else ""


def _several_frames(entry: cache.Entry) -> list[str]:
    count = len(entry.frames)
    if not count:
        return []
    files = "1 file has" if count == 1 else f"{count:,} files have"
    least, most = min(entry.frames.values()), max(entry.frames.values())
    number = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return [f"{files} several frames ({number}), of which the first is used."]


def _unreadable(listing: Listing, row: int) -> bool:
    if listing.root is None:
        return False
    try:
        read(listing.root / listing.names[row], MIN_SIZE, listing.channels, levels=None)
    except BadImageError:
        return True
    return False


def _own_size(listing: Listing, resize: Resize) -> int:
    """The side of the squares at the images' own resolution, the median where they differ, between
    8 and 64."""
    if listing.side is not None:
        side = side_of((listing.side, listing.longer_side or listing.side), resize)
    else:
        assert listing.root is not None
        count = len(listing.names)
        sides: list[int] = []
        for row in np.linspace(0, count - 1, min(count, _HEADERS)).round().astype(int):
            try:
                sides.append(square_side(listing.root / listing.names[row], resize))
            except BadImageError:
                continue
        side = int(np.median(sides)) if sides else _LARGEST_OWN
    return min(max(side, MIN_SIZE), _LARGEST_OWN)


def _whole(listing: Listing, splits: Mapping[str, Rows], why: str) -> None:
    """Every class must be in every split."""
    for split, rows in splits.items():
        counts = np.bincount(listing.labels[rows], minlength=len(listing.classes))
        for name, count in zip(listing.classes, counts, strict=True):
            if count == 0:
                raise InputError(
                    f"Class {name} has no images in {split} of {listing.source}. {why} Add "
                    "images, or remove the class from every split."
                )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"


def _policy(listing: Listing, config: DataConfig, fractions: Mapping[str, float]) -> dict[str, str]:
    """How each split came about; ``fractions`` has the shares of those that were drawn."""
    how = "stratified" if config.group_by is None else "whole groups, stratified"
    if config.folds is not None:
        return {
            "train": "what remains",
            "val": f"{_percent(fractions['val'])} of the other folds, {how}, seed "
            f"{config.split_seed}",
            "test": f"one of {config.folds} folds, another for each run, {how}, seed "
            f"{config.split_seed}",
        }
    if config.split is not None:
        return dict.fromkeys(
            SPLITS, _clean(Path(config.split)) or f"as written in {Path(config.split).name}"
        )
    whole = "train" if listing.has_splits else "the source"
    drawn = {
        name: f"{_percent(share)} of {whole}, {how}, seed {config.split_seed}"
        for name, share in fractions.items()
    }
    rest = "what remains" if drawn else "as found"
    return {"train": rest, **{name: drawn.get(name, "as found") for name in ("val", "test")}}


def _carved(listing: Listing, splits: Mapping[str, Rows], policy: Mapping[str, str]) -> list[str]:
    counts = {name: f"{len(splits[name]):,}" for name in SPLITS}
    if not listing.has_splits:
        return [
            f"The source has no splits, so they were drawn: val is {policy['val']} "
            f"({counts['val']} images), test is {policy['test']} ({counts['test']} images), and "
            f"train is the rest ({counts['train']} images)."
        ]
    return [
        f"The source has no {name} split, so it was drawn: {policy[name]} ({counts[name]} images; "
        f"{counts['train']} remain in train)."
        for name in ("val", "test")
        if name not in listing.found
    ]


def _ignored(listing: Listing, config: DataConfig) -> list[str]:
    """Shares that were asked for a split that the source has."""
    asked = {"val": config.val_fraction, "test": config.test_fraction}
    return [
        f"The source has its own {name} split, so {name}_fraction {share} was ignored."
        for name, share in asked.items()
        # Older records name the default of every split, drawn or not.
        if name in listing.found and share not in (None, listing.fractions[name])
    ]


def _limited(
    before: Mapping[str, Rows], after: Mapping[str, Rows], config: DataConfig
) -> list[str]:
    most = config.limit_per_class
    if most is None or all(len(before[name]) == len(after[name]) for name in before):
        return []
    others = "with val and test in proportion" if config.limit_all_splits else "val and test whole"
    kept = ", ".join(f"{len(after[name]):,} of {len(before[name]):,} in {name}" for name in before)
    return [
        f"Limited to {most:,} training image{'s' * (most != 1)} per class, {others}, "
        f"drawn with the split seed: {kept}."
    ]


def _some(skipped: Mapping[str, str]) -> list[str]:
    lines = [f"{name} {reason}" for name, reason in list(skipped.items())[:_SHOWN]]
    more = len(skipped) - _SHOWN
    return lines + ([f"and {more:,} more"] if more > 0 else [])


def _refusal(listing: Listing, skipped: Mapping[str, str], count: int) -> str:
    listed = "".join(f"\n  {line}" for line in _some(skipped))
    return (
        f"{len(skipped):,} of {count:,} files in {listing.source} cannot be used:{listed}\n"
        "Fix or remove them, or add --skip-bad to leave them out."
    )


def _left_out(skipped: Mapping[str, str]) -> str:
    count = len(skipped)
    files = "1 file was" if count == 1 else f"{count:,} files were"
    return f"{files} left out as unusable: {'; '.join(_some(skipped))}."


def _fingerprint(
    listing: Listing, size: int, rule: str, splits: Mapping[str, Split], folds: Folds | None
) -> str:
    """Identifies the images and their splits, whatever folder or machine they are on.

    With folds these are all images, and what decides how they are dealt.
    """
    head: list[object] = [listing.classes, listing.channels, size, rule]
    if folds is not None:
        head += ["folds", folds.number, folds.split_seed, folds.val_fraction]
        splits = {"all": folds.whole}
    hashed = hashlib.blake2b(json.dumps(head).encode(), digest_size=16)
    for name, split in splits.items():
        hashed.update(f"\0{name}\0{len(split)}\0".encode())
        hashed.update("\0".join(split.names.tolist()).encode())
        hashed.update(split.labels.astype("<i8").tobytes())
        hashed.update(split.digests.astype("<u8").tobytes())
    if folds is not None:
        hashed.update(folds.together.number.astype("<i8").tobytes())
    return hashed.hexdigest()
