"""The digits that come with scikit-learn: 1,797 handwritten ones, 8x8, in 17 shades of gray."""

from __future__ import annotations

import numpy as np

from .base import Images, Listing

# More than half of the images are for the test. With 70 % for training every arm gets nearly all
# of the others right, and no number of seeds that runs in a minute shows a difference.
FRACTIONS = {"val": 0.15, "test": 0.55}


def find() -> Listing:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images: Images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    count = len(images)
    return Listing(
        kind="digits",
        source="digits",
        name="digits",
        classes=tuple("0123456789"),
        channels=1,
        names=[f"digits/{row:05d}" for row in range(count)],
        labels=bunch.target.astype(np.int64),
        found={"train": np.arange(count)},
        stamp=images.sum((0, 3), dtype=np.int64),
        arrays=lambda: images,
        side=8,
        has_splits=False,
        fractions=FRACTIONS,
    )
