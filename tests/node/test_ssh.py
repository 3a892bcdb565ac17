"""SSH against a real sshd on loopback, with keys made for the test."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aya_lib import site
from aya_lib.errors import DeadlinePassed, MissingProgram, Unreachable
from aya_lib.node import wait
from aya_lib.node.shell import exists, read
from aya_lib.node.ssh import Ssh

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(not Path(SSHD).exists(), reason="no sshd here: install openssh-server")


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path
    log: Path

    def shell(self, name: str = "config", **changed: str) -> Ssh:
        """A shell through this server; ``changed`` replaces options of the client's configuration."""
        options = {
            "HostName": "127.0.0.1",
            "Port": str(self.port),
            "User": getpass.getuser(),
            "IdentityFile": str(self.folder / "client"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": os.devnull,
        } | changed
        config = self.folder / name
        config.write_text("Host node\n" + "".join(f"  {key} {value}\n" for key, value in options.items()))
        return Ssh("BETA", site.Ssh(host="node", config=config))


def key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ssh")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host, client = key(folder / "host"), key(folder / "client")
    key(folder / "stranger")
    (folder / "authorized_keys").write_text(client)
    kind, public = host.split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    (folder / "other_known_hosts").write_text(f"[127.0.0.1]:{port} {client}")
    log = folder / "log"
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "LogLevel": "VERBOSE",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-f", folder / "sshd_config", "-E", log])
    wait.until(lambda: answering(port), bool, node="sshd", what="it listens", deadline_s=60)
    yield Server(port, folder, log)
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def shell(server: Server) -> Iterator[Ssh]:
    made = server.shell()
    yield made
    made.close()


def answering(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_output_status_and_input_come_through(shell: Ssh) -> None:
    done = shell.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin="in")
    assert (done.stdout, done.stderr, done.status) == ("in", "err\n", 3)


@pytest.mark.parametrize("word", ["a b", "it's", 'say "x"', "$HOME", "a\nb", "*", "; exit 9", "ü"])
def test_arguments_arrive_as_they_are(shell: Ssh, word: str) -> None:
    assert shell.run(["printf", "%s", word]).stdout == word


def test_a_program_that_ends_with_255_is_not_a_failure_of_ssh(shell: Ssh) -> None:
    done = shell.run(["sh", "-c", "echo mine >&2; exit 255"])
    assert (done.status, done.stderr) == (255, "mine\n")


def test_a_program_that_fails_without_a_word_is_given_none(shell: Ssh) -> None:
    done = shell.run(["sh", "-c", "exit 1"])
    assert (done.status, done.stderr) == (1, "")


def test_a_service_on_the_loopback_there_is_reached_through_a_socket_here(shell: Ssh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        path = shell.forward(port)
        assert shell.forward(port) == path
        with socket.socket(socket.AF_UNIX) as here:
            here.connect(str(path))
            accepted, _ = there.accept()
            with accepted:
                accepted.sendall(b"through")
                assert here.recv(7) == b"through"
    assert (path.parent.stat().st_mode & 0o777, path.name) == (0o700, f".s.PGSQL.{port}")


def test_when_the_shared_connection_is_gone_the_socket_is_made_anew(shell: Ssh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        path = shell.forward(there.getsockname()[1])
        shell.close()
        assert not path.exists()
        assert shell.forward(there.getsockname()[1]).exists()


def test_a_missing_program_is_said_to_be_missing(shell: Ssh) -> None:
    with pytest.raises(MissingProgram, match="BETA: no program frobnicate"):
        shell.run(["frobnicate"])


def test_files_are_read_and_missed(shell: Ssh, server: Server) -> None:
    assert "ssh-ed25519" in str(read(shell, server.folder / "client.pub"))
    assert read(shell, server.folder / "nothing") is None
    assert not exists(shell, server.folder / "nothing")


def test_one_connection_serves_many_commands(shell: Ssh, server: Server) -> None:
    shell.run(["true"])
    before = server.log.read_text().count("Accepted publickey")
    for _ in range(3):
        shell.run(["true"])
    assert server.log.read_text().count("Accepted publickey") == before


def test_a_slow_program_costs_its_deadline_and_the_shared_connection_lives(shell: Ssh, server: Server) -> None:
    with pytest.raises(DeadlinePassed, match=r"no answer within 0\.5 s"):
        shell.run(["sleep", "5"], timeout_s=0.5)
    before = server.log.read_text().count("Accepted publickey")
    assert shell.run(["echo", "still here"]).stdout == "still here\n"
    assert server.log.read_text().count("Accepted publickey") == before


@pytest.mark.parametrize(
    ("name", "changed", "line"),
    [
        ("unknown", {"UserKnownHostsFile": os.devnull}, r"host key is not in known_hosts.*ssh-keyscan"),
        ("changed", {"UserKnownHostsFile": "{folder}/other_known_hosts"}, r"host key is not the one in known_hosts.*ssh-keygen"),
        ("stranger", {"IdentityFile": "{folder}/stranger"}, r"it refused every key.*ssh-add"),
        ("closed", {"Port": "1"}, r"connection refused: no sshd listens"),
        ("nowhere", {"HostName": "nowhere.invalid"}, r"the name cannot be resolved"),
    ],
)
def test_what_keeps_us_out_is_one_clear_line(server: Server, name: str, changed: dict[str, str], line: str) -> None:
    filled = {option: value.format(folder=server.folder) for option, value in changed.items()}
    with pytest.raises(Unreachable, match=line) as raised:
        server.shell(name, **filled).run(["true"])
    assert "\n" not in str(raised.value)
    assert "BETA is unreachable: ssh node" in str(raised.value)


def test_a_deaf_server_costs_a_deadline(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        shell = server.shell("deaf", Port=str(deaf.getsockname()[1]))
        with pytest.raises(DeadlinePassed):
            shell.run(["true"], timeout_s=2)
