"""The site as configured: three machines, what runs on them, and how each is reached.

What a node *is* (primary, in recovery, timeline) is a fact and is looked at; nothing here says it.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aya_lib import settings
from aya_lib.errors import AyaError, SiteError, nearest

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Role = Literal["primary", "standby", "laptop"]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, a tenth of the time, where PyYAML was built with it
LAB_MARKER = ".aya-lab"  # in every folder that a lab made: only such a folder is ever deleted


class Section(BaseModel):
    """Frozen and strict: an unknown key is an error, not a typing mistake that nobody sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ssh(Section):
    """How the OpenSSH client reaches the node. Keys, agent and known_hosts are the user's own."""

    host: str = Field(description="host name, address, or Host of ~/.ssh/config")
    user: str | None = Field(None, description="remote account; default: what ssh chooses")
    port: Port | None = Field(None, description="default: what ssh chooses")
    config: Path | None = Field(None, description="an ssh configuration file in place of ~/.ssh/config")
    fingerprint: Annotated[str, Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")] | None = Field(
        None, description="of its host key, read on the node itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    )


class PostgreSQL(Section):
    port: Port = 5432
    data_directory: Path
    bin_directory: Path
    library_directory: Path | None = Field(None, description="put before LD_LIBRARY_PATH for PostgreSQL's programs")
    account: str | None = Field(None, description="OS account that owns the cluster; default: the data directory's owner")
    unit: str = Field("postgresql-18", description="launchd label or systemd unit")
    replication_passfile: Path | None = Field(
        None, description="on the node: the libpq password file for replication; default: the account's own ~/.pgpass"
    )


class EmbeddingService(Section):
    host: str = Field("127.0.0.1", description="address the service binds to")
    port: Port = 8765
    unit: str = Field("aya.embedding-service", description="launchd label or systemd unit")
    runs: Literal["always", "primary"] = Field("always", description="primary: only while the node is the primary")
    batch_texts: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="at most so many texts in one batch")
    wait_ms: Annotated[float, Field(ge=0, le=1000)] = Field(2, description="an idle encoder waits this long for more texts")
    waiting_texts: Annotated[int, Field(ge=1)] = Field(4096, description="more than these waiting: 503, try again later")
    cache_texts: Annotated[int, Field(ge=0)] = Field(10_000, description="texts whose vectors are remembered; 0: none")


class SyncDaemon(Section):
    unit: str = Field("aya.sync", description="launchd label or systemd unit")


class NodeConfig(Section):
    role: Role
    host: str = Field(description="address under which SQL and HTTP reach the node; with tunnel: as the node itself reaches it")
    addresses: tuple[str, ...] = Field((), description="its other addresses, to tell a person where it is")
    ssh: Ssh | None = Field(None, description="how to get a shell on it; none: it is this machine")
    tunnel: bool = Field(False, description="its services listen on its own loopback: others reach them through ssh")
    sudo: bool = Field(False, description="put 'sudo -n' before the commands that need root")
    supervisor: Literal["process", "launchd", "systemd"]
    aya: Path | None = Field(None, description="on the node: the aya command, for its units; default: as on this machine")
    postgresql: PostgreSQL
    embedding: EmbeddingService | None = None
    sync: SyncDaemon = Field(SyncDaemon(), description="of a laptop: its sync daemon")

    @model_validator(mode="after")
    def _through(self) -> NodeConfig:
        if self.tunnel and self.ssh is None:
            raise ValueError("tunnel: true needs ssh, for the tunnel goes through it")
        return self


class Database(Section):
    name: Identifier = "aya_rag"
    owner: Identifier = Field("postgres", description="role that runbooks connect as")
    application_role: Identifier = "aya_user"
    replication_role: Identifier = "postgres"
    passfile: Path | None = Field(None, description="a libpq password file; default: libpq's own ways")


class Embedding(Section):
    model: str = Field(description="folder of the model, its hub name, or 'lab' for the small model of the lab extra")
    dimension: Annotated[int, Field(ge=1, le=16000)]
    sha256: Mapping[str, str] = Field(
        default_factory=dict, description="file of the model -> sha256 that it must have before it is loaded"
    )
    backend: Literal["auto", "sentence-transformers", "mlx"] = Field(
        "auto", description="auto: MLX on Apple Silicon, sentence-transformers elsewhere"
    )
    device: str | None = Field(None, description="of sentence-transformers: cpu, mps or cuda; default: the best there is")
    query_instruction: str | None = Field(None, description="put before queries; default: what the model's makers ask for")


class Knowledge(Section):
    """How documents become chunks, and how they are searched."""

    chunk_tokens: Annotated[int, Field(ge=16, le=8192)] = Field(
        256, description="largest chunk in the model's own tokens; the model's maximum is the limit"
    )
    max_file_mb: Annotated[float, Field(gt=0)] = Field(20, description="a larger file is reported and left out")
    language: Identifier = Field("english", description="PostgreSQL's text search configuration")


class Replication(Section):
    slot: Identifier = "beta_slot"
    visible_within_s: Seconds = Field(2, description="a row written on the primary must be seen on the standby within this")
    lag_below_s: Seconds = Field(1, description="a standby further behind than this fails")
    lag_below_bytes: Annotated[int, Field(ge=0)] = 16 * 1024 * 1024
    silent_after_s: Seconds = Field(30, description="no word from the other side for this long: the link is not believed")
    mode: Literal["asynchronous", "synchronous"] = Field(
        "asynchronous", description="synchronous: a commit is acknowledged when the standby has it too; see replication_mode"
    )
    commit: Literal["remote_write", "on", "remote_apply"] = Field(
        "on", description="synchronous_commit while synchronous: the standby has written, flushed (on), or replayed it"
    )
    promotable_below_bytes: Annotated[int, Field(ge=0)] = Field(
        64 * 1024 * 1024, description="failover refuses to promote a standby that is known to be further behind"
    )
    slot_keep_mb: Annotated[int, Field(ge=16)] = Field(
        65_536, description="max_slot_wal_keep_size: WAL that a dead standby may hold on the primary's disk"
    )
    slot_warn_mb: Annotated[int, Field(ge=1)] = Field(
        8_192, description="warn when less WAL than this may still be written before the slot is lost"
    )
    archive_directory: Path | None = Field(
        None, description="folder of the WAL archive, under the same path on both nodes (a share); none: no archive is kept"
    )


class BackupCopy(Section):
    """A further place for verified backups and the WAL between them, best in another building."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    path: str = Field(description="the folder there; with rclone: remote:path")
    ssh: Ssh | None = Field(None, description="how the keeper gets there; none: it is mounted on the keeper")
    rclone: bool = Field(False, description="an object store, through the program rclone with its own configuration")


class Backup(Section):
    """Where backups are kept, and for how long. They are made by the runbook backup."""

    node: str = Field(description="the keeper: the node that holds the repository, best not the primary's machine")
    directory: Path = Field(Path("backups"), description="on the keeper: the repository's folder")
    unit: str = Field("aya.wal", description="launchd label or systemd unit of the WAL receiver")
    slot: Identifier = Field("aya_backup", description="the receiver's slot, on the keeper's own server")
    keep_days: Annotated[float, Field(gt=0)] = Field(7, description="any moment of the last days can be restored")
    full_every_days: Annotated[float, Field(gt=0)] = Field(7, description="incremental backups in between")
    rpo_s: Seconds = Field(60, description="WAL that is longer than this not safe on the keeper fails")
    copies: tuple[BackupCopy, ...] = ()
    recipients: tuple[str, ...] = Field((), description="public keys of age or ssh: copies are encrypted for them")
    rate_mb_s: Annotated[float, Field(gt=0)] | None = Field(None, description="at most so fast is the primary read (MB/s)")


class Deadlines(Section):
    """How long each way of looking may take before the answer is *unknown*."""

    connect_s: Seconds = 3
    statement_s: Seconds = 10
    command_s: Seconds = 10
    http_s: Seconds = 5
    start_s: Seconds = Field(60, description="a service that was started must be there within this")


class Site(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    production: bool = Field(description="true: a change that interrupts or destroys needs approved_by")
    directory: Path | None = Field(None, description="relative paths of this file stand below it")
    database: Database = Database()
    embedding: Embedding
    knowledge: Knowledge = Knowledge()
    replication: Replication = Replication()
    deadlines: Deadlines = Deadlines()
    backup: Backup | None = Field(None, description="none: no backups are made")
    nodes: Mapping[str, NodeConfig]

    @model_validator(mode="after")
    def _roles(self) -> Site:
        for role in ("primary", "standby"):
            names = [name for name, node in self.nodes.items() if node.role == role]
            if len(names) != 1:
                raise ValueError(f"nodes: exactly one node has role {role}, found {', '.join(names) or 'none'}")
        if self.backup and self.backup.node not in self.pair:
            raise ValueError(f"backup.node: found '{self.backup.node}', allowed are {' and '.join(self.pair)}")
        return self

    @property
    def primary(self) -> str:
        """Name of the node that should be the primary."""
        return next(name for name, node in self.nodes.items() if node.role == "primary")

    @property
    def standby(self) -> str:
        """Name of the node that should be the hot standby."""
        return next(name for name, node in self.nodes.items() if node.role == "standby")

    @property
    def pair(self) -> tuple[str, str]:
        """The two nodes that replicate, as configured: primary, standby."""
        return self.primary, self.standby

    @property
    def root(self) -> Path:
        """Folder that relative paths stand below."""
        return self.directory or default_directory(self.name)

    @property
    def is_lab(self) -> bool:
        """Whether the site is one that a lab can be: plain processes of this machine, and not production."""
        return not self.production and all(config.supervisor == "process" and not config.ssh for config in self.nodes.values())

    def require_made(self) -> None:
        """:class:`AyaError` with the way out when the site is a lab that was never made."""
        if self.is_lab and not (self.root / LAB_MARKER).exists():
            raise AyaError(f"the lab {self.name} is not there", hint=f"Make it: aya lab up --site {self.name}")

    def path(self, path: Path) -> Path:
        return path if path.is_absolute() else self.root / path


def default_directory(site: str) -> Path:
    """Where a site without ``directory`` keeps its files: the user's data folder; root's is one others can enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/aya") / site
    import platformdirs

    return Path(platformdirs.user_data_dir("aya")) / site


def known_sites() -> list[str]:
    """Names of the sites that have a ``site.yaml``."""
    return sorted(path.parent.name for path in settings.parameters().glob("*/site.yaml"))


def load_site(name: str) -> Site:
    """The site called ``name``, or the one described by the file ``name``. :class:`SiteError` when it is not valid."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else settings.parameters() / name / "site.yaml"
    if not path.is_file():
        known = known_sites()
        line = f"unknown site '{name}' (no {path}){nearest(name, known)}"
        raise SiteError(line, hint=f"Known sites: {', '.join(known) or 'none'}")
    site = _validated(path, read_yaml(path))
    if path.name == "site.yaml" and site.name != path.parent.name:
        raise SiteError(f"{path}: name: found '{site.name}', allowed is '{path.parent.name}', the name of its folder")
    return site


def made_site(name: str) -> Site:
    """:func:`load_site` and :meth:`Site.require_made`."""
    site = load_site(name)
    site.require_made()
    return site


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping; :class:`SiteError` with line and column when it is not."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SiteError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise SiteError(f"{path}: found {type(content).__name__}, allowed is a mapping of keys to values")
    return content


def _validated(path: Path, content: dict[str, Any]) -> Site:
    try:
        return Site.model_validate(content)
    except ValidationError as error:
        raise SiteError("; ".join(_one(path, item) for item in error.errors()[:3])) from None


def _one(path: Path, item: Any) -> str:
    key, last = ".".join(map(str, item["loc"])), str(item["loc"][-1] if item["loc"] else "")
    fields = _model(item["loc"]).model_fields
    match item["type"]:
        case "extra_forbidden":
            return f"{path}: {key}: unknown key{nearest(last, list(fields)) or '; allowed are ' + ', '.join(fields)}"
        case "missing":
            field = fields.get(last)
            return f"{path}: {key}: missing; {(field and field.description) or 'it has no default'}"
        case "value_error":
            return f"{path}: {item['ctx']['error']}"
        case _:
            return f"{path}: {key}: found {item['input']!r}; allowed: {item['msg'][0].lower() + item['msg'][1:]}"


def _model(location: tuple[Any, ...]) -> type[Section]:
    """The model that holds the last key of a location."""
    model: type[Section] = Site
    for part in location[:-1]:
        if model is Site and part == "nodes":
            model = NodeConfig
        elif part in model.model_fields:
            annotation = model.model_fields[part].annotation
            kinds = [annotation, *typing.get_args(annotation)]
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), model)
    return model
