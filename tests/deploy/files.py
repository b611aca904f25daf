"""The files in deploy/ as these tests read them."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILES = ("docker-compose.yml", "deploy/compose.replicas.yml")
KUBERNETES = ROOT / "deploy" / "kubernetes"


def compose(name: str) -> dict[str, Any]:
    """Return a compose file, with its anchors expanded."""
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return document


def manifests() -> dict[str, list[dict[str, Any]]]:
    """Return the Kubernetes documents by file, without what only kustomize and prometheus-adapter read."""
    return {
        path.name: [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name not in ("kustomization.yaml", "adapter-rules.yaml")
    }


def nginx_configuration(name: str, server: str) -> str:
    """Return a configuration of nginx whose servers are all at `server`, an address and a port.

    An address needs no `resolve`, which nginx before 1.27.3 does not know.
    """
    return re.sub(r"server [\w-]+:8005 resolve\b", f"server {server}", (ROOT / name).read_text())


def required_variables(name: str) -> set[str]:
    """Return the variables without which a compose file can't be read."""
    return set(re.findall(r"\$\{(\w+):\?", (ROOT / name).read_text("utf-8")))
