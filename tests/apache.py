"""A real Apache Kafka (KRaft, one node or several) and a real redis-server, as children that die with the test run.

Kafka's jars come from `make kafka` (.moodstream/kafka, or MOODSTREAM_KAFKA_JARS); redis-server is the system's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.children import Child
from deploy.servers import free_port, kafka_answers, redis_answers, until_ready

ROOT: Final = Path(__file__).parent.parent
JARS: Final = Path(os.environ.get("MOODSTREAM_KAFKA_JARS", ROOT / ".moodstream" / "kafka"))
CLUSTER_ID: Final = "MkU3OEVBNTcwNTJENDM2Qg"
JAVA: Final = ("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*")
START_TIMEOUT_S: Final = 180.0
PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
"""


def missing() -> str | None:
    """What these servers lack on this machine, and how to get it; None if all is there."""
    if shutil.which("java") is None:
        return "no java: install a JDK 17 (Debian: openjdk-17-jre-headless)"
    if not any(JARS.glob("kafka_*.jar")):
        return f"no Kafka jars in {JARS}: run `make kafka`"
    if shutil.which("redis-server") is None:
        return "no redis-server: install it (Debian: redis-server)"
    return None


async def start_kafka(folder: Path, more: str = "", passwords: Mapping[str, str] | None = None) -> tuple[Child, str]:
    """Formats a log in `folder` and starts the broker; returns it and its address.

    more: properties that win over PROPERTIES, with the same places to fill; passwords: of users it knows by SCRAM.
    """
    broker, controller = free_port(), free_port()
    _format(folder, (PROPERTIES + more).format(broker=broker, controller=controller, folder=folder), passwords)
    return await serve_kafka(folder, f"127.0.0.1:{broker}"), f"127.0.0.1:{broker}"


async def start_cluster(folder: Path, nodes: int = 3, more: str = "") -> tuple[list[Child], list[str]]:
    """As many nodes, broker and controller each, `more` as above; returns them and their addresses, in order of id."""
    ports = [(free_port(), free_port()) for _ in range(nodes)]
    voters = ",".join(f"{number}@127.0.0.1:{controller}" for number, (_, controller) in enumerate(ports, 1))
    for number, (broker, controller) in enumerate(ports, 1):
        home = folder / str(number)
        own = f"node.id={number}\ncontroller.quorum.voters={voters}\n{more}"
        _format(home, (PROPERTIES + own).format(broker=broker, controller=controller, folder=home))
    addresses = [f"127.0.0.1:{broker}" for broker, _ in ports]
    starting = (serve_kafka(folder / str(number), address) for number, address in enumerate(addresses, 1))
    return await asyncio.gather(*starting), addresses


async def serve_kafka(folder: Path, address: str) -> Child:
    """The broker formatted in `folder`, started, again or for the first time; returns once it answers."""
    command = [*JAVA, "kafka.Kafka", str(folder / "server.properties")]
    child = Child("kafka", command, log_path=folder / "kafka.log", stop_timeout_s=20)

    async def answers() -> bool:
        return await kafka_answers(address)

    await until_ready(child, answers, START_TIMEOUT_S)
    return child


def _format(folder: Path, content: str, passwords: Mapping[str, str] | None = None) -> None:
    folder.mkdir(parents=True)
    properties = folder / "server.properties"
    properties.write_text(content)
    formatting = [*JAVA, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
    for user, password in (passwords or {}).items():
        formatting += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
    subprocess.run(formatting, check=True, capture_output=True, timeout=180)


async def start_redis(folder: Path, *options: str) -> tuple[Child, str]:
    """redis-server on a free port, nothing on disk; returns it and its URL. options: more of its own."""
    folder.mkdir(parents=True)
    port = free_port()
    return await serve_redis(folder, port, *options), f"redis://127.0.0.1:{port}/0"


async def serve_redis(folder: Path, port: int, *options: str) -> Child:
    """The same on that port, started again over what it left in `folder`; returns once it answers."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    child = Child("redis", command, log_path=folder / "redis.log", stop_signal=signal.SIGTERM)

    async def answers() -> bool:
        return await redis_answers(f"redis://127.0.0.1:{port}/0")

    await until_ready(child, answers, START_TIMEOUT_S)  # it answers once its file is loaded
    return child
