"""Ingest and workers under fire: killed ones are started again, as an orchestrator would, and all of it is noted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from deploy.local import LocalStack, Service
from deploy.servers import describe

Role = Literal["ingest", "worker"]
DOWN_S: Final = (0.0, 2.0)
"""Until a killed process is started again."""
TEND_EVERY_S: Final = 0.1
WORKERS: Final = 2


@dataclass
class Member:
    role: Role
    service: Service
    due_s: float | None = None
    """When it is to be started again; None while it runs, as far as is known."""


class Crew:
    """exits: how processes ended that were neither killed nor asked to; left: exit codes of workers asked to leave."""

    def __init__(
        self, stack: LocalStack, chance: random.Random, environment: Mapping[str, str], ingest: tuple[str, ...]
    ) -> None:
        self.members: list[Member] = []
        self.exits: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self._stack, self._chance, self._environment, self._ingest = stack, chance, environment, ingest
        self._names = 0
        self._leaving: set[asyncio.Task[None]] = set()

    def of(self, role: Role) -> list[Member]:
        return [member for member in self.members if member.role == role]

    def start(self, role: Role) -> Member:
        member = Member(role, self._run(role))
        self.members.append(member)
        return member

    def kill(self, role: Role) -> bool:
        """SIGKILL to a random one; False if none runs just now."""
        running = [member for member in self.of(role) if member.due_s is None]
        if not running:
            return False
        member = self._chance.choice(running)
        member.service.child.kill()
        member.due_s = asyncio.get_running_loop().time() + self._chance.uniform(*DOWN_S)
        return True

    def leave(self) -> None:
        """SIGTERM to a random worker, which is not waited for."""
        member = self._chance.choice(self.of("worker"))
        self.members.remove(member)
        task = asyncio.create_task(self._leave(member))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def tend(self) -> None:
        """Brings back whoever is missing, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            for member in self.members:
                code = member.service.child.exit_code()
                if member.due_s is None and code is not None:
                    self.exits[f"{member.role}: {describe(code)}"] += 1
                    member.due_s = loop.time() + DOWN_S[1]
                if member.due_s is not None and loop.time() >= member.due_s:
                    self._stack.services.remove(member.service)
                    member.service, member.due_s = self._run(member.role), None

    async def stop_ingest(self) -> int:
        """SIGTERM; its exit code."""
        (member,) = self.of("ingest")
        self.members.remove(member)
        return await member.service.child.stop()

    async def dismiss(self) -> None:
        """Everybody leaves; to be called once nobody tends to them."""
        await asyncio.gather(*self._leaving, *(member.service.child.stop() for member in self.members))
        self.members.clear()

    async def _leave(self, member: Member) -> None:
        was_running = member.due_s is None
        code = await member.service.child.stop()
        self._stack.services.remove(member.service)
        self.left[describe(code) if was_running else "was down"] += 1

    def _run(self, role: Role) -> Service:
        self._names += 1
        module, arguments = ("ingest", self._ingest) if role == "ingest" else ("inference_worker", ())
        return self._stack.run(
            f"{role}-{self._names}", module, *arguments, environment=self._environment, keep_running=False
        )
