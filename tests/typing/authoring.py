"""What mypy makes of steps, effects, handlers and gather: checked with the tests' own types, and never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import torpor
from torpor import Agent, Happened


@torpor.step
async def bare(url: str) -> list[int]:
    return [len(url)]


@torpor.step(retries=3, timeout="20s")
async def tuned(url: str, *, limit: int = 1) -> str:
    return url * limit


async def posted(text: str, *, key: str) -> Happened[bool] | None:
    return Happened(text == key)


@torpor.effect(on_unknown="check", check=posted)
async def post(text: str, *, key: str) -> bool:
    return bool(text and key)


class Typed(Agent):
    name: str = "Ada"

    @torpor.step(retries=1)
    async def collect(self, url: str) -> dict[str, int]:
        return {url: 1}

    @torpor.on("go")
    async def go(self, url: str) -> bytes:
        assert_type(await bare(url), list[int])
        assert_type(await tuned(url, limit=2), str)
        assert_type(await post(url, key="k"), bool)
        assert_type(await self.collect(url), dict[str, int])
        assert_type(await torpor.gather(bare("a"), bare("b")), list[list[int]])
        both = await torpor.gather(tuned("a"), return_exceptions=True)
        assert_type(both, list[str | Exception])
        assert_type(self.name, str)
        assert_type(torpor.run().attempt, int)
        await bare(5)  # type: ignore[arg-type]  # a wrong argument is found
        await self.collect()  # type: ignore[call-arg]  # a missing one too
        await post(url)  # type: ignore[call-arg]  # and a missing key
        return b""


async def use(agent: Typed) -> None:
    assert_type(await agent.go("x"), bytes)
    handler: Callable[[str], Coroutine[Any, Any, bytes]] = agent.go
    await handler("x")
