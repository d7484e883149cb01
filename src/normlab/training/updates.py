"""Which batches make up each update of an epoch. Found from the epoch's number alone, so that
resuming needs no state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

from ..data import Augmentation, DeviceSplit
from ..launch import Launch
from ..runs import RunConfig
from .step import Batch


class Updates:
    """The updates of a run.

    With the budget ``epochs``, an epoch is one pass over the images. With ``updates`` it is a fixed
    number of updates, and the batches continue through pass after pass. Of several processes each
    reads its own images of every batch, with the labels of all.
    """

    def __init__(self, config: RunConfig, split: DeviceSplit, launch: Launch = Launch()) -> None:  # noqa: B008 - frozen
        self.config, self.split, self.launch = config, split, launch
        self.per_epoch = config.updates_per_epoch(len(split))
        self.in_all = config.epochs * self.per_epoch
        self._augmentation = Augmentation(config.crop_pad, config.flip)

    def of(self, epoch: int, done: int = 0) -> Iterator[list[Batch]]:
        """The batches of each update of an epoch, counted from 1, after the ``done`` first ones."""
        skipped, counted = done * self.config.accumulate, self._batches_per_epoch()
        left = None if counted is None else counted - skipped
        batches = itertools.islice(self._batches(epoch, skipped), left)
        while group := list(itertools.islice(batches, self.config.accumulate)):
            yield group

    def _batches_per_epoch(self) -> int | None:
        """None: as many as a pass has."""
        if self.config.budget == "epochs":
            return None
        return self.per_epoch * self.config.accumulate

    def _batches(self, epoch: int, skipped: int) -> Iterator[Batch]:
        config = self.config
        one_pass = partial(
            self.split.epoch,
            config.batch_size,
            config.seed,
            balanced=config.balance == "sampling",
            share=self.launch.share if self.launch.size > 1 else None,
        )
        counted = self._batches_per_epoch()
        if counted is None:
            yield from one_pass(epoch, self._augmentation, first=skipped)
            return
        # From where the epoch before stopped.
        before = (epoch - 1) * counted + skipped
        done, first = divmod(before, math.ceil(len(self.split) / config.batch_size))
        while True:
            done += 1
            yield from one_pass(done, self._augmentation, first=first)
            first = 0
