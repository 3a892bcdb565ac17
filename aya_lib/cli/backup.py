"""``aya backup``: what the repository holds, one backup of it, and its proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aya_lib.cli.options import Json, SiteName, answer, group, load, nodes, print_json
from aya_lib.errors import AyaError, UsageError, nearest

if TYPE_CHECKING:
    from aya_lib.backup.records import Backup, Repository
    from aya_lib.node.node import Nodes

app = group("Backups: see them, and prove them by a restore. They are made by: aya run backup.")
Label = Annotated[str, typer.Argument(metavar="BACKUP", help="Its label. Default: the newest.")]


@app.command("list", epilog="Example: aya backup list --site production --json")
def list_backups(site: SiteName = "lab", as_json: Json = False) -> None:
    """The backups, what can be restored from them, and whether the site may rest on them. Exit 1 when it may not."""
    from aya_lib.backup import chain, judge
    from aya_lib.check import Checks, worst
    from aya_lib.show import Table, as_text

    there = nodes(site)
    found = _repository(there)
    checks = judge.checks(there.site, found)
    rows = tuple(judge.row(one) for one in found.backups)
    rows += tuple((label, "", "", "", "", why) for label, why in found.damaged.items())
    columns = ("backup", "stands on", "read from", "size", "until", "proof")
    tables = (Table("Backups", columns, rows, (f"{found.directory} on {found.node}",)), Checks("Backups", tuple(checks)).table())
    document = {"schema": 1, "site": there.site.name, "status": worst(checks), "checks": checks, "damaged": found.damaged}
    held = {"backups": found.backups, "windows": chain.windows(found), "receiver": found.receiver, "flushed": found.flushed}
    answer("\n\n".join(map(as_text, tables)), {**document, **held}, as_json)
    raise typer.Exit(1 if worst(checks) in ("failed", "unknown") else 0)


@app.command(epilog="Example: aya backup show 20261129T030000Z-full --json")
def show(label: Label = "", site: SiteName = "lab", as_json: Json = False) -> None:
    """One backup: its record, with what every table held at its mark."""
    from aya_lib.backup import judge
    from aya_lib.show import Table, as_text

    one = _one(_repository(nodes(site)), label)
    tables = one.mark.tables.items() if one.mark else ()
    rows = tuple((f"{database}: {table}", f"{held[0]}", held[1]) for database, each in tables for table, held in each.items())
    notes = [f"{what}: {said}" for what, said in (one.mark.facts.items() if one.mark else ())]
    notes += [f"dumps/{name}: {size} bytes, SHA-256 {digest}" for name, (size, digest) in one.dumps.items()]
    title = f"{one.label}: {', '.join(filter(None, judge.row(one)[1:]))}"
    text = as_text(Table(title, ("table at the mark", "rows", "checksum"), rows, tuple(notes)))
    answer(text, {"schema": 1, "backup": one}, as_json)


@app.command(epilog="Example: aya backup verify --site production")
def verify(label: Label = "", site: SiteName = "lab", as_json: Json = False) -> None:
    """Read every file, walk the WAL, start the backup once beside the site, and compare it with its mark.

    The proof, or the fault, is written into its record. Exit 1 when it is damaged.
    """
    from aya_lib.backup.look import folder, keeper
    from aya_lib.backup.verify import Verify

    there = nodes(site)
    node, one = keeper(there), _one(_repository(there), label)
    Verify(one.label).run(node)
    proven = _one(_repository(there), one.label)
    if proven.proof is None:
        raise AyaError(f"{node.name}: {one.label} has no proof in {folder(there.site)}", hint="Run it again")
    if as_json:
        print_json({"schema": 1, "backup": proven.label, "proof": proven.proof})
    else:
        found = proven.proof
        print(f"{proven.label}: {found.files} files, {found.wal_segments} segments of WAL, {found.compared_tables} tables equal")


@app.command(epilog="Example: aya backup copy --to offsite --site production")
def copy(
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help="One of backup.copies. Default: each.")] = "",
    site: SiteName = "lab",
) -> None:
    """Copy verified backups and all WAL to further places, on the keeper itself. Broken off and run again, it goes on."""
    from aya_lib.backup import copies, elsewhere, places
    from aya_lib.backup.look import folder, section

    there = nodes(site)
    found = _repository(_on_the_keeper(there))
    labels = [one.label for one in found.backups if one.verified]
    wanted = [elsewhere.named(there.site, to)] if to else [*section(there.site).copies]
    if not wanted:
        raise UsageError("the site has no further place", hint="Add backup.copies to site.yaml: docs/backup.md")
    for config in wanted:
        done = copies.copy(folder(there.site), section(there.site), places.open_place(config), labels)
        print(f"{config.name}: {len(done.copied)} copied, {len(done.removed)} removed")


@app.command("copies", epilog="Example: aya backup copies --site production --json")
def list_copies(site: SiteName = "lab", as_json: Json = False) -> None:
    """What lies at each further place, seen from the keeper. Exit 1 when the last verified backup is not everywhere."""
    from aya_lib.backup import elsewhere, judge
    from aya_lib.backup.copies import Copied
    from aya_lib.check import Checks, worst
    from aya_lib.show import as_text

    there = nodes(site)
    found = elsewhere.look(there)
    checks = judge.elsewhere(there.site, _repository(there), found)
    listed = found.found if isinstance(found, elsewhere.Elsewhere) else {}
    known = {name: one for name, one in listed.items() if isinstance(one, Copied)}
    document = {"schema": 1, "site": there.site.name, "status": worst(checks), "checks": checks, "places": known}
    answer(as_text(Checks("Copies", tuple(checks)).table()), document, as_json)
    raise typer.Exit(1 if worst(checks) in ("failed", "unknown") else 0)


@app.command(epilog="Example: aya backup fetch 20261129T030000Z-full --from offsite --into /srv/back --identity key.txt")
def fetch(
    label: Annotated[str, typer.Argument(metavar="BACKUP", help="Its label; see aya backup copies --json.")],
    source: Annotated[str, typer.Option("--from", metavar="PLACE", help="One of backup.copies.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is not there yet.")],
    identity: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key, where copies are encrypted.")] = None,
    site: SiteName = "lab",
) -> None:
    """Get a backup and its WAL back from a further place, as a repository: every file is compared with what was copied there."""
    from aya_lib.backup import copies, elsewhere, places

    config = elsewhere.named(load(site), source)
    copies.fetch(places.open_place(config), label, into, identity)
    print(f"{into}: {label} and its WAL. To restore from it, name {into} as backup.directory in site.yaml")


@app.command("find-time", epilog="Example: aya backup find-time chunks --since 2026-01-31T03:00:00Z")
def find_time(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table, or DATABASE/FILENODE as numbers.")],
    since: Annotated[str, typer.Option(metavar="TIME", help="With its zone. Default: all WAL that is kept.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="With its zone. Default: now.")] = "",
    database: Annotated[str, typer.Option(metavar="DATABASE", help="Default: the site's own.")] = "",
    site: SiteName = "lab",
    as_json: Json = False,
) -> None:
    """Just before that DELETE: commits that deleted, updated or truncated rows of a table, and where to restore to."""
    from aya_lib.backup import points
    from aya_lib.backup.chain import moment

    there = nodes(site)
    times = [moment(one) if one else None for one in (since, until)]
    found = _repository(there)
    events = points.look(there, found, table, *times, database=database or None)
    answer(events, {"schema": 1, **vars(events)}, as_json)


def _on_the_keeper(there: Nodes) -> Nodes:
    """The nodes, where this machine holds the repository; :class:`UsageError` elsewhere."""
    from aya_lib.backup.look import keeper

    node = keeper(there)
    if node.config.ssh:
        hint = f"Run it on {node.name}, or run backup, which does that"
        raise UsageError(f"the backups lie on {node.name}, not here", hint=hint)
    return there


def _repository(there: Nodes) -> Repository:
    from aya_lib.backup.look import NoRepository, look
    from aya_lib.backup.records import Repository

    found = look(there)
    if isinstance(found, Repository):
        return found
    hint = "Make one: aya run backup" if isinstance(found, NoRepository) else "See why the keeper does not answer: aya status"
    raise AyaError(str(found), hint=hint)


def _one(found: Repository, label: str) -> Backup:
    if label in found.damaged:
        raise AyaError(f"{label}: {found.damaged[label]}", hint="It is never counted. Run backup: it makes another one")
    if not found.backups:
        raise AyaError(f"{found.node} has no backup yet", hint="Make one: aya run backup")
    one = found.backup(label) if label else found.backups[-1]
    if one is None:
        labels = [each.label for each in found.backups]
        raise UsageError(f"no backup '{label}'{nearest(label, labels)}", hint=f"There are {', '.join(labels)}")
    return one
