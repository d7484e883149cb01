"""The gallery of trained models: the images, their maps, the page and its files."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..data import DataSet
from ..destinations import check_folder, explained_disk_errors
from ..errors import InputError
from ..files import read_json, write_json, write_text
from . import page, pictures
from .exhibit import QUANTILE, Checks, Exhibit, ExplainedModel, Looked, Progress, check, look
from .pictures import Panel, SheetImage
from .placing import place
from .selection import RULE, Chosen, Selection

FORMAT = "normlab gallery 1"
CHOSEN, PAGE, SHEET = "chosen.json", "index.html", "contact-sheet.png"

_HOUR = 3600

COMPARED_SIDE = 512
"""Largest side in pixels of a panel in PNG files that show several models."""


@dataclass(frozen=True)
class Gallery:
    """A gallery's files.

    Attributes:
        folder: contains everything.
        page: ``index.html``, one offline page.
        contact_sheet: all images in one PNG file.
        chosen: ``chosen.json``: the images, the rule, method, site and units.
        notes: plain sentences, for example which classes have fewer images than asked.
    """

    folder: Path
    page: Path
    contact_sheet: Path
    chosen: Path
    notes: tuple[str, ...]


def write_gallery(
    folder: Path,
    models: Sequence[ExplainedModel],
    data: DataSet,
    split: str,
    selection: Selection,
    *,
    method: str = "grad-cam",
    site: str = "last",
    title: str,
    record: Mapping[str, Any],
    notes: Sequence[str] = (),
    with_faithfulness: bool = False,
    with_randomization: bool = False,
    progress: Progress | None = None,
) -> Gallery:
    """Compute the maps and write the gallery, whole or not at all.

    Args:
        folder: where to write it. An earlier gallery there is replaced.
        models: the models. The images were chosen by the first one.
        data: the data set, with the mean and deviation that the models were trained with.
        split: the split that the images are from.
        selection: the images.
        method: see :func:`.maps.explain_batch`.
        site: see :func:`.sites.resolve_site`.
        title: of the page.
        record: where the models come from, for ``chosen.json``.
        notes: plain sentences for the page.
        with_faithfulness: also measure deletion and insertion.
        with_randomization: also randomize the first model's layers from the top.
        progress: called with a stage, the number done and the total.

    Raises:
        InputError: a folder that contains something else, an unknown method or site, an image
            that can no longer be read.
    """
    tell = progress or (lambda stage, done, total: None)
    check_target(folder)
    exhibit = look(models, data, split, selection, method, site, tell)
    checks = check(
        exhibit, tell, with_faithfulness=with_faithfulness, with_randomization=with_randomization
    )
    said = (*notes, *exhibit.notes, *_short(selection, data))
    with _whole(folder) as aside:
        sources = _draw(aside, exhibit, tell)
        files = file_names(selection, data)
        write_json(aside / CHOSEN, {"format": FORMAT, **record, **_record(exhibit, checks, files)})
        write_text(aside / PAGE, page.render(title, exhibit, checks, sources, files, said))
    return Gallery(folder, folder / PAGE, folder / SHEET, folder / CHOSEN, said)


def check_target(folder: Path) -> None:
    """Fail before any work if a gallery cannot be written. What a killed process left behind is
    put right first.

    Raises:
        InputError: the folder contains something other than a gallery, cannot be written, or is a
            gallery in which this process works.
    """
    _recover(_followed(folder))
    check_folder(folder, "--out")
    # The gallery's folder is replaced as a whole, which its own permissions do not prevent.
    check_folder(_followed(folder).parent, "--out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    ours = False
    if (folder / CHOSEN).is_file():
        content = read_json(folder / CHOSEN)
        ours = isinstance(content, dict) and content.get("format") == FORMAT
    if not ours:
        raise InputError(
            f"{folder} already exists and is not a gallery. Move it away, or choose another "
            "folder with --out."
        )
    here = _working_folder()
    if here is not None and here.is_relative_to(_followed(folder)):
        raise InputError(
            f"{folder} is a gallery and the working folder, which would be replaced with it. Call "
            "normlab from another folder."
        )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A temporary folder next to the one wanted, which takes its name if all goes well.

    Where a link leads to the folder, the link stays. An earlier gallery is there under its name or,
    between two renames, aside; :func:`_recover` puts it back if the process ends in that moment.
    """
    folder = _followed(folder)
    aside = _beside(folder, "part")
    old = _beside(folder, "old")
    with explained_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
            check_target(folder)
            if folder == _working_folder():
                # It is empty. A folder in its place would be another than the one worked in.
                for made in sorted(aside.iterdir(), key=lambda path: path.name == CHOSEN):
                    made.replace(folder / made.name)
                return
            if folder.exists():
                shutil.copymode(folder, aside)
                folder.replace(old)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if not folder.exists() and old.exists():
                old.replace(folder)
            shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, kind: str, process: int | str | None = None) -> Path:
    """Where this process, or another, puts its part or the old gallery while it replaces one."""
    return folder.parent / f".{folder.name}.{process or os.getpid()}.{kind}"


def _recover(folder: Path) -> None:
    """Put back a gallery that a killed process had moved aside, and remove what else such processes
    left."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)\.(old|part)")
    with suppress(OSError):  # what cannot be put right here will be in the way, and named, later
        for path in sorted(folder.parent.iterdir()):  # old ones first
            found = pattern.fullmatch(path.name)
            if found is None or _is_running(int(found[1]), path):
                continue
            if found[2] == "old" and not folder.exists():
                path.replace(folder)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int, left: Path) -> bool:
    """Whether a process may still be at work on what is beside a gallery."""
    if process == os.getpid():
        return True
    if os.name == "nt":  # where asking would end the process
        return time.time() - left.stat().st_mtime < _HOUR
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _working_folder() -> Path | None:
    """None if it has been removed."""
    try:
        return Path.cwd().resolve()
    except FileNotFoundError:
        return None


def _followed(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def file_names(selection: Selection, data: DataSet) -> list[str]:
    """The path of each image's PNG file inside the gallery, in the order of the selection."""
    folders = _folders(data.classes)
    return [
        f"images/{folders[chosen.label]}/{chosen.kind}-{chosen.place}-"
        f"{_plain(Path(chosen.name).stem, 'image')}.png"
        for chosen in selection.images
    ]


def _folders(classes: Sequence[str]) -> list[str]:
    """A folder name for each class. They differ even where case is ignored."""
    taken: set[str] = set()
    found = []
    for index, name in enumerate(classes):
        plain = _plain(name, "class")
        if plain.lower() in taken:
            plain = f"{plain}-{index}"
        taken.add(plain.lower())
        found.append(plain)
    return found


def _plain(text: str, otherwise: str) -> str:
    """Letters, digits, dots, dashes and underscores, which every file system accepts."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:80] or otherwise


def _short(selection: Selection, data: DataSet) -> list[str]:
    """One sentence for all classes with fewer images than asked for."""
    if not selection.short:
        return []
    if len(selection.short) == len(selection.classes) > 1:
        return ["Every class has fewer images than asked for. All of them are shown."]
    names = ", ".join(data.classes[label] for label in selection.short)
    return [f"Fewer images than asked for, so all of them are shown, in {names}."]


def _draw(folder: Path, exhibit: Exhibit, progress: Progress) -> list[str]:
    """Write the PNG files and return the pictures as data URIs for the page."""
    selection, data = exhibit.selection, exhibit.data
    several = len(exhibit.models) > 1
    files = file_names(selection, data)
    embedded = []
    sheet: dict[int, list[SheetImage]] = {label: [] for label in selection.classes}
    side = page.picture_side(len(selection.images))
    for index, (chosen, by_model) in enumerate(zip(selection.images, exhibit.looked, strict=True)):
        source = pictures.source_picture(data, exhibit.split, chosen.row)
        embedded.append(pictures.embedded_picture(source, side))
        shown = source
        if several and source.width > COMPARED_SIDE:
            shown = source.resize((COMPARED_SIDE, COMPARED_SIDE), Image.Resampling.LANCZOS)
        shown = pictures.enlarged(shown)
        overlays = [
            [
                pictures.overlay(
                    shown,
                    place(seen.cells, data.image_size, shown.width, seen.grid),
                    seen.scale,
                )
                for seen in looked.maps
            ]
            for looked in by_model
        ]
        panels = _panels(exhibit, chosen, by_model, shown, overlays)
        pictures.write_panels(folder / files[index], panels)
        small = (shown, *(drawn[0] for drawn in overlays)) if several else (shown, *overlays[0])
        sheet[chosen.label].append(SheetImage(small, _sheet_lines(exhibit, chosen, by_model[0])))
        progress("pictures", index + 1, len(selection.images))
    rows = [(data.classes[label], images) for label, images in sheet.items()]
    pictures.write_contact_sheet(folder / SHEET, rows, _sheet_legend(exhibit), several)
    return embedded


def _panels(
    exhibit: Exhibit,
    chosen: Chosen,
    by_model: Sequence[Looked],
    shown: Image.Image,
    overlays: Sequence[Sequence[Image.Image]],
) -> list[list[Panel]]:
    """One row per model: the picture, the map of the true class, that of the predicted class."""
    classes = exhibit.data.classes
    rows = []
    for explained, looked, drawn in zip(exhibit.models, by_model, overlays, strict=True):
        several = len(exhibit.models) > 1
        first = Panel(shown, (explained.name if several else classes[chosen.label], chosen.name))
        rows.append([first])
        for seen, picture in zip(looked.maps, drawn, strict=True):
            probability = f"{classes[seen.target]} {looked.probabilities[seen.target]:.2f}"
            own = f"full colour: ±{seen.scale:.2g} {exhibit.unit}"
            rows[-1].append(Panel(picture, (f"for {probability}", seen.note or own)))
    return rows


def _sheet_lines(exhibit: Exhibit, chosen: Chosen, looked: Looked) -> tuple[str, ...]:
    said = f"{chosen.kind}, {looked.probabilities[looked.predicted]:.2f}"
    return (said,) if chosen.kind == "right" else (said, exhibit.data.classes[looked.predicted])


def _sheet_legend(exhibit: Exhibit) -> str:
    names = [explained.name for explained in exhibit.models]
    order = (
        f"from the top: picture, then {', '.join(names)}, all for the true class"
        if len(names) > 1
        else "picture, map of the true class and, if wrong, map of the predicted class"
    )
    return f"{order}; orange is evidence for the class, blue against it; {scale_words(exhibit)}"


def scale_words(exhibit: Exhibit) -> str:
    """The value that full colour stands for."""
    if exhibit.logits or len(exhibit.models) == 1:
        return f"full colour: ±{exhibit.scales[0]:.2g} {exhibit.unit}"
    each = ", ".join(
        f"{explained.name} ±{scale:.2g}"
        for explained, scale in zip(exhibit.models, exhibit.scales, strict=True)
    )
    return f"full colour, {exhibit.unit}: {each}"


def _record(exhibit: Exhibit, checks: Checks, files: Sequence[str]) -> dict[str, Any]:
    """What chosen.json says about the images, the maps and the checks."""
    data = exhibit.data
    content: dict[str, Any] = {
        "data": {"source": data.source, "fingerprint": data.fingerprint},
        "split": exhibit.split,
        "classes": list(data.classes),
        "rule": RULE,
        "method": exhibit.method,
        "site": exhibit.site,
        "sites": {
            explained.name: list(sites)
            for explained, sites in zip(exhibit.models, exhibit.sites, strict=True)
        },
        "units": exhibit.unit,
        "full_colour": {
            explained.name: scale
            for explained, scale in zip(exhibit.models, exhibit.scales, strict=True)
        },
        "full_colour_rule": f"the {QUANTILE} quantile of the absolute values of all cells",
        "images": [
            {
                "name": chosen.name,
                "class": data.classes[chosen.label],
                "kind": chosen.kind,
                "place": chosen.place,
                "rank": f"{chosen.end} confident {chosen.rank}",
                "file": file,
                "models": {
                    explained.name: {
                        "predicted": data.classes[looked.predicted],
                        "probabilities": [float(f"{p:.6g}") for p in looked.probabilities],
                    }
                    for explained, looked in zip(exhibit.models, by_model, strict=True)
                },
            }
            for chosen, by_model, file in zip(
                exhibit.selection.images, exhibit.looked, files, strict=True
            )
        ],
    }
    if checks.faithfulness:
        content["faithfulness"] = {
            name: {
                kind: {ranking: curves.area for ranking, curves in getattr(found, kind).items()}
                for kind in ("deletion", "insertion")
            }
            for name, found in checks.faithfulness.items()
        }
    if checks.cascade:
        content["randomization"] = [
            {
                "layer": step.layer,
                "spearman": _number(step.mean_spearman),
                "pearson": _number(step.mean_pearson),
            }
            for step in checks.cascade
        ]
    return content


def _number(value: float) -> float | None:
    """JSON has no NaN: a mean over no images is null."""
    return None if value != value else value
