"""Where an image agrees best with itself, once it is moved: stripes by a stripe, bricks by a brick.

A pair of images of the same pattern agrees about as well, and need not be two copies of one.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_MOVE = 0.375
"""The shortest move that is tried, where an image is 2 wide."""
_MOST_MOVE = 0.9


def moved_onto_itself(details: Tensor) -> Tensor:
    """The best shift of each image onto itself, as maps (n, 2, 3) like those between images.

    The normalized autocorrelation within the inscribed circle, over what the two circles share.

    Args:
        details: (n, S, S), without the mean and coarse shades.
    """
    count, size, _ = details.shape
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    circle = ((at[:, None].square() + at.square()) <= 1).float()
    padded = (2 * size, 2 * size)

    def spectrum(values: Tensor) -> Tensor:
        found: Tensor = torch.fft.rfft2(values, s=padded)
        return found

    within, of_circle = spectrum(details * circle), spectrum(circle)
    common = torch.fft.irfft2(within * within.conj(), s=padded)
    energy = spectrum(details.square() * circle)
    one = torch.fft.irfft2(energy * of_circle.conj(), s=padded)
    two = torch.fft.irfft2(of_circle * energy.conj(), s=padded)
    agrees = common / (one.clamp(min=1e-6) * two.clamp(min=1e-6)).sqrt()
    shift = torch.fft.fftfreq(2 * size, 1 / (2 * size)) * 2 / size
    length = (shift[:, None].square() + shift.square()).sqrt()
    tried = (length >= LEAST_MOVE) & (length <= _MOST_MOVE) & (shift[:, None] >= 0)
    best = agrees.masked_fill(~tried, -2.0).flatten(1).argmax(1)
    down, across = shift[best // (2 * size)], shift[best % (2 * size)]
    maps = torch.eye(2, 3).repeat(count, 1, 1)
    maps[:, 0, 2], maps[:, 1, 2] = across, down
    return maps
