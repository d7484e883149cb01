"""Less memory for backward: the output of a layer is computed again instead of being kept.

A convolution, its layer and the ReLU keep two maps for backward: the layer's input x, and its
output y, which is the mask of the ReLU and the input of the next convolution. y is x times a scale
plus a shift, with a residual added and the ReLU taken, so it can be computed again from x in one
pass. The scale and shift of each map are kept from the forward pass: no statistic is computed
again, every operation is the one of the forward pass, and every bit of y is the same.

A residual that is itself such an output is computed again in turn. Any other is kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Compute = Callable[[Tensor, tuple[Tensor, ...], Tensor | None], Tensor]
"""An output from a layer's input, what the forward pass found of its maps, and the residual."""


class _Saved(Protocol):
    """What autograd keeps in place of a tensor."""

    def tensor(self) -> Tensor: ...


class _Kept:
    """A tensor as it is. Autograd compares versions only of what it keeps itself."""

    __slots__ = ("_alias", "_version")

    def __init__(self, tensor: Tensor) -> None:
        # Without its graph, which holds what is kept here.
        self._alias = tensor.detach() if tensor.requires_grad else tensor
        self._version = tensor._version

    def tensor(self) -> Tensor:
        if self._alias._version != self._version:
            raise RuntimeError(
                "A tensor that the backward pass needs has been modified by an inplace operation: "
                f"{self._alias.dtype} of shape {tuple(self._alias.shape)} is at version "
                f"{self._alias._version}, expected {self._version}."
            )
        return self._alias


class _Output:
    """How an output is computed. Held by whoever needs it for backward, and gone with the last.

    From its first use in a backward pass to its last, which is that of its own layer, it is there.
    """

    def __init__(
        self,
        x: Tensor,
        factors: tuple[Tensor, ...],
        residual: _Output | _Kept | None,
        compute: Compute,
    ) -> None:
        self.x, self.factors, self.residual, self.compute = _Kept(x), factors, residual, compute
        self.is_kept = False
        self.computed: Tensor | None = None

    def holds(self) -> Iterator[Tensor]:
        """The tensors that it is computed from, but for those that another one keeps."""
        yield self.x.tensor()
        yield from self.factors
        if isinstance(self.residual, _Kept):
            yield self.residual.tensor()
        elif self.residual is not None and not self.residual.is_kept:
            yield from self.residual.holds()

    def tensor(self) -> Tensor:
        if self.computed is not None:
            return self.computed
        chain: list[_Output] = []
        source: _Output | _Kept | None = self
        while isinstance(source, _Output) and source.computed is None:
            chain.append(source)
            source = source.residual
        y = None if source is None else source.tensor()
        with torch.no_grad():
            for output in reversed(chain):
                y = output.compute(output.x.tensor(), output.factors, y)
                if output.is_kept:
                    output.computed = y
        assert y is not None
        return y


@dataclass(frozen=True)
class _Own:
    """An output as its own layer keeps it, which is the last to need it."""

    output: _Output

    def tensor(self) -> Tensor:
        y = self.output.tensor()
        self.output.computed = None
        return y


class _Outputs:
    """The outputs that can be computed again, by the place of their values in memory."""

    def __init__(self, kept: Callable[[Tensor], object]) -> None:
        self._kept = kept
        self._at: dict[int, tuple[weakref.ref[Tensor], int, _Output]] = {}
        self._all: weakref.WeakSet[_Output] = weakref.WeakSet()

    def add(
        self,
        y: Tensor,
        x: Tensor,
        factors: tuple[Tensor, ...],
        residual: Tensor | None,
        compute: Compute,
    ) -> None:
        if not _has_a_place(y):
            return
        place = y.data_ptr()

        def forget(gone: weakref.ref[Tensor]) -> None:
            if place in self._at and self._at[place][0] is gone:
                del self._at[place]

        source = None if residual is None else self._found(residual) or _Kept(residual)
        output = _Output(x, factors, source, compute)
        self._at[place] = weakref.ref(y, forget), y._version, output
        self._all.add(output)

    def _found(self, tensor: Tensor) -> _Output | None:
        """The output whose values these are: all of them, in their order, and unchanged."""
        if not _has_a_place(tensor):
            return None
        known = self._at.get(tensor.data_ptr())
        if known is None:
            return None
        reference, version, output = known
        y = reference()
        same = (
            y is not None
            and y.dtype == tensor.dtype
            and y.shape == tensor.shape
            and y.stride() == tensor.stride()
            and tensor._version == y._version == version
        )
        return output if same else None

    def pack(self, tensor: Tensor) -> _Saved:
        output = self._found(tensor)
        if output is None:
            self._kept(tensor)
            return _Kept(tensor)
        if output.is_kept:
            return output
        for held in output.holds():
            self._kept(held)
        output.is_kept = True
        return _Own(output)  # a layer keeps its output before anybody else has it

    def release(self) -> None:
        for output in self._all:
            output.computed = None


def _has_a_place(t: Tensor) -> bool:
    """Whether a tensor is values in memory; no parameter is an output."""
    return type(t) is Tensor and t.layout is torch.strided


_used: _Outputs | None = None


def is_on() -> bool:
    """Whether outputs are computed again."""
    return _used is not None


def note(
    y: Tensor,
    x: Tensor,
    factors: tuple[Tensor, ...],
    residual: Tensor | None,
    compute: Compute,
) -> None:
    """Say how an output ``y`` can be computed again, should :func:`saving_memory` be on: as
    ``compute(x, factors, residual)``, which has to give the same bits in the same layout."""
    if _used is not None:
        _used.add(y, x, factors, residual, compute)


def _uncounted(_: Tensor) -> None:
    pass


@contextmanager
def saving_memory(kept: Callable[[Tensor], object] = _uncounted) -> Iterator[None]:
    """Forward passes within this block keep less for their backward pass, which computes the rest
    again and gives the same bits.

    Put backward into the block as well: what it has computed again is released at the end at the
    latest, also after an error. A backward pass after it works too.

    Args:
        kept: is called with each tensor that is kept.
    """
    global _used
    before, _used = _used, _Outputs(kept)
    try:
        with torch.autograd.graph.saved_tensors_hooks(_used.pack, lambda saved: saved.tensor()):
            yield
    finally:
        _used.release()
        _used = before
