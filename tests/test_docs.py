"""The documentation is true: its commands are run on a lab or at least parsed, its links lead somewhere, its example works."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from docs_support import (
    HOME,
    PAGES,
    PLACES,
    SHELL,
    Block,
    Page,
    Terminal,
    check,
    commands,
    files,
    messages,
    notebook,
    read,
    says,
    split,
    variables,
)
from test_layers import BASE, imports, package
from tests_support import again, passed, step

import aya_lib.operations
from aya_lib import errors
from aya_lib.node.node import open_nodes
from aya_lib.site import Site, read_yaml

KINDS = ("sh", "sh parsed", "cron", "yaml", "text", "python", "sql")
BLOCKS = [block for path in PAGES for block in read(path).blocks]
PAGE = pytest.mark.parametrize("page", [read(path) for path in PAGES], ids=lambda page: page.path.name)
# In this order on one lab: each page leaves it healthy, the last one makes it anew.
RUN = ["README.md", "docs/runbooks.md", "docs/knowledge.md", "docs/vectors.md", "docs/production.md", "docs/trouble.md"]
RUN += ["docs/backup.md", "docs/failover.md", "docs/laptop.md", "CONTRIBUTING.md", "docs/lab.md"]


def named(page: Page) -> list[str]:
    """Sites that the page itself describes."""
    return [split(line)[0][3] for block in page.blocks for line in block.commands if line.startswith("aya lab new ")]


def lines(kind: str) -> list[tuple[str, str]]:
    """The commands of all blocks of a kind, each with where it stands."""
    return [(block.where, line) for block in BLOCKS if block.kind == kind for line in block.commands]


@pytest.fixture(scope="module")
def terminal(lab: Site, place: Path) -> Iterator[Terminal]:
    """A folder with what the pages speak of: a checkout's notebooks, a few documents."""
    from matplotlib.figure import Figure

    folder = place / "reader"
    (folder / "docs").mkdir(parents=True)
    (folder / "notebooks").symlink_to(HOME / "notebooks")
    (folder / "docs" / "standby.md").write_text("# Standby\n\nA standby that is away needs the WAL that its slot keeps.\n")
    (folder / "docs" / "slots.txt").write_text("A replication slot keeps WAL until every standby has it.\n")
    figure = Figure()
    figure.text(0.1, 0.5, "The manual of the machine room")
    figure.savefig(folder / "manual.pdf")
    with open_nodes(lab).primary.session(write=True) as connection:
        connection.execute("CHECKPOINT")  # a lab of some minutes: the check-up reads the index from the disk
    before = set((place / "parameters").iterdir())
    described = place / "parameters" / "lab" / "site.yaml"
    usual = described.read_text()
    described.write_text(patient(usual))
    done = Terminal(folder, lab)
    try:
        yield done
    finally:
        described.write_text(usual)
        for site in set((place / "parameters").iterdir()) - before:
            (site / "site.yaml").unlink()
            site.rmdir()
        if not done.anew:
            again(lab, embedding=True)


def patient(text: str) -> str:
    """A site's description with limits that a busy machine keeps: the pages are about commands, not about speed."""
    content = yaml.safe_load(text)
    content["deadlines"] |= {"connect_s": 10, "statement_s": 30, "command_s": 30, "http_s": 30}
    content["replication"] |= {"visible_within_s": 30, "lag_below_s": 30, "silent_after_s": 30}
    return yaml.safe_dump(content, sort_keys=False)


@pytest.mark.parametrize("name", RUN)
def test_the_commands_of_a_page_do_what_it_says(name: str, terminal: Terminal) -> None:
    page = read(HOME / name)
    for block in page.blocks:
        for line in block.commands if block.kind == "sh" else []:
            out = terminal.run(line)
            if "--json" in split(line)[0]:
                document = json.loads(out or (terminal.folder / split(line)[0][-1]).read_text())
                told = described(page, line)
                assert told <= keys(document), f"{line}: described, and not there: {sorted(told - keys(document))}"


def described(page: Page, line: str) -> set[str]:
    """The keys that a page names for the document of a command: in a table's column below it, or in a sentence after it."""
    words = [word for word in split(line)[0] if not word.startswith("-")]
    found: set[str] = set()
    for table in re.findall(r"(?:^\|.*\n)+", page.text, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
        for at, cell in enumerate(head):
            if (spoken := re.fullmatch(r"`(aya .*) --json`", cell)) and begins(words, spoken[1]):
                found |= {key for row in rows for key in re.findall(r"`(\w+)`", row[at])}
    for command, sentence in re.findall(r"`(aya [a-z ]+) --json` gives (.*?)\.\n", page.text, re.DOTALL):
        found |= set(re.findall(r"`(\w+)`", sentence)) if begins(words, command) else set()
    return found


def begins(words: list[str], command: str) -> bool:
    return words[: len(command.split())] == command.split()


def keys(document: Any) -> set[str]:
    """Every key of a document, at any depth."""
    match document:
        case dict():
            return set(document) | {key for value in document.values() for key in keys(value)}
        case list():
            return {key for value in document for key in keys(value)}
        case _:
            return set()


def test_every_page_with_commands_is_run() -> None:
    assert {str(block.page.relative_to(HOME)) for block in BLOCKS if block.kind == "sh"} <= set(RUN)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_every_block_is_of_a_kind_that_is_held_to_something(block: Block) -> None:
    assert block.kind.split(" file=")[0] in KINDS
    assert block.kind != "text" or not any(line.startswith(SHELL) for line in block.commands)


@pytest.mark.parametrize(("where", "line"), lines("sh parsed"))
def test_a_command_that_is_not_run_could_be_typed(where: str, line: str) -> None:
    check(line, sites=named(read(HOME / where.split(":")[0])))


@pytest.mark.parametrize(("where", "line"), lines("cron"))
def test_a_line_for_cron_is_one(where: str, line: str) -> None:
    found = re.fullmatch(r"(?:[\d*,/-]+ +){5}cd /path/to/aya && \.venv/bin/(aya .*)", line)
    assert found, f"{where}: {line}"
    check(found[1])


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "yaml"], ids=lambda block: block.where)
def test_keys_of_a_site_are_those_of_today_with_their_defaults(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "block.yaml"
    file.write_text(block.text)
    for section, values in read_yaml(file).items():
        annotation = Site.model_fields[section].annotation
        model = next((kind for kind in typing.get_args(annotation) if kind is not type(None)), annotation)
        assert model
        needed = {key: value for key, value in values.items() if model.model_fields[key].is_required()}
        assert model.model_validate(values) == model(**needed)


@PAGE
def test_commands_within_sentences_exist(page: Page) -> None:
    for token in page.inline("code_inline"):
        if token.content.startswith(SHELL):
            check(token.content, sites=named(page), whole=False)


@PAGE
def test_every_link_leads_to_a_file_and_a_heading(page: Page) -> None:
    for target in page.links:
        name, _, anchor = target.partition("#")
        file = (page.path.parent / name).resolve() if name else page.path
        assert file.exists(), target
        assert not anchor or anchor in read(file).anchors, target


@PAGE
def test_every_variable_of_the_environment_is_read_somewhere(page: Page) -> None:
    known = variables()
    assert [name for name in re.findall(r"AYA_[A-Z_]+", page.text) if name not in known] == []


@pytest.mark.parametrize("path", sorted((HOME / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_page_opens_with_the_command(path: Path) -> None:
    page = read(path)
    assert page.blocks[0].kind in ("sh", "sh parsed")
    assert page.blocks[0].text in page.text.partition("\n## ")[0]


def test_the_first_page_is_short_and_leads_to_every_other() -> None:
    first = read(HOME / "README.md")
    assert len(first.text.splitlines()) < 150
    assert {path.relative_to(HOME).as_posix() for path in PAGES if path != first.path} <= set(first.links)
    assert {f"notebooks/{path.name}" for path in (HOME / "notebooks").glob("*.ipynb")} <= set(first.links)


def test_every_message_that_a_page_explains_is_one_that_is_said() -> None:
    table = (HOME / "docs" / "trouble.md").read_text().partition("| you see | do |")[2]
    patterns = messages()
    told = [text for row in re.findall(r"^\|(.*?) \| ", table, re.MULTILINE) for text in re.findall(r"`([^`]+)`", row)]
    assert len(told) > 10
    assert [text for text in told if not says(text, patterns)] == []
    assert not any(says(text, patterns) for text in ("the moon has fallen down", "port ... has fallen into the lake of ..."))


def test_the_house_is_described_as_it_is() -> None:
    table = (HOME / "CONTRIBUTING.md").read_text().partition("| package | what is in it |")[2].partition("\n\n")[0]
    rooms = {name.split("/")[0] for row in table.splitlines() for name in re.findall(r"`([\w/<>]+)`", row.split(" | ")[0])}
    there = {path.name for path in (HOME / "aya_lib").iterdir() if (path / "__init__.py").exists()}
    assert there <= rooms
    assert rooms - there <= {path.stem for path in (HOME / "aya_lib").glob("*.py")}


def test_every_exit_code_is_in_the_table() -> None:
    codes = {error.exit_code for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.AyaError)}
    rows = re.findall(r"^\| ([\d, ]+) \|", (HOME / "README.md").read_text(), re.MULTILINE)
    assert codes <= {int(code) for row in rows for code in row.split(",")}


def test_every_command_is_documented() -> None:
    text = "\n".join(read(path).text for path in PAGES)
    assert [name for name in commands() if not re.search(rf"aya {name}\b", text)] == []


def test_every_placeholder_is_used() -> None:
    text = "\n".join(
        [*(block.text for block in BLOCKS), *(token.content for path in PAGES for token in read(path).inline("code_inline"))]
    )
    assert [name for name in PLACES if not re.search(rf"\b{name}\b", text)] == []


@pytest.fixture
def example(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of the worked example, written below a folder from which Python and the runner find them."""
    folder = place / "example"
    for name, text in files(read(HOME / "CONTRIBUTING.md")).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".ipynb":
            nbformat.write(notebook(text), file)
        else:
            file.write_text(text)
    monkeypatch.setattr(aya_lib.operations, "__path__", [*aya_lib.operations.__path__, str(folder / "aya_lib" / "operations")])
    monkeypatch.setenv("AYA_NOTEBOOKS", str(folder / "notebooks"))
    yield folder
    for name in [name for name in sys.modules if name.startswith("aya_lib.operations.statistics")]:
        del sys.modules[name]


def test_the_worked_example_is_a_runbook(example: Path, lab: Site) -> None:
    primary = open_nodes(lab).primary
    with primary.session(write=True) as connection:
        connection.execute("CREATE TABLE unknown_yet AS SELECT 1 AS id")
        try:
            assert "Analyse unknown_yet" in passed(step("statistics")).done
            assert passed(step("statistics")).done == []
        finally:
            connection.execute("DROP TABLE unknown_yet")


def test_the_worked_example_keeps_the_rules(example: Path) -> None:
    options = ["--config", str(HOME / "pyproject.toml"), "--config", "lint.isort.known-first-party = ['aya_lib']"]
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, *options, str(example / "aya_lib")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    (edges,) = re.findall(r'"operations\.statistics": (\{.*?\})', (HOME / "CONTRIBUTING.md").read_text())
    used = {package(module) for path in (example / "aya_lib").rglob("*.py") for module in imports(path)}
    assert ast.literal_eval(edges) == used - {"operations.statistics", *BASE}
    for cell in nbformat.read(example / "notebooks" / "statistics.ipynb", as_version=4).cells:
        assert cell.cell_type == "markdown" or "parameters" in cell.metadata.tags or len(cell.source.splitlines()) <= 3


@pytest.mark.parametrize(
    "line",
    [
        "aya frobnicate",
        "aya lab frobnicate",
        "aya run restor",
        "aya run restore --frob",
        "aya run restore -p deadline=3",
        "aya run restore -p deadline_s=soon",
        "aya run failover -p fence=wish",
        "aya run start_here --dry-run",
        "aya status --site nowhere",
        "aya guard --site lab --node GAMMA",
        "aya bench vectors --target high",
        "make frobnicate",
        "make docs",
        "papermill notebooks/restor.ipynb out.ipynb",
        "papermill notebooks/restore.ipynb out.ipynb -p frob 1",
        "conda env create -f nowhere.yml",
        "pip install 'aya-lib[frob]'",
        "keyring set aya/production 'frob password'",
        "frobnicate",
    ],
)
def test_a_command_that_could_not_be_typed_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"."):
        check(line)


def test_a_command_that_fails_is_noticed(terminal: Terminal) -> None:
    with pytest.raises(AssertionError, match="exit 2"):
        terminal.run("aya lab break frobnicate")
    with pytest.raises(AssertionError, match="exit 0"):
        terminal.run("aya params restore  # exit 1")
    with pytest.raises(AssertionError, match="production"):
        terminal.run("aya params restore --site production")
