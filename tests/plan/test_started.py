"""A service that was started is looked at until it answers: on a real lab, whose programs say that all is well."""

from __future__ import annotations

import pytest

from aya_lib.errors import AyaError
from aya_lib.node.node import open_nodes
from aya_lib.plan.actions import Service
from aya_lib.plan.started import until_it_answers
from aya_lib.site import Site

START = Service("start", "postgresql")


def test_a_standby_that_cannot_start_is_not_called_done_and_its_log_says_why(bare: Site) -> None:
    node = open_nodes(bare)["BETA"]
    node.supervisor.stop("postgresql")
    settings = node.data_directory / "postgresql.conf"
    good = settings.read_text()
    try:
        node.data_directory.chmod(0o777)
        with pytest.raises(AyaError, match=r"has ended: data directory .* has invalid permissions; Permissions should be u=rwx"):
            START.run(node)
        node.data_directory.chmod(0o700)
        settings.write_text(good + "port = = 5\n")
        with pytest.raises(AyaError, match=r'syntax error in file ".*/postgresql.conf" line \d+.*contains errors. Mend that'):
            START.run(node)
        settings.write_text(good + "port = 1\nlogging_collector = on\n")  # after that it writes into a log of its own
        with pytest.raises(AyaError, match="could not create any TCP/IP sockets"):
            START.run(node)
    finally:
        node.data_directory.chmod(0o700)
        settings.write_text(good)
    START.run(node)
    with node.session() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    until_it_answers(node, "postgresql")
