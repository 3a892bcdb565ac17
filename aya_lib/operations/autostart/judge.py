"""Does every service start by itself, as configured, and did what was killed come back?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aya_lib.check import Check, Judged, conclude, evaluate, passed_if
from aya_lib.cluster.judge.overview import judge as judge_site
from aya_lib.cluster.judge.services import port_free
from aya_lib.cluster.overview import Overview
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing
from aya_lib.operations.autostart.look import Autostart, Kept, NodeSeen, Private, ServiceSeen
from aya_lib.operations.autostart.units import HEADER, units
from aya_lib.site import Site


def preconditions(found: Autostart) -> list[Check]:
    """Before anything is changed: all was seen, and nothing runs beside its unit."""
    return [check for node in found.seen.values() for check in _gate(found.nodes.site, node)]


def checks(found: Autostart) -> list[Check]:
    """Every service that should starts by itself, the files are the site's, and nobody else reads the secrets; or, after an
    uninstall: nothing of ours starts by itself, and nothing of ours is left."""
    if found.action == "uninstall":
        return [check for node in found.seen.values() for check in _removed(node)]
    return [check for node in found.seen.values() for check in installed_on(found.nodes.site, node)]


def returned(before: Autostart, wanted: bool = True, service: str = "") -> Callable[[Site, Autostart], list[Check]]:
    """A judge: each service that :func:`~aya_lib.operations.autostart.plan.kill` killed runs as a new process and answers as
    before."""
    kept = before.kept(wanted, service)
    return lambda site, now: [_returned(it, now) for it in kept]


def serving(before: Autostart, wanted: bool, site_before: Overview) -> Callable[[Site, Overview], list[Check]]:
    """A judge: what held of the site before something was killed holds again; nothing when nothing was killed."""
    killed = bool(before.kept(wanted))

    def judge(site: Site, now: Overview) -> list[Check]:
        held = {check.name for check in judge_site(site, site_before) if check.status in ("passed", "warning")}
        return [check for check in judge_site(site, now) if killed and check.name in held]

    return judge


def _gate(site: Site, node: NodeSeen) -> Iterable[Check]:
    config = site.nodes[node.name]
    ports = {"postgresql": config.postgresql.port, **({"embedding": config.embedding.port} if config.embedding else {})}
    known = Judged("passed" if node.account else "unknown", str(node.account), "Set postgresql.account in site.yaml")
    yield conclude(f"{node.name} account of the services", "known", known)
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
    for unit in units(site, node.name, node.account):

        def same(files: object, path: str = str(unit.path), text: str = unit.text) -> Judged:
            there = files.get(path) if isinstance(files, dict) else None
            return passed_if(there == text, "as generated" if there == text else "missing" if there is None else "differs")

        yield evaluate(f"{node.name} {unit.path.name}", "as generated from the site", node.files, same, hint="Run autostart")
    if isinstance(node.environment, Private) or node.files:
        yield _private(node, node.environment)


def _starts(node: NodeSeen, one: ServiceSeen) -> Check:
    fenced = one.name == "postgresql" and bool(node.fenced)
    on = one.expected and not fenced

    def of(enabled: bool | None) -> Judged:
        hint = "Run autostart" if on else "Run failover or rejoin to its end"
        return passed_if((enabled is True) == on, _said(enabled), hint)

    why = "no: it is fenced" if fenced else "yes" if on else "no: only on the primary"
    return evaluate(f"{node.name} {one.name} starts by itself", why, one.enabled, of)


def _keeper(node: NodeSeen, keeper: ServiceState) -> Check:
    expected = any(one.enabled is True for one in node.services)
    said = f"{keeper.status}{f', PID {keeper.pid}' if keeper.pid else ''}"
    good = (keeper.status == "running") == expected
    return conclude(f"{node.name} keeper", "running" if expected else "none", passed_if(good, said, "Run autostart"))


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
        yield conclude(f"{node.name} keeper", "none", passed_if(node.keeper.status in ("stopped", "stale"), node.keeper.status))
        return

    def of(files: object) -> Judged:
        ours = [path for path, text in files.items() if text and HEADER in text] if isinstance(files, dict) else []
        return passed_if(not ours, ", ".join(ours) or "none")

    yield evaluate(f"{node.name} unit files of AYA", "none", node.files, of)
    yield evaluate(f"{node.name} environment file", "none", node.environment, lambda file: passed_if(file is None, _path(file)))


def _returned(killed: Kept, found: Autostart) -> Check:
    now = found.seen[killed.node].service(killed.service)
    name, expected = f"{killed.node} {killed.service} came back", f"a new process, {killed.answer}"
    if now is None:
        return Check(name, "failed", expected, "no such service any more")

    def rule(state: ServiceState) -> Judged:
        pid = f"PID {state.pid}" if state.pid else state.status
        back = state.status == "running" and state.pid != killed.pid and now.answer == killed.answer
        return passed_if(back, f"{pid} after PID {killed.pid}, {now.answer or 'no answer'}", "Read its log; run restore")

    return evaluate(name, expected, now.process, rule)


def _said(enabled: bool | None) -> str:
    return "yes" if enabled else "no" if enabled is False else "not installed"


def _path(file: Private | None) -> str:
    return file.path if file else "none"
