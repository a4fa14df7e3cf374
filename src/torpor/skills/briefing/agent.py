"""The briefing agent.

It collects its sources at once, leaves out what it has read before, orders the rest by the reader's interests,
summarises the best, delivers the page, and only then remembers what it has read. So a run that fails before it has
delivered leaves its items unread, and the next run finds them again. One source that can't be read, or one item that
can't be summarised, is reported and loses nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from urllib.parse import quote

import msgspec

from torpor.base.clock import Clock, SystemClock
from torpor.base.errors import DeliveryFailed, EffectRefused, SourceError, StepFailed
from torpor.base.limits import FETCH_AT_ONCE
from torpor.models import Model, Prompt, Usage
from torpor.runtime import Agent, Happened, Note, effect, gather, on, run, step
from torpor.skills.briefing import deliver as delivery
from torpor.skills.briefing import render
from torpor.skills.briefing.canonical import without_secret
from torpor.skills.briefing.fetch import fetch
from torpor.skills.briefing.item import Feed, Item, Validators
from torpor.skills.briefing.membrane import Summary, admit
from torpor.skills.briefing.rank import Scored, embedding_text, rank
from torpor.skills.briefing.report import Chosen, Progress, Report, Stage, Told
from torpor.workbook import MICRO, Workbook

SUMMARIES_AT_ONCE = 4
SUMMARY_SENTENCES = 2
REMEMBERED_CHARS = 4000
"""Characters of an article's text that memory keeps, for searching."""

NAME_CHARS_MAX = 2048
"""Characters of the name of an article or feed; what is longer is known by its digest."""


class Outset(msgspec.Struct, frozen=True, kw_only=True):
    """What a run keeps to from its beginning, also when it is resumed with another model or by a later Torpor."""

    now_us: int
    """Microseconds since 1970 UTC."""
    model: str


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """A briefing, written out."""

    markdown: str
    html: str


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What asking one source came to."""

    feed: Feed | None = None
    problem: Told | None = None


class Summarised(msgspec.Struct, frozen=True, kw_only=True):
    """A summary and what it took."""

    summary: Summary
    usage: Usage


class _Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the sources yielded."""

    feeds: list[Feed]
    fresh: list[Item]
    already: int
    problems: list[Told]


class _Pick(msgspec.Struct, frozen=True, kw_only=True):
    """An item that is in the briefing, with what the model said of it."""

    item: Item
    place: Scored
    answer: Summarised | Told | None

    @property
    def summary(self) -> str:
        return self.answer.summary.text if isinstance(self.answer, Summarised) else ""


async def _delivered(
    _agent: Briefing, folder: str, markdown: str, html: str, *, key: str
) -> Happened[list[str]] | None:
    paths = delivery.delivered(folder, key, markdown, html)
    return None if paths is None else Happened(paths)


class Briefing(Agent):
    """Reads feeds and remembers what it has read.

    Args:
        book: the agent's workbook.
        model: who embeds and summarises.
        clock: where the present comes from.
        watch: is told how far the run is.

    """

    interests: str = ""

    def __init__(
        self,
        book: Workbook,
        model: Model,
        *,
        clock: Clock | None = None,
        watch: Callable[[Progress], None] | None = None,
    ) -> None:
        super().__init__(book)
        self._model = model
        self._clock = clock or SystemClock()
        self._watch = watch or (lambda _: None)
        self._done: dict[Stage, int] = {}

    @on("brief")
    async def brief(
        self,
        sources: list[str],
        out: str,
        interest: str | None = None,
        count: int = 10,
        guard: bool = True,  # noqa: FBT001, FBT002  (a message's arguments go by name)
    ) -> Report:
        """Read the sources and deliver a briefing of what is new.

        Args:
            sources: addresses or absolute paths of feeds.
            out: the folder for the briefing, absolute.
            interest: what to look for; the agent's own interests unless given.
            count: at most this many items are summarised.
            guard: refuse private addresses and files; off only for sources that the user typed.

        """
        interests = self.interests if interest is None else interest
        self._done.clear()
        outset = await self.set_out()
        reading = await self._read(sources, outset.now_us, guard=guard)
        chosen = await self._choose(reading.fresh, interests, count)
        problems = reading.problems + [pick.answer for pick in chosen if isinstance(pick.answer, Told)]
        self._account(chosen, outset.model)
        paths: list[str] = []
        if reading.fresh:
            page = _page(reading, chosen, problems, outset, interests)
            paths = await self._deliver_one(out, page)
        self._remember(reading.feeds, reading.fresh)
        return Report(
            run=run().id,
            new=len(reading.fresh),
            already_read=reading.already,
            interests=interests,
            model=outset.model,
            chosen=[
                Chosen(title=pick.item.title, url=pick.item.url, score=pick.place.score, summary=pick.summary)
                for pick in chosen
            ],
            delivered=paths,
            problems=problems,
            notes=[_told(feed.source, note) for feed in reading.feeds for note in feed.notes],
        )

    # --- steps ---

    @step
    async def set_out(self) -> Outset:
        """Look at the clock, and at who is to summarise."""
        return Outset(now_us=self._clock.now_us(), model=self._model.name)

    @step
    async def collect(self, source: str, validators: Validators, now_us: int, *, guard: bool) -> Gathered:
        """Read one source; what is wrong with it is part of the answer, not an error."""
        try:
            return Gathered(feed=await fetch(source, validators, guard=guard, now_us=now_us))
        except SourceError as error:
            return Gathered(problem=_told(source, error.message, error.next_step, error.code))

    @step(retries=2)
    async def judge(self, items: list[Item], interests: str) -> list[Scored]:
        """Order items by how well they fit the interests, by their words and by their meaning."""
        if not interests.strip():
            return rank(items, interests)
        texts = [interests, *(embedding_text(item) for item in items)]
        rows = (await self._model.embed(texts)).rows
        return rank(items, interests, rows[1:], rows[0])

    @step(retries=2)
    async def summarise(self, text: str, interests: str) -> Summarised:
        """Say in a sentence or two what a text says."""
        prompt = Prompt(task="summarise", text=text, focus=interests, sentences=SUMMARY_SENTENCES)
        reply = await self._model.generate(prompt)
        summary = admit(reply, sentences=SUMMARY_SENTENCES)
        return Summarised(summary=summary, usage=reply.usage)

    @step
    async def compose(self, page: render.Briefing) -> Pages:
        """Write the briefing out. Recorded, so that a later Torpor, which may write otherwise, delivers this one."""
        return Pages(markdown=render.to_markdown(page), html=render.to_html(page))

    @effect(on_unknown="check", check=_delivered, name="deliver")
    async def deliver(self, folder: str, markdown: str, html: str, *, key: str) -> list[str]:
        """Write the briefing's two files, named by the run, and return their paths."""
        try:
            return delivery.deliver(folder, key, markdown, html)
        except DeliveryFailed as error:
            raise EffectRefused(reason=error.reason) from error

    # --- the pieces ---

    async def _collect_one(self, source: str, now_us: int, total: int, *, guard: bool) -> Gathered:
        known = self.memory.get(_feed_name(source))
        validators = Validators()
        if known is not None:
            validators = msgspec.convert(known.metadata, type=Validators)
        result = await self.collect(source, validators, now_us, guard=guard)
        self._advance("collect", total)
        return result

    async def _read(self, sources: list[str], now_us: int, *, guard: bool) -> _Reading:
        """Read all sources at once, and tell what is new from what was read before."""
        gathered = await gather(
            *(self._collect_one(source, now_us, len(sources), guard=guard) for source in sources),
            limit=FETCH_AT_ONCE,
        )
        feeds = [result.feed for result in gathered if result.feed is not None]
        found = [item for feed in feeds for item in feed.items]
        fresh = self.memory.unseen(found, _names)
        unchanged = sum(self._known(feed) for feed in feeds if feed.unchanged)
        return _Reading(
            feeds=feeds,
            fresh=fresh,
            already=len(found) - len(fresh) + unchanged,
            problems=[result.problem for result in gathered if result.problem is not None],
        )

    async def _choose(self, fresh: list[Item], interests: str, count: int) -> list[_Pick]:
        """Order what is new, and have the best summarised."""
        if not fresh:
            return []
        self._tell("rank", 0, 1)
        best = (await self.judge(fresh, interests))[:count]
        self._tell("rank", 1, 1)
        answers = await gather(
            *(self._summarise_one(fresh[place.index], interests, len(best)) for place in best),
            limit=SUMMARIES_AT_ONCE,
        )
        return [
            _Pick(item=fresh[place.index], place=place, answer=answer)
            for place, answer in zip(best, answers, strict=True)
        ]

    async def _summarise_one(self, item: Item, interests: str, total: int) -> Summarised | Told | None:
        answer: Summarised | Told | None = None
        if item.text.strip():
            try:
                answer = await self.summarise(f"{item.title}.\n\n{item.text}", interests)
            except StepFailed as error:
                what = f"«{item.title}» has no summary: {error.detail}"
                next_step = "It is in the briefing without one; another --model may do better."
                answer = _told(item.source, what, next_step, error.code)
        self._advance("summarise", total)
        return answer

    async def _deliver_one(self, out: str, page: render.Briefing) -> list[str]:
        self._tell("deliver", 0, 1)
        pages = await self.compose(page)
        try:
            paths = await self.deliver(out, pages.markdown, pages.html, key=page.run_id)
        except StepFailed as error:
            raise DeliveryFailed(path=out, reason=error.detail) from error
        self._tell("deliver", 1, 1)
        return paths

    def _account(self, chosen: list[_Pick], model: str) -> None:
        """Book what the summaries took, once a run."""
        usages = [pick.answer.usage for pick in chosen if isinstance(pick.answer, Summarised)]
        tokens = sum(usage.input_tokens + usage.output_tokens for usage in usages)
        cost = sum(usage.cost_micros for usage in usages)
        target = "models/" + "".join(character if character.isalnum() else "-" for character in model.lower())
        if tokens:
            amount = tokens * MICRO
            self.spend.book(amount, "token", source="agent", target=target, key=f"{run().id}/tokens")
        if cost:
            self.spend.book(cost, "usd", source="agent", target=target, key=f"{run().id}/cost")

    def _known(self, feed: Feed) -> int:
        known = self.memory.get(_feed_name(feed.source))
        return int(known.metadata.get("items", 0)) if known else 0

    def _remember(self, feeds: list[Feed], fresh: list[Item]) -> None:
        """Remember what was read, and what servers want to be asked with, in one transaction."""
        notes = [
            Note(
                kind="article",
                content=f"{item.title}\n\n{item.text[:REMEMBERED_CHARS]}".strip() or item.identity,
                source=_memory_name(item.identity),
                aliases=tuple(_memory_name(name) for name in (item.alias,) if name),
                metadata={"url": item.url, "feed": without_secret(item.source), "published": item.published_us},
            )
            for item in fresh
        ]
        notes += [
            Note(
                kind="feed",
                content=feed.title or without_secret(feed.source),
                source=_feed_name(feed.source),
                metadata={**msgspec.to_builtins(feed.validators), "items": len(feed.items)},
            )
            for feed in feeds
            if not feed.unchanged
        ]
        if notes:
            self.memory.remember_all(notes)

    def _advance(self, stage: Stage, total: int) -> None:
        self._done[stage] = self._done.get(stage, 0) + 1
        self._tell(stage, self._done[stage], total)

    def _tell(self, stage: Stage, done: int, total: int) -> None:
        self._watch(Progress(stage, done, total))


def _names(item: Item) -> Sequence[str]:
    return [_memory_name(name) for name in (item.identity, item.alias) if name]


def _feed_name(source: str) -> str:
    return _memory_name(f"feed:{source}")


def _memory_name(name: str) -> str:
    """Return a name as memory takes it: printable, and not too long.

    What was delivered must be remembered, so no name of a stranger's making may be refused.
    """
    printable = "".join(character if character.isprintable() else quote(character) for character in name)
    if len(printable) <= NAME_CHARS_MAX:
        return printable
    return f"sha256:{hashlib.sha256(printable.encode()).hexdigest()}"


def _told(source: str, message: str, next_step: str = "", code: str = "") -> Told:
    """Return a message without the password that the user may have typed into an address."""
    return Told(source=without_secret(source), message=without_secret(message), next_step=next_step, code=code)


def _page(
    reading: _Reading, chosen: list[_Pick], problems: list[Told], outset: Outset, interests: str
) -> render.Briefing:
    titles = {feed.source: feed.title for feed in reading.feeds}
    return render.Briefing(
        title="Briefing",
        run_id=run().id,
        made_us=outset.now_us,
        interests=interests,
        model=outset.model,
        entries=[
            render.Entry(
                title=pick.item.title,
                url=pick.item.url,
                source=titles.get(pick.item.source) or without_secret(pick.item.source),
                published_us=pick.item.published_us,
                score=pick.place.score if pick.place.terms or pick.place.score else None,
                summary=pick.summary,
                why=pick.place.terms,
            )
            for pick in chosen
        ],
        new=len(reading.fresh),
        already_read=reading.already,
        skipped=len(reading.fresh) - len(chosen),
        problems=[
            render.Problem(source=told.source, message=told.message, next_step=told.next_step) for told in problems
        ],
    )
