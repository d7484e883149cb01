"""What a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import DataSet
from ..foreign import origin_of
from ..models import ModelInfo, Site, other_parts, save_model
from ..norms import SyncBatchNorm2d
from ..runs import COMPLETE, DIVERGED, RunConfig, SplitPredictions, write_predictions, write_record
from ..values import json_numbers
from .command import train_command
from .environment import hardware, versions
from .evaluation import Evaluation
from .network import Built
from .schedule import highest_rate
from .standing import Standing


@dataclass(frozen=True)
class Described:
    """What does not change while a run goes on.

    Attributes:
        config, data: of the run.
        identity: what names it.
        code: SHA-256 of the files of a layer that is not ours.
        info: the network's description.
        sites: its normalization sites.
        parts: what else the method put into it.
        parameters: how many it has.
        side_by_side: how many runs shared the machine at a time.
        notes: what is to be known of a layer or a network that is not ours, and of a start from
            trained weights.
        kernels_note: why layers are computed as they are, where nobody asked for it.
        save_memory: whether memory was to be saved.
    """

    config: RunConfig
    data: DataSet
    identity: str
    code: Mapping[str, str]
    info: ModelInfo
    sites: Sequence[Site]
    parts: Sequence[Site]
    parameters: int
    side_by_side: int
    notes: Sequence[str] = ()
    kernels_note: str = ""
    save_memory: bool = False

    @classmethod
    def of(
        cls,
        config: RunConfig,
        data: DataSet,
        identity: str,
        code: Mapping[str, str],
        built: Built,
        side_by_side: int,
        notes: Sequence[str] = (),
        kernels_note: str = "",
        save_memory: bool = False,
    ) -> Described:
        """From what :func:`.network.build` made."""
        info, model, sites = built.info, built.model, built.sites
        parameters = sum(p.numel() for p in model.parameters())
        return cls(
            config,
            data,
            identity,
            code,
            info,
            sites,
            other_parts(model),
            parameters,
            side_by_side,
            (*notes, *built.notes),
            kernels_note,
            save_memory,
        )

    @property
    def images_per_statistics(self) -> int:
        """The batch that statistics see: the whole one where layers always synchronize."""
        always = any(site.layer == SyncBatchNorm2d.__name__ for site in self.sites)
        return self.config.batch_size if always else self.config.images_per_statistics

    @property
    def layer_records(self) -> dict[str, list[dict[str, str]]]:
        """The layer at each site, and the method's other parts where it has any."""
        found = {"sites": self.sites, **({"parts": self.parts} if self.parts else {})}
        return {
            name: [{"name": site.name, "layer": site.detail} for site in there]
            for name, there in found.items()
        }


def write_model(
    folder: Path,
    run: Described,
    weights: dict[str, Tensor],
    found: Mapping[str, Evaluation],
    chosen_epoch: int,
) -> None:
    """Write predictions.npz and the model with its card."""
    write_predictions(
        folder,
        {
            name: SplitPredictions(run.data.splits[name].names, one.labels, one.probabilities)
            for name, one in found.items()
        },
    )
    save_model(folder, run.info, weights, _card(run, found, chosen_epoch))


def write_run(
    folder: Path,
    run: Described,
    standing: Standing,
    status: str,
    *,
    steps: int,
    found: Mapping[str, Evaluation] | None,
) -> dict[str, Any]:
    """Write run.json and return what it says."""
    config, data = run.config, run.data
    record = {
        "status": status,
        "identity": run.identity,
        "config": config.to_dict(),
        "code": dict(run.code),
        **_origins(run),
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "config": asdict(data.config),
        },
        "versions": versions(),
        "hardware": hardware(config.device),
        "parameters": run.parameters,
        **run.layer_records,
        **({"notes": list(run.notes)} if run.notes else {}),
        **({"kernels_note": run.kernels_note} if run.kernels_note else {}),
        "batch": {
            "statistics": run.images_per_statistics,
            "gradient": config.images_per_update,
        },
        "highest_lr": highest_rate(config),
        "epochs_done": standing.epoch,
        "steps_done": steps,
        "stopped_early": status == COMPLETE and standing.epoch < config.epochs,
        "chosen_epoch": standing.best_epoch or None,
        "seconds": round(standing.seconds, 3),
        **_processor_time(standing, status),
        "side_by_side": run.side_by_side,
        **({"resumed": standing.resumed} if standing.resumed else {}),
        **({"save_memory": True} if run.save_memory else {}),
        **({"start": dict(standing.start)} if standing.start else {}),
        "memory": dict(standing.memory) or None,
        "metrics": None if found is None else {n: asdict(one.metrics) for n, one in found.items()},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return write_record(folder, record)


def _processor_time(standing: Standing, status: str) -> dict[str, Any]:
    """Of a run that ended by itself, in all and by epoch; nothing where it is not known."""
    known = status == COMPLETE or status.startswith(DIVERGED)
    if not known or standing.processor is None:
        return {}
    whole = sum(standing.processor) + standing.processor_since
    return {
        "processor_seconds": round(whole, 3),
        "processor_seconds_by_epoch": [round(spent, 3) for spent in standing.processor],
    }


def _origins(run: Described) -> dict[str, str]:
    """The folders that the layer and the network come from, where they are not ours."""
    network = origin_of(run.info.factory)
    return {
        **({"origin": origin_of(run.config.norm)} if run.code else {}),
        **({"network_origin": network} if network else {}),
    }


def _card(run: Described, found: Mapping[str, Evaluation], chosen_epoch: int) -> dict[str, Any]:
    """What whoever gets the model should know about it."""
    data = run.data
    return {
        "arm": run.config.norm,
        "seed": run.config.seed,
        **({"layers": 6 * run.config.n + 2} if run.info.ours else {"network": run.info.model}),
        "parameters": run.parameters,
        **run.layer_records,
        **({"code": dict(run.code)} if run.code else {}),
        **_origins(run),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "images": {name: len(split) for name, split in data.splits.items()},
            "resize_rule": data.resize_rule,
            **({"fold": data.fold} if data.fold else {}),
        },
        "metrics": json_numbers({name: asdict(one.metrics) for name, one in found.items()}),
        "metrics_note": "evaluation mode, no augmentation, weights that validation chose; "
        "the test split was read once, after that choice",
        "chosen_epoch": chosen_epoch,
        "command": train_command(run.config, data.config, data.name),
        "versions": versions(),
    }
