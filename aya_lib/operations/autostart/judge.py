"""Does every service start by itself, as the site wishes it, and did what was killed come back?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aya_lib.check import Check, Judged, Status, evaluate, passed_if
from aya_lib.cluster.judge.overview import judge as judge_site
from aya_lib.cluster.judge.services import port_free
from aya_lib.cluster.overview import Overview
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.units import HEADER, units
from aya_lib.node.unseen import Missing
from aya_lib.operations.autostart.look import Autostart, Kept, NodeSeen, Private, ServiceSeen
from aya_lib.site import Site


def preconditions(site: Site, seen: Autostart) -> list[Check]:
    """Before anything is changed: all was seen, and nothing runs beside its unit."""
    return [check for node in seen.nodes.values() for check in _gate(site, node)]


def done(site: Site, seen: Autostart, action: str) -> list[Check]:
    """:func:`installed` or :func:`removed`."""
    return removed(site, seen) if action == "uninstall" else installed(site, seen)


def installed(site: Site, seen: Autostart) -> list[Check]:
    """Every service that is wished starts by itself; the files are the site's; nobody else reads the secrets."""
    return [check for node in seen.nodes.values() for check in installed_on(site, node)]


def removed(site: Site, seen: Autostart) -> list[Check]:
    """Nothing of ours starts by itself, and nothing of ours is left."""
    return [check for node in seen.nodes.values() for check in _removed(node)]


def returned(kept: Iterable[Kept]) -> Callable[[Site, Autostart], list[Check]]:
    """A judge: each of these, which was killed, runs as a new process and answers as before."""
    return lambda site, seen: [_returned(one, seen) for one in kept]


def serving(kept: Iterable[Kept], before: Overview) -> Callable[[Site, Overview], list[Check]]:
    """A judge: what held of the site before something was killed holds again; nothing when nothing was killed."""
    killed = list(kept)

    def of(site: Site, seen: Overview) -> list[Check]:
        held = {check.name for check in judge_site(site, before) if check.status in ("passed", "warning")}
        return [check for check in judge_site(site, seen) if killed and check.name in held]

    return of


def _gate(site: Site, node: NodeSeen) -> Iterable[Check]:
    wish = site.nodes[node.name]
    ports = {"postgresql": wish.postgresql.port, **({"embedding": wish.embedding.port} if wish.embedding else {})}
    known, hint = node.account is not None, "Set postgresql.account in site.yaml"
    yield Check(f"{node.name} account of the services", "passed" if known else "unknown", "known", str(node.account), hint)
    yield evaluate(f"{node.name} fence", "known", node.fenced, lambda why: Judged("passed", why or "none"))
    for one in node.services:
        yield evaluate(f"{node.name} state of {one.name}", "known", one.process, lambda state: Judged("passed", state.status))
        yield evaluate(f"{node.name} {one.name} is enabled or not", "known", one.enabled, lambda on: Judged("passed", _said(on)))
        if one.name in ports:
            yield port_free(node.name, one.name, ports[one.name], one.listener, one.process)
    yield evaluate(f"{node.name} unit files", "readable", node.files, lambda files: Judged("passed", f"{len(files)} looked for"))


def installed_on(site: Site, node: NodeSeen) -> Iterable[Check]:
    """:func:`installed`, of one node."""
    for one in node.services:
        yield _starts(node, one)
    if node.keeper is not None:
        yield _keeper(node, node.keeper)
    for unit in units(site, node.name, node.account) if node.account else ():

        def same(files: object, path: str = str(unit.path), text: str = unit.text) -> Judged:
            there = files.get(path) if isinstance(files, dict) else None
            return passed_if(there == text, "as generated" if there == text else "missing" if there is None else "differs")

        yield evaluate(f"{node.name} {unit.path.name}", "as generated from the site", node.files, same, hint="Run autostart")
    if isinstance(node.environment, Private) or node.files:
        yield _private(node, node.environment)


def _starts(node: NodeSeen, one: ServiceSeen) -> Check:
    fenced = one.name == "postgresql" and bool(node.fenced)
    on = one.wished and not fenced

    def of(enabled: bool | None) -> Judged:
        hint = "Run autostart" if on else "Run failover or rejoin to its end"
        return passed_if((enabled is True) == on, _said(enabled), hint)

    why = "no: it is fenced" if fenced else "yes" if on else "no: only on the primary"
    return evaluate(f"{node.name} {one.name} starts by itself", why, one.enabled, of)


def _keeper(node: NodeSeen, keeper: ServiceState) -> Check:
    wished = any(one.enabled is True for one in node.services)
    said = f"{keeper.status}{f', PID {keeper.pid}' if keeper.pid else ''}"
    status: Status = "passed" if (keeper.status == "running") == wished else "failed"
    return Check(
        f"{node.name} keeper", status, "running" if wished else "none", said, "" if status == "passed" else "Run autostart"
    )


def _private(node: NodeSeen, found: Private | Missing | None) -> Check:
    def of(file: Private | None) -> Judged:
        if file is None:
            return passed_if(False, "missing")
        return passed_if(file.only_of(str(node.account)), f"{file.mode} {file.owner}")

    return evaluate(f"{node.name} environment file", f"only {node.account} may read it", found, of, hint="Run autostart")


def _removed(node: NodeSeen) -> Iterable[Check]:
    if node.keeper is not None:
        for one in node.services:
            yield evaluate(f"{node.name} {one.name} starts by itself", "no", one.enabled, lambda on: passed_if(not on, _said(on)))
        status: Status = "passed" if node.keeper.status in ("stopped", "stale") else "failed"
        yield Check(f"{node.name} keeper", status, "none", node.keeper.status)
        return

    def of(files: object) -> Judged:
        ours = [path for path, text in files.items() if text and HEADER in text] if isinstance(files, dict) else []
        return passed_if(not ours, ", ".join(ours) or "none")

    yield evaluate(f"{node.name} unit files of AYA", "none", node.files, of)
    yield evaluate(f"{node.name} environment file", "none", node.environment, lambda file: passed_if(file is None, _path(file)))


def _returned(one: Kept, seen: Autostart) -> Check:
    now = seen.nodes[one.node].service(one.service)
    name, expected = f"{one.node} {one.service} came back", f"a new process, {one.answer}"
    if now is None:
        return Check(name, "failed", expected, "no such service any more")

    def of(state: ServiceState) -> Judged:
        pid = f"PID {state.pid}" if state.pid else state.status
        new = state.status == "running" and state.pid != one.pid
        return passed_if(new and now.answer == one.answer, f"{pid} after PID {one.pid}, {now.answer or 'no answer'}", hint)

    hint = "Read its log; run restore"
    return evaluate(name, expected, now.process, of)


def _said(enabled: bool | None) -> str:
    return "yes" if enabled else "no" if enabled is False else "not installed"


def _path(file: Private | None) -> str:
    return file.path if file else "none"
