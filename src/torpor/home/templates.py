"""Templates, and the agents that are cloned from them.

A template is a workbook that nobody writes any more: its mode says so, `Workbook.open` obeys that even for root, and
the ledger knows its size, its inode and the times of its last change. A clone is made only where all of that is still
so and nothing lies beside the file: then its bytes are what they were when it was made. In a home that was copied or
restored the inode is another, and the digest decides.

Clones are made all or none: the files and their drafts are reserved in one transaction, and the agents are added in
another. In between each clone is copied (without copying, where the file system can share blocks), given an identity of
its own, synced, and put in its place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from torpor.base.errors import TemplateTouched
from torpor.base.faults import point
from torpor.home.held import holding
from torpor.home.leftovers import sweep
from torpor.home.making import Draft, Wish, making
from torpor.home.names import check_tenant
from torpor.home.site import AGENTS, Asked, Site, file_place, template_file
from torpor.home.wake import reading
from torpor.ledger import AgentRecord, TemplateRecord
from torpor.stores.copies import Step, Watch, copy_file, digest_of, place, said_of, sync_folder
from torpor.workbook import Made, adopt, fork, is_sealed, seal

AT_ONCE: Final = 8
"""Clones that are made at the same time."""

_BESIDE: Final = ("-wal", "-shm", "-journal", "-owner")


class Templates:
    """The templates of a home; `Home.templates`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def create(
        self, name: str, source: str, *, suspend_after_s: float | None = None, freeze_after_s: float | None = None
    ) -> TemplateRecord:
        """Make a template of what an agent is now; the agent goes on.

        Args:
            name: the template's.
            source: the agent's name.
            suspend_after_s: the threshold of the ladder that its clones begin with.
            freeze_after_s: likewise.

        Raises:
            NameRefused, NameTaken, DurationRefused: it can't be so.
            AgentUnknown, AgentAsleep, CopyMissing: there is no agent or no file to make it of.
            WorkbookError: a file can't be read or written.

        """
        site = self._site
        asked = Asked("template")
        site.free_name(name, "a template")
        wish = Wish("", suspend_after_s, freeze_after_s)
        draft = Draft(site, name, template_file(name))
        path = site.absolute(draft.file)
        with reading(site, source) as (parent, book), making(site, [draft]) as files:
            made = fork(book.path, path, agent=draft.id, clock=site.clock)
            seal(path, clock=site.clock)
            point("move.copied")
            found = _stat(path)
            record = TemplateRecord(
                id=draft.id,
                name=name,
                file=draft.file,
                bytes=found.st_size,
                mtime_ns=found.st_mtime_ns,
                ctime_ns=found.st_ctime_ns,
                inode=found.st_ino,
                digest=digest_of(path),
                seq=made.seq,
                head=made.head,
                parent=parent.id,
                parent_seq=made.parent_seq,
                created=site.clock.now_us(),
                suspend_after_s=wish.suspend_after_s,
                freeze_after_s=wish.freeze_after_s,
            )
            note = site.note(asked, draft.id, record.bytes, source=parent.name)
            site.ledger.templates.add(record, note, made=files.leftovers)
            point("move.committed")
        site.introduce([record])
        return record

    def clone(self, template: str, *, tenant: str, count: int = 1, watch: Watch | None = None) -> list[AgentRecord]:
        """Make agents from a template, all or none; each is called TENANT-ULID.

        Args:
            template: its name.
            tenant: for whom they work.
            count: how many; 0 makes none.
            watch: is told how many bytes are copied.

        Raises:
            NameRefused: the tenant can't be called that.
            AgentUnknown: there is no such template.
            TemplateTouched: somebody has changed it or has it open.
            WorkbookError: a file can't be written.

        """
        check_tenant(tenant)
        drafts = [Draft(self._site, self._site.new_name(tenant)) for _ in range(count)]
        return self._clone(Asked("clone", watch=watch), template, Wish(tenant), drafts)

    def new(self, name: str, template: str, wish: Wish) -> AgentRecord:
        """Make an agent of a given name from a template.

        Raises:
            TorporError: as for `clone`; and NameTaken, NameRefused.

        """
        self._site.free_name(name)
        return self._clone(Asked("clone"), template, wish, [Draft(self._site, name)])[0]

    def _clone(self, asked: Asked, template: str, wish: Wish, drafts: Sequence[Draft]) -> list[AgentRecord]:
        site = self._site
        record = site.ledger.templates.get(template)
        check_untouched(site, record)
        if not drafts:
            return []
        wish = wish.before(record.suspend_after_s, record.freeze_after_s)
        with making(site, drafts) as files:
            made = _copy_all(site, record, drafts, asked.watch)
            check_untouched(site, record)
            sync_folder(site.absolute(AGENTS))
            records = [draft.record(site, copy, wish, record.name) for draft, copy in zip(drafts, made, strict=True)]
            notes = [site.note(asked, clone.id, clone.bytes, template=record.name) for clone in records]
            added = files.add(records, notes)
            point("clone.committed")
        site.introduce(added)
        return added

    def drop(self, name: str) -> TemplateRecord:
        """Remove a template; its clones live on, and its name is not used again.

        Raises:
            AgentUnknown: there is none.
            AgentBusy: somebody has its file.

        """
        site = self._site
        record = site.ledger.templates.get(name)
        with holding(site, record.file, record.name) as held:
            left = [site.leftover(file_place(record.file), record.id, record.file)]
            site.ledger.templates.drop(record, site.note(Asked("drop"), record.id, record.bytes), left=left)
            point("move.committed")
            sweep(site, left, held)
            point("move.removed")
        return record


def check_untouched(site: Site, record: TemplateRecord) -> None:
    """Refuse a template that isn't what it was when it was made.

    Raises:
        TemplateTouched: somebody has it open, wrote to it, or put something else in its place.

    """
    path = site.absolute(record.file)
    if not os.path.lexists(path):
        raise TemplateTouched(name=record.name, reason=f"{path} is gone")
    for tail in _BESIDE:
        if os.path.lexists(path + tail):
            raise TemplateTouched(name=record.name, reason=f"somebody has it open, or had: there is {path}{tail}")
    found = _stat(path)
    if not stat.S_ISREG(found.st_mode) or not is_sealed(path):
        raise TemplateTouched(name=record.name, reason=f"the mode of {path} lets it be written")
    if found.st_nlink != 1:
        raise TemplateTouched(name=record.name, reason=f"{path} has {found.st_nlink} names")
    if found.st_size != record.bytes:
        raise TemplateTouched(name=record.name, reason=f"{path} was written to")
    seen = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    if seen != (record.inode, record.mtime_ns, record.ctime_ns) and digest_of(path) != record.digest:
        # A home that was copied or restored has other inodes and other times: then the bytes decide. The inode of a
        # file that was removed is soon another's, and `mtime_ns` is what anybody says; `ctime_ns` only the system sets.
        raise TemplateTouched(name=record.name, reason=f"{path} was written to, or is another file")


def _copy_all(site: Site, template: TemplateRecord, drafts: Sequence[Draft], watch: Watch | None) -> list[Made]:
    """Make the files of clones, several at a time: most of the time is waiting for the disk."""
    made: list[Made] = []

    def keep(copy: Made) -> None:
        made.append(copy)
        if watch is not None:
            watch(Step("copy", len(made) * template.bytes, len(drafts) * template.bytes))

    if len(drafts) == 1:  # a pool of threads costs a millisecond
        keep(_copy(site, template, drafts[0]))
        return made
    with ThreadPoolExecutor(min(AT_ONCE, len(drafts))) as pool:
        copies = [pool.submit(_copy, site, template, draft) for draft in drafts]
        try:
            for copy in copies:
                keep(copy.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # nobody makes more of what is to be removed
            raise
    return made


def _copy(site: Site, template: TemplateRecord, draft: Draft) -> Made:
    """Make the file of one clone; only the folder's entry is not on the disk yet."""
    path = site.absolute(draft.draft)
    copy_file(site.absolute(template.file), path, sync=False)
    made = adopt(path, agent=draft.id, parent=template.id, parent_seq=template.seq, how="clone", clock=site.clock)
    place(path, site.absolute(draft.file), sync=False)
    point("clone.copied")
    return made


def _stat(path: str) -> os.stat_result:
    with said_of(path):
        return os.lstat(path)
