"""A site file that is wrong is refused in one line that says where, what was found, and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aya_lib import settings
from aya_lib.errors import SiteError
from aya_lib.secrets import Secret, lookup, mask
from aya_lib.site import load_site

SHIPPED = settings.home() / "parameters"


def written(folder: Path, change: Any) -> Path:
    content = yaml.safe_load((SHIPPED / "lab" / "site.yaml").read_text())
    change(content)
    path = folder / "lab" / "site.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", ["lab", "production"])
def test_the_shipped_sites_are_valid(name: str) -> None:
    site = load_site(str(SHIPPED / name / "site.yaml"))
    assert site.pair == ("ALPHA", "BETA")
    assert site.production is (name == "production")


def test_production_is_the_inventory() -> None:
    site = load_site(str(SHIPPED / "production" / "site.yaml"))
    assert [node.host for node in site.nodes.values()] == ["192.168.0.80", "192.168.0.20", "127.0.0.1"]
    assert [node.ssh.host for node in site.nodes.values() if node.ssh and node.tunnel] == ["100.103.127.52"]
    assert site.embedding.dimension == 768
    assert site.replication.slot == "beta_slot"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["nodes"]["ALPHA"]["postgresql"].update(port="x"), r"nodes\.ALPHA\.postgresql\.port: found 'x'; allowed"),
        (lambda c: c["nodes"]["ALPHA"]["postgresql"].update(port=99999), r"port: found 99999; allowed.*65535"),
        (lambda c: c.update(databse={}), r"databse: unknown key; did you mean 'database'"),
        (lambda c: c["nodes"]["BETA"].update(superviser="x"), r"superviser: unknown key; did you mean 'supervisor'"),
        (lambda c: c["nodes"]["BETA"].pop("host"), r"nodes\.BETA\.host: missing; address under which"),
        (lambda c: c["nodes"]["BETA"].update(role="primary"), r"exactly one node has role primary, found ALPHA, BETA"),
        (lambda c: c.update(production="perhaps"), r"production: found 'perhaps'; allowed"),
        (lambda c: c.update(name="other"), r"name: found 'other', allowed is 'lab'"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_what_is_allowed(tmp_path: Path, change: Any, line: str) -> None:
    path = written(tmp_path, change)
    with pytest.raises(SiteError) as raised:
        load_site(str(path))
    assert str(path) in str(raised.value)
    assert re.search(line, str(raised.value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "line"), [("a: [1\nb: 2", "line 2"), ("- a", "found list"), ("", "found NoneType")])
def test_unreadable_yaml_is_named_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(SiteError, match=line):
        load_site(str(path))


def test_an_unknown_site_names_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYA_PARAMETERS", str(SHIPPED))
    with pytest.raises(SiteError, match=r"unknown site 'prodction'.*did you mean 'production'\?.*lab, production"):
        load_site("prodction")


def test_a_secret_shows_stars_and_is_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYA_LAB_AYA_USER_PASSWORD", "hunter2")
    secret = lookup("lab", "aya_user password")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hunter2")


def test_passwords_in_connection_strings_are_masked() -> None:
    shown = mask("postgresql://a:hunter2@h/db host=x password=hunter2 PASSWORD='hun ter2'")
    assert "hunter2" not in shown
    assert "ter2" not in shown
