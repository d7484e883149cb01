"""The record of a run that could not be made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..data import DataSet
from ..runs import (
    FAILED,
    INTERRUPTED,
    RunConfig,
    identity,
    is_run,
    is_same_run,
    read_record,
    write_record,
)
from .code import code_of_run
from .network import build
from .outcome import Described, write_run
from .standing import Standing


def write_failed(
    config: RunConfig, data: DataSet, folder: Path, reason: str, side_by_side: int = 1
) -> dict[str, Any]:
    """Write run.json of a run whose process died each time, and return what it says.

    The checkpoint stays: whoever asks for the run again gets it from there.

    Args:
        config, data, folder: of the run.
        reason: such as "killed by SIGKILL three times".
        side_by_side: how many runs shared the machine.
    """
    status = f"{FAILED}: {reason}"
    code = code_of_run(config)
    if is_run(folder):
        known = read_record(folder)
        began = known["status"] == INTERRUPTED
        if began and is_same_run(known, config, data.fingerprint, code):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record = {**known, "status": status, "written": now}
            write_record(folder, record)
            return record
    data = data.of_seed(config.seed)
    described = Described.of(
        config,
        data,
        identity(config, data.fingerprint, code),
        code,
        build(config, data),
        side_by_side,
    )
    return write_run(folder, described, Standing(), status, steps=0, found=None)
