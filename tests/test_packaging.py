"""The files that install scapp agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import scapp

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]


def normalised(requirement: str) -> str:
    """The name in a requirement, as package indexes spell it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def python(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", ["docs", "lint", "test"])
def test_extras_for_pip_equal_the_groups_for_uv(name):
    assert PYPROJECT["project"]["optional-dependencies"][name] == PYPROJECT["dependency-groups"][name]


def test_constraints_pin_every_dependency():
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    missing = {normalised(requirement) for requirement in wanted} - {normalised(pin) for pin in PINS}
    assert not missing


def test_constraints_name_versions_only():
    # A path, a URL or a local version such as "+cpu" would tie them to one machine.
    assert [pin for pin in PINS if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def test_dependencies_have_no_upper_bounds():
    assert [r for r in PYPROJECT["project"]["dependencies"] if re.search(r"<|==|~=", r)] == []


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="the workflows are not in the source distribution")
def test_workflows_test_all_supported_versions_and_publish_without_a_token():
    files = {path.name: path.read_text() for path in (ROOT / ".github").rglob("*.yml")}
    read = {name: yaml.safe_load(text) for name, text in files.items()}
    matrix = read["test.yml"]["jobs"]["test"]["strategy"]["matrix"]
    versions = [c.rsplit(" ", 1)[1] for c in PYPROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert set(versions) <= set(matrix["python"])
    assert f">={matrix['python'][0]}" == PYPROJECT["project"]["requires-python"]
    assert read["release.yml"]["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in "".join(files.values())


def test_version_is_the_installed_one():
    assert scapp.__version__ == version("scapp") == PYPROJECT["project"]["version"]


def test_citation_and_changelog_know_the_version():
    assert f"\nversion: {scapp.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_import_loads_nothing_heavy():
    loaded = python(
        "import sys, scapp; print(*{'torch', 'scvi', 'scanpy', 'anndata', 'pandas', 'pooch', 'requests'} & sys.modules.keys())"
    )
    assert loaded == ""


def test_all_but_the_model_do_without_torch():
    names = [name for name in scapp._SUBMODULES if name != "model"]
    code = "import sys, scapp\nfor name in {}: getattr(scapp, name); print(name, *{{'torch', 'scvi'}} & sys.modules.keys())"
    assert python(code.format(names)).splitlines() == names


def test_every_submodule_is_listed_and_loads():
    for name in scapp.__all__:
        assert name in dir(scapp)
        assert getattr(scapp, name) is not None


def test_misspelt_attribute_says_what_there_is():
    with pytest.raises(AttributeError, match="modle.*baselines, .*metrics, model, pl, pp, report, resources, tl"):
        scapp.modle  # noqa: B018


def test_messages_are_shown_once_and_only_if_logging_was_not_set_up():
    handlers = "import logging{}; import scapp; print(*map(type, logging.getLogger('scapp').handlers))"
    assert "RichHandler" in python(handlers.format(""))
    assert python(handlers.format("; logging.basicConfig()")) == ""


def test_links_of_the_readme_are_absolute_on_the_package_index():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "dynamic" in PYPROJECT["project"] and "readme" in PYPROJECT["project"]["dynamic"]
    for rule in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == []
    pages = set(re.findall(r"https://scapp\.readthedocs\.io/en/latest/(\w+)\.html", text))
    assert pages and all((ROOT / "docs" / f"{page}.md").is_file() for page in pages)
