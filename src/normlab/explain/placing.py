"""Where the cells of a map are on the image.

The network of this package halves its maps by 3x3 convolutions of stride 2 with padding 1, 1x1
convolutions of stride 2, and by taking every second pixel. All of these centre cell i of the half
on cell 2i of the whole. So cell i of a map of stride s is centered on PIXEL s i of the image, and
not on s i + (s - 1) / 2, where plain bilinear interpolation (``align_corners=False``) puts it: that
is 1.5 pixels further down and to the right for the last stage, whose stride is 4. For other
networks a :class:`Grid` says where cells are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_STRIDES = (1, 2, 4)


@dataclass(frozen=True)
class Axis:
    """Cell i of a map is centred on pixel ``start + stride i`` of the network's input."""

    start: float = 0.0
    stride: float = 1.0


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map are centred, along both axes."""

    rows: Axis = Axis()
    columns: Axis = Axis()

    @classmethod
    def spread(cls, cells: tuple[int, int], pixels: tuple[int, int]) -> Grid:
        """Cells of equal size that cover the image.

        >>> Grid.spread((4, 4), (8, 8)).rows
        Axis(start=0.5, stride=2.0)
        """
        rows, columns = (p / c for c, p in zip(cells, pixels, strict=True))
        return cls(Axis((rows - 1) / 2, rows), Axis((columns - 1) / 2, columns))


def upsample(
    maps: npt.NDArray[Any] | Tensor, size: int, grid: Grid | None = None
) -> npt.NDArray[np.float32]:
    """Maps at the size of the network's input, each cell where it belongs.

    Bilinear between the centres of cells, and the edge's value beyond the last centre. Cell
    (i, j) is centered on pixel (s i, s j), which has its exact value.

    Args:
        maps: (..., h, h), or (..., h, w) with a grid.
        size: side of the network's input, in pixels. The stride s is the one of 1, 2 and 4 for
            which an input of this size has h cells: h = ceil(size / s).
        grid: where cells are centred instead, for another network.

    Returns:
        (..., size, size) float32.

    Raises:
        InputError: an input of this size does not have h cells.
    """
    return place(maps, size, size, grid)


def place(
    maps: npt.NDArray[Any] | Tensor, image_size: int, side: int, grid: Grid | None = None
) -> npt.NDArray[np.float32]:
    """Maps at the size of a picture of any resolution: :func:`upsample` for the source.

    The resize rule takes a square of R x R pixels from the source, of which a letterbox has some
    beside the image, and scales it to ``image_size``, so that pixel p of the network's input covers
    [p R / image_size, (p + 1) R / image_size) of the square. Pixel q of a picture of ``side``
    pixels therefore looks at position (q + 1/2) image_size / side - 1/2 among the network's pixels,
    and the map is evaluated there. Nothing is averaged where ``side`` is smaller than
    ``image_size``.

    Args:
        maps: (..., h, h), or (..., h, w) with a grid.
        image_size: side of the network's input, in pixels.
        side: side of the picture, in pixels.
        grid: where cells are centred, as for :func:`upsample`.

    Returns:
        (..., side, side) float32.

    Raises:
        InputError: an input of this size does not have h cells; a side below 1.
    """
    cells = maps if isinstance(maps, np.ndarray) else maps.detach().cpu().double().numpy()
    if cells.ndim < 2 or (grid is None and cells.shape[-1] != cells.shape[-2]):
        raise InputError(f"Maps must be square, (..., h, h), got shape {tuple(maps.shape)}.")
    if side < 1:
        raise InputError(f"The side of a picture must be at least 1 pixel, got {side}.")
    rows, columns = (
        interpolation(count, image_size, side, axis)
        for count, axis in zip(
            cells.shape[-2:], (grid.rows, grid.columns) if grid else (None, None), strict=True
        )
    )
    placed: npt.NDArray[np.float64] = rows @ cells.astype(np.float64) @ columns.T
    return placed.astype(np.float32)


def interpolation(
    cells: int, image_size: int, side: int, axis: Axis | None = None
) -> npt.NDArray[np.float64]:
    """The weights of :func:`place` along one axis: (side, cells), each row sums to 1.

    Raises:
        InputError: an input of this size does not have that many cells, where no axis says where
            they are.
    """
    axes = [Axis(0, stride) for stride in _STRIDES if -(-image_size // stride) == cells]
    if axis is not None:
        axes = [axis]
    if not axes or cells < 1:
        raise InputError(
            f"Images of {image_size} pixels do not have maps of {cells} x {cells} cells: the "
            "network has maps of full, half and quarter size, rounded up."
        )
    pixel = (np.arange(side) + 0.5) * image_size / side - 0.5
    at = np.clip((pixel - axes[0].start) / axes[0].stride, 0, cells - 1)
    weights: npt.NDArray[np.float64] = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))
    return weights
