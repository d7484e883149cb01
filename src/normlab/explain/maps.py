"""Class activation maps: where in the image the evidence for a class is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import InputError, did_you_mean
from ..models import in_evaluation
from .grids import cell_grid
from .placing import Grid, interpolation
from .sites import averaged_for, last_site
from .watching import check_maps, logits_of, outputs_of

_MASKED_AT_ONCE = 64


def explain_batch(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    method: str = "grad-cam",
    sites: tuple[str, ...] | None = None,
) -> Tensor:
    """Class activation maps of a batch, signed, averaged over the sites.

    With y the target's logit, A_k the map of channel k at the site, (h, w) its size, G_k the
    gradient of y by A_k, and sums over channels k::

        grad-cam     L = sum_k mean(G_k) A_k
        hires-cam    L = sum_k G_k A_k
        cam          L = sum_k w_k A_k                     w the target's row of the classifier
        grad-cam++   L = sum_k (sum_ij alpha_kij relu(G_kij)) A_k,
                     alpha_kij = G_kij^2 / (2 G_kij^2 + G_kij^3 sum_ab A_kab), 0 where G_kij = 0
        layer-cam    L = sum_k relu(G_k) A_k
        score-cam    L = sum_k softmax_k(y(x * mask_k)) A_k,
                     mask_k = A_k at the size of x, scaled to [0, 1] (0 for a constant map)

    Sources: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2; Draelos & Carin 2020, "Use
    HiResCAM instead of Grad-CAM", section 3.3; Zhou et al. 2016, "Learning Deep Features for
    Discriminative Localization", equation 2; Chattopadhay et al. 2018, "Grad-CAM++", equations 10
    to 14 and 19; Jiang et al. 2021, "LayerCAM", equations 5 to 7; Wang et al. 2020, "Score-CAM",
    algorithm 1.

    Departures from the papers: the final ReLU of all but CAM and HiResCAM is left to the
    caller, who applies it to the result (with several sites, after averaging). Grad-CAM++ uses
    Y = exp(y) and omits its common factor exp(y), which scales the whole map. Score-CAM
    omits the baseline's score, which the softmax cancels, and places the masks as
    :func:`normlab.explain.upsample` does; masks scaled before and after that are then the same.
    Grad-CAM++, LayerCAM and Score-CAM are meant for maps that are not negative, as after a ReLU.
    A module that is called several times has the maps of its last call.
    Grad-CAM is 0, except for rounding, at a convolution followed by instance normalization, which
    removes each map's mean and so the mean of the gradient.

    An image's map does not depend on the rest of the batch. The network runs in evaluation mode;
    its modes, parameters, their gradients, its buffers and its hooks are left as they were, even
    if the call fails. Gradients are enabled inside the call, whatever its context.

    Args:
        model: a network from (N, C, H, W) to logits (N, classes).
        x: normalized images (N, C, H, W), on the network's device.
        targets: (N,) whole numbers, the class to explain for each image.
        method: one of :data:`METHODS`.
        sites: module paths with outputs of equal size, as :func:`resolve_site` gives them; None
            is the end of the last convolution's stage, see :func:`last_stage`.

    Returns:
        (N, h, w), in the type of ``x``, detached. Units are those of the logit for Grad-CAM and
        HiResCAM (see :func:`in_logit_units`), of the activations for Score-CAM, and the method's
        own for the others.

    Raises:
        InputError: an unknown method or site; a site without maps, or one that the logit does
            not depend on; sites of different sizes; CAM anywhere but at the output of the last
            block; images or targets of the wrong shape; targets that are not a class.
    """
    if method not in METHODS:
        raise InputError(
            f"There is no method {method!r}{did_you_mean(method, METHODS)}. "
            f"The methods are {', '.join(METHODS)}."
        )
    if x.dim() != 4 or not x.is_floating_point():
        raise InputError(
            f"Images must be normalized floats of shape (N, C, H, W), got {x.dtype} of shape "
            f"{tuple(x.shape)}."
        )
    check_targets(x, targets)
    with torch.inference_mode(False), in_evaluation(model):
        # A tensor created in inference mode cannot be part of a graph; its copy can.
        x = x.detach().clone()
        if sites is None:
            sites = (last_site(model, x),)
        if method in _OF_GRADIENT:
            maps = _of_gradient(model, x, targets, sites, _OF_GRADIENT[method])
        else:
            with torch.no_grad():
                weigh = _cam if method == "cam" else _score_cam
                maps = weigh(model, x, targets, sites)
    return torch.stack(maps).mean(0)


def check_targets(x: Tensor, targets: Tensor) -> None:
    """Refuse targets that are not one whole number per image.

    Raises:
        InputError: naming what was found.
    """
    if targets.shape != x.shape[:1] or targets.is_floating_point() or targets.is_complex():
        raise InputError(
            f"Targets must be one class index per image, {len(x)} whole numbers, got "
            f"{targets.dtype} of shape {tuple(targets.shape)}."
        )


def target_values(outputs: Tensor, targets: Tensor) -> Tensor:
    """The target's entry of each row of (N, classes): (N,).

    Raises:
        InputError: a target that is not a class.
    """
    classes = outputs.shape[1]
    for target in targets.tolist():
        if not 0 <= target < classes:
            raise InputError(
                f"The network has {classes} classes, 0 to {classes - 1}, got target {target}."
            )
    return outputs.gather(1, targets.to(outputs.device, torch.int64)[:, None])[:, 0]


def _of_gradient(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    sites: tuple[str, ...],
    formula: Callable[[Tensor, Tensor], Tensor],
) -> list[Tensor]:
    # The images require a gradient, so that there is a graph even if no parameter does.
    with torch.enable_grad(), outputs_of(model, sites) as seen:
        logits = logits_of(model, x.requires_grad_())
        activations = check_maps(seen, sites)
        # Images do not interact in evaluation, so the sum's gradient is each image's own.
        score = target_values(logits, targets).sum()
        gradients = torch.autograd.grad(score, activations, allow_unused=True)
    maps = []
    for site, activation, gradient in zip(sites, activations, gradients, strict=True):
        if gradient is None:
            raise InputError(f"The logit does not depend on the output of {site}.")
        maps.append(formula(activation.detach(), gradient))
    return maps


def _grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1)


def _hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    return (gradient * activation).sum(1)


def _grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    # alpha with G^2 divided out, which would underflow; relu(G) removes G = 0.
    alpha = 1 / (2 + gradient * activation.sum((2, 3), keepdim=True))
    terms = torch.where(gradient > 0, alpha * gradient, 0.0)
    return (terms.sum((2, 3), keepdim=True) * activation).sum(1)


def _layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.relu() * activation).sum(1)


def _cam(model: nn.Module, x: Tensor, targets: Tensor, sites: tuple[str, ...]) -> list[Tensor]:
    with outputs_of(model, sites) as seen:
        target_values(logits_of(model, x), targets)
    activations = check_maps(seen, sites)
    classifier = averaged_for(model, sites[0], x) if len(sites) == 1 else None
    if classifier is None:
        raise InputError(
            "CAM is only defined at a site whose output is averaged over positions and then goes "
            f"into one linear layer that puts out the logits, got {', '.join(sites)}. Use "
            "hires-cam elsewhere."
        )
    weight = classifier.weight.flatten(1)[targets.to(x.device)]
    return [(weight[:, :, None, None] * maps).sum(1) for maps in activations]


def _score_cam(
    model: nn.Module, x: Tensor, targets: Tensor, sites: tuple[str, ...]
) -> list[Tensor]:
    with outputs_of(model, sites) as seen:
        target_values(logits_of(model, x), targets)
    activations = check_maps(seen, sites)
    return [
        _score_weighted(model, x, targets, maps, cell_grid(model, site, x))
        for site, maps in zip(sites, activations, strict=True)
    ]


def _score_weighted(
    model: nn.Module, x: Tensor, targets: Tensor, activations: Tensor, grid: Grid
) -> Tensor:
    rows, columns = (
        torch.from_numpy(interpolation(cells, pixels, pixels, axis)).to(x)
        for cells, pixels, axis in zip(
            activations.shape[2:], x.shape[2:], (grid.rows, grid.columns), strict=True
        )
    )
    low, high = activations.amin((2, 3), True), activations.amax((2, 3), True)
    spread = torch.where(high > low, high - low, 1.0)
    masks = rows @ ((activations - low) / spread) @ columns.T
    maps = []
    for image, target, channels, of_image in zip(x, targets, activations, masks, strict=True):
        scores = [
            target_values(model(image * part[:, None]), target.expand(len(part)))
            for part in of_image.split(_MASKED_AT_ONCE)
        ]
        weights = torch.cat(scores).softmax(0)
        maps.append((weights[:, None, None] * channels).sum(0))
    return torch.stack(maps)


_OF_GRADIENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": _grad_cam,
    "hires-cam": _hires_cam,
    "grad-cam++": _grad_cam_plus_plus,
    "layer-cam": _layer_cam,
}

METHODS: tuple[str, ...] = (
    "grad-cam",
    "hires-cam",
    "cam",
    "grad-cam++",
    "layer-cam",
    "score-cam",
)
"""Names of the methods, see :func:`explain_batch`."""
