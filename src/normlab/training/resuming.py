"""From which checkpoint a run resumes, and whether it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..errors import InputError
from ..models import generators_kept, packed, set_generator_states
from ..pages.words import listed
from ..runs import RunConfig
from . import checkpoint
from .checkpoint import Checkpoint
from .group import states_of
from .keeping import Keeping
from .optimizer import LayerAwareOptimizer
from .standing import Running
from .updates import Updates

ABSENT = "not recorded"


@dataclass(frozen=True)
class Resuming:
    """A run that may have been interrupted.

    Attributes:
        folder, identity, config: of the run.
        model, optimizer, updates: as they are when it begins.
        made_on: the versions and the machine that there are now.
    """

    folder: Path
    identity: str
    config: RunConfig
    model: nn.Module
    optimizer: LayerAwareOptimizer
    updates: Updates
    made_on: Mapping[str, str]

    def find(self, keeping: Keeping, tell: Callable[[str], None]) -> tuple[Checkpoint, Path] | None:
        """The checkpoint to resume from, with its file; None to begin at the start.

        Raises:
            InputError: versions or the machine have changed since, and nobody said to go on.
        """
        if keeping.resume == "restart":
            checkpoint.clear(self.folder)
            return None
        found = checkpoint.load(self.folder, self.identity, self._bytes(), self._fits)
        if found.checkpoint is None or found.path is None:
            if found.damaged:
                which = "checkpoint was" if found.damaged == 1 else "checkpoints were"
                tell(f"The {which} damaged, so the run starts over.")
            elif found.earlier:
                tell("The checkpoint is of an earlier version of normlab, so the run starts over.")
            return None
        there, step = found.checkpoint, found.checkpoint.step
        entry: dict[str, object] = {"step": step}
        if found.damaged:
            tell(f"The last checkpoint was damaged. The run resumes from the one at step {step:,}.")
            entry["damaged"] = found.damaged
        changed = changes(there.made_on, self.made_on)
        if changed:
            said = listed(f"{name} (was {was}, is {now})" for name, (was, now) in changed.items())
            if keeping.resume != "changed":
                raise InputError(
                    f"{self.folder}: the run was interrupted at step {step:,}, and since then this "
                    f"has changed: {said}. The run may not end with the same bits as on one "
                    "machine. To resume it all the same, add --resume changed: run.json and the "
                    "page will say so. To start it over, add --resume restart."
                )
            tell(f"The run resumes at step {step:,} with something changed: {said}.")
            entry["from"] = {name: was for name, (was, _) in changed.items()}
            entry["to"] = {name: now for name, (_, now) in changed.items()}
        if len(entry) == 1:
            tell(f"The run resumes at step {step:,}.")
        else:
            standing = replace(there.standing, resumed=[*there.standing.resumed, entry])
            there = replace(there, standing=standing)
        return there, found.path

    def _bytes(self) -> int:
        """What the tensors of a checkpoint take, at most."""
        state = sum(tensor.nbytes for tensor in packed(self.model.state_dict()).values())
        images = self.updates.per_epoch * self.config.images_per_update
        return 4 * state + 3 * 8 * images

    def _fits(self, found: Checkpoint) -> bool:
        """Whether it is of this run: its tensors by name, shape and type, and its counts."""
        states, standing = found.states, found.standing
        own = packed(self.model.state_dict())
        running = Running.of(states["epoch"], found.seconds, "cpu")
        if running.updates:
            with generators_kept():
                for rank in range(self.config.processes):
                    set_generator_states(states_of(states["random"], rank))
        per_epoch = self.updates.per_epoch
        return (
            checkpoint.same_tensors(states["model"], own)
            and (not states["best"] or checkpoint.same_tensors(states["best"], own))
            and bool(states["best"]) == bool(standing.best_epoch)
            and self.optimizer.fits(states["optimizer"])
            and running.updates <= per_epoch
            and standing.best_epoch <= standing.epoch <= self.config.epochs
            and found.step == standing.epoch * per_epoch + running.updates
            and len(standing.history) == 2 * standing.epoch
            and len(standing.features) == standing.epoch * self.config.record_features
        )


def changes(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What differs between two fingerprints.

    >>> changes({"torch": "2.4", "numpy": "2.1"}, {"torch": "2.5", "numpy": "2.1"})
    {'torch': ('2.4', '2.5')}
    """
    return {
        name: (was.get(name, ABSENT), now.get(name, ABSENT))
        for name in (*now, *(name for name in was if name not in now))
        if was.get(name) != now.get(name)
    }
