"""Contents of two servers compared: by what is there, in every database, and not by how a session shows it."""

from __future__ import annotations

from dataclasses import replace

from aya_lib.check import Check
from aya_lib.cluster import contents
from aya_lib.cluster.contents import Compared, Contents, TableSum
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.unseen import Unseen
from aya_lib.operations.verify.judge import equal
from aya_lib.plan.actions import Setting
from aya_lib.site import Site

STRANGE = {
    "timezone": "Asia/Tokyo",
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "lc_monetary": "C.UTF-8",
    "quote_all_identifiers": "on",
}
ONE = Contents("ALPHA", "0/5", {"public.t": TableSum(2, 2, "1")}, sequences={"public.s": 7})
TWO = replace(ONE, node="BETA", sequences={"public.s": 33})


def execute(node: Node, database: str | None, *statements: str) -> None:
    with node.session(database=database, write=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def compare(site: Site) -> Check:
    """Once what was changed is on the standby."""
    return wait.until(
        lambda: equal(contents.look(open_nodes(site), "ALPHA", "BETA")),
        lambda check: check.status in ("passed", "warning"),
        node="BETA",
        what="it is equal",
        deadline_s=30,
    )


def test_whatever_the_standby_s_own_settings_are_and_in_every_database(bare: Site) -> None:
    alpha, beta = (open_nodes(bare)[name] for name in ("ALPHA", "BETA"))
    columns = (
        "at timestamptz DEFAULT now(), i interval DEFAULT '1 day', f float8 DEFAULT 0.1, b bytea DEFAULT 'x', m money DEFAULT 9"
    )
    try:
        execute(alpha, "postgres", "CREATE DATABASE shop")
        execute(alpha, "shop", "CREATE TABLE orders (tenant text, id serial, PRIMARY KEY (tenant, id))")
        execute(alpha, "shop", "INSERT INTO orders SELECT 'a' FROM generate_series(1, 5)", "CREATE UNLOGGED TABLE cart ()")
        execute(alpha, None, f"CREATE TABLE kinds ({columns})", "INSERT INTO kinds DEFAULT VALUES", "SELECT lo_create(4711)")
        execute(alpha, None, "SELECT lo_put(4711, 0, 'large')")
        for name, value in STRANGE.items():
            Setting(name, value).run(beta)
        observed = compare(bare).observed
        assert "pg_catalog.pg_largeobject 1, " in observed
        assert "kinds 1, shop: public.orders 5 rows" in observed
        assert observed.endswith("unlogged and so never on BETA: shop: public.cart")
        execute(alpha, "postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS false")
        closed = compare(bare)
        assert (closed.status, "not compared: shop" in closed.observed) == ("warning", True)
    finally:
        for name in STRANGE:
            Setting(name, None).run(beta)
        execute(alpha, None, "DROP TABLE kinds", "SELECT lo_unlink(4711)")
        execute(alpha, "postgres", "DROP DATABASE shop")


def test_each_kind_of_difference_is_told() -> None:
    assert Compared(ONE, TWO).differing() == []  # a standby's sequence is ahead of what was given out
    behind = Compared(ONE, replace(TWO, sequences={"public.s": 6}))
    assert equal(behind).observed == "public.s: a sequence at 7 on ALPHA, 6 on BETA"
    assert equal(Compared(ONE, replace(TWO, sequences={}))).observed == "public.s: a sequence at 7 on ALPHA, nothing on BETA"
    other = ONE.beside("shop", replace(ONE, tables={"public.o": TableSum(1, 1, "5")})), TWO
    assert (
        equal(Compared(*other)).observed
        == "shop: public.o: only on ALPHA; shop: public.s: a sequence at 7 on ALPHA, nothing on BETA"
    )
    unseen = Compared(ONE, TWO, {"shop": Unseen("BETA", "count", "no answer")})
    assert (equal(unseen).status, unseen.differing()) == ("warning", [])
    told = Compared(replace(ONE, prepared=("tx1",), unlogged=("public.cart",)), TWO).left_out()
    assert told == ["unlogged and so never on BETA: public.cart", "prepared and not decided: tx1"]
