"""The lab: harmless twice, beside others, after being killed; nothing trusted, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests_support import make

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.errors import AyaError, UsageError
from aya_lib.lab import access
from aya_lib.lab.new import outgoing
from aya_lib.lab.status import status
from aya_lib.node import wait
from aya_lib.node.node import open_nodes
from aya_lib.node.sql import value
from aya_lib.site import LAB_MARKER, Site, load_site, read_yaml


def pids(site: Site) -> list[int | None]:
    return [line.state.pid for line in status(site).lines if line.service == "postgresql"]


def test_the_documents_are_there_with_vectors_and_the_standby_has_them(lab: Site) -> None:
    query = "SELECT count(*), count(embedding), min(vector_dims(embedding)) FROM chunks"
    counts = set()
    for name in ("ALPHA", "BETA", "AIR"):
        with open_nodes(lab)[name].session() as connection:
            counts.add(connection.execute(query).fetchone())
    ((chunks, embedded, dimension),) = filter(None, counts)
    assert chunks == embedded != 0
    assert dimension == 384


def test_the_schema_is_the_contract(lab: Site) -> None:
    statement = (
        "SELECT table_name, string_agg(column_name || ' ' || udt_name, ', ' ORDER BY ordinal_position)"
        " FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1 ORDER BY 1"
    )
    wanted = {
        "documents": "content text, metadata jsonb, category varchar, source varchar, created_at timestamp, updated_at timestamp",
        "chunks": "document_id int4, chunk_text text, embedding vector, chunk_index int4, metadata jsonb, created_at timestamp",
        "write_queue": "operation varchar, table_name varchar, data jsonb, created_at timestamp, synced bool",
    }
    with open_nodes(lab)["AIR"].session() as connection:
        columns = {str(name): str(text) for name, text in connection.execute(statement).fetchall()}
        indexes = {row[0] for row in connection.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")}
    assert all(columns[table].startswith(f"id int4, {text}") for table, text in wanted.items()), columns
    assert columns["write_queue"] == f"id int4, {wanted['write_queue']}"
    assert {"idx_documents_category", "idx_documents_created_at", "idx_chunks_document_id", "idx_chunks_embedding"} <= indexes
    with open_nodes(lab)["ALPHA"].session() as connection:
        assert connection.execute("SELECT to_regclass('write_queue')").fetchone() == (None,)


def test_up_and_down_twice_are_harmless_and_down_leaves_no_process(bare: Site) -> None:
    before, said = pids(bare), list[str]()
    labs.up(bare, said.append, embedding=False)
    assert (pids(bare), said) == (before, [])
    (open_nodes(bare)["BETA"].data_directory / "postmaster.pid").write_text("damaged\n")  # it cannot be stopped in order
    labs.down(bare)
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(bare.root) in " ".join(p.info["cmdline"] or [])]
    labs.down(bare)
    labs.up(bare, embedding=False)
    assert all(pids(bare))


def test_a_port_in_use_is_refused_with_its_holder_and_nothing_is_changed(place: Path) -> None:
    site = make(place, "taken")
    line = rf"meant for BETA's postgresql, is held by PID {os.getpid()}.*aya lab new"
    port = site.nodes["BETA"].postgresql.port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(AyaError, match=line):
        labs.up(site, embedding=False)
    assert not site.root.exists()


def test_the_ports_of_a_lab_are_none_that_an_outgoing_connection_may_get(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = read_yaml(settings.home() / "parameters" / "lab" / "site.yaml")
    ports = {int(node[service]["port"]) for node in content["nodes"].values() for service in ("postgresql", "embedding")}
    assert len(ports) == 6
    assert not ports & set(outgoing())
    monkeypatch.setenv("AYA_LAB_PORTS", f"{outgoing()[-1] - 9}-{outgoing()[-1] + 11}")
    monkeypatch.setenv("AYA_PARAMETERS", str(place / "elsewhere"))
    shutil.copytree(settings.home() / "parameters" / "lab", place / "elsewhere" / "model")
    (place / "elsewhere" / "model" / "site.yaml").write_text((place / "parameters" / "model" / "site.yaml").read_text())
    assert make(place, "beside").nodes["AIR"].postgresql.port > outgoing()[-1]


def test_a_port_of_an_outgoing_connection_is_waited_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(place, "held")
    port = site.nodes["ALPHA"].postgresql.port
    monkeypatch.setattr("aya_lib.lab.lab.PORT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.bind(("127.0.0.1", port))
        client.connect(server.getsockname())
        with pytest.raises(
            AyaError, match=rf"port {port}, meant for ALPHA's postgresql, is that of somebody's outgoing connection"
        ):
            labs.up(site, embedding=False)


def test_a_lab_that_was_made_for_other_ports_is_not_started_on_them(place: Path) -> None:
    site = make(place, "moved")
    settings_file = open_nodes(site)["ALPHA"].data_directory / "lab.conf"
    settings_file.parent.mkdir(parents=True)
    settings_file.write_text("port = '1'\n")
    with pytest.raises(UsageError, match=r"ALPHA was made for port 1, and site.yaml says \d+ now.*aya lab reset --site moved"):
        labs.up(site, embedding=False)


def test_a_folder_that_no_lab_made_is_neither_used_nor_deleted(place: Path) -> None:
    site = make(place, "foreign")
    site.root.mkdir()
    (site.root / "precious").touch()
    with pytest.raises(UsageError, match="is not empty and was not made by"):
        labs.up(site, embedding=False)
    with pytest.raises(UsageError, match="is not deleted"):
        labs.delete(site)
    assert (site.root / "precious").exists()


STEPS = ("alpha/data.incomplete/PG_VERSION", "alpha/data", "beta/data.incomplete/PG_VERSION")


def test_killed_at_any_point_up_can_be_run_again_and_leaves_the_index_on_disk(place: Path, bare: Site) -> None:
    site = make(place, "killed")
    code = f"from aya_lib import lab; from aya_lib.site import load_site; lab.up(load_site('{site.name}'), embedding=False)"
    try:
        for step in STEPS:
            process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
            wait.until((site.root / step).exists, bool, node="lab", what=f"{step} is there", deadline_s=30, poll_s=0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait.until(lambda: _busy(site), lambda busy: not busy, node="lab", what="its orphans have ended", deadline_s=30)
        labs.up(site, embedding=False)
        assert all(pids(site))
        for name in ("ALPHA", "AIR"):
            with open_nodes(site)[name].session() as connection:
                page = "SELECT pg_read_binary_file(pg_relation_filepath('idx_chunks_embedding'), 0, 24)"
                assert any(value(connection, page)), "its first page is not on disk yet"
    finally:
        labs.delete(site)


def _busy(site: Site) -> bool:
    """Whether a one-shot program of the killed run is still at work in the lab's folder."""
    words = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    return any(str(site.root) in line and ("initdb" in line or "basebackup" in line or "--boot" in line) for line in words)


@pytest.mark.parametrize("service", ["alpha", "beta", "air", "aya_rag"])
def test_every_libpq_client_knows_the_services(lab: Site, service: str) -> None:
    lines = labs.env(lab)
    node = open_nodes(lab)["ALPHA"]
    psql = " ".join(node.command("psql", f"service={service}", "-Atc", "'SELECT current_user, pg_is_in_recovery()'"))
    done = subprocess.run(["bash", "-c", f"{lines}\n{psql}"], capture_output=True, text=True)
    role = "aya_user" if service == "aya_rag" else "postgres"
    assert done.stdout.strip() == f"{role}|{'t' if service == 'beta' else 'f'}", done.stderr


def test_no_password_is_anywhere_but_in_files_of_mode_0600(lab: Site) -> None:
    labs.env(lab)
    secrets = list(access.passwords(lab).values())
    assert len(set(secrets)) == 3
    for path in lab.root.rglob("*"):
        if path.is_symlink() or not path.is_file() or "base" in path.parts or "pg_wal" in path.parts:
            continue
        if any(secret.encode() in path.read_bytes() for secret in secrets):
            assert path.stat().st_mode & 0o777 == 0o600, path
            assert path.suffix == ".pgpass" or path.name == "pgpass"
    for process in psutil.process_iter(["cmdline"]):
        assert not any(secret in " ".join(process.info["cmdline"] or []) for secret in secrets)


def test_nobody_is_trusted(lab: Site) -> None:
    for node in open_nodes(lab).values():
        rules = [line for line in (node.data_directory / "pg_hba.conf").read_text().splitlines() if not line.startswith("#")]
        assert rules
        assert all(line.endswith("scram-sha-256") for line in rules)
        with node.session() as connection:
            assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_production_is_no_lab() -> None:
    site = load_site(str(settings.home() / "parameters" / "production" / "site.yaml"))
    for act in (labs.up, labs.down, labs.reset):
        with pytest.raises(UsageError, match="production is not a lab"):
            act(site)


def test_what_is_missing_is_one_line_with_the_way_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(place, "never-made")
    for act in (status, labs.env):
        with pytest.raises(AyaError, match=r"the lab never-made is not there.*aya lab up --site never-made"):
            act(site)
    monkeypatch.setenv("AYA_LAB_POSTGRESQL", str(place))
    with pytest.raises(AyaError, match=r"no bin/postgres there.*Name the prefix"):
        labs.up(site, embedding=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="run by a plain user, every other test here shows it already")
def test_a_plain_user_can_have_a_lab(tmp_path_factory: pytest.TempPathFactory) -> None:
    if subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", "import aya_lib"]).returncode:
        pytest.skip("another account cannot read this Python environment")
    home = Path("/tmp") / f"aya-plain-{os.getpid()}"
    shutil.copytree(settings.parameters() / "model", home / "parameters" / "model")
    subprocess.run(["chown", "-R", "65534:65534", home], check=True)
    code = (
        "from pathlib import Path; from aya_lib import lab; from aya_lib.lab.new import new\n"
        "from aya_lib.lab.status import status\n"
        f"site = new('plain', Path('{home}/lab'), like='model'); lab.up(site, embedding=False)\n"
        "print([line.state.status for line in status(site).lines]); lab.delete(site)"
    )
    environment = {name: os.environ[name] for name in ("PATH", "AYA_LAB_PORTS")}
    environment |= {"HOME": str(home), "AYA_PARAMETERS": str(home / "parameters")}
    try:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
        )
        assert done.stdout.strip() == "['running', 'stopped', 'running', 'stopped', 'stopped', 'running']", done.stderr[-2000:]
    finally:
        shutil.rmtree(home)


def test_labs_live_side_by_side_and_two_that_are_down_never_name_the_same_port(place: Path, bare: Site, lab: Site) -> None:
    assert all(pids(bare) + pids(lab))
    assert (bare.root / LAB_MARKER).exists()
    nodes = [node for site in (bare, lab, make(place, "down-one"), make(place, "down-two")) for node in site.nodes.values()]
    ports = [node.postgresql.port for node in nodes] + [node.embedding.port for node in nodes if node.embedding]
    assert len(ports) == len(set(ports)) == 24
