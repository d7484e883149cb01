"""What a gallery shows, computed, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..data import DataSet, DeviceSplit
from ..errors import InputError
from ..models import not_finite
from .faithfulness import Faithfulness, faithfulness
from .grids import cell_grid, followed_grid
from .maps import explain_batch
from .placing import Grid, upsample
from .randomization import RandomizationStep, randomization_check
from .selection import Selection
from .sites import in_logit_units, resolve_site, site_words

Values = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

QUANTILE = 0.995
"""Of the absolute values of all cells: the value that full colour stands for."""
NEXT_TO_NONE = 0.02
"""A map that stays below this share of the scale is never stretched to full colour."""
LOGITS = "logits per cell"
_BATCH = 64
_PROBED = 8
_PLACES = (("top left", "top centre", "top right"),
           ("centre left", "centre", "centre right"),
           ("bottom left", "bottom centre", "bottom right"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExplainedModel:
    """A trained model to look into.

    Attributes:
        name: what it is called where several models are shown side by side.
        model: the network, on the CPU.
        probabilities: for the whole split, (n, K), images and classes in the data's order.
        facts: name to value, for the page.
        fresh: makes the network with new weights, as for :func:`.randomization_check`.
    """

    name: str
    model: nn.Module
    probabilities: npt.NDArray[np.floating]
    facts: Mapping[str, str]
    fresh: Callable[[int], nn.Module] | None = None

    def predicted(self, row: int) -> int:
        """Index of the class that it predicts for an image of the split."""
        return int(self.probabilities[row].argmax())


@dataclass(frozen=True, eq=False)
class Seen:
    """The map of one model for one class and one image.

    Attributes:
        target: index of the class whose evidence it shows.
        cells: (h, w), signed: evidence for the class is above 0, evidence against it below.
        scale: the value of full colour, above 0.
        grid: where the cells are on the image; None as in :func:`.placing.upsample`.
    """

    target: int
    cells: Values
    scale: float
    grid: Grid | None = None

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return float(np.abs(self.cells).max())

    @property
    def faint(self) -> bool:
        """Whether it stays below :data:`NEXT_TO_NONE` of the scale."""
        return self.largest < NEXT_TO_NONE * self.scale

    @property
    def note(self) -> str:
        """What the reader should know about a map that shows little, else nothing."""
        if not self.cells.max() > 0:
            return "no positive evidence"
        return "almost no evidence" if self.faint else ""

    def strongest(self, image_size: int) -> str:
        """Where in the image the evidence for the class is strongest, as one of nine places."""
        placed = upsample(self.cells, image_size, self.grid)
        ys, xs = np.nonzero(placed >= placed.max())
        third = [min(2, int(3 * (at.mean() + 0.5) / image_size)) for at in (ys, xs)]
        return _PLACES[third[0]][third[1]]


@dataclass(frozen=True, eq=False)
class Looked:
    """What one model makes of one image.

    Attributes:
        predicted: index of its class.
        probabilities: (K,).
        maps: of the true class, then of the predicted class if that is a different one.
    """

    predicted: int
    probabilities: npt.NDArray[np.floating]
    maps: tuple[Seen, ...]


@dataclass(frozen=True, eq=False)
class Exhibit:
    """Everything that the page and the files show.

    Attributes:
        models: the models; the first one chose the images.
        data: the data set.
        split: the split that the images are from.
        selection: the images.
        method, site: as asked.
        sites: for each model, the modules at whose outputs the maps were taken.
        logits: whether a map's cells sum to the class's logit minus its bias.
        looked: by image, then by model.
        scales: value of full colour for each model; the same for all if the maps are in logits.
        grids: for each model, where the cells of its maps are on the image.
        notes: plain sentences on where the maps were taken, if that has to be said.
    """

    models: tuple[ExplainedModel, ...]
    data: DataSet
    split: str
    selection: Selection
    method: str
    site: str
    sites: tuple[tuple[str, ...], ...]
    logits: bool
    looked: tuple[tuple[Looked, ...], ...]
    scales: tuple[float, ...]
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Of the maps' values."""
        return LOGITS if self.logits else f"{self.method}'s own units"

    @property
    def cells(self) -> tuple[int, int] | None:
        """Height and width of the maps; None where there is no image."""
        if not self.looked:
            return None
        height, width = self.looked[0][0].maps[0].cells.shape
        return height, width


def look(
    models: Sequence[ExplainedModel],
    data: DataSet,
    split: str,
    selection: Selection,
    method: str,
    site: str,
    progress: Progress,
) -> Exhibit:
    """Compute all maps of a gallery.

    Full colour stands for one value on the whole page: the :data:`QUANTILE` of the absolute values
    of all cells. If the maps are in logits it is taken over all models together, otherwise over
    each model separately, because the values of two models then have no common unit.

    Raises:
        InputError: an unknown method or site, or a model whose maps are not finite.
    """
    batches = DeviceSplit(data, split)
    probe = _probe(batches, data, selection)
    # Models of different depth have different names for the same place.
    sites = tuple(resolve_site(explained.model, site, probe) for explained in models)
    logits = all(
        in_logit_units(method, own, explained.model, probe)
        for own, explained in zip(sites, models, strict=True)
    )
    # Sites that are averaged have maps of one size, and that of the last stands for all.
    grids = tuple(
        cell_grid(explained.model, own[-1], probe)
        for own, explained in zip(sites, models, strict=True)
    )
    wanted = [
        (place, image, target)
        for place, explained in enumerate(models)
        for image, chosen in enumerate(selection.images)
        for target in dict.fromkeys((chosen.label, explained.predicted(chosen.row)))
    ]
    found: dict[tuple[int, int], list[tuple[int, Values]]] = {}
    for place, explained in enumerate(models):
        own = [one for one in wanted if one[0] == place]
        for start in range(0, len(own), _BATCH):
            part = own[start : start + _BATCH]
            x, _ = batches.batch([selection.images[image].row for _, image, _ in part])
            targets = torch.tensor([target for _, _, target in part])
            maps = explain_batch(explained.model, x, targets, method=method, sites=sites[place])
            if not bool(maps.isfinite().all()):
                raise InputError(
                    f"The maps of {explained.name} are not finite, so they show nothing. "
                    f"{not_finite(explained.model)}".rstrip()
                )
            for (_, image, target), cells in zip(part, maps.float().cpu().numpy(), strict=True):
                found.setdefault((place, image), []).append((target, cells))
            done = sum(len(cells) for cells in found.values())
            progress("maps", done, len(wanted))
    cells_by_model = [
        [cells for image in range(len(selection.images)) for _, cells in found[place, image]]
        for place in range(len(models))
    ]
    if logits:
        cells_by_model = [[cells for own in cells_by_model for cells in own]] * len(models)
    scales = tuple(_scale(cells) for cells in cells_by_model)
    looked = tuple(
        tuple(
            Looked(
                explained.predicted(chosen.row),
                explained.probabilities[chosen.row],
                tuple(
                    Seen(target, cells, scales[place], grids[place])
                    for target, cells in found[place, image]
                ),
            )
            for place, explained in enumerate(models)
        )
        for image, chosen in enumerate(selection.images)
    )
    notes = tuple(
        (f"{explained.name}: " if len(models) > 1 else "") + said
        for explained, own in zip(models, sites, strict=True)
        for said in _said(explained.model, site, own, probe)
    )
    return Exhibit(
        tuple(models), data, split, selection, method, site, sites, logits, looked, scales, grids,
        notes,
    )  # fmt: skip


def _probe(batches: DeviceSplit, data: DataSet, selection: Selection) -> Tensor:
    """Images to look at the network with: some of those selected, else any."""
    rows = [chosen.row for chosen in selection.images[:_PROBED]]
    if not rows and not len(batches):
        return torch.zeros(1, data.channels, data.image_size, data.image_size)
    return batches.batch(rows or [0])[0]


def _said(model: nn.Module, site: str, sites: tuple[str, ...], probe: Tensor) -> Iterator[str]:
    """What has to be said on where maps are taken and where their cells are."""
    if words := site_words(model, site, probe):
        yield words
    if followed_grid(model, sites[-1], probe) is None:
        yield (
            f"Where the cells of {sites[-1]} are on an image could not be followed through the "
            "network, so the maps are spread evenly over it."
        )


def _scale(maps: Sequence[Values]) -> float:
    values = np.abs(np.concatenate([cells.ravel() for cells in maps])) if maps else np.zeros(1)
    return float(np.quantile(values, QUANTILE)) or float(values.max()) or 1.0


@dataclass(frozen=True, eq=False)
class Checks:
    """Measurements of how far the maps can be trusted, each only if it was asked for.

    Attributes:
        faithfulness: for each model, of its maps of the predicted class, over all images shown.
        cascade: of the first model's maps of the predicted class, over all images shown.
    """

    faithfulness: Mapping[str, Faithfulness]
    cascade: tuple[RandomizationStep, ...]


def check(
    exhibit: Exhibit, progress: Progress, *, with_faithfulness: bool, with_randomization: bool
) -> Checks:
    """Carry out the checks asked for, with the images and maps of the exhibit."""
    measured: dict[str, Faithfulness] = {}
    cascade: tuple[RandomizationStep, ...] = ()
    if not exhibit.looked:
        return Checks(measured, cascade)
    rows = [chosen.row for chosen in exhibit.selection.images]
    x, _ = DeviceSplit(exhibit.data, exhibit.split).batch(rows)
    predicted = [
        torch.tensor([by_model[place].predicted for by_model in exhibit.looked])
        for place in range(len(exhibit.models))
    ]
    if with_faithfulness:
        for place, explained in enumerate(exhibit.models):
            stage = f"faithfulness of {explained.name}"
            # The last map is that of the predicted class.
            cells = np.stack([by_model[place].maps[-1].cells for by_model in exhibit.looked])
            maps = upsample(cells, exhibit.data.image_size, exhibit.grids[place])
            measured[explained.name] = faithfulness(
                explained.model, x, predicted[place], maps, progress=partial(progress, stage)
            )
    if with_randomization:
        progress("randomization", 0, 1)
        cascade = randomization_check(
            exhibit.models[0].model, x, predicted[0], exhibit.method, exhibit.sites[0],
            fresh=exhibit.models[0].fresh,
        )  # fmt: skip
        progress("randomization", 1, 1)
    return Checks(measured, cascade)
