"""Deletion and insertion: the arithmetic, and that true evidence wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from normlab.errors import InputError
from normlab.explain.faithfulness import RANKINGS, Faithfulness, faithfulness

SIDE = 8


class Patch(nn.Module):
    """Evidence for class 1 is the brightness of four known pixels, away from the centre; its
    logit is that less 8."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.zeros(SIDE, SIDE)
        self.weight[:2, 5:7] = 2.0
        self.most = 0

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.most = max(self.most, len(x))
        evidence = (x * self.weight).sum((1, 2, 3))
        return torch.stack([torch.full_like(evidence, 8.0), evidence], 1)


def pictures(count: int = 3) -> Tensor:
    noise = torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    noise[:, :, :2, 5:7] = 1.5
    return noise


ONES = torch.ones(3, dtype=torch.long)


def true_maps() -> npt.NDArray[np.float32]:
    return (pictures() * Patch().weight)[:, 0].numpy()


def test_curves_are_what_a_loop_over_pixels_gives() -> None:
    x, maps = pictures(), np.random.default_rng(0).normal(size=(3, SIDE, SIDE))
    found = faithfulness(Patch(), x, ONES, maps, steps=4)
    np.testing.assert_allclose(found.shares, [0, 0.25, 0.5, 0.75, 1])
    evidence = Patch().weight.numpy()
    for i, (image, values) in enumerate(zip(x.double().numpy(), maps, strict=True)):
        blurred = gaussian_filter(image[0], 1.0, mode="nearest")
        order = sorted(np.ndindex(SIDE, SIDE), key=lambda place: -values[place])
        for curves, start, put in (
            (found.deletion, image[0], np.zeros((SIDE, SIDE))),
            (found.insertion, blurred, image[0]),
        ):
            expected = []
            for count in (0, 16, 32, 48, 64):
                now = start.copy()
                for place in order[:count]:
                    now[place] = put[place]
                expected.append(1 / (1 + np.exp(8 - (now * evidence).sum())))
            np.testing.assert_allclose(curves["map"].probabilities[i], expected, rtol=1e-5)
            area = np.trapezoid(expected, [0, 0.25, 0.5, 0.75, 1])
            assert curves["map"].areas[i] == pytest.approx(area, rel=1e-5)
    for curves in (found.deletion["map"], found.insertion["map"]):
        np.testing.assert_allclose(curves.mean, curves.probabilities.mean(0))
        assert curves.area == pytest.approx(curves.areas.mean())


def test_true_evidence_beats_what_knows_nothing_of_the_network() -> None:
    found = faithfulness(Patch(), pictures(), ONES, true_maps())
    for name in RANKINGS[1:]:
        assert found.deletion["map"].area < found.deletion[name].area - 0.05
        assert found.insertion["map"].area > found.insertion[name].area + 0.05
    reverse = faithfulness(Patch(), pictures(), ONES, -true_maps())
    assert reverse.deletion["map"].area > found.deletion["random"].area


def test_all_rankings_begin_and_end_alike() -> None:
    found = faithfulness(Patch(), pictures(), ONES, true_maps(), steps=7)
    assert list(found.deletion) == list(found.insertion) == list(RANKINGS)
    for curves in (found.deletion, found.insertion):
        for name in RANKINGS:
            assert curves[name].probabilities.shape == (3, 8)
            for end in (0, -1):
                np.testing.assert_allclose(
                    curves[name].probabilities[:, end], curves["map"].probabilities[:, end]
                )
    np.testing.assert_allclose(found.deletion["map"].probabilities[:, -1], 1 / (1 + np.exp(8)))
    np.testing.assert_allclose(
        found.insertion["map"].probabilities[:, -1], found.deletion["map"].probabilities[:, 0]
    )


class Spy(nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x.clone())
        return torch.zeros(len(x), 2)


def test_baselines_take_the_middle_and_the_contrast_first() -> None:
    # One channel is bright without contrast, where the other has its contrast it is dark.
    x = torch.ones(1, 2, 16, 16)
    x[0, 0] = torch.linspace(20, 1, 16)
    x[0, 1, 3:6, 10:13] = torch.tensor([[1.0, 9, 1], [9, 1, 9], [1, 9, 1]])
    spy = Spy()
    faithfulness(spy, x, ONES[:1], np.zeros((1, 16, 16)), steps=16)
    first = {name: (spy.shown[2 * i][1, 0] == 0).numpy() for i, name in enumerate(RANKINGS)}
    assert all(changed.sum() == 16 for changed in first.values())
    assert first["centre"][7:9, 7:9].all()
    ys, xs = np.nonzero(first["centre"])
    assert np.hypot(ys - 7.5, xs - 7.5).max() < 3.5
    assert first["contrast"][3:6, 10:13].all()
    # A map without any order, and random, scatter.
    for name in ("map", "random"):
        assert np.ptp(np.nonzero(first[name]), axis=1).min() > 8


def test_the_same_again_and_another_seed_another_chance() -> None:
    def areas(seed: int) -> Faithfulness:
        return faithfulness(Patch(), pictures(), ONES, true_maps(), seed=seed)

    one, again, other = areas(0), areas(0), areas(1)
    for name in RANKINGS:
        np.testing.assert_array_equal(one.deletion[name].areas, again.deletion[name].areas)
    assert (one.deletion["random"].areas != other.deletion["random"].areas).all()
    np.testing.assert_allclose(one.deletion["centre"].area, other.deletion["centre"].area, atol=0.1)


def test_bounded_batches_and_the_mode_put_back() -> None:
    model = Patch().train()
    found = faithfulness(model, pictures(), ONES, true_maps(), steps=200)
    assert model.most <= 64
    assert model.training
    assert found.deletion["map"].probabilities.shape == (3, 201)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"maps": np.zeros((3, 2, 2))},
            r"the size of the images, .*, got \(3, 2, 2\)",
        ),
        ({"maps": np.full((3, SIDE, SIDE), np.nan)}, "finite"),
        ({"steps": 0}, "at least 1 step, got 0"),
        ({"x": torch.zeros(3, 1, 8, 9)}, r"square, .* got \(3, 1, 8, 9\)"),
        ({"x": torch.zeros(0, 1, 8, 8)}, "N >= 1"),
        ({"targets": torch.tensor([1, 1])}, r"whole numbers, got torch\.int64 of shape \(2,\)"),
        ({"targets": torch.tensor([1, 1, 2])}, "2 classes, 0 to 1, got target 2"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, object], message: str) -> None:
    given = {"x": pictures(), "targets": ONES, "maps": true_maps(), **changes}
    with pytest.raises(InputError, match=message):
        faithfulness(Patch(), **given)  # type: ignore[arg-type]
