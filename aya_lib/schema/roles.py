"""The application's role and the site's database on a server that has neither yet. Applied twice it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from aya_lib.node.sql import Connection, value
from aya_lib.secrets import Secret
from aya_lib.site import Site


def create(connection: Connection, site: Site, passwords: Mapping[str, Secret], *, replication: bool) -> None:
    """Over a session to the database ``postgres``. ``replication``: also the role that standbys receive by. Only a password's
    scram verifier leaves this process."""
    config = site.database
    roles = {config.application_role: "LOGIN", **({config.replication_role: "LOGIN REPLICATION"} if replication else {})}
    for role, options in roles.items():
        if not value(connection, "SELECT true FROM pg_roles WHERE rolname = %s", (role,)):
            verifier = connection.pgconn.encrypt_password(passwords[role].reveal().encode(), role.encode(), b"scram-sha-256")
            text = sql.SQL("CREATE ROLE {} {} PASSWORD {}")
            connection.execute(text.format(sql.Identifier(role), sql.SQL(options), sql.Literal(verifier.decode())))
    if not value(connection, "SELECT true FROM pg_database WHERE datname = %s", (config.name,)):
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(config.name)))
