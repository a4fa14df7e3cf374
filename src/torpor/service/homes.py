"""Where agents are kept, and how a word on a command line finds one: by its name in a home, or by its file.

A word with a dot or a slash is a file. Any other word is an agent's name if the home knows it, else a file if one is
there, else a template's name, which can be read and never written, else an agent that doesn't exist. So `ada` is an
agent, and `./ada` and `ada.workbook` are files, whatever else is there.

Looking for an agent never makes a home. The home's own code is loaded when there is one to open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from torpor.base.clock import Clock, SystemClock
from torpor.base.errors import AgentUnknown, HomeRefused, OlderFormat, StoreRefused, TemplateMeant
from torpor.workbook import Workbook

if TYPE_CHECKING:
    from torpor.heartbeat import Settings
    from torpor.home import Home, Options

LEDGER: Final = "ledger.db"
"""The file that makes a folder a home."""

_NAME_LIKE: Final = re.compile(r"[A-Za-z0-9_-]+")


class Homes:
    """The home that a process works with: opened when it is first needed, at most once.

    Args:
        path: its folder; the platform's folder for data unless given.
        cold: the address of its cold store, or a folder's name within it.
        archive: the address of its archive store.
        durability: what its commits survive, "file", "heartbeat" or "replicated"; where it is "", that is "heartbeat"
            where there is a replica, and else "file".
        replica: the address of its replica; "" for none.
        lasting: refuse stores that end with this process.
        allow_http: let a store's server be spoken to without encryption.
        who: returns who it is that asks, for the agents' histories.
        clock: where times come from.

    """

    def __init__(  # noqa: PLR0913  (each is a setting of its own)
        self,
        path: str = "",
        *,
        cold: str = "cold",
        archive: str = "archive",
        durability: str = "",
        replica: str = "",
        lasting: bool = False,
        allow_http: bool = False,
        who: Callable[[], str] = lambda: "library",
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._cold = cold
        self._archive = archive
        self._durability = durability
        self._replica = replica
        self._lasting = lasting
        self._allow_http = allow_http
        self.who = who
        self._clock = clock or SystemClock()
        self._home: Home | None = None

    def choose(
        self,
        path: str | None = None,
        *,
        cold: str | None = None,
        archive: str | None = None,
        durability: str | None = None,
        replica: str | None = None,
    ) -> None:
        """Work with another home, other stores, another durability; what is None stays as it is."""
        self.close()
        self._durability = self._durability if durability is None else durability
        self._replica = self._replica if replica is None else replica
        self._path = self._path if path is None else path
        self._cold = self._cold if cold is None else cold
        self._archive = self._archive if archive is None else archive

    @property
    def path(self) -> str:
        """The home's folder, absolute; it may not be there yet."""
        if not self._path:
            from platformdirs import user_data_path  # noqa: PLC0415  (needed where no home is named)

            self._path = str(user_data_path("torpor"))
        return os.path.abspath(self._path)

    @property
    def durability(self) -> str:
        """What the commits of its agents survive."""
        return self._durability or ("heartbeat" if self._replica else "file")

    @property
    def replica(self) -> str:
        """The address of its replica; "" for none."""
        return self._replica

    def options(self) -> Options:
        """Return how stores are spoken to."""
        from torpor.home import Options  # noqa: PLC0415  (stores and compression, which files do without)

        return Options(allow_http=self._allow_http)

    @property
    def made(self) -> bool:
        """Whether there is a home."""
        return self._home is not None or os.path.lexists(os.path.join(self.path, LEDGER))

    def home(self, *, create: bool = False) -> Home:
        """Return the home, opened.

        Args:
            create: make it where there is none.

        Raises:
            HomeRefused: there is none, or the folder can't be one.
            StoreRefused: a store's address means none, or one that ends with this process.
            LedgerDamaged, LedgerFailed: its ledger can't be used.

        """
        if self._home is None:
            if _not_text(self.path):
                raise HomeRefused(path=self.path, reason="its name is not UTF-8")
            for url in (self._cold, self._archive, self._replica):
                if self._lasting and url.startswith("memory:"):
                    raise StoreRefused(url=url, reason="what is put there ends with this command")
            from torpor.home import Home  # noqa: PLC0415  (stores and compression, which files do without)

            self._home = Home.open(
                self.path,
                cold=self._cold,
                archive=self._archive,
                clock=self._clock,
                who=self.who(),
                create=create,
                options=self.options(),
                durability=self.durability,
                heartbeat=self._heartbeat(),
            )
        return self._home

    def _heartbeat(self) -> Settings | None:
        if self.durability == "file":
            return None  # the replica is for those who restore from it
        from torpor.heartbeat import Settings  # noqa: PLC0415  (checksums, which class `file` does without)

        return Settings(replica=self._replica)

    def having(self, name: str) -> Home:
        """Return the home in which an agent of this name is.

        Raises:
            AgentUnknown: there is none.
            TemplateMeant: it names a template.

        """
        home = self.where(name, "agent")
        try:
            home.ledger.agent(name)
        except AgentUnknown:
            if self._is_template(name):
                raise TemplateMeant(name=name) from None
            raise
        return home

    def where(self, name: str, what: str) -> Home:
        """Return the home in which an agent or a template of this name is looked for.

        Raises:
            AgentUnknown: there is no home, so there is nobody in it.

        """
        if not self.made:
            raise AgentUnknown(what=what, name=name, home=self.path)
        return self.home()

    def _is_template(self, name: str) -> bool:
        if not self.made:
            return False
        try:
            self.home().ledger.templates.get(name)
        except AgentUnknown:
            return False
        return True

    def close(self) -> None:
        """Close the home; twice is once."""
        home, self._home = self._home, None
        if home is not None:
            home.close()

    # --- an agent's name or a workbook's file

    def is_agent(self, word: str) -> bool:
        """Report whether a word means an agent, not a file.

        Raises:
            AgentUnknown: it means neither: it could name an agent, and there is none and no file.
            TemplateMeant: it names a template.

        """
        meant = self._meant(word)
        if meant == "template":
            raise TemplateMeant(name=word)
        return meant == "agent"

    def file_of(self, word: str) -> str:
        """Return the path of a workbook by its agent's or template's name or its file, whether or not it is there."""
        meant = self._meant(word)
        if meant == "file":
            return word
        home = self.home()
        kept = home.ledger.agent(word) if meant == "agent" else home.ledger.templates.get(word)
        return os.path.join(home.path, kept.file)

    def _meant(self, word: str) -> Literal["agent", "file", "template"]:
        """Return what a word means.

        Raises:
            AgentUnknown: it could name an agent, and there is nothing of that name.

        """
        if not _NAME_LIKE.fullmatch(word):
            return "file"
        unknown = AgentUnknown(what="agent", name=word, home=self.path)
        if self.made:
            try:
                self.home().ledger.agent(word)
            except AgentUnknown as error:
                unknown = error
            else:
                return "agent"
        if os.path.lexists(word):
            return "file"
        if self._is_template(word):
            return "template"
        raise unknown

    @contextmanager
    def reading(self, word: str) -> Iterator[Workbook]:
        """Open a workbook read-only, by its agent's or template's name or its file; wakes nobody.

        A file of an older format is brought up to date first, which only its owner may do.

        Raises:
            AgentAsleep: the agent's file is not here.
            WorkbookError: it can't be read.

        """
        if self._meant(word) == "agent":
            with self.home().reading(word) as book:
                yield book
        else:
            with self._open_to_read(self.file_of(word)) as book:
                yield book

    def _open_to_read(self, file: str) -> Workbook:
        try:
            return Workbook.open(file, readonly=True, clock=self._clock)
        except OlderFormat:
            Workbook.open(file, create=False, clock=self._clock).close()
            return Workbook.open(file, readonly=True, clock=self._clock)

    @contextmanager
    def writing(self, word: str, *, create: bool, why: str) -> Iterator[Workbook]:
        """Open a workbook to write, by its agent's name, which wakes the agent, or by its file.

        Args:
            word: the name or the file.
            create: make the file where there is none.
            why: for the agent's history.

        Raises:
            HomeError: the agent can't be woken.
            WorkbookError: the file can't be opened.

        """
        if self.is_agent(word):
            with self.home().using(word, why=why) as book:
                yield book
        else:
            with Workbook.open(word, create=create, clock=self._clock) as book:
                yield book


def _not_text(path: str) -> bool:
    """Report whether a path has bytes that are no text; SQLite takes none of those."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return True
    return False
