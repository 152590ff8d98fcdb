"""Free text that is hard to quote arrives unchanged in TOML, Python, Markdown and plain text."""

import re
import tomllib
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from template import copy_template

from .baking import PROJECT, Baker, texts
from .test_generated_files import parse

FREE_TEXT = re.compile(rb"cookiecutter\._*(description|author)")
HOSTILE = [
    "it's \"both\" 'quotes', '''triple''' \"\"\"quotes\"\"\" and back\\slash \\n \\x41 \\",
    "emoji 🚀 👩‍🚀, ünïcödé 漢字, braces { } }} %} #} ${HOME} ${ {",
    "--leading dashes",
    "- a list",
    "1. a numbered list",
    "# a heading",
    "> a quote",
    "=== setext",
    "``` fence",
    "*stars* _underscores_ `code` | table | [link](http://example.org) ![image](x) [ref]: y",
    "<script>alert(1)</script> &amp; &lt; <!-- comment -->",
    "! tag & anchor * alias % directive @ ` reserved, yaml: value # comment",
    "trailing colon:",
    "null",
    "x" * 100,
]


@pytest.fixture(scope="module")
def small_baker(tmp_path_factory: pytest.TempPathFactory) -> Baker:
    """Generate only the files that contain free text, which is quicker."""
    folder = tmp_path_factory.mktemp("template")
    template = copy_template(folder / "template")
    for path in (template / PROJECT).rglob("*"):
        if path.is_file() and not FREE_TEXT.search(path.read_bytes()):
            path.unlink()
    return Baker(template, folder)


@pytest.mark.parametrize("text", HOSTILE)
def test_free_text_arrives_unchanged_and_every_file_parses(
    small_baker: Baker, tmp_path: Path, text: str
) -> None:
    project = small_baker(tmp_path, description=text, author=text, license="MIT")
    for name, content in texts(project):
        parse(name, content)
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert pyproject["description"] == text
    assert pyproject["authors"] == [{"name": text}]
    assert f"\nCopyright (c) {text}\n" in (project / "LICENSE").read_text("utf-8")
    tokens = MarkdownIt().parse((project / "README.md").read_text("utf-8"))
    assert f"{text}\n" in [token.content for token in tokens if token.type == "code_block"]
