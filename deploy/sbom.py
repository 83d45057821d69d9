"""The shipped model among what an SBOM lists (`make sbom`): `python -m deploy.sbom FILE [ARTIFACT]`.

`cyclonedx-py` knows packages, and a model comes in none: its files, hashes, licence and origins stand in artifact.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference_worker.settings import DEFAULT_MODEL


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.sbom", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="CycloneDX JSON; the model is added to it")
    parser.add_argument("artifact", type=Path, nargs="?", default=DEFAULT_MODEL, metavar="ARTIFACT")
    options = parser.parse_args(arguments)
    try:
        listed = with_model(json.loads(options.file.read_text()), _manifest(options.artifact))
        options.file.write_text(json.dumps(listed, indent=2))
    except (OSError, ValueError, KeyError) as error:
        what = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"sbom: no model is added to {options.file} ({what}): name a CycloneDX file and an artifact\n")
        return 1
    return 0


def _manifest(artifact: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact / "artifact.json").read_text())
    return found


def with_model(bom: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """The model is one more component, on which the application depends."""
    model, root = component(manifest), bom["metadata"]["component"]["bom-ref"]
    depends = [
        {**one, "dependsOn": sorted({*one.get("dependsOn", ()), model["bom-ref"]})} if one["ref"] == root else one
        for one in bom["dependencies"]
    ]
    return {**bom, "components": [*bom["components"], model], "dependencies": depends}


def component(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"{manifest['name']}=={manifest['version']}",
        "name": manifest["name"],
        "version": manifest["version"],
        "licenses": [{"license": {"id": manifest["licence"], "acknowledgement": "declared"}}],
        "pedigree": {
            "ancestors": [
                {"type": "machine-learning-model", "name": name} for name in sorted(manifest["encoders"].values())
            ],
            "commits": [{"uid": manifest["source_commit"]}],
        },
        "modelCard": {
            "modelParameters": {
                "task": f"sentiment of text and images: {', '.join(manifest['labels'])}",
                "datasets": [{"type": "dataset", "name": name} for name in manifest["data"]],
            }
        },
        "components": [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}]}
            for name, sha256 in sorted(manifest["sha256"].items())
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
