"""A host key is accepted only when it is the one that the site names."""

from __future__ import annotations

import pytest

from aya_lib.node.node import open_nodes
from aya_lib.node.unseen import Unseen
from aya_lib.operations.host_key import look, preconditions
from aya_lib.operations.host_key.look import HostKey, Offered
from aya_lib.site import Site, Ssh

RIGHT, OTHER = "SHA256:" + "R" * 43, "SHA256:" + "O" * 43


def away(site: Site, fingerprint: str | None) -> Site:
    air = site.nodes["AIR"].model_copy(update={"ssh": Ssh(host="air", fingerprint=fingerprint)})
    return site.model_copy(update={"nodes": {**site.nodes, "AIR": air}})


@pytest.mark.parametrize(
    ("expected", "offered", "known", "statuses"),
    [
        (RIGHT, RIGHT, (), ["passed", "passed"]),
        (RIGHT, RIGHT, (RIGHT,), ["passed", "passed"]),
        (RIGHT, OTHER, (), ["failed", "passed"]),
        (RIGHT, OTHER, (OTHER,), ["failed", "passed"]),
        (RIGHT, RIGHT, (OTHER,), ["passed", "failed"]),
        (None, OTHER, (), ["failed", "passed"]),
        (None, OTHER, (OTHER,), ["passed", "passed"]),
        (None, OTHER, (RIGHT, OTHER), ["failed", "failed"]),
    ],
)
def test_only_the_key_that_the_site_names(
    lab_site: Site, expected: str | None, offered: str, known: tuple[str, ...], statuses: list[str]
) -> None:
    key = HostKey("air", "air ssh-ed25519 AAAA", offered, known, "known_hosts")
    found = Offered(open_nodes(away(lab_site, expected)), "AIR", key)
    assert [check.status for check in preconditions(found)] == statuses


def test_a_key_that_could_not_be_fetched_is_unknown_and_a_laptop_that_is_here_has_none(lab_site: Site) -> None:
    unseen = Unseen("AIR", "ssh-keyscan", "away")
    found = Offered(open_nodes(away(lab_site, RIGHT)), "AIR", unseen)
    assert {check.status for check in preconditions(found)} == {"unknown"}
    assert preconditions(look(open_nodes(lab_site), "AIR")) == []
