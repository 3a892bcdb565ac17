"""Parameters: declared in the notebook, checked strictly by name and type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from aya_lib.errors import ParameterError, UsageError
from aya_lib.runbook import parameters
from aya_lib.runbook.parameters import Declaration
from aya_lib.site import read_yaml

CELL = """\
site: str = "lab"  # where (a = b)
rows: int = 20  # how many
limit: float = 0.5  # seconds
sure: bool = False  # yes?
lists: list[int] = [100]  # IVFFlat lists
mode: Literal["fast", "safe"] = "fast"
name: str | None = None"""


@pytest.fixture
def declared(tmp_path: Path) -> Declaration:
    cell = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
    title = nbformat.v4.new_markdown_cell("# A title\n\nmore")
    book = nbformat.v4.new_notebook(cells=[title, cell], metadata={"aya": {"changes_site": True, "limit_s": 7}})
    nbformat.write(book, tmp_path / "example.ipynb")
    return parameters.declared(tmp_path / "example.ipynb")


def test_a_declaration_is_read_whole(declared: Declaration) -> None:
    assert (declared.title, declared.changes_site, declared.limit_s) == ("A title", True, 7)
    assert declared.parameters[0].comment == "where (a = b)"
    assert [p.name for p in declared.parameters] == ["site", "rows", "limit", "sure", "lists", "mode", "name"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("site=007", "007"),
        ("site=a=b", "a=b"),
        ("rows=7", 7),
        ("limit=2", 2.0),
        ("sure=yes", True),
        ("sure=off", False),
        ("lists=[1, 2]", [1, 2]),
        ("lists=1,2", [1, 2]),
        ("mode=safe", "safe"),
        ("name=none", None),
        ("name=x", "x"),
    ],
)
def test_a_word_becomes_its_type(declared: Declaration, word: str, value: Any) -> None:
    (found,) = parameters.parse(declared, [word]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("rows=many", "'rows': found 'many' .* a whole number.*rows=20"),
        ("rows=1.5", "'rows': found '1.5'"),
        ("sure=perhaps", "'sure': found 'perhaps' .* true or false"),
        ("lists=a,b", "'lists': found"),
        ("mode=slow", "'mode': found 'slow' .* one of fast, safe"),
        ("row=1", "no parameter 'row'; did you mean 'rows'.*site, rows"),
        ("rows", "no '=' in it"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(declared: Declaration, word: str, line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        parameters.parse(declared, [word])


@pytest.mark.parametrize(("name", "value"), [("sure", "false"), ("sure", 0), ("rows", True), ("site", 7), ("limit", "1")])
def test_types_are_strict(declared: Declaration, name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"'{name}'"):
        parameters.validate(declared, {name: value})


def test_a_parameter_file_is_checked_like_the_words(declared: Declaration, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("rows: 3\nsure: true\n")
    assert parameters.given(declared, read_yaml(path)) == {"rows": 3, "sure": True}
    path.write_text("rowz: 3\n")
    with pytest.raises(ParameterError, match="did you mean 'rows'"):
        parameters.given(declared, read_yaml(path))


def test_the_command_that_runs_it_again_names_what_is_not_the_default(declared: Declaration) -> None:
    values = parameters.validate(declared, {"site": "production", "rows": 20, "lists": [1, 2], "name": "it's"})
    assert parameters.command(declared, values) == ("""aya run example --site production -p 'lists=[1, 2]' -p 'name=it'"'"'s'""")
    words = ["lists=[1, 2]", "name=it's", "site=production"]
    assert parameters.validate(declared, parameters.parse(declared, words)) == values


@pytest.mark.parametrize(
    ("source", "line"),
    [("a: int = 1 + 1", "'a': its default is not a literal"), ('a: bool = "yes"', "'a': found 'yes' .* true or false")],
)
def test_a_default_that_is_computed_or_of_another_type_is_refused(tmp_path: Path, source: str, line: str) -> None:
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "b.ipynb")
    with pytest.raises(UsageError, match=line):
        parameters.declared(tmp_path / "b.ipynb")
