"""``make refresh``: execute the notebooks in place, on a lab of their own, and keep the diff small.

An output that differs only in what varies from run to run (tests/nbval_sanitize.cfg) is left as it was.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.errors import AyaError
from aya_lib.lab.new import new
from aya_lib.runbook import engine
from aya_lib.site import Site, read_yaml

KEPT = ("tags",)
SHOWN = "/var/lib/aya"  # in place of the scratch folder of a refresh
LAPTOP = ("air_setup", "air_sync_check")  # they add tables, and a daemon that goes on: last of all, one after the other
BACKUPS = ("backup", "recovery_drill", "restore_backup")  # each rests on the first of them; a new lab follows
ROLES = ("failover", "rejoin", "switchback")  # they change who is the primary: one after the other, after all others


def main() -> None:
    """Refresh the notebooks named on the command line, or all of them."""
    chosen = ordered(sys.argv[1:])
    rules = sanitizers(settings.home() / "tests" / "nbval_sanitize.cfg")
    with tempfile.TemporaryDirectory(prefix="aya-refresh-") as scratch:
        site = _own_lab(Path(scratch))
        try:
            labs.up(site)
            for name in chosen:
                print(f"{name}: {_refresh(settings.notebooks() / f'{name}.ipynb', rules)} outputs changed")
                if name == BACKUPS[-1] and name != chosen[-1]:  # others would see the receiver's slot
                    labs.delete(site)
                    labs.up(site)
        finally:
            labs.delete(site)


def ordered(names: Sequence[str] = ()) -> list[str]:
    """Runbooks in the order in which they can be executed on one lab; none named: all. One of :data:`BACKUPS`,
    :data:`ROLES` or :data:`LAPTOP` brings the others of its group."""
    there = {path.stem for path in settings.notebooks().glob("*.ipynb")}
    chosen, groups = list(names) or sorted(there), (BACKUPS, ROLES, LAPTOP)
    grouped = [name for group in groups for name in group if set(chosen) & set(group) and name in there]
    return [name for name in chosen if not any(name in group for group in groups)] + grouped


def sanitizers(path: Path) -> list[tuple[re.Pattern[str], str]]:
    """The pairs (what varies, its placeholder) of an nbval sanitize file."""
    config = configparser.RawConfigParser()
    config.read(path)
    return [(re.compile(config[name]["regex"]), config[name].get("replace", "")) for name in config.sections()]


def model_site(folder: Path) -> Path:
    """A copy of the lab's description as the site ``model``, in a parameters folder of its own; that folder."""
    model = folder / "parameters" / "model" / "site.yaml"
    model.parent.mkdir(parents=True)
    content = read_yaml(settings.parameters() / "lab" / "site.yaml") | {"name": "model"}
    model.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "parameters"


def _own_lab(scratch: Path) -> Site:
    scratch.chmod(0o755)
    os.environ |= {"AYA_PARAMETERS": str(model_site(scratch)), "AYA_RUNS": str(scratch / "runs")}
    return new("lab", scratch / "lab", like="model")


def _refresh(path: Path, rules: list[tuple[re.Pattern[str], str]]) -> int:
    """Execute one notebook and write it back; the number of outputs that really changed."""
    before = nbformat.read(path, as_version=4)
    target = settings.runs() / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if error := engine.execute(path, target, {}).error:
        raise AyaError(f"{path.stem}: {error}")
    after = nbformat.read(target, as_version=4)
    changed = number = 0
    for old, new_ in zip(before.cells, after.cells, strict=True):
        if old.cell_type == "code" and _plain(old.get("outputs", []), rules) != _plain(new_.outputs, rules):
            old.outputs, changed = _clean(new_.outputs), changed + 1
        if old.cell_type == "code":
            number += 1
            old.execution_count = number
            for output in old.outputs:
                if "execution_count" in output:
                    output["execution_count"] = number
            old.metadata = {key: value for key, value in old.metadata.items() if key in KEPT}
    nbformat.write(before, path)
    return changed


def _clean(outputs: list[Any]) -> list[Any]:
    for output in outputs:
        output.pop("transient", None)
    text = json.dumps(outputs).replace(str(settings.runs().parent), SHOWN)
    return [nbformat.from_dict(output) for output in json.loads(text)]


def _plain(outputs: list[Any], rules: list[tuple[re.Pattern[str], str]]) -> list[str]:
    """The outputs' text, sanitised; a picture counts only as being there."""
    texts = []
    for output in outputs:
        text = str(output.get("data", {}).get("text/plain", output.get("text", "")))
        for pattern, replacement in rules:
            text = pattern.sub(replacement, text)
        texts.append(text)
    return texts


if __name__ == "__main__":
    main()
