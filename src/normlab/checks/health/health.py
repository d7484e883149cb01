"""Balance and health: how many images of what, and what looks like a mistake in handling files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...data.cache import Progress
from ...pages.findings import Finding
from ..image_set import ImageSet
from .balance import Balance, balance
from .blank import Blank, blank_images
from .file_names import FileNames, odd_file_names
from .file_sizes import FileSizes, file_sizes
from .folders import Folders, folders
from .grey import GreyImages, grey_images
from .size_of_test import SizeOfTest, different_test_images, size_of_test


@dataclass(frozen=True)
class Health:
    """Result of :func:`health` and :func:`quick_health`.

    Attributes:
        image_size: side of the images used, in pixels.
        balance: images by class and split, and unreadable files.
        folders: classes that look like a mistake.
        file_names: names of files that clash or contain another class.
        test_size: what the test images can show.
        blank: images that show nothing, and sets with few levels.
        sizes: None if images are not files, and in the quick part.
        grey: None for sources with one channel, and in the quick part.
    """

    image_size: int
    balance: Balance
    folders: Folders
    file_names: FileNames
    test_size: SizeOfTest
    blank: Blank
    sizes: FileSizes | None = None
    grey: GreyImages | None = None

    def findings(self) -> list[Finding]:
        """On balance, files, folders, names, test size and blank images; on file sizes and grey if
        known."""
        return [
            *self.balance.findings(),
            *self.folders.findings(),
            *self.file_names.findings(),
            *self.test_size.findings(),
            *self.blank.findings(),
            *(self.sizes.findings(self.image_size, self.balance.images) if self.sizes else ()),
            *(self.grey.findings(self.balance) if self.grey else ()),
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **self.balance.describe(),
            **self.folders.describe(),
            **self.file_names.describe(),
            "test_size": self.test_size.describe(),
            **self.blank.describe(),
            "sizes": self.sizes and self.sizes.describe(),
            "grey": self.grey and self.grey.describe(),
        }


def health(image_set: ImageSet, *, progress: Progress | None = None) -> Health:
    """Everything in :func:`quick_health`, and what headers and pixels say.

    Args:
        image_set: the images.
        progress: called with a stage, and how many of how many images are done.
    """
    return replace(
        quick_health(image_set, progress=progress),
        sizes=file_sizes(image_set, progress),
        grey=grey_images(image_set, progress),
    )


def quick_health(image_set: ImageSet, *, progress: Progress | None = None) -> Health:
    """What counts, names, hashes and a look at the pixels say, without opening a file."""
    return Health(
        image_size=image_set.data.image_size,
        balance=balance(image_set),
        folders=folders(image_set),
        file_names=odd_file_names(image_set),
        test_size=size_of_test(different_test_images(image_set), image_set.data.config.folds),
        blank=blank_images(image_set, progress),
    )
