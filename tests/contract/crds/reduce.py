"""Reduce a CRD of KubeRay to what the manifests need, as the JSON files beside this one.

    python tests/contract/crds/reduce.py ray.io_rayclusters.yaml.gz > rayclusters.json

The CRDs are those of KubeRay's Helm chart. Kept is the schema of version v1, without descriptions
and without what the operator writes (`status`). A pod template becomes `{"x-pod-template": true}`:
Kubernetes' own schema is stricter, and kubernetes-validate has it. The cluster that a RayJob may
hold (`rayClusterSpec`) is left out, because ours runs on one that is there.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml


def reduced(node: Any) -> Any:
    if isinstance(node, list):
        return [reduced(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "containers" in node.get("properties", {}).get("spec", {}).get("properties", {}):
        return {"type": "object", "x-pod-template": True}
    kept = {name: reduced(item) for name, item in node.items() if not _is_text(name, item)}
    if "properties" in kept:
        left_out = ("status", "rayClusterSpec")
        kept["properties"] = {k: v for k, v in kept["properties"].items() if k not in left_out}
    return kept


def _is_text(name: str, item: Any) -> bool:
    """Say whether an entry is a description, and not a property of that name."""
    return name == "description" and isinstance(item, str)


if __name__ == "__main__":
    with gzip.open(Path(sys.argv[1]), "rt") as file:
        crd = yaml.load(file, Loader=yaml.CSafeLoader)
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    schema = reduced(version["schema"]["openAPIV3Schema"])
    print(json.dumps(schema, separators=(",", ":"), sort_keys=True))
