"""Receipts: the doit target of each landed issue, rebuilt from git whenever it is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from executor.adapters.files import write_atomic
from executor.core.change import parse_diff
from executor.core.report import success_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.adapters.store import Store
    from executor.core.message import Landing
    from executor.project import Project

__all__ = ["write_receipt"]


def write_receipt(project: Project, store: Store, landing: Landing, deviations: Sequence[str] = ()) -> None:
    """Write the receipt of a landing, for doit and for people; all but the deviations is in the commit."""
    trailers = landing.trailers
    change = parse_diff(store.diff(f"{landing.commit}^", landing.commit))
    receipt = {
        "milestone": trailers.milestone,
        "issue": trailers.issue,
        "commit": landing.commit,
        "revision": trailers.revision,
        "spec_key": trailers.spec_key,
        "result_key": trailers.result_key,
        "check_key": trailers.check_key,
        "report": success_report(change, deviations),
    }
    path = project.receipt(trailers.milestone, trailers.issue)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = store.redact((json.dumps(receipt, indent=1, sort_keys=True) + "\n").encode())
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, data)
