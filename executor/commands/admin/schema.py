"""`doit schema`: write JSON Schemas, with which editors complete and check milestones and rules."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, none_but_options, print_json
from executor.config.project import open_project
from executor.process.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FOLDER", "Schema", "write_schemas"]

FOLDER = ".schemas"
"""Where schemas are written, beside milestones/ and rules/; to be committed, so that everybody's editor has them."""


class Schema(Command):
    """Writes a schema for milestones and one for every rules file."""

    name = "schema"
    doc_purpose = "write JSON Schemas of milestones and rules to .schemas/, for editors"
    doc_usage = ""
    cmd_options = (JSON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Write them, or print them as one JSON object."""
        none_but_options(self, arguments)
        if options["json"]:
            from executor.model.schema import schemas

            print_json(schemas())
            return 0
        written = write_schemas(open_project().root)
        told = f"wrote {', '.join(written)} to {FOLDER}/" if written else f"{FOLDER}/ is up to date"
        sys.stdout.write(
            f"{told}\na TOML file names its schema in its first line: #:schema ../{FOLDER}/milestone.schema.json\n"
        )
        return 0


def write_schemas(root: Path) -> list[str]:
    """Write the schemas below a folder; returns the names of the files that changed."""
    from executor.model.schema import SUFFIX, schemas

    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    changed = []
    for kind, schema in schemas().items():
        path, data = folder / f"{kind}{SUFFIX}", (json.dumps(schema, indent=2) + "\n").encode()
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data, durable=False, mode=0o644)
            changed.append(path.name)
    return changed
