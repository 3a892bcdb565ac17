"""What makes the laptop's cluster: initdb with local access only, roles and database; and what both sides get for the
synchronisation."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL, Literal

from aya_lib import schema
from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.air.triggers import Side
from aya_lib.errors import SecretMissing
from aya_lib.node import sql
from aya_lib.node.node import Node
from aya_lib.schema import roles
from aya_lib.secrets import Secret, variable

INITDB_S = 120
SETTINGS = "listen_addresses = 'localhost'\npassword_encryption = 'scram-sha-256'\ntimezone = 'UTC'\n"
RULES = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
FOLDER = 'mkdir -p -- "$1" && if [ -n "$2" ]; then chown "$2" "$1"; fi'
SHOWN = {
    "primary": "schema aya_sync (changes, clients, mutations, state), column documents.version, triggers that note what changes",
    "laptop": "schema aya_sync (laptop, refetch, conflicts, renamed), columns and triggers of write_queue, ids below 0",
}
PASSWORD = 'cat | "$@"'  # cat: the account may not open again a standard input that is ours


@dataclass(frozen=True)
class MakeCluster:
    """initdb beside the data directory's place, and renamed into it. What a killed attempt left there is removed first. The
    password goes by standard input, and is in no file and no argument list."""

    def command(self, node: Node) -> str:
        return f"initdb -D {node.data_directory} -A scram-sha-256 --data-checksums; listen_addresses = 'localhost'"

    def run(self, node: Node) -> None:
        data, owner = node.data_directory, node.site.database.owner
        secret, new = password(node, owner), str(data.with_name(f"{data.name}.incomplete"))

        def run(*words: str, stdin: str | None = None) -> str:
            output = node.shell.run(words, timeout_s=INITDB_S, stdin=stdin, account=node.account)
            return output.checked().stdout.strip()

        root = ["sudo", "-n"] if node.config.sudo else []
        node.shell.run([*root, "sh", "-c", FOLDER, "sh", str(data.parent), node.account or ""]).checked()
        run("rm", "-rf", "--", new)
        locale = "C" if run("uname") == "Darwin" else "C.UTF-8"
        options = ["-A", "scram-sha-256", "--pwfile=/dev/stdin", "-E", "UTF8", f"--locale={locale}", "--data-checksums"]
        initdb = node.command("initdb", "-D", new, "-U", owner, *options)
        run("sh", "-c", PASSWORD, "sh", *initdb, stdin=secret.reveal() + "\n")
        run("tee", f"{new}/aya.conf", stdin=f"{SETTINGS}port = {node.config.postgresql.port}\n")
        run("tee", "-a", f"{new}/postgresql.conf", stdin="\ninclude 'aya.conf'\n")
        run("tee", f"{new}/pg_hba.conf", stdin=RULES)
        run("mv", "--", new, str(data))


@dataclass(frozen=True)
class Populate:
    """The application's role and the database."""

    def command(self, node: Node) -> str:
        config = node.site.database
        return f"CREATE ROLE {config.application_role} LOGIN PASSWORD <as known here>; CREATE DATABASE {config.name}"

    def run(self, node: Node) -> None:
        role = node.site.database.application_role
        with node.session(database="postgres", write=True, deadline_s=60) as connection:
            there = sql.value(connection, "SELECT true FROM pg_roles WHERE rolname = %s", (role,))
            passwords = {} if there else {role: password(node, role)}
            roles.create(connection, node.site, passwords, replication=False)


@dataclass(frozen=True)
class Prepare:
    """Create what a side lacks, in one transaction; applied twice it changes nothing. It waits for a lock on documents for a
    moment, and gives up after that."""

    side: Side

    def command(self, node: Node) -> str:
        return SHOWN[self.side]

    def run(self, node: Node) -> None:
        text = SQL(sql.statement("aya_lib.air", self.side)).format(version=Literal(SCHEMA_VERSION))
        always = sql.statement("aya_lib.air", "always")
        with node.session(write=True, deadline_s=60) as connection:
            if self.side == "laptop":
                schema.create(connection, node.site, offline_queue=True)
            with connection.transaction():
                connection.execute(text)
                connection.execute(always)


def password(node: Node, role: str) -> Secret:
    """A role's password for the node; :class:`SecretMissing` says where it is looked for."""
    known = sql.password(node, role, "postgres")
    if known is None:
        host = node.config.ssh.host if node.config.ssh else node.config.host
        name = variable(node.site.name, f"{role} password")
        hint = f"Put {host}:{node.config.postgresql.port}:*:{role}:... into ~/.pgpass, or set {name}"
        raise SecretMissing(f"no password for role {role} on {node.name}", hint=hint)
    return known
