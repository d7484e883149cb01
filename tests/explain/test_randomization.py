"""Cascading randomization: what it randomizes, and that it leaves the model alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.errors import InputError
from normlab.explain import explain_batch, randomization_check, upsample
from normlab.models import ResNet
from normlab.norms import CATALOG

TARGETS = torch.tensor([0, 1, 2, 0])


def network(norm: str = "bn", shortcut: str = "A") -> ResNet:
    """Far from its start: as after a training that changed every tensor."""
    model = ResNet(1, 3, norm, shortcut, in_channels=1, seed=0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                low, high = (0.5, 1.5) if "running_var" in name else (-0.5, 0.5)
                tensor.add_(torch.empty_like(tensor).uniform_(low, high, generator=generator) / 4)
    return model


def images() -> Tensor:
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("norm", CATALOG)
def test_from_the_same_maps_to_other_maps(norm: str) -> None:
    model, x = network(norm), images()
    steps = randomization_check(model, x, TARGETS)
    blocks = [f"stages.{s}.0.conv{c}" for s in (2, 1, 0) for c in (2, 1)]
    assert [step.layer for step in steps] == ["", "fc", *blocks, "conv"]
    expected = explain_batch(model, x, TARGETS)
    np.testing.assert_array_equal(steps[0].maps, expected.numpy())
    np.testing.assert_allclose(steps[0].spearman, 1)
    np.testing.assert_allclose(steps[0].pearson, 1)
    assert steps[0].mean_spearman == pytest.approx(1)
    if CATALOG[norm].parts.classifier == 0:
        assert not any(step.maps.any() for step in steps[1:])
        assert all(math.isnan(step.mean_spearman) for step in steps[1:])
        return
    assert steps[-1].mean_spearman < 0.6
    assert abs(steps[-1].mean_pearson) < 0.8


def test_similarities_are_scipys_on_placed_maps() -> None:
    steps = randomization_check(network(), images(), TARGETS)
    first = upsample(steps[0].maps, 16)
    for step in steps[1:]:
        for i, placed in enumerate(upsample(step.maps, 16)):
            a, b = placed.ravel(), first[i].ravel()
            assert step.spearman[i] == pytest.approx(spearmanr(np.abs(a), np.abs(b)).statistic)
            assert step.pearson[i] == pytest.approx(pearsonr(a, b).statistic, abs=1e-6)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("norm", ["bin", "none"])
def test_the_end_is_a_network_at_its_start(norm: str, shortcut: str) -> None:
    # At the end no trained tensor is left: two different trainings end in the same maps.
    one, other = network(norm, shortcut), network(norm, shortcut)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
        other.fc.weight.neg_()
    of_one, of_other = (randomization_check(m, images(), TARGETS) for m in (one, other))
    assert len(of_one) == 9 + (2 if shortcut == "B" else 0)
    np.testing.assert_array_equal(of_one[-1].maps, of_other[-1].maps)
    assert (of_one[-2].maps != of_other[-2].maps).any()
    assert (of_one[-1].maps != randomization_check(one, images(), TARGETS, seed=1)[-1].maps).any()


def test_a_step_randomizes_from_the_top_and_no_further() -> None:
    model, x = network(), images()
    steps = randomization_check(model, x, TARGETS)
    with torch.no_grad():
        for name in ("conv", "stages.0.0.conv1"):
            model.get_submodule(name).weight.mul_(-0.7)
    changed = randomization_check(model, x, TARGETS)
    for index, (before, after) in enumerate(zip(steps, changed, strict=True)):
        assert (before.maps != after.maps).any() == (index < len(steps) - 1), before.layer


def test_deterministic_and_the_model_left_alone() -> None:
    model, x = network("bin"), images()
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    steps = randomization_check(model, x, TARGETS, "hires-cam", ("stages.1.0.relu1",), seed=3)
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.manual_seed(123)
    again = randomization_check(model, x, TARGETS, "hires-cam", ("stages.1.0.relu1",), seed=3)
    for step, same in zip(steps, again, strict=True):
        np.testing.assert_array_equal(step.maps, same.maps)
        np.testing.assert_array_equal(step.spearman, same.spearman)
    assert model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_map_of_nothing_has_no_correlation() -> None:
    model = network()
    nn.init.zeros_(model.fc.weight)
    steps = randomization_check(model, images(), TARGETS)
    assert np.isnan(steps[-1].spearman).all()
    assert math.isnan(steps[-1].mean_pearson)
    with torch.no_grad():
        model.fc.weight[0] = 1
    assert math.isfinite(randomization_check(model, images(), TARGETS)[-1].mean_spearman)


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(InputError, match=r"square, got \(8, 12\)"):
        randomization_check(network(), F.pad(images()[:, :, :8, :8], (0, 4)), TARGETS)
