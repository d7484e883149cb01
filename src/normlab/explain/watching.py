"""One forward pass, watched: which modules were called, and what they put out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, did_you_mean
from ..models import in_evaluation
from ..pages.words import counted


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a module.

    Attributes:
        path: of the module, the first one if it has several.
        module: the module.
        entered: the call's place in the order in which calls began.
        inputs: the tensors among its positional inputs.
        output: what it returned. Operations in place change it afterwards.
        version: of a tensor when it was returned, which tells it from what becomes of it in place;
            -1 if something else was returned.
    """

    path: str
    module: nn.Module
    entered: int
    inputs: tuple[Tensor, ...]
    output: Any
    version: int

    @property
    def has_maps(self) -> bool:
        """Whether the output has shape (N, C, h, w)."""
        return isinstance(self.output, Tensor) and self.output.dim() == 4


def tensors_in(value: Any) -> Iterator[Tensor]:
    """A tensor, or those in lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors_in(one)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """What the network puts out, after checking that it is logits (N, classes).

    Raises:
        InputError: it is anything else.
    """
    # A copy, which may be changed in place even if the images require a gradient.
    outputs = model(x.clone())
    if isinstance(outputs, Tensor) and len(x) == 1 and outputs.dim() == 1 and len(outputs) > 1:
        outputs = outputs[None]  # as squeeze() leaves the logits of a single image
    if isinstance(outputs, Tensor) and outputs.dim() == 2 and len(outputs) == len(x):
        return outputs
    if isinstance(outputs, Tensor):
        found = f"a tensor of shape {tuple(outputs.shape)}"
    elif isinstance(outputs, dict):
        found = f"{type(outputs).__name__} with {', '.join(map(str, outputs))}"
    else:
        found = type(outputs).__name__
    raise InputError(
        f"The network {type(model).__name__} must put out logits of shape (N, classes), got "
        f"{found} for {counted(len(x), 'image')}. Wrap it in a module that returns the logits "
        "alone."
    )


def watch(model: nn.Module, x: Tensor) -> tuple[list[Call], Tensor]:
    """All calls of modules in one forward pass in evaluation mode, in the order in which they
    ended, and the logits. All tensors have the graph of the pass.

    Raises:
        InputError: as :func:`logits_of`.
    """
    calls: list[Call] = []
    begun: dict[nn.Module, list[int]] = {}
    count = 0

    def begin(module: nn.Module, _inputs: Any) -> None:
        nonlocal count
        begun.setdefault(module, []).append(count)
        count += 1

    def end(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            entered = begun[module].pop()
            version = output._version if isinstance(output, Tensor) else -1
            given = tuple(tensors_in(inputs))
            calls.append(Call(path, module, entered, given, output, version))

        return keep

    handles = []
    # Tensors made in inference mode have no version and can have no graph.
    with torch.inference_mode(False), torch.enable_grad(), in_evaluation(model):
        try:
            for path, module in model.named_modules():
                handles.append(module.register_forward_pre_hook(begin))
                handles.append(module.register_forward_hook(end(path)))
            logits = logits_of(model, x.detach().clone().requires_grad_())
        finally:
            for handle in handles:
                handle.remove()
    return calls, logits


@contextmanager
def outputs_of(model: nn.Module, sites: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The modules' outputs while the context is open, by path. Of a module that is called several
    times it is the last output that has maps.

    Raises:
        InputError: a path that the network does not have.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for site in sites:
        if not site or site not in modules:
            known = [name for name in modules if name]
            good = [name for name in known if isinstance(modules[name], nn.Conv2d)]
            raise InputError(
                f"There is no site {site!r}{did_you_mean(site, ['last', 'mean', *known])}. "
                f"Give last, mean, or the path of a module such as {(good or known)[-1]}."
            )
    seen: dict[str, Any] = {}

    def keep(site: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            maps = isinstance(output, Tensor) and output.dim() == 4
            if maps or site not in seen:
                seen[site] = output
            # The network goes on with a copy, so that no operation in place changes what was seen.
            return output.clone() if maps else None

        return hook

    handles = [modules[site].register_forward_hook(keep(site)) for site in sites]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def check_maps(seen: dict[str, Any], sites: tuple[str, ...]) -> list[Tensor]:
    """The outputs in the order of the sites, after checking that they are maps of equal size.

    Raises:
        InputError: naming a site without maps, or the sizes.
    """
    for site in sites:
        output = seen.get(site)
        if not isinstance(output, Tensor) or output.dim() != 4:
            found = "nothing" if output is None else type(output).__name__
            if isinstance(output, Tensor):
                found = f"shape {tuple(output.shape)}"
            raise InputError(
                f"The site {site} has no maps: its output must have shape (N, C, h, w), got "
                f"{found}. Use a convolution, a normalization, a ReLU or a block."
            )
    sizes = {site: tuple(seen[site].shape[2:]) for site in sites}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{site} has {h}x{w}" for site, (h, w) in sizes.items())
        raise InputError(f"Maps that are averaged must have equal sizes, but {found}.")
    return [seen[site] for site in sites]
