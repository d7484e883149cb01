"""How large the image files are, and what resizing does to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import counted
from ..image_set import ImageSet
from ..measures.headers import headers

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

_UPSCALED = 0.05
_LONG = 2.0
_LONG_SHARE = 0.01


@dataclass(frozen=True)
class FileSizes:
    """How large the files are, in pixels.

    Attributes:
        width: at ``QUANTILES``; ``height`` and ``aspect`` (longer side by shorter) likewise.
        bytes: at ``QUANTILES``.
        upscaled: files whose shorter side is smaller than the images used.
        long: files more than twice as long as wide, of which the centre crop keeps less than
            half; 0 for a letterbox.
        unread: files whose header can no longer be read.
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

    def findings(self, image_size: int, images: int) -> list[Finding]:
        """One.

        Args:
            image_size: side of the images used, in pixels.
            images: how many images there are.
        """
        middle = QUANTILES.index(0.5)
        sentence = (
            f"Files are {_range(self.width)} pixels wide and {_range(self.height)} high "
            f"(median {self.width[middle]:.0f} x {self.height[middle]:.0f}); images are resized to "
            f"{image_size} x {image_size}."
        )
        advice = []
        if self.upscaled:
            sentence += f" {counted(self.upscaled, 'is', 'are')} smaller and enlarged."
            if self.upscaled >= _UPSCALED * images:
                advice.append(
                    "Enlarged images are blurred: choose a smaller image size, or omit them."
                )
        if self.long:
            sentence += (
                f" {counted(self.long, 'is', 'are')} more than twice as long as wide, so the "
                "square in the middle omits more than half of the picture."
            )
            if self.long >= _LONG_SHARE * images:
                advice.append(
                    "Crop long images to the object beforehand, or keep them whole with "
                    "--resize letterbox."
                )
        level = Level.LOOK if advice else Level.FINE
        return [Finding("image-sizes", level, sentence, " ".join(advice))]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"quantiles": list(QUANTILES), **asdict(self)}


def file_sizes(image_set: ImageSet, progress: Progress | None) -> FileSizes | None:
    """Sizes from the headers; None if images are not files or no file can be read."""
    about = headers(image_set, progress=progress)
    if about is None or not about.read.any():
        return None
    read = about.read
    width, height = about.width[read], about.height[read]
    crop = image_set.data.config.resize == "crop"
    side = np.minimum(width, height) if crop else np.maximum(width, height)
    aspect = np.maximum(width, height) / np.minimum(width, height)
    codes = Counter(about.format[read].tolist())
    return FileSizes(
        width=_quantiles(width),
        height=_quantiles(height),
        aspect=_quantiles(aspect),
        bytes=_quantiles(about.size[read]),
        upscaled=int((side < image_set.data.image_size).sum()),
        long=int((aspect > _LONG).sum()) if crop else 0,
        unread=int((~read).sum()),
        formats={about.formats[code]: count for code, count in codes.most_common()},
    )


def _quantiles(values: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple(np.quantile(values, QUANTILES).tolist())


def _range(quantiles: Sequence[float]) -> str:
    low, high = quantiles[0], quantiles[-1]
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
