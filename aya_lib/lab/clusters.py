"""The lab's three PostgreSQL clusters: made once, each complete or not there at all (renamed into place)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from psycopg.conninfo import make_conninfo

from aya_lib import files, schema
from aya_lib.lab import access
from aya_lib.node.node import Node
from aya_lib.node.shell import become, unprivileged
from aya_lib.plan.actions import CreateSlot
from aya_lib.schema import roles
from aya_lib.secrets import Secret

# Small, and honest: fsync and full_page_writes stay on. The standby reports every second, so that a silent link shows
# early; little WAL is kept, so that a slot can be lost within seconds when a test wants that.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "500ms",
    "wal_receiver_timeout": "10s",
    "wal_sender_timeout": "30s",
    "wal_keep_size": "32MB",
    "max_slot_wal_keep_size": "96MB",
    "max_wal_size": "256MB",
    "min_wal_size": "64MB",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "lc_messages": "C",
    "timezone": "UTC",
}
ACCESS = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"


def make(node: Node) -> None:
    """A cluster of its own, stopped: initdb with the owner's password, settings, access rules. Nothing when it is there.

    A node of the pair also gets the password file through which it will receive from the other, when it comes back.
    """
    if not node.data_directory.exists():
        _init(node)
    if node.name in node.site.pair:
        _own_passfile(node)


def _init(node: Node) -> None:
    scratch, owner = _scratch(node), node.site.database.owner
    pwfile = scratch.with_suffix(".pw")
    files.write(pwfile, access.passwords(node.site)[owner] + "\n", private=True)
    _give(pwfile)
    locale = "--locale=C.UTF-8" if os.uname().sysname == "Linux" else "--locale=C"
    access_options = ["-U", owner, "--pwfile", str(pwfile), "-A", "scram-sha-256"]
    try:
        options = [*access_options, "-E", "UTF8", locale, "--data-checksums", "--no-sync"]
        node.postgresql("initdb", "-D", str(scratch), *options, timeout_s=60).checked()
    finally:
        pwfile.unlink()
    configure(node, scratch)
    _give(scratch)
    scratch.rename(node.data_directory)


def clone(node: Node, primary: Node) -> None:
    """A standby of ``primary`` by pg_basebackup over its slot, stopped. Nothing when it is there."""
    if node.data_directory.exists():
        return
    scratch = _scratch(node)
    source = _conninfo(primary, _own_passfile(node), "pg_basebackup")
    options = ["-X", "stream", "-c", "fast", "--no-sync", "-S", node.site.replication.slot]
    node.postgresql("pg_basebackup", "-D", str(scratch), "-d", source, *options, timeout_s=120).checked()
    configure(node, scratch)
    follow(node, primary, scratch)
    (scratch / "standby.signal").touch()
    _give(scratch)
    scratch.rename(node.data_directory)


def configure(node: Node, directory: Path) -> None:
    """Write the lab's settings and access rules into a data directory."""
    values = {**SETTINGS, "port": str(node.config.postgresql.port), "cluster_name": node.name.lower()}
    text = "".join(f"{name} = '{value}'\n" for name, value in values.items())
    (directory / "lab.conf").write_text(text)
    main, include = directory / "postgresql.conf", "\ninclude 'lab.conf'\n"
    if include not in main.read_text():
        with main.open("a") as file:
            file.write(include)
    (directory / "pg_hba.conf").write_text(ACCESS)


def follow(node: Node, primary: Node, directory: Path) -> None:
    """Make a data directory's server receive from ``primary`` over the site's slot, once it is in recovery."""
    connection = _conninfo(primary, _own_passfile(node), node.name.lower()).replace("'", "''")
    lines = f"primary_conninfo = '{connection}'\nprimary_slot_name = '{node.site.replication.slot}'\n"
    with (directory / "lab.conf").open("a") as file:
        file.write(lines)


def populate(node: Node, *, replicated: bool) -> None:
    """Roles, database and schema on a running server; with ``replicated`` also the standby's slot. Twice is harmless."""
    site = node.site
    secrets = {role: Secret(password) for role, password in access.passwords(site).items()}
    with node.session(database="postgres", write=True) as connection:
        roles.create(connection, site, secrets, replication=True)
    if replicated:
        CreateSlot(site.replication.slot).run(node)
    with node.session(write=True) as connection:
        schema.create(connection, site, offline_queue=node.config.role == "laptop")


def _conninfo(primary: Node, passfile: Path, name: str) -> str:
    config, role = primary.config, primary.site.database.replication_role
    return make_conninfo(
        host=config.host, port=config.postgresql.port, user=role, passfile=str(passfile), application_name=name, connect_timeout=3
    )


def _own_passfile(node: Node) -> Path:
    """The replication role's password where the cluster's account can read it: as site.yaml says, or beside its data."""
    named = node.config.postgresql.replication_passfile
    path = node.site.path(named) if named else node.data_directory.parent / "replication.pgpass"
    if not path.exists():
        role = node.site.database.replication_role
        password = access.passwords(node.site)[role]
        files.write(path, f"{access.site_host(node.site)}:*:*:{role}:{password}\n", private=True)
        _give(path)
    return path


def _scratch(node: Node) -> Path:
    """An empty place beside the data directory; what a killed run left there is removed."""
    scratch = node.data_directory.with_name("data.incomplete")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _give(scratch.parent)
    if scratch.exists():
        shutil.rmtree(scratch)
    return scratch


def _give(path: Path) -> None:
    """Hand a file or folder to the account that PostgreSQL runs under (only root can, and only root must)."""
    if os.geteuid() != 0:
        return
    identity = become(unprivileged())
    for entry in [path, *(path.rglob("*") if path.is_dir() else [])]:
        os.chown(entry, identity["user"], identity["group"], follow_symlinks=False)
