"""Maps lie where the network saw: against loops, and by finding planted blobs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.errors import InputError
from normlab.explain import explain_batch, last_site, place, upsample
from normlab.models import ResNet


def one_map(cells: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(cells).normal(size=(cells, cells))


def brute_force(cells: npt.NDArray[np.float64], stride: int, at: npt.NDArray[np.float64]) -> float:
    """The map at a position (row, column) among the network's pixels."""
    last = len(cells) - 1
    total = 0.0
    row, column = (min(max(p / stride, 0.0), last) for p in at)
    for i in (int(row), min(int(row) + 1, last)):
        for j in (int(column), min(int(column) + 1, last)):
            near_i = 1 - abs(row - i) if last > int(row) or i == int(row) else 0.0
            near_j = 1 - abs(column - j) if last > int(column) or j == int(column) else 0.0
            share = 0.5 if int(row) == last else 1.0
            share *= 0.5 if int(column) == last else 1.0
            total += share * near_i * near_j * cells[i, j]
    return total


@pytest.mark.parametrize(
    ("size", "cells", "stride"), [(8, 2, 4), (9, 3, 4), (30, 8, 4), (16, 8, 2), (13, 13, 1)]
)
@pytest.mark.parametrize("side", [7, 13, 40])
def test_placed_maps_are_the_brute_force(size: int, cells: int, stride: int, side: int) -> None:
    maps = np.stack([one_map(cells), -one_map(cells)])
    placed = place(maps, size, side)
    assert placed.dtype == np.float32
    assert placed.shape == (2, side, side)
    for row in range(side):
        for column in range(side):
            at = (np.array([row, column]) + 0.5) * size / side - 0.5
            expected = brute_force(maps[0], stride, at)
            assert placed[0, row, column] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(placed[1], -placed[0])


@pytest.mark.parametrize("size", [8, 9, 31, 32, 33])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_cells_stand_unchanged_on_the_pixels_the_network_saw(size: int, shortcut: str) -> None:
    # Which pixels a cell sees: the gradient of a cell by the image. Cell i is centred where what
    # it sees is, which is read off a network that sees no further than its strides make it.
    model = ResNet(1, 2, "none", shortcut, in_channels=1, seed=0)  # type: ignore[arg-type]
    blind(model, torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    x = torch.rand(1, 1, size, size, requires_grad=True)
    outputs: list[Tensor] = []
    model.get_submodule(last_site(model, x.detach())).register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output)
    )
    model(x)
    maps = outputs[0][0, :1]
    cells = maps.shape[-1]
    placed = upsample(maps, size)[0]
    for i in range(cells):
        (gradient,) = torch.autograd.grad(maps[0, i, cells - 1 - i], x, retain_graph=True)
        ((_, _, row, column),) = gradient.nonzero().tolist()
        assert placed[row, column] == pytest.approx(maps[0, i, cells - 1 - i].item())
        assert (row, column) == (4 * i, 4 * (cells - 1 - i))


def test_beyond_the_last_centre_the_edge_holds() -> None:
    cells = one_map(8)
    placed = upsample(cells, 32)
    for pixel in (29, 30, 31):
        np.testing.assert_array_equal(placed[pixel], placed[28])
        np.testing.assert_array_equal(placed[:, pixel], placed[:, 28])
    np.testing.assert_allclose(placed[::4, ::4], cells, rtol=1e-6)
    np.testing.assert_array_equal(upsample(torch.from_numpy(cells), 32), placed)
    np.testing.assert_array_equal(place(cells, 32, 32), placed)


def test_a_larger_picture_shows_the_same_place() -> None:
    # A bump over pixel p of the network lies over [p R / S, (p + 1) R / S) of the source.
    cells = np.zeros((8, 8))
    cells[2, 5] = 1
    placed = place(cells, 32, 320)
    ys, xs = np.nonzero(placed > placed.max() - 1e-6)
    assert ys.min() >= 80
    assert ys.max() < 90
    assert xs.min() >= 200
    assert xs.max() < 210


@pytest.mark.parametrize(
    ("shape", "size", "side", "message"),
    [
        ((16, 16), 64, 64, None),
        ((7, 7), 64, 64, "Images of 64 pixels do not have maps of 7 x 7 cells"),
        ((65, 65), 64, 64, "maps of 65 x 65 cells"),
        ((8, 4), 32, 32, r"square, \(\.\.\., h, h\), got shape \(8, 4\)"),
        ((8,), 32, 32, "got shape"),
        ((0, 0), 32, 32, "0 cells"),
        ((0, 0), 0, 32, "0 cells"),
        ((8, 8), 32, 0, "at least 1 pixel, got 0"),
    ],
)
def test_maps_of_another_size_are_refused(
    shape: tuple[int, ...], size: int, side: int, message: str | None
) -> None:
    if message is None:
        assert place(np.ones(shape), size, side).shape == (side, side)
        return
    with pytest.raises(InputError, match=message):
        place(np.ones(shape), size, side)


def blind(model: ResNet, kernel: Tensor) -> None:
    """Every convolution looks at the first channel alone, through this kernel; the classifier
    takes the first channel as evidence for class 1."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                small = kernel[1:2, 1:2] if module.kernel_size == (1, 1) else kernel
                module.weight[0, 0] = small
        model.fc.weight.zero_()
        model.fc.weight[1, 0] = 1


def blobs(places: npt.NDArray[np.int64], side: int) -> Tensor:
    """A bright Gaussian of 2 pixels on noise, at each of the places (row, column)."""
    noise = torch.randn(len(places), 1, side, side, generator=torch.Generator().manual_seed(0))
    axis, at = torch.arange(side), torch.from_numpy(places)
    rows, columns = ((axis - at[:, d, None]).square() for d in (0, 1))
    return 0.3 * noise + 3 * torch.exp(-(rows[:, :, None] + columns[:, None]) / 8)[:, None]


def peaks(placed: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    flat = placed.reshape(len(placed), -1).argmax(1)
    return np.stack(np.divmod(flat, placed.shape[-1]), 1)


def test_the_peak_of_a_placed_map_is_the_planted_blob() -> None:
    # A map of stride 4 has its peak at a cell's centre; blobs within a pixel of one are found
    # within a pixel. Near every border too.
    side, axis = 32, [0, 1, 3, 4, 5, 15, 16, 17, 27, 28, 29]
    places = np.array([(row, column) for row in axis for column in axis])
    model = ResNet(1, 2, "none", in_channels=1, seed=0)
    blind(model, torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16)
    x = blobs(places, side)
    found = {}
    for method in ("grad-cam", "hires-cam"):
        maps = explain_batch(model, x, torch.ones(len(x), dtype=torch.long), method)
        assert maps.shape[1:] == (8, 8)
        found[method] = np.abs(peaks(upsample(maps, side)) - places).max(1)
        assert found[method].max() <= 1
    plain = F.interpolate(maps[:, None], (side, side), mode="bilinear", align_corners=False)
    off = np.abs(peaks(plain[:, 0].numpy()) - places).max(1)
    assert (off > 1).mean() > 0.5
