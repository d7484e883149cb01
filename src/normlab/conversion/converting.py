"""One normalization turned into another, in any network."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..errors import InputError, told
from ..models import (
    NormLayer,
    OtherLayer,
    ResNet,
    carry_over,
    check_sites,
    exchanged,
    in_evaluation,
    like,
    misfit,
    norm_layers,
    other_layers,
    split_fused,
)
from ..norms import CATALOG, NoNorm2d, NormChoice, name_of_layer, parse_norm
from .distilling import distil
from .exact import TOLERANCE, copy_state, make, plain_convolution, same_layer, take_eps
from .folding import fold_all, fold_into
from .matching import Pair, match, observe
from .outputs import tensors

How = Literal["distilled", "distilled_all", "matched", "copied", "fresh"]
"""Where an approximate conversion takes weight and bias from: what the network answered, with its
other parameters as they are or trained as well, what the old layer did, the old layer's own, or
nowhere."""
_MEASURED: tuple[How, ...] = ("distilled", "distilled_all", "matched")
"""Those that need images."""
PROOF_IMAGES = 64
"""At most this many images are compared in float64."""
_SIDES = (32, 64, 224)
_DRAWN = 4
_TRIED = 8
"""Channels with which a method is looked at."""
_NAMED = 4
_SCALE_AND_SHIFT = NormChoice("frozen_bn", {})
"""What a convolution can take in."""


@dataclass(frozen=True)
class ConvertedSite:
    """What became of one layer.

    Attributes:
        paths: where it stands. A shared layer has several.
        old, new: the layers as they print themselves.
        exact: whether the new one computes the same in evaluation.
        before, after: mean and standard deviation of its output over all channels, in the original
            and in the converted network; None for a convolution and for a layer that is not called.
    """

    paths: tuple[str, ...]
    old: str
    new: str
    exact: bool
    before: tuple[float, float] | None = None
    after: tuple[float, float] | None = None


@dataclass(frozen=True)
class Conversion:
    """A converted network, and how close it is to the original.

    Attributes:
        model: the converted network.
        to: the method.
        how: where weights and biases of approximate sites come from: what was asked for, or
            ``matched`` where distillation did not lower the distance.
        exact: whether the two networks compute the same in evaluation: every site is exact, and
            the largest difference in float64 is at most 1e-10 of the largest output (or of 1).
        difference: largest absolute difference of an output in evaluation, in float64.
        scale: largest absolute output of the original, but at least 1.
        images: number of images that were compared.
        drawn: whether they were random values, not images that were given.
        sites: every layer that was exchanged.
        unchanged: paths of layers that were what was asked for already.
        left: layers that have to do with normalization and were left alone, with the reason.
        distance: what distillation lowers, over all images: of the matched network, and of this
            one. None where nothing was distilled.
    """

    model: nn.Module
    to: str
    how: How
    exact: bool
    difference: float
    scale: float
    images: int
    drawn: bool
    sites: tuple[ConvertedSite, ...]
    unchanged: tuple[str, ...]
    left: tuple[OtherLayer, ...]
    distance: tuple[float, float] | None = None

    def __str__(self) -> str:
        rows = [("site", "from", "to", "", "mean, spread before", "after")]
        for site in self.sites:
            reached = site.before is not None or self.how not in _MEASURED
            kind = "exact" if site.exact else self.how if reached else "copied"
            rows.append(
                (", ".join(site.paths), site.old, site.new, kind,
                 _pair(site.before), _pair(site.after))
            )  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if self.unchanged:
            lines.append(f"Unchanged: {', '.join(self.unchanged)}.")
        lines += [f"Left alone: {one.path} ({one.layer}), which {one.reason}." for one in self.left]
        return "\n".join([*lines, self.summary])

    @property
    def summary(self) -> str:
        """Exact or approximate, and by how much, in two sentences."""
        one = "random input" if self.drawn else "image"
        images = f"{self.images} {one}{'' if self.images == 1 else 's'}"
        measured = (
            f"On {images} its outputs differ from the original's by at most {self.difference:.1e} "
            f"in float64 and evaluation mode (largest output: {self.scale:.3g})."
        )
        if self.exact:
            return f"Exact in evaluation. {measured}"
        said = f"Approximate. {measured}"
        if self.distance is not None:
            before, after = self.distance
            if after < before:
                said += f" Distillation lowered their distance from {before:.3g} to {after:.3g}."
            else:
                said += f" Distillation did not lower their distance of {before:.3g}."
        return said


def convert(
    model: nn.Module,
    to: str | type[nn.Module],
    images: Tensor | Iterable[Any] | None = None,
    *,
    how: How = "distilled",
    batch_size: int = 256,
    keep_eps: bool = True,
) -> Conversion:
    """Put another normalization into a trained network.

    Every normalization layer of images is exchanged, see :func:`normlab.models.norm_layers`. All
    else stays: weights (except with ``distilled_all``), modes, devices, types, hooks, and what is
    shared. The network that is given is not changed; the converted one is a copy. Convolutions of
    this package that normalize their weights become plain ones.

    A site is *exact* where the new layer computes the same in evaluation, for any input: batch norm
    as frozen batch norm, a library's layer as this package's, ``in`` as ``gn`` with a group per
    channel, ``ln`` as ``gn`` with one group, ``bin`` with all gates at 1 as ``bn`` and at 0 as
    ``in``, and each of these the other way round. In training the two may differ: batch norm then
    takes the batch's statistics.

    To ``none``, a site is exact where the convolution before it can compute it: batch norm with
    running statistics and what computes the same as a frozen one, directly after a convolution
    that nothing else uses, see :func:`normlab.fold`. The convolution gets the scale and a bias.

    Any other site is *approximate*. Weight and bias then come from

    - ``distilled``: what the network answered. They are matched first, see below. Then those of all
      new layers are trained together so that the outputs on the images come closer to the
      original's: 200 steps of Adam with 32 images, without labels, in evaluation mode. The result
      is taken if the distance over all images is lower than it was. With a the original's output
      and b the converted network's, v the variance of a over the images, and p and q the softmax of
      a and b over the second axis, the distance is mean((b - a)^2) / v plus the mean over the
      images of sum p log(p / q). On the same machine, the same input gives the same bits; on a GPU
      this depends on the operations of the network.
    - ``distilled_all``: the same, with all other parameters that require gradients trained as well.
      It lost least where it was measured, but convolutions and classifier change, so the network
      is another one outside of its normalization too.
    - ``matched``: what the old layer did. Site by site in the order of the forward pass, they are
      set per channel so that the new output has the old one's mean and standard deviation over the
      images. With m and s these two, of the old output in the original network and of the new one
      (at weight 1 and bias 0, in the network converted up to there), weight is s_old / s_new, and
      bias is m_old - weight m_new. The weight is negative where the two outputs are negatively
      correlated. A layer that is called several times is matched on all its calls together, and
      only closely, since its later inputs depend on it. Running statistics, where the new layer
      has them, are those of the images. A layer that the images do not reach is copied.
    - ``copied``: the old layer's weight, bias and running statistics.
    - ``fresh``: nowhere. The new layer starts as one that is not trained.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> made = convert(network, "frozen_bn")
    >>> made.exact, made.model[1]
    (True, FrozenBatchNorm2d(8, eps=1e-05))
    >>> convert(network, "gn:groups=4", torch.randn(16, 3, 8, 8), how="matched").exact
    False

    Args:
        model: any network.
        to: a method of the catalogue with its options, ``package.module:Class``, or a class.
            ``gn:groups=auto`` takes for each width the largest number of groups up to 32 that
            divides it and leaves two channels or more to a group, or one group.
        images: what the network takes, (N, C, H, W), normalized as for training: a tensor, or
            batches of tensors or of (images, labels). All but ``copied`` and ``fresh`` need them:
            some hundred images of the training set. Without them the two networks are compared on
            random values.
        how: ``distilled``, ``distilled_all``, ``matched``, ``copied`` or ``fresh``.
        batch_size: images per forward pass. To match, one batch that has all images takes one pass
            where the new layers have no running statistics; otherwise each layer needs a pass up to
            it, or two where it has them.
        keep_eps: new layers that compute the same have eps and momentum of the old ones. False:
            they have the method's own, and weights that make up for it where there are running
            variances; otherwise a layer with another eps is no longer the same.

    Raises:
        InputError: an unknown method, or one that puts more than its layer into a network; a site
            for which it cannot be made, named with its width; nothing to convert; an approximate
            conversion without images; any ``how`` but ``fresh`` to ``none`` where a site cannot be
            folded; a method without weight and bias, or with statistics that are not per channel,
            where they have to be set; images that the network cannot take; outputs that cannot be
            distilled; a network that cannot be copied; a parameter that is shared with another
            module and would not be any more; a layer with parametrized tensors; a fused layer that
            cannot be taken apart.
    """
    if how not in get_args(How):
        raise InputError(f"how must be one of {', '.join(get_args(How))}, got {how!r}.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
    name, choice = _target(to)
    given = None if images is None else _together(images)
    original = _copied(model)
    x = _drawn_for(original) if given is None and _is_nothing(choice) else given
    step = _changed_exactly(split_fused(_copied(model)), choice, x, keep_eps)
    if not step.sites and not step.pairs:
        if step.unchanged:
            raise InputError(f"All normalization layers of the network are {name} already.")
        raise InputError(
            "The network has no normalization layer of images that could be converted."
        )
    if step.reasons and how != "fresh":
        every = [f"{path} {why}" for path, why in step.reasons.items()]
        more = len(every) - _NAMED
        said = "; ".join([*every[:_NAMED], *([f"and {more} more"] if more > 0 else [])])
        raise InputError(
            f"{name} has no weight and bias, so each layer has to be folded into the convolution "
            f"before it, and not all can be: {said}. how='fresh' leaves these out, which is "
            "another function."
        )
    if step.pairs and how in _MEASURED and given is None:
        _, layer = step.pairs[0]
        raise InputError(
            f"{layer.paths[0]} is {layer.layer!r:.80}, for which {name} has no layer that computes "
            "the same. Give images to match it on, or choose how='copied' or how='fresh'."
        )
    if x is None:
        x = _drawn_for(original)
    with _running("The network", x), torch.no_grad(), in_evaluation(original):
        original(x[:_DRAWN].to(*like(original, original)))
    converted, sites, distance = _finished(step, choice, how, x, batch_size)
    if distance is not None and not distance[1] < distance[0]:
        how = "matched"
    if isinstance(converted, ResNet):
        converted.norm = _name_of(converted, name)
    # What is exact is proven in float64 from the start: a weight that is computed is rounded when
    # it is stored.
    proven = _copied(converted)
    if not step.pairs:
        proven = _changed_exactly(split_fused(_copied(model).double()), choice, x, keep_eps).model
    proof = x[:PROOF_IMAGES]
    difference, scale = _difference(original, proven, proof)
    exact = not step.pairs and difference <= TOLERANCE * scale
    if not step.pairs and _is_nothing(choice) and not exact:
        raise InputError(
            f"With all layers folded the network does not compute the same: in float64 its outputs "
            f"differ by up to {difference:.3g} (largest: {scale:.3g}). It uses its layers in a way "
            "that was not seen."
        )
    return Conversion(
        model=converted,
        to=name,
        how=how,
        exact=exact,
        difference=difference,
        scale=scale,
        images=len(proof),
        drawn=given is None,
        sites=tuple(sites),
        unchanged=tuple(step.unchanged),
        left=other_layers(converted),
        distance=distance,
    )


def _name_of(model: ResNet, to: str) -> str:
    """What to call it: the method, if the network is the one that the method makes."""
    try:
        check_sites(model, to)
    except ValueError:
        return f"{model.norm} converted to {to}"
    return to


def _target(to: str | type[nn.Module]) -> tuple[str, NormChoice]:
    try:
        name = to if isinstance(to, str) else name_of_layer(to)
        choice = parse_norm(name)
        parts = choice.parts
    except ValueError as error:
        raise InputError(f"Cannot convert to {to!r}: {error}".rstrip(".") + ".") from error
    if not parts.plain:
        kinds = ", ".join(spec.name for spec in CATALOG.values() if spec.parts.plain)
        raise InputError(
            f"Cannot convert to {name}, which puts more than a layer after each convolution, or "
            f"another one at some places.{_near(choice)} Methods that are a layer: {kinds}."
        )
    return name, choice


def _near(choice: NormChoice) -> str:
    """The methods that are one of the method's layers, in a sentence."""
    spec = CATALOG.get(choice.name)
    layers = {*choice.parts.classes(), *(() if spec is None else (spec.layer,))} - {NoNorm2d}
    near = [one.name for one in CATALOG.values() if one.parts.plain and one.layer in layers]
    return f" Methods that are one of its layers: {', '.join(near)}." if near else ""


def _is_nothing(choice: NormChoice) -> bool:
    """Whether nothing is to stand after a convolution."""
    return choice.name in CATALOG and CATALOG[choice.name].layer is NoNorm2d


def _together(images: Tensor | Iterable[Any]) -> Tensor:
    if isinstance(images, Tensor):
        found = images
    else:
        batches = [one[0] if isinstance(one, (tuple, list)) else one for one in images]
        if not batches or not all(isinstance(one, Tensor) for one in batches):
            raise InputError("images must be a tensor (N, C, H, W), or batches of tensors.")
        try:
            found = torch.cat(batches)
        except RuntimeError as error:
            raise InputError(f"images cannot be put together: {told(error)}.") from error
    if found.dim() != 4 or not len(found) or not found.is_floating_point():
        raise InputError(
            "images must be floating-point numbers of shape (N, C, H, W) with N at least 1, "
            f"got {found.dtype} of shape {tuple(found.shape)}."
        )
    return found


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise InputError(
            f"The network cannot be copied, which a conversion needs: {told(error)}."
        ) from error


@dataclass
class _Step:
    """A network after what is exact, and what is still to do.

    Attributes:
        model: it, changed.
        sites: what was exchanged.
        pairs: a new layer, not in the network yet, for each layer to exchange approximately.
        unchanged: paths of layers that are what was asked for.
        reasons: path of each layer that no convolution can compute, where one would have to.
    """

    model: nn.Module
    sites: list[ConvertedSite]
    pairs: list[tuple[nn.Module, NormLayer]]
    unchanged: list[str]
    reasons: dict[str, str] = field(default_factory=dict)

    def all_sites(self) -> list[ConvertedSite]:
        return self.sites + [
            ConvertedSite(old.paths, repr(old.layer), repr(new), exact=False)
            for new, old in self.pairs
        ]


def _changed_exactly(
    model: nn.Module, choice: NormChoice, x: Tensor | None, keep_eps: bool
) -> _Step:
    """The network, changed, with all done that is exact."""
    if x is not None and _is_nothing(choice):
        return _folded(model, choice, x)
    return _exchanged_exactly(model, choice, keep_eps)


def _folded(model: nn.Module, choice: NormChoice, x: Tensor) -> _Step:
    """With every layer in the convolution before it where that is exact: those that are a scale and
    a shift in evaluation are made so first."""
    found = norm_layers(model)
    step = _exchanged_exactly(model, _SCALE_AND_SHIFT, keep_eps=True)
    model = step.model
    exact = _copied(model).double()
    sites = [site for site in step.sites if site.paths not in {one.paths for one in found}]
    now = _Step(model, sites, [], [])
    first = {one.paths[0] for one in found}
    with _running("The network", x), in_evaluation(exact):
        folded, kept = fold_all(exact, x[:_DRAWN].to(*like(exact, exact)), first.__contains__)
    makers = {id(model.get_submodule(path)) for path in folded.values()}
    _check_ties(model, dict.fromkeys(makers, nn.Identity()))
    fold_into(model, folded)
    new: dict[int, nn.Module] = {}
    for one in found:
        path, made = one.paths[0], make(choice, one.channels)
        if isinstance(one.layer, NoNorm2d):
            now.unchanged += one.paths
        elif path in folded:
            place = model.get_submodule(path)
            new[id(place)] = carry_over(place, made)
            now.sites.append(ConvertedSite(one.paths, repr(one.layer), repr(made), exact=True))
        else:
            now.pairs.append((made, one))
            now.reasons[path] = kept.get(path, "is no fixed scale and shift of each channel")
    now.model = exchanged(model, new)
    return now


def _exchanged_exactly(model: nn.Module, choice: NormChoice, keep_eps: bool) -> _Step:
    step = _Step(model, [], [], [])
    new: dict[int, nn.Module] = {}
    for paths, layer in _weight_side(model):
        _check_parametrized(layer, paths)
        plain = plain_convolution(layer)
        new[id(layer)] = carry_over(layer, plain)
        step.sites.append(ConvertedSite(paths, repr(layer), repr(plain), exact=True))
    for found in norm_layers(model):
        _check_parametrized(found.layer, found.paths)
        fitting = choice.for_width(found.channels)
        try:
            wanted, made = make(fitting, found.channels), None
            if type(wanted) is type(found.layer) and repr(wanted) == repr(found.layer):
                step.unchanged += found.paths
                continue
            made = same_layer(found.layer, fitting, found.channels, keep_eps=keep_eps)
        except ValueError as error:
            raise InputError(misfit(found.paths[0], found.channels, choice, error)) from error
        device, dtype = like(found.layer, model)
        if made is None:
            step.pairs.append((wanted.to(device, dtype), found))
            continue
        _keep_tensors(found.layer, made.to(device, dtype))
        new[id(found.layer)] = carry_over(found.layer, made)
        step.sites.append(ConvertedSite(found.paths, repr(found.layer), repr(made), exact=True))
    _check_ties(model, new)
    step.model = exchanged(model, new)
    return step


def _check_parametrized(layer: nn.Module, paths: tuple[str, ...]) -> None:
    if is_parametrized(layer):
        raise InputError(
            f"{paths[0]} has a parametrized tensor, which another layer would not have. Remove it "
            "first (torch.nn.utils.parametrize.remove_parametrizations)."
        )


def _weight_side(model: nn.Module) -> Iterator[tuple[tuple[str, ...], nn.Conv2d]]:
    found: dict[int, tuple[list[str], nn.Conv2d]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d) and callable(getattr(module, "effective_weight", None)):
            found.setdefault(id(module), ([], module))[0].append(path)
    for paths, layer in found.values():
        yield tuple(paths), layer


def _keep_tensors(old: nn.Module, new: nn.Module) -> None:
    """Give a layer that has the same tensors the old ones themselves, which may be shared."""
    copy_state(old, new)
    for own, others in ((new._parameters, old._parameters), (new._buffers, old._buffers)):
        for name, tensor in own.items():
            other = others.get(name)
            if tensor is not None and other is not None and tensor.shape == other.shape:
                own[name] = other  # type: ignore[assignment]
    take_eps(old, new)


def _check_ties(model: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Refuse to part tensors that a layer shares with another module."""
    owners: dict[int, list[str]] = {}
    modules = dict(model.named_modules())
    for path, module in modules.items():
        for tensor in module._parameters.values():
            if tensor is not None:
                owners.setdefault(id(tensor), []).append(path)
    for paths in owners.values():
        for path in paths:
            made = new.get(id(modules[path]))
            if len(paths) > 1 and made is not None:
                kept = {id(tensor) for tensor in made._parameters.values()}
                mine = [t for t in modules[path]._parameters.values() if t is not None]
                if any(id(t) not in kept and len(owners[id(t)]) > 1 for t in mine):
                    raise InputError(
                        f"{' and '.join(paths)} share a parameter, which would end with the "
                        "conversion. Give each its own."
                    )


def _finished(
    step: _Step, choice: NormChoice, how: How, x: Tensor, batch_size: int
) -> tuple[nn.Module, list[ConvertedSite], tuple[float, float] | None]:
    """The converted network, every site with mean and spread before and after, and the distance of
    the outputs before and after distillation."""
    reference = step.model
    converted = _copied(reference)
    places: dict[int, nn.Module] = {}
    for new, found in step.pairs:
        old = converted.get_submodule(found.paths[0])
        if how != "fresh":
            copy_state(old, new)
        if how in _MEASURED:
            _check_affine(new, found, choice)
        places[id(old)] = carry_over(old, new)
    _check_ties(converted, places)
    converted = exchanged(converted, places)
    sites = step.all_sites()
    seen = [site for site in sites if not isinstance(_at(reference, site), nn.Conv2d)]
    batches = [x[start : start + batch_size] for start in range(0, len(x), batch_size)]
    with (
        in_evaluation(reference),
        in_evaluation(converted),
        _running("The converted network", x),
    ):
        before, order = observe(reference, [_at(reference, site) for site in seen], batches)
        if how in _MEASURED:
            index = {site.paths: number for number, site in enumerate(seen)}
            pairs = {index[found.paths]: (found.layer, new) for new, found in step.pairs}
            # By batch; a network may leave one out.
            calls = [max(1, one.calls // len(batches)) for one in before]
            match(
                converted,
                [
                    Pair(*pairs[number], before[number], calls[number])
                    for number in order
                    if number in pairs
                ],
                batches,
            )
    distance = None
    if how in ("distilled", "distilled_all") and step.pairs:
        layers = [new for new, _ in step.pairs]
        everything = how == "distilled_all"
        distance = distil(
            reference, converted, layers, x, everything=everything, batch_size=batch_size
        )
    with in_evaluation(converted), _running("The converted network", x):
        after, _ = observe(converted, [_at(converted, site) for site in seen], batches)
    known = {
        site.paths: (first.overall(), second.overall())
        for site, first, second in zip(seen, before, after, strict=True)
        if first.values and second.values
    }
    measured = [
        replace(site, before=known[site.paths][0], after=known[site.paths][1])
        if site.paths in known
        else site
        for site in sites
    ]
    return converted, measured, distance


def _at(model: nn.Module, site: ConvertedSite) -> nn.Module:
    return model.get_submodule(site.paths[0])


@contextmanager
def _running(what: str, x: Tensor) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the code of a network may do anything
        raise InputError(
            f"{what} cannot take images of shape {tuple(x.shape)}: {told(error)}."
        ) from error


def can_be_matched(to: str) -> bool:
    """Whether any network can be converted to a method: its layer has what matching sets."""
    name, choice = _target(to)
    layer = make(choice, _TRIED)
    try:
        _check_affine(layer, NormLayer((name,), layer, _TRIED), choice)
    except InputError:
        return False
    return True


def _check_affine(new: nn.Module, found: NormLayer, choice: NormChoice) -> None:
    for name in ("weight", "bias"):
        tensor = getattr(new, name, None)
        if not isinstance(tensor, Tensor) or tensor.shape != (found.channels,):
            raise InputError(
                f"{choice.name} has no {name} per channel that could be matched at "
                f"{found.paths[0]}. Choose how='fresh'."
            )
    for name, buffer in new.named_buffers(recurse=False):
        if name.startswith("running_") and buffer.shape != (found.channels,):
            raise InputError(
                f"{choice.name} keeps a {name} that is not one per channel, which cannot be taken "
                f"from images at {found.paths[0]}. Choose how='fresh' and train it."
            )


def _drawn_for(model: nn.Module) -> Tensor:
    """Random inputs that the network takes."""
    first = next((one for one in model.modules() if isinstance(one, nn.Conv2d)), None)
    give = "Give images that it takes."
    if first is None:
        raise InputError(f"The network has no convolution that would show what it takes. {give}")
    said = ""
    for side in _SIDES:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(_DRAWN, first.in_channels, side, side, generator=generator)
        try:
            with torch.no_grad(), in_evaluation(model):
                model(x.to(*like(model, model)))
            return x
        except Exception as error:  # the code of a network may do anything
            said = told(error)
    raise InputError(
        f"The network takes no random input of {first.in_channels} channels and "
        f"{', '.join(map(str, _SIDES))} pixels: {said}. {give}"
    )


@torch.no_grad()
def _difference(original: nn.Module, converted: nn.Module, x: Tensor) -> tuple[float, float]:
    """Largest absolute difference of an output in float64, and the largest output or 1."""
    found = []
    for model in (original, converted):
        model = model.double()
        with in_evaluation(model):
            found.append(list(tensors(model(x.to(*like(model, model))))))
    first, second = found
    if not first:
        raise InputError("The network gives no tensor that could be compared.")
    differences = [float((a - b).abs().max()) for a, b in zip(first, second, strict=True)]
    scale = max(1.0, *(float(a.abs().max()) for a in first))
    # max() would pass over what is not a number.
    return (max(differences) if all(d == d for d in differences) else math.nan), scale


def _pair(values: tuple[float, float] | None) -> str:
    return "" if values is None else f"{values[0]:.3f}, {values[1]:.3f}"
