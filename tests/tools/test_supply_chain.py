"""The bill of materials that the wheel carries, and the audit that says where it had no data."""

import json
import re
from typing import Any

import pytest

from tools import audit, sbom


def test_the_bill_of_materials_is_that_of_the_lock() -> None:
    """`make lock` writes it anew; the same lock gives the same bytes."""
    assert sbom.SBOM.read_text("utf-8") == sbom.text()


def test_it_names_each_package_with_version_and_hashes() -> None:
    """What pip installs from the lock, and nothing else."""
    lock = sbom.LOCK.read_text("utf-8")
    components = json.loads(sbom.text())["components"]
    pinned = set(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock, re.MULTILINE))
    hashes = [property_["value"] for c in components for property_ in c["properties"]]
    assert {(c["name"], c["version"]) for c in components} == pinned
    assert set(re.findall(r"sha256:([0-9a-f]{64})", lock)) <= set(hashes)
    assert {c["scope"] for c in components if "scope" in c} == {"optional"}


def package(name: str, **more: Any) -> dict[str, Any]:
    """An entry of pip-audit's report."""
    return {"name": name, "version": "1.0", "vulns": [], **more}


SKIPPED = package("unknown", skip_reason="Dependency not found on PyPI")
VULNERABLE = package("weak", vulns=[{"id": "PYSEC-1", "fix_versions": ["1.1"]}])


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([package("a"), package("b")], 0, ["2 of 2 packages have no finding"]),
        ([package("a"), SKIPPED], 2, ["1 of 2 packages have no finding", "NO DATA for 1 of 2", "unknown"]),
        ([SKIPPED], 2, ["NO DATA for 1 of 1"]),
        ([VULNERABLE, SKIPPED], 1, ["weak 1.0 has PYSEC-1, mended in 1.1", "NO DATA for 1 of 2"]),
    ],
    ids=["well", "some unknown", "all unknown", "vulnerable"],
)
def test_the_audit_calls_nothing_well_that_it_knows_nothing_of(
    packages: list[dict[str, Any]], code: int, said: list[str]
) -> None:
    """pip-audit itself ends with 0 for packages that it skipped."""
    judged, lines = audit.judge("x.lock", {"dependencies": packages})
    assert judged == code
    assert all(text in "\n".join(lines) for text in said)


def test_no_report_is_no_data() -> None:
    """For instance without a network."""
    code, (line,) = audit.judge("x.lock", None)
    assert code == 2
    assert "NO DATA" in line
