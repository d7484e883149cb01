"""Attributes of layers that follow the run. What they are is found from the number of the update
alone, so that a resumed run needs no state."""

from __future__ import annotations

from torch import nn

from ..models import schedules_of


class Following:
    """The attributes of a model's layers that have a ramp in their ``schedules``.

    Before each update they have the ramp's value for the share of the updates that are done; in
    evaluation, the last one, which is what a saved model has.

    Raises:
        ValueError: a schedule that cannot be followed (:func:`~normlab.models.schedules_of`).
    """

    def __init__(self, model: nn.Module) -> None:
        self._followed = schedules_of(model)

    def before_update(self, update: int, in_all: int) -> None:
        """Set the values for this update, counted from 0, of so many."""
        self._set(update / in_all)

    def in_evaluation(self) -> None:
        """Set the last values."""
        self._set(1.0)

    def _set(self, share: float) -> None:
        for module, name, ramp in self._followed:
            setattr(module, name, ramp.at(share))
