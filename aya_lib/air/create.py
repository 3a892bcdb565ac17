"""Deeds that make the laptop's cluster: initdb with local access only, roles and database, and closing one that is open."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.errors import SecretMissing
from aya_lib.node import sql
from aya_lib.node.node import Node
from aya_lib.schema import roles
from aya_lib.secrets import Secret, variable

INITDB_S = 120
SETTINGS = "listen_addresses = 'localhost'\npassword_encryption = 'scram-sha-256'\ntimezone = 'UTC'\n"
RULES = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
# As the cluster's account: beside the place, whole or not at all. The password comes on standard input and is in no file.
INITDB = """
set -e
data=$1 locale=$2 port=$3 owner=$4; shift 4
new=$data.incomplete
rm -rf -- "$new"
"$@" -D "$new" -U "$owner" -A scram-sha-256 --pwfile=/dev/stdin -E UTF8 --locale="$locale" --data-checksums
printf "%sport = %s\\n" "$SETTINGS" "$port" >"$new/aya.conf"
printf "\\ninclude 'aya.conf'\\n" >>"$new/postgresql.conf"
printf "%s" "$RULES" >"$new/pg_hba.conf"
mv -- "$new" "$data"
"""


@dataclass(frozen=True)
class MakeCluster:
    """initdb into a new data directory. What a killed attempt left beside it is removed first."""

    def command(self, node: Node) -> str:
        return f"initdb -D {node.data_directory} -A scram-sha-256 --data-checksums; listen_addresses = 'localhost'"

    def perform(self, node: Node) -> None:
        site, data = node.site, node.data_directory
        password = known(node, site.database.owner)
        root = ["sudo", "-n"] if node.wish.sudo else []
        give = 'mkdir -p -- "$1" && if [ -n "$2" ]; then chown "$2" "$1"; fi'
        node.shell.run([*root, "sh", "-c", give, "sh", str(data.parent), node.account or ""]).checked()
        locale = "C" if node.shell.run(["uname"]).checked().stdout.strip() == "Darwin" else "C.UTF-8"
        words = [str(data), locale, str(node.wish.postgresql.port), site.database.owner, *node.command("initdb")]
        command = ["env", f"SETTINGS={SETTINGS}", f"RULES={RULES}", "sh", "-c", INITDB, "sh", *words]
        node.shell.run(command, timeout_s=INITDB_S, stdin=password.reveal() + "\n", account=node.account).checked()


@dataclass(frozen=True)
class Populate:
    """The application's role and the database."""

    def command(self, node: Node) -> str:
        wish = node.site.database
        return f"CREATE ROLE {wish.application_role} LOGIN PASSWORD <as known here>; CREATE DATABASE {wish.name}"

    def perform(self, node: Node) -> None:
        wish = node.site.database
        with node.session(database="postgres", write=True, deadline_s=60) as connection:
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (wish.application_role,)).fetchone()
            passwords = {} if there else {wish.application_role: known(node, wish.application_role)}
            roles.create(connection, node.site, passwords, replication=False)


def known(node: Node, role: str) -> Secret:
    """A role's password for the node; :class:`SecretMissing` says where it is looked for."""
    found = sql.password(node, role, "postgres")
    if found is None:
        name = f"{role} password"
        host = node.wish.ssh.host if node.wish.ssh else node.wish.host
        hint = f"Put {host}:{node.wish.postgresql.port}:*:{role}:... into ~/.pgpass, or set {variable(node.site.name, name)}"
        raise SecretMissing(f"no password for role {role} on {node.name}", hint=hint)
    return found
