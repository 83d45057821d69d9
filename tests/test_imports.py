"""Who may import whom: the parts owe each other contracts, and nothing else."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
OURS: Final = {"ingest", "inference_worker", "dashboard", "training", "deploy", "tests"}
HEAVY: Final = {"torch", "torchvision", "transformers", "timm"}
CONTRACTS: Final = {
    "ingest": set(),
    "inference_worker": {"ingest.contract", "ingest.kafka_access", "ingest.telemetry", "ingest.tls"},
    "dashboard": {
        "inference_worker.contract",
        "inference_worker.amendments",
        "inference_worker.redis_access",
        "ingest.contract",
        "ingest.topics",
        "ingest.telemetry",
    },
    "training": set(),
}
"""The modules of other parts a part may import; `deploy` wires all of them together.

`ingest.kafka_access` and `inference_worker.redis_access` say how their servers are reached, `ingest.tls` how both are;
`ingest.topics` is the language of the user's queries: what ingest tags by, the dashboard previews and counts by;
`ingest.telemetry` is how every service tells of itself, alike: health, metrics, log lines.
"""
FORBIDDEN: Final = {
    "ingest": HEAVY | {"faust", "redis", "streamlit", "onnxruntime"},
    "inference_worker": {"transformers", "timm", "torchvision", "streamlit", "pandas"},
    "dashboard": HEAVY | {"faust", "aiokafka", "onnxruntime"},
    "training": {"faust", "aiokafka", "redis", "streamlit"},
    "deploy": HEAVY | {"streamlit"},
}
CONTRACT_IMPORTS: Final = {"msgspec", "redis"}
"""Reading a contract costs no more than these."""


def modules(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def imports(path: Path, *, at_top: bool = False) -> Iterator[str]:
    """Dotted names a file imports, relative ones resolved; `at_top`: only those that run when it is imported."""
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("part", CONTRACTS)
def test_a_part_imports_of_others_only_their_contracts(part: str) -> None:
    allowed = CONTRACTS[part]
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(part)
        for name in imports(path)
        if (top := name.partition(".")[0]) in OURS - {part}
        and name != top  # `from ingest import contract` also yields `ingest.contract`
        and not any(name == contract or name.startswith(f"{contract}.") for contract in allowed)
    }
    assert not wrong


@pytest.mark.parametrize("part", FORBIDDEN)
def test_a_part_stays_as_light_as_it_promised(part: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(part)
        for name in imports(path)
        if name.partition(".")[0] in FORBIDDEN[part]
    }
    assert not wrong


def test_only_pages_and_their_frame_import_streamlit() -> None:
    free = [
        *(ROOT / "dashboard" / f"{name}.py" for name in ("queries", "charts", "predictions", "runs", "parts")),
        *(module for package in ("evaluation", "report", "alerts") for module in modules(f"dashboard/{package}")),
    ]
    wrong = [
        path.name for path in free if path.exists() and any(n.partition(".")[0] == "streamlit" for n in imports(path))
    ]
    assert not wrong


@pytest.mark.parametrize("contract", ["ingest/contract.py", "inference_worker/contract.py"])
def test_a_contract_imports_next_to_nothing(contract: str) -> None:
    found = {name.partition(".")[0] for name in imports(ROOT / contract, at_top=True)}
    assert found - OURS - set(sys.stdlib_module_names) <= CONTRACT_IMPORTS


@pytest.mark.parametrize("part", ["ingest", "inference_worker", "dashboard"])
def test_importing_a_contract_does_not_drag_the_service_in(part: str) -> None:
    assert not (ROOT / part / "__init__.py").read_text(encoding="utf-8").strip()
