"""What a gallery shows, computed, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from ..data import DataSet, DeviceSplit
from ..models import ResNet
from .choice import Selection
from .faithfulness import Faithfulness, faithfulness
from .maps import explain_batch, in_logit_units, resolve_site
from .placing import upsample
from .randomization import RandomizationStep, randomization_check

Values = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

QUANTILE = 0.995
"""Of the absolute values of all cells: what full colour stands for."""
NEXT_TO_NONE = 0.02
"""A map that stays below this share of the scale is never stretched to full colour."""
LOGITS = "logits per cell"
_BATCH = 64
_PLACES = (("upper left", "upper middle", "upper right"),
           ("middle left", "centre", "middle right"),
           ("lower left", "lower middle", "lower right"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExplainedModel:
    """A trained model to look into.

    Attributes:
        name: what it is called where several stand side by side.
        model: on the CPU.
        probabilities: of the whole split, (n, K), images and classes in the data's order.
        facts: name to value, for the page.
    """

    name: str
    model: ResNet
    probabilities: npt.NDArray[np.floating]
    facts: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Seen:
    """The map of one model for one class and one image.

    Attributes:
        target: index of the class whose evidence it is.
        cells: (h, w), signed: above 0 speaks for the class, below against it.
        scale: the value of full colour, above 0.
    """

    target: int
    cells: Values
    scale: float

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
        """What has to be said of a map that shows little, else nothing."""
        if not self.cells.max() > 0:
            return "no positive evidence"
        return "next to no evidence" if self.faint else ""

    def strongest(self, image_size: int) -> str:
        """Where in the image the evidence for the class is strongest, as one of nine places."""
        placed = upsample(self.cells, image_size)
        ys, xs = np.nonzero(placed >= placed.max())
        third = [min(2, int(3 * (at.mean() + 0.5) / image_size)) for at in (ys, xs)]
        return _PLACES[third[0]][third[1]]


@dataclass(frozen=True, eq=False)
class Looked:
    """What one model makes of one image.

    Attributes:
        predicted: index of its class.
        probabilities: (K,).
        maps: of the true class, then of the predicted class where that is another one.
    """

    predicted: int
    probabilities: npt.NDArray[np.floating]
    maps: tuple[Seen, ...]


@dataclass(frozen=True, eq=False)
class Exhibit:
    """Everything that the page and the files show.

    Attributes:
        subjects: the models; the first one chose the images.
        data: the data set.
        split: of which the images are.
        choice: the images.
        method, site: as asked.
        sites: by model, the modules whose outputs the maps were taken at.
        logits: whether a map's cells sum to the class's logit less its bias.
        looked: by image, then by model.
        scales: value of full colour of each model; one for all where the maps are in logits.
    """

    subjects: tuple[ExplainedModel, ...]
    data: DataSet
    split: str
    choice: Selection
    method: str
    site: str
    sites: tuple[tuple[str, ...], ...]
    logits: bool
    looked: tuple[tuple[Looked, ...], ...]
    scales: tuple[float, ...]

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
    subjects: Sequence[ExplainedModel],
    data: DataSet,
    split: str,
    choice: Selection,
    method: str,
    site: str,
    progress: Progress,
) -> Exhibit:
    """Compute all maps of a gallery.

    Full colour stands for one value on the whole page: the :data:`QUANTILE` of the absolute
    values of all cells. Where the maps are in logits it is taken over all models together; else
    over each by itself, since then the values of two models have no unit in common.

    Raises:
        InputError: an unknown method or site.
    """
    # Models of different depth have the same place under different names.
    sites = tuple(resolve_site(subject.model, site) for subject in subjects)
    logits = all(
        in_logit_units(method, own, subject.model)
        for own, subject in zip(sites, subjects, strict=True)
    )
    wanted = [
        (place, image, target)
        for place, subject in enumerate(subjects)
        for image, chosen in enumerate(choice.images)
        for target in dict.fromkeys((chosen.label, int(subject.probabilities[chosen.row].argmax())))
    ]
    batches = DeviceSplit(data, split)
    found: dict[tuple[int, int], list[tuple[int, Values]]] = {}
    for place, subject in enumerate(subjects):
        own = [one for one in wanted if one[0] == place]
        for start in range(0, len(own), _BATCH):
            part = own[start : start + _BATCH]
            x, _ = batches.batch([choice.images[image].row for _, image, _ in part])
            targets = torch.tensor([target for _, _, target in part])
            maps = explain_batch(subject.model, x, targets, method=method, sites=sites[place])
            for (_, image, target), cells in zip(part, maps.float().cpu().numpy(), strict=True):
                found.setdefault((place, image), []).append((target, cells))
            done = sum(len(cells) for cells in found.values())
            progress("maps", done, len(wanted))
    by_subject = [
        [cells for image in range(len(choice.images)) for _, cells in found[place, image]]
        for place in range(len(subjects))
    ]
    if logits:
        by_subject = [[cells for own in by_subject for cells in own]] * len(subjects)
    scales = tuple(_scale(cells) for cells in by_subject)
    looked = tuple(
        tuple(
            Looked(
                int(subject.probabilities[chosen.row].argmax()),
                subject.probabilities[chosen.row],
                tuple(Seen(target, cells, scales[place]) for target, cells in found[place, image]),
            )
            for place, subject in enumerate(subjects)
        )
        for image, chosen in enumerate(choice.images)
    )
    return Exhibit(
        tuple(subjects), data, split, choice, method, site, sites, logits, looked, scales
    )


def _scale(maps: Sequence[Values]) -> float:
    values = np.abs(np.concatenate([cells.ravel() for cells in maps])) if maps else np.zeros(1)
    return float(np.quantile(values, QUANTILE)) or float(values.max()) or 1.0


@dataclass(frozen=True, eq=False)
class Checks:
    """Measurements of how far the maps can be trusted; each only where it was asked for.

    Attributes:
        faithfulness: of the maps of the predicted class, by model, over all images shown.
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
    rows = [chosen.row for chosen in exhibit.choice.images]
    x, _ = DeviceSplit(exhibit.data, exhibit.split).batch(rows)
    predicted = [
        torch.tensor([by_model[place].predicted for by_model in exhibit.looked])
        for place in range(len(exhibit.subjects))
    ]
    if with_faithfulness:
        for place, subject in enumerate(exhibit.subjects):
            stage = f"faithfulness of {subject.name}"
            # The last map is that of the predicted class.
            cells = np.stack([by_model[place].maps[-1].cells for by_model in exhibit.looked])
            maps = upsample(cells, exhibit.data.image_size)
            measured[subject.name] = faithfulness(
                subject.model, x, predicted[place], maps, progress=partial(progress, stage)
            )
    if with_randomization:
        progress("randomization", 0, 1)
        cascade = randomization_check(
            exhibit.subjects[0].model, x, predicted[0], exhibit.method, exhibit.sites[0]
        )
        progress("randomization", 1, 1)
    return Checks(measured, cascade)
