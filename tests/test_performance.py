"""The benchmarks of speed find what they time, count no second twice, and compare what is alike."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from normlab.models import ResNet
from normlab.norms import make_norm

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _imported(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module(name)


@pytest.fixture(scope="module")
def overhead() -> ModuleType:
    return _imported("overhead")


@pytest.fixture(scope="module")
def plain_script() -> ModuleType:
    return _imported("plain_script")


@pytest.fixture(scope="module")
def ratios() -> ModuleType:
    return _imported("ratios")


def test_what_is_timed_is_there(overhead: ModuleType) -> None:
    for path, part in overhead.FUNCTIONS.items():
        place, _, name = path.rpartition(".")
        assert callable(getattr(import_module(f"normlab.{place}"), name)), path
        assert part in overhead.PARTS


def test_a_part_has_its_own_time_alone(
    overhead: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "process_time", lambda: now)
    clock = overhead.Clock()
    evaluate = clock.timed("evaluation", lambda: passes(1.0))

    def fail() -> None:
        passes(2.0)
        evaluate()
        passes(4.0)
        raise ValueError

    passes(8.0)
    with pytest.raises(ValueError, match=r"^$"):
        clock.timed("steps", fail)()
    passes(16.0)
    spent = {part: seconds for part, seconds in clock.stop().items() if seconds}
    assert spent == {"steps": 6.0, "evaluation": 1.0, overhead.REST: 24.0}


ARMS = ("torch_bn", "bn", "in", "bin", "ln", "gn", "none")


@pytest.mark.parametrize("arm", ARMS)
def test_the_plain_script_has_the_same_layers(plain_script: ModuleType, arm: str) -> None:
    x = torch.randn(4, 16, 6, 6, generator=torch.Generator().manual_seed(0)) + 1
    theirs, ours = plain_script.LAYERS[arm](16), make_norm(arm, 16)
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs.eval()(x), ours.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_the_plain_script_has_the_same_network(plain_script: ModuleType, arm: str) -> None:
    theirs, ours = plain_script.Network(2, 10, arm), ResNet(2, 10, arm, seed=0)

    def shapes(model: torch.nn.Module) -> list[int]:
        return sorted(p.numel() for p in model.parameters())

    assert shapes(theirs) == shapes(ours)
    for one, two in zip(
        (m for m in theirs.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))),
        (m for m in ours.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))),
        strict=True,
    ):
        two.load_state_dict(one.state_dict())
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-3, atol=1e-4)


def test_a_ratio_says_whether_its_goal_is_met(ratios: ModuleType, tmp_path: Path) -> None:
    small = ratios.Ratio.of("small", [1.0, 1.1, 1.2], at_most=1.1)
    large = ratios.Ratio.of("large", [2.9], at_least=3)
    assert (small.met, large.met) == (True, False)
    assert (small.median, small.low, small.high, small.n) == (1.1, 1.0, 1.2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ratios.KEPT, str(tmp_path / "kept"))
        ratios.tell(small)
        ratios.tell(large)
    assert ratios.read(tmp_path / "kept") == [small, large]
