"""Write the bill of materials that the wheel carries (PEP 770): `python -m tools.sbom`, as `make lock` does.

It lists what `requirements-runtime.lock` installs, with the hashes that pip checks, in CycloneDX's JSON. The wheel
contains none of these packages, and its own requirements are wider: this is what the suite has passed with and
what the container image has. No time and no random number is in it: the same lock gives the same bytes.
"""

import json
import re
import uuid
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import servease_appt

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-runtime.lock"
SBOM = ROOT / "sbom.cdx.json"
NAME = "servease-appointments"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill_of_materials(lock: str) -> dict[str, Any]:
    """Return the document for the text of a lock that pip reads with `--require-hashes`."""
    entries = lock.replace("\\\n", " ").splitlines()
    components = [_component(entry) for entry in entries if entry and not entry.startswith("#")]
    version = servease_appt.__version__
    own = f"pkg:pypi/{NAME}@{version}"
    listed = json.dumps([own, components])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, listed)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": NAME,
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _component(entry: str) -> dict[str, Any]:
    requirement = Requirement(entry.partition("--hash")[0].strip())
    (version,) = (specifier.version for specifier in requirement.specifier)
    purl = f"pkg:pypi/{requirement.name}@{version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": requirement.name,
        "version": version,
        "purl": purl,
        # One for each file of the release: pip installs the one that fits the machine.
        "properties": [{"name": "servease:sha256", "value": digest} for digest in _HASH.findall(entry)],
    }
    if requirement.marker is not None:
        component["scope"] = "optional"
        component["properties"].append({"name": "servease:marker", "value": str(requirement.marker)})
    return component


def text() -> str:
    """Return the file that belongs to the present lock."""
    return json.dumps(bill_of_materials(LOCK.read_text("utf-8")), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SBOM.write_text(text(), "utf-8")
