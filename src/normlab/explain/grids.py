"""Where the cells of a map are on the image, found by following one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..models import in_evaluation
from .placing import Axis, Grid
from .watching import logits_of, tensors_in

Pair = tuple[float, float]


def cell_grid(model: nn.Module, site: str, x: Tensor) -> Grid:
    """Where the cells of a site's maps are on the images, :func:`followed_grid`, or spread evenly
    over them where the pass cannot be followed.

    Args:
        model: a network from (N, C, H, W) to logits.
        site: the path of a module with output (N, C, h, w).
        x: normalized images, of which the first is used.
    """
    found, size = _follow(model, site, x)
    return found or Grid.spread(size, (x.shape[2], x.shape[3]))


def followed_grid(model: nn.Module, site: str, x: Tensor) -> Grid | None:
    """The centres of what the cells of a site's maps see, from the kernels, strides and paddings of
    all convolutions, pooling, slices and enlargements on the way there.

    A convolution of kernel k, stride s, padding p and dilation d centres cell i on cell
    s i + d (k - 1) / 2 - p of its input. Where ways with different centres meet, it is the mean of
    theirs. None where an operation on the way may move cells in a way that is not known.
    """
    return _follow(model, site, x)[0]


def _follow(model: nn.Module, site: str, x: Tensor) -> tuple[Grid | None, tuple[int, int]]:
    mode = _Following()
    found: list[tuple[Grid | None, tuple[int, int]]] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return
        given = list(tensors_in(inputs))
        # What a single layer computes in a way that cannot be followed leaves cells where they are
        # if there are as many.
        if not mode.of(output) and not any(module.children()):
            mode.joined(output, given)
        if module is wanted:
            found.append((mode.of(output), (output.shape[2], output.shape[3])))

    wanted = model.get_submodule(site)
    handles = [module.register_forward_hook(hook) for module in model.modules()]
    try:
        with torch.inference_mode(False), torch.no_grad(), in_evaluation(model):
            image = x[:1].detach().clone()
            with mode:
                mode.start(image)
                logits_of(model, image)
    finally:
        for handle in handles:
            handle.remove()
    return found[-1] if found else (None, (1, 1))


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows where cells of tensors (..., h, w) are, through every operation of PyTorch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._grids: dict[int, Grid] = {}
        self._kept: list[Tensor] = []  # so that no identity is used twice

    def start(self, image: Tensor) -> None:
        self._put(image, Grid())

    def of(self, tensor: Tensor) -> Grid | None:
        return self._grids.get(id(tensor))

    def joined(self, output: Tensor, inputs: Sequence[Tensor]) -> None:
        """The output has the cells of those of its inputs that have as many."""
        known = [
            grid
            for one in inputs
            if one.dim() > 2 and one.shape[-2:] == output.shape[-2:] and (grid := self.of(one))
        ]
        if known:
            self._put(output, _mean(known))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        inputs = list(tensors_in([args, kwargs]))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        for output in tensors_in(out):
            if output.dim() < 3:
                continue
            if (move := _MOVES.get(name)) is None:
                if name not in _UNKNOWN:
                    self.joined(output, inputs)
            elif inputs and (grid := self.of(inputs[0])):
                moved = move(grid, output, *_named(func, args, kwargs))
                if moved is not None:
                    self._put(output, moved)
        return out

    def _put(self, tensor: Tensor, grid: Grid) -> None:
        self._grids[id(tensor)] = grid
        self._kept.append(tensor)


def _named(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """All arguments of an operation, with the defaults of those that were not given."""
    return tuple(
        args[index] if index < len(args) else kwargs.get(part.name, part.default_value)
        for index, part in enumerate(func._schema.arguments)
    )


def _mean(grids: Sequence[Grid]) -> Grid:
    def of(axes: Sequence[Axis]) -> Axis:
        count = len(axes)
        return Axis(sum(a.start for a in axes) / count, sum(a.stride for a in axes) / count)

    return Grid(of([grid.rows for grid in grids]), of([grid.columns for grid in grids]))


def _moved(grid: Grid, starts: Pair, strides: Pair) -> Grid:
    """Cell i of the new map is centred on cell ``start + stride i`` of the old one."""
    axes = zip((grid.rows, grid.columns), starts, strides, strict=True)
    rows, columns = (Axis(a.start + a.stride * start, a.stride * by) for a, start, by in axes)
    return Grid(rows, columns)


def _pair(value: Any, otherwise: Any = None) -> Pair:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        values = list(otherwise)
    return values[0], values[-1]


def _window(grid: Grid, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Grid:
    starts = [d * (k - 1) / 2 - p for k, p, d in zip(kernel, padding, dilation, strict=True)]
    return _moved(grid, (starts[0], starts[1]), stride)


def _convolution(grid: Grid, output: Tensor, *args: Any) -> Grid | None:
    _, weight, _, stride, padding, dilation, transposed = args[:7]
    if weight.dim() != 4:
        return None
    kernel = (weight.shape[2], weight.shape[3])
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    if not transposed:
        return _window(grid, kernel, stride, padding, dilation)
    starts = [
        (p - d * (k - 1) / 2) / s
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    ]
    return _moved(grid, (starts[0], starts[1]), (1 / stride[0], 1 / stride[1]))


def _max_pool(grid: Grid, output: Tensor, *args: Any) -> Grid:
    _, kernel, stride, padding, dilation = args[:5]
    return _window(
        grid, _pair(kernel), _pair(stride or [], kernel), _pair(padding), _pair(dilation)
    )


def _average_pool(grid: Grid, output: Tensor, *args: Any) -> Grid:
    _, kernel, stride, padding = args[:4]
    return _window(grid, _pair(kernel), _pair(stride or [], kernel), _pair(padding), (1, 1))


def _resized(grid: Grid, output: Tensor, *args: Any) -> Grid:
    """Cells of equal size that cover the same."""
    by = [a / b for a, b in zip(args[0].shape[-2:], output.shape[-2:], strict=True)]
    return _moved(grid, ((by[0] - 1) / 2, (by[1] - 1) / 2), (by[0], by[1]))


def _enlarged(grid: Grid, output: Tensor, *args: Any) -> Grid | None:
    """As above, or with the centres of the corners on each other, which a single cell has not."""
    if args[2] is not True:
        return _resized(grid, output, *args)
    sizes = list(zip(args[0].shape[-2:], output.shape[-2:], strict=True))
    if any(a == 1 < b for a, b in sizes):
        return None
    by = [(a - 1) / (b - 1) if b > 1 else 1.0 for a, b in sizes]
    return _moved(grid, (0, 0), (by[0], by[1]))


def _slice(grid: Grid, output: Tensor, *args: Any) -> Grid:
    x, dim, start, _, step = args[:5]
    axis = dim % x.dim() - (x.dim() - 2)
    if axis < 0:
        return grid
    start = max(start + x.shape[dim], 0) if (start or 0) < 0 else (start or 0)
    starts, strides = [0.0, 0.0], [1.0, 1.0]
    starts[axis], strides[axis] = float(start), float(step)
    return _moved(grid, (starts[0], starts[1]), (strides[0], strides[1]))


def _padded(grid: Grid, output: Tensor, *args: Any) -> Grid:
    left, top = args[1][0], args[1][2] if len(args[1]) > 2 else 0
    return _moved(grid, (-float(top), -float(left)), (1.0, 1.0))


def _transposed(grid: Grid, output: Tensor, *args: Any) -> Grid | None:
    x = args[0]
    return grid if max(dim % x.dim() for dim in args[1:3]) < x.dim() - 2 else None


def _permuted(grid: Grid, output: Tensor, *args: Any) -> Grid | None:
    x, order = args[:2]
    dims = [dim % x.dim() for dim in order]
    return grid if dims[-2:] == [x.dim() - 2, x.dim() - 1] else None


def _flipped(grid: Grid, output: Tensor, *args: Any) -> Grid | None:
    x, dims = args[:2]
    return grid if max(dim % x.dim() for dim in dims) < x.dim() - 2 else None


_MOVES: dict[str, Callable[..., Grid | None]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "_adaptive_avg_pool2d": _resized,
    "adaptive_avg_pool2d": _resized,
    "adaptive_max_pool2d": _resized,
    "upsample_nearest2d": _resized,
    "_upsample_nearest_exact2d": _resized,
    "upsample_bilinear2d": _enlarged,
    "upsample_bicubic2d": _enlarged,
    "slice": _slice,
    "constant_pad_nd": _padded,
    "reflection_pad2d": _padded,
    "replication_pad2d": _padded,
    "transpose": _transposed,
    "permute": _permuted,
    "flip": _flipped,
}
_UNKNOWN = frozenset({"roll", "index", "gather", "index_select", "t", "grid_sampler_2d", "matmul",
                      "mm", "bmm", "addmm", "baddbmm", "unfold", "im2col", "col2im"})  # fmt: skip
"""What may move cells in another way."""
