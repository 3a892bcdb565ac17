"""SSH against a real sshd on loopback, with keys made for the test."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_sshd import SSHD, client, key, sshd

from aya_lib import site
from aya_lib.errors import DeadlinePassed, MissingProgram, Unreachable
from aya_lib.node.shell import exists, read
from aya_lib.node.ssh import Ssh

pytestmark = pytest.mark.skipif(not Path(SSHD).exists(), reason="no sshd here: install openssh-server")


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path

    def shell(self, name: str = "config", **changed: str) -> Ssh:
        """A shell through this server; ``changed`` replaces options of the client's configuration."""
        config = client(self.folder, name, "node", "127.0.0.1", self.port, **changed)
        return Ssh("BETA", site.Ssh(host="node", config=config))

    def logins(self) -> int:
        return (self.folder / "log").read_text().count("Accepted publickey")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ssh")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with sshd(folder, "127.0.0.1", port):
        (folder / "other_known_hosts").write_text(f"[127.0.0.1]:{port} {key(folder / 'stranger')}")
        yield Server(port, folder)


@pytest.fixture(scope="module")
def shell(server: Server) -> Iterator[Ssh]:
    made = server.shell()
    yield made
    made.close()


def test_output_status_and_input_come_through(shell: Ssh) -> None:
    done = shell.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin="in")
    assert (done.stdout, done.stderr, done.status) == ("in", "err\n", 3)


@pytest.mark.parametrize("word", ["a b", "it's", 'say "x"', "$HOME", "a\nb", "*", "; exit 9", "ü"])
def test_arguments_arrive_as_they_are(shell: Ssh, word: str) -> None:
    assert shell.run(["printf", "%s", word]).stdout == word


@pytest.mark.parametrize(("script", "status", "stderr"), [("echo mine >&2; exit 255", 255, "mine\n"), ("exit 1", 1, "")])
def test_a_program_that_fails_is_no_failure_of_ssh(shell: Ssh, script: str, status: int, stderr: str) -> None:
    done = shell.run(["sh", "-c", script])
    assert (done.status, done.stderr) == (status, stderr)


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


def test_one_connection_serves_many_commands_and_a_slow_one_costs_its_deadline_alone(shell: Ssh, server: Server) -> None:
    shell.run(["true"])
    before = server.logins()
    for _ in range(3):
        shell.run(["true"])
    with pytest.raises(DeadlinePassed, match=r"no answer within 0\.5 s"):
        shell.run(["sleep", "5"], timeout_s=0.5)
    assert shell.run(["echo", "still here"]).stdout == "still here\n"
    assert server.logins() == before


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
