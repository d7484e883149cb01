"""Parts of a network that a run keeps as they are: their parameters and their statistics."""

from __future__ import annotations

from torch import nn

from ..errors import InputError, did_you_mean


def freeze(model: nn.Module, last: str) -> None:
    """Keep all parameters up to the last one of a module as they are, by order of registration.
    :func:`train_mode` leaves modules in evaluation mode that have no other parameters.

    Raises:
        InputError: there is no such module, or nothing would be trained.
    """
    names = [name for name, _ in model.named_modules() if name]
    if last not in names:
        raise InputError(
            f"freeze_to is {last!r}, which is no module of the network"
            f"{did_you_mean(last, names)}. Its parts are "
            f"{', '.join(name for name, _ in model.named_children())}."
        )
    parameters = list(model.named_parameters())
    # A module without parameters ends where the one before it does.
    end = max(i for i, name in enumerate(names) if name == last or name.startswith(f"{last}."))
    before = tuple(f"{name}." for name in names[: end + 1])
    owners = [f"{name.rpartition('.')[0]}." for name, _ in parameters]
    reached = [k for k, owner in enumerate(owners) if owner in before]
    if not reached:
        raise InputError(
            f"freeze_to is {last!r}, but no parameter is registered up to there, so nothing would "
            "be kept. Name a later module."
        )
    for _, parameter in parameters[: max(reached) + 1]:
        parameter.requires_grad_(False)
    for name in names[: end + 1]:
        if not any(other.startswith(f"{name}.") for other in names[end + 1 :]):
            model.get_submodule(name).kept_frozen = True  # type: ignore[assignment]
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"freeze_to {last} leaves no parameter to train.")


def train_mode(model: nn.Module) -> None:
    """Training mode, but for what :func:`freeze` keeps."""
    model.train()
    for module in model.modules():
        if getattr(module, "kept_frozen", False) is True:
            module.training = False
