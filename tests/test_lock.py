"""The locked dependencies match `pyproject.toml`, and each has the hashes that set-up checks."""

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.fixtures.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^([\w.-]+)==(\S+)(?: ; [^\\\n]*)? ?\\?\n((?: {4}--hash=.*\n)*)", LOCK, flags=re.M)
GROUPS = PROJECT["dependency-groups"]
WANTED = [*PROJECT["project"]["dependencies"], *GROUPS["docs"], *(one for one in GROUPS["dev"] if isinstance(one, str))]


def test_every_entry_has_a_hash() -> None:
    assert len(ENTRIES) == len(re.findall("^[^ \n#]", LOCK, flags=re.M)) > 100
    assert [name for name, _, hashes in ENTRIES if "--hash=sha256:" not in hashes] == []


@pytest.mark.parametrize("line", WANTED)
def test_versions_are_those_that_the_project_allows(line: str) -> None:
    wanted = Requirement(line)
    name = wanted.name.lower().replace("_", "-")
    versions = [Version(version) for entry, version, _ in ENTRIES if entry == name]
    assert versions
    assert all(wanted.specifier.contains(version) for version in versions)


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_releases_with_malware_are_excluded(version: str) -> None:
    """Advisory GHSA-w37p-236h-pfx3."""
    lightning = next(Requirement(line) for line in WANTED if Requirement(line).name == "lightning")
    assert lightning.specifier != SpecifierSet()
    assert version not in lightning.specifier
