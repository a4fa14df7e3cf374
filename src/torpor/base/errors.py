"""The whole error tree.

::

    TorporError
    ├── InternalError            a bug of ours; stops the run
    ├── UsageError               the call was wrong; nothing was touched
    │   ├── PathRefused          a path that no volume takes
    │   ├── VolumeUnknown        no such volume
    │   ├── EventRefused         an event's kind, span, key or body that can't be recorded
    │   ├── EventTooLarge        a body over the limit
    │   ├── MemoryRefused        a memory entry that can't be kept
    │   ├── SpendRefused         an amount or account that can't be booked
    │   ├── NotRecordable        an argument or result that a journal can't hold
    │   ├── NotInRun             something that only a run can do, done outside one
    │   ├── HandlerUnknown       a message that the agent has no handler for
    │   ├── SettingRefused       a setting of the wrong type
    │   ├── DurationRefused      a duration that is none
    │   ├── StepRefused          a function that can't be a step or an effect
    │   ├── ContentRefused       content or a mode that a file can't have
    │   ├── CancelRefused        a run that can't be cancelled
    │   ├── ModelUnknown         a name that means no model
    │   ├── SettleRefused        a verdict on an effect that isn't waiting for one
    │   ├── PointRefused         an event that can't be gone back to, or forked at
    │   ├── NameRefused          a name that no agent, template or tenant can have
    │   ├── MoveRefused          a move that the lifecycle doesn't have
    │   ├── StoreRefused         an address that means no store
    │   ├── HomeRefused          a folder or setting that no home can have
    │   ├── DurabilityRefused    a class of durability that this workbook can't give
    │   └── WindowRefused        a length of time that the inspector can't look on for
    ├── WorkbookError            the file
    │   ├── WorkbookMissing      no file there
    │   ├── WorkbookOwned        another owner holds it
    │   ├── WorkbookClosed       used after close
    │   ├── WorkbookReadOnly     a write through a read-only workbook, or in a place that can't be written
    │   ├── NotAWorkbook         a file of something else
    │   ├── NewerFormat          written by a later Torpor
    │   ├── OlderFormat          written by an earlier Torpor, and not migrated yet
    │   ├── WorkbookDamaged      the bytes contradict themselves
    │   ├── StorageFull          no room on the device
    │   ├── StorageFailed        the device or the file system refused
    │   ├── TransactionLost      the transaction was rolled back under its user
    │   ├── TransactionEntangled another task wrote into an open transaction
    │   ├── KeyReused            one idempotency key, two different facts
    │   ├── FileMissing          no such file in the volume
    │   ├── FileInTheWay         a file where the path needs a folder, or the reverse
    │   ├── QuotaExceeded        the volume is full
    │   ├── FileTaken            a file is where a new workbook is to be
    │   ├── NotRecovered         after a power cut, a log has transactions that the file may lack
    │   └── ReplayRefused        records that don't follow where the file stands
    ├── RunError                 one handling of a message
    │   ├── Nondeterminism       a replay that asked for something else than before
    │   ├── StepFailed           a step raised, after its retries
    │   ├── UnknownOutcome       an effect that may or may not have happened
    │   ├── EffectRefused        raised by an effect: the world said no, nothing happened
    │   └── RunCancelled         the run was cancelled
    ├── SourceError              one feed; never loses the others
    │   ├── SourceMissing        no such file or page
    │   ├── SourceUnreachable    the host didn't answer
    │   ├── SourceRefused        an address we will not call
    │   ├── SourceTooLarge       over the byte limit
    │   └── SourceMalformed      bytes that are no feed, with line and column
    ├── ModelError               a model
    │   ├── ModelUnavailable     it didn't answer; may be tried again
    │   ├── ModelRefused         it said no; trying again won't help
    │   └── ModelAnswerUnusable  it answered, but not in a form that passes the membrane
    ├── HomeError                agents and where they are
    │   ├── AgentUnknown         no such agent or template
    │   ├── TemplateMeant        a template's name where an agent's is needed
    │   ├── NameTaken            the name is, or was, somebody's
    │   ├── AgentBusy            it is in use, so it can't be moved
    │   ├── AgentAsleep          it must be fetched or woken first
    │   ├── AgentSwapped         the file there is not the agent's
    │   ├── MoveConflict         somebody else moved it meanwhile
    │   ├── CopyMissing          a cold or archived copy is not where it was put
    │   ├── CopyDamaged          a copy is not what was put there
    │   ├── StoreUnreachable     a store doesn't answer
    │   ├── TemplateTouched      a template that somebody has opened or changed
    │   ├── ImportRefused        a file that can't be taken in
    │   ├── RestoreRefused       an agent that can't be restored as asked
    │   ├── LedgerDamaged        the ledger can't be read
    │   └── LedgerFailed         the ledger can't be written
    ├── HeartbeatError           the node's write-ahead log
    │   ├── HeartbeatFailed      it can't keep anything any more
    │   ├── HeartbeatOwned       another process holds it
    │   ├── HeartbeatStalled     the device doesn't answer
    │   ├── HeartbeatDamaged     its bytes contradict themselves
    │   ├── HeartbeatReleased    records that are no longer kept
    │   ├── HeartbeatClosed      used after close, or in a forked child
    │   ├── HeartbeatFull        no room for it just now
    │   ├── AgentQuarantined     an agent whose records could not all be applied
    │   └── RecordRefused        a record that the log can't take
    ├── ObjectError              what is in a store
    │   ├── ObjectMissing        no such object
    │   └── ObjectCut            an object that ends too early
    ├── ReplicaError             the heartbeat's copy off the box
    │   ├── HeartbeatFenced      another node has taken over
    │   ├── ReplicaTaken         it is another home's
    │   ├── ReplicaDamaged       its bytes contradict themselves
    │   ├── ReplicaLacks         it doesn't have what was asked for
    │   └── ReplicaAhead         it has more than the home
    ├── LitestreamError          Litestream, where one uses it
    │   ├── LitestreamMissing    it is not installed
    │   ├── LitestreamFailed     it ended, or could not do what it was asked
    │   └── LitestreamIdle       it doesn't replicate that workbook
    ├── AccessError              who may do what
    │   ├── AccessDenied         somebody who is known may not do that
    │   ├── CredentialMissing    nobody said who they are
    │   ├── CredentialRefused    a token or peer that isn't accepted
    │   ├── AttemptsExceeded     too many attempts
    │   ├── JoinRefused          a join token that isn't accepted
    │   ├── ScopeRefused         a token that can't be issued as asked
    │   ├── TokenUnknown         no such token
    │   ├── AccessDamaged        the key, the file of tokens or the audit contradict themselves
    │   ├── AccessFailed         they can't be read or written
    │   └── ExtraMissing         a package that only nodes need is not installed
    └── DeliveryFailed           the briefing could not be put where it belongs

Every class has a stable `code`, typed fields, a sentence (`says`) and a next step (`hint`), both made from the fields.
Policy reads fields and classes, never text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(kw_only_default=True, eq_default=False)
class TorporError(Exception):
    """Whatever Torpor raises on purpose.

    A class's annotations are its fields, given by name. (As with dataclasses, which would take eight milliseconds of
    every start to make fifty classes.)
    """

    code: ClassVar[str] = "TOR-000"
    says: ClassVar[str] = "Torpor failed."
    hint: ClassVar[str] = "Run `torpor --help`."
    retryable: ClassVar[bool] = True
    """Whether doing the same again may go better."""
    names: ClassVar[tuple[str, ...]] = ()
    """The fields' names, inherited first."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.names = (*cls.names, *vars(cls).get("__annotations__", {}))

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        given = {name: getattr(type(self), name) for name in self.names if hasattr(type(self), name)} | fields
        if given.keys() != set(self.names):
            takes = ", ".join(self.names) or "nothing"
            raise TypeError(f"{type(self).__name__} takes {takes}, not {', '.join(fields)}")
        vars(self).update(given)

    @property
    def message(self) -> str:
        """What happened, in one sentence."""
        return self.says.format_map(vars(self))

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return self.hint.format_map(vars(self))

    def __str__(self) -> str:
        return f"{self.message} {self.next_step} [{self.code}]"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={vars(self)[name]!r}' for name in self.names)})"

    def __reduce__(self) -> tuple[Callable[[], TorporError], tuple[()]]:
        return functools.partial(type(self), **{name: vars(self)[name] for name in self.names}), ()


class InternalError(TorporError):
    """A bug of ours: a promise that the code makes to itself was broken."""

    code = "TOR-001"
    says = "Torpor broke a promise to itself: {promise}."
    hint = "Nothing more was written; please report this with the workbook's `torpor verify`."
    promise: str


# --- the call was wrong -------------------------------------------------------------------------------------------


class UsageError(TorporError):
    """The call was wrong; nothing was touched."""

    retryable = False


class PathRefused(UsageError):
    """A path that no volume takes."""

    code = "TOR-101"
    says = "The path {path!r} is refused: {reason}."
    hint = "Use an absolute, normalised path such as /notes/today.txt."
    path: str
    reason: str


class VolumeUnknown(UsageError):
    """No such volume."""

    code = "TOR-102"
    says = "There is no volume {volume!r}."
    hint = "The volumes are workspace, memory and tmp."
    volume: str


class EventRefused(UsageError):
    """An event's kind, span, key or body that can't be recorded."""

    code = "TOR-103"
    says = "The event's {part} is refused: {reason}."
    hint = "Kinds are dotted lower-case words (note.added); bodies are JSON objects."
    part: str
    reason: str


class EventTooLarge(UsageError):
    """A body over the limit."""

    code = "TOR-104"
    says = "The body of the {kind} event takes {size:,} bytes; the limit is {limit:,}."
    hint = "Write the value to a file of the workspace or memory volume and put its path into the event."
    kind: str
    size: int
    limit: int


class MemoryRefused(UsageError):
    """A memory entry or a search that can't be taken."""

    code = "TOR-105"
    says = "The memory's {part} is refused: {reason}."
    hint = "See `torpor memory --help` and Memory's docstring for what it takes."
    part: str
    reason: str


class SpendRefused(UsageError):
    """An amount or account that can't be booked."""

    code = "TOR-106"
    says = "The spend of {amount!r} {unit} from {source!r} to {target!r} is refused: {reason}."
    hint = "Book a positive whole number of micro-units between two different accounts."
    amount: int
    unit: str
    source: str
    target: str
    reason: str


class NotRecordable(UsageError):
    """An argument or result that a journal can't hold."""

    code = "TOR-107"
    says = "{where} of {name} can't be recorded: {reason}."
    hint = "Pass plain data: numbers, text, lists, dicts, dataclasses, msgspec structs or pydantic models."
    name: str
    where: str
    reason: str


class NotInRun(UsageError):
    """Something that only a run can do, done outside one or in a task that the run doesn't know."""

    code = "TOR-108"
    says = "{what} was used {where}."
    hint = "Call it inside an agent's handler; use torpor.gather() to do several things at once."
    what: str
    where: str


class HandlerUnknown(UsageError):
    """A message that the agent has no handler for."""

    code = "TOR-109"
    says = "The agent {agent} has no handler for {asked!r}."
    hint = "It handles: {known}."
    agent: str
    asked: str
    known: str


class SettingRefused(UsageError):
    """A setting that the agent doesn't have, or a value of the wrong type."""

    code = "TOR-110"
    says = "The setting {name} of {agent} is refused: {reason}."
    hint = "Give it a value of the type that the agent declares."
    agent: str
    name: str
    reason: str


class SettleRefused(UsageError):
    """A verdict on an effect that isn't waiting for one."""

    code = "TOR-111"
    says = "The effect {key!r} can't be settled: {reason}."
    hint = "`torpor runs FILE` lists the effects that wait for a verdict."
    key: str
    reason: str


class ContentRefused(UsageError):
    """Content or a mode that a file can't have."""

    code = "TOR-112"
    says = "What was to be written is refused: {reason}."
    hint = "Files hold bytes, and permission bits from 0 to 0o777: encode text with .encode()."
    reason: str


class DurationRefused(UsageError):
    """A duration that is none."""

    code = "TOR-113"
    says = "{duration!r} is not a duration."
    hint = 'Write a positive number of seconds, or a number with ms, s, m, h or d: "20s".'
    duration: str


class StepRefused(UsageError):
    """A function that can't be a step, an effect or a handler."""

    code = "TOR-114"
    says = "{name} can't be {role}: {reason}."
    hint = "Write `async def`, with plain named arguments; an effect takes a keyword argument `key`."
    name: str
    role: str
    reason: str


class CancelRefused(UsageError):
    """A run that can't be cancelled: unknown, or over."""

    code = "TOR-116"
    says = "Run {run} can't be cancelled: {reason}."
    hint = "`torpor runs FILE` lists the runs and their states."
    run: str
    reason: str


class ModelUnknown(UsageError):
    """A name that means no model."""

    code = "TOR-115"
    says = "There is no model {name!r}."
    hint = "Say `local`, or `openai:NAME` for a model of an OpenAI-compatible server."
    name: str


class PointRefused(UsageError):
    """An event that a workbook can't be put back to, or a fork begin at."""

    code = "TOR-117"
    says = "{path} can't go to event {seq}: {reason}."
    hint = "`torpor events` lists the events; the first that can be gone back to is {first}."
    path: str
    seq: int
    first: int
    reason: str


class NameRefused(UsageError):
    """A name that no agent, template or tenant can have."""

    code = "TOR-118"
    says = "{name!r:.120} can't name {what}: {reason}."
    hint = "Use 1 to 100 of a-z, A-Z, 0-9, hyphen and underscore, beginning with a letter or a digit."
    name: str
    what: str
    reason: str


class MoveRefused(UsageError):
    """A move that the lifecycle doesn't have."""

    code = "TOR-119"
    says = "{name} is {state}, and from there nothing leads to {asked}."
    hint = "From {state} it can become: {legal}."
    name: str
    state: str
    asked: str
    legal: str


class StoreRefused(UsageError):
    """An address that means no store, a key that none has, or a store that can't do what is needed."""

    code = "TOR-120"
    says = "{url!r} is no store: {reason}."
    hint = "Give an address such as file:///srv/cold, s3://bucket/folder, or memory://name within one process."
    url: str
    reason: str


class HomeRefused(UsageError):
    """A folder that no home can be in, or a setting that it can't have."""

    code = "TOR-121"
    says = "{path} can't be a home: {reason}."
    hint = "Give a folder with --home or TORPOR_HOME."
    path: str
    reason: str


class DurabilityRefused(UsageError):
    """A class of durability that this workbook can't give."""

    code = "TOR-122"
    says = "{path} can't commit as {asked!r:.80}: {reason}."
    hint = "Ask for file, heartbeat or replicated; the last needs a node that has a replica."
    path: str
    asked: str
    reason: str


class WindowRefused(UsageError):
    """A length of time that the inspector can't look on for."""

    code = "TOR-925"
    says = "A window of {window_s:g} s can't be sampled."
    hint = "Take more than 0 and at most {limit_s:g} seconds."
    window_s: float
    limit_s: float


# --- the file -----------------------------------------------------------------------------------------------------


class WorkbookError(TorporError):
    """Something is wrong with the workbook."""


class WorkbookMissing(WorkbookError):
    """There is no workbook at the path."""

    code = "TOR-201"
    says = "There is no workbook at {path}: {reason}."
    hint = "Check the path; `Workbook.open` creates a workbook where there is none, unless it opens read-only."
    path: str
    reason: str


class WorkbookOwned(WorkbookError):
    """Another owner holds the workbook for writing."""

    code = "TOR-202"
    says = "{path} is held for writing by process {pid} ({command}), since {since}."
    hint = "Close it there first, or open it here with readonly=True."
    path: str
    pid: int
    command: str
    since: str


class WorkbookClosed(WorkbookError):
    """The workbook was used after it was closed."""

    code = "TOR-203"
    says = "{path} was closed before this call."
    hint = "Keep the work inside the `with Workbook.open(...)` block."
    path: str


class WorkbookReadOnly(WorkbookError):
    """A write through a read-only workbook, or in a place that can't be written."""

    code = "TOR-204"
    says = "{path} can't be written: {reason}."
    hint = "Open it without readonly=True, from a folder that you may write."
    path: str
    reason: str


class NotAWorkbook(WorkbookError):
    """The file is something else."""

    code = "TOR-205"
    says = "{path} is not a workbook: {reason}."
    hint = "Nothing was changed. Check the path, or restore the workbook from its last copy."
    path: str
    reason: str


class NewerFormat(WorkbookError):
    """The file was written by a later Torpor."""

    code = "TOR-206"
    says = "{path} has format {found}; this Torpor knows formats up to {known}."
    hint = "Nothing was read or changed. Upgrade Torpor: pip install -U torpor."
    path: str
    found: int
    known: int


class WorkbookDamaged(WorkbookError):
    """The bytes of the file contradict themselves."""

    code = "TOR-207"
    says = "{path} is damaged: {reason}."
    hint = "Stop writing to it, keep a copy, and run `torpor verify` on it for the whole list."
    path: str
    reason: str


class StorageFull(WorkbookError):
    """The device has no room; the transaction was undone, everything acknowledged before it is kept."""

    code = "TOR-208"
    says = "No room left to write {path}: {reason}. The transaction was undone."
    hint = "Free some space and try again; what was acknowledged before is safe."
    path: str
    reason: str


class StorageFailed(WorkbookError):
    """The device or the file system refused an operation."""

    code = "TOR-209"
    says = "The storage under {path} failed: {reason}. The transaction was undone."
    hint = "Look at the device and the system's log before writing again."
    path: str
    reason: str


class TransactionLost(WorkbookError):
    """The transaction was rolled back under its user, by an earlier error inside it."""

    code = "TOR-210"
    says = "The transaction on {path} was already rolled back by an earlier error; nothing of it is kept."
    hint = "Let the earlier error leave the `with book.transaction()` block, then start again."
    path: str


class TransactionEntangled(WorkbookError):
    """Another task wrote while a transaction was open."""

    code = "TOR-211"
    says = "Another task used {path} while a transaction was open on it."
    hint = "Don't await inside `with book.transaction()`: gather the facts first, then write them."
    path: str


class KeyReused(WorkbookError):
    """One idempotency key was used for two different facts."""

    code = "TOR-212"
    says = "The key {key!r} already belongs to {owner}; this is something else."
    hint = "Derive the key from what makes the fact unique; the first one is kept unchanged."
    key: str
    owner: str


class FileMissing(WorkbookError):
    """There is no such file in the volume."""

    code = "TOR-213"
    says = "There is no {path} in the {volume} volume."
    hint = "`torpor files ls FILE {volume}:/` lists what is there."
    volume: str
    path: str


class FileInTheWay(WorkbookError):
    """A file stands where the path needs a folder, or the reverse."""

    code = "TOR-214"
    says = "{path} can't be put into the {volume} volume: {other} is in the way."
    hint = "Choose another path, or move {other} first."
    volume: str
    path: str
    other: str


class QuotaExceeded(WorkbookError):
    """The volume would hold more than its quota."""

    code = "TOR-215"
    says = "The {volume} volume holds {used:,} of {quota:,} bytes; {asked:,} more don't fit."
    hint = "Delete something, or raise the quota with `book.volumes.set_quota`."
    volume: str
    used: int
    quota: int
    asked: int


class OlderFormat(WorkbookError):
    """The workbook was written by an earlier Torpor, and only an owner may migrate it."""

    code = "TOR-217"
    says = "{path} has format {found}; this is format {known}, and a reader can't change it."
    hint = "Open it once for writing: that brings it up to date, in one transaction."
    path: str
    found: int
    known: int


class FileTaken(WorkbookError):
    """A file is already where a new workbook is to be; it is left as it is."""

    code = "TOR-216"
    says = "{path} is there already."
    hint = "Give another name; nothing is ever overwritten."
    path: str


class NotRecovered(WorkbookError):
    """The machine was restarted while a node had the workbook open: the node's log may have what the file lacks."""

    retryable = False
    code = "TOR-218"
    says = "{path} was open in {home} when the machine went down: the heartbeat there may have what the file lacks."
    hint = "Open that home once, such as by `torpor ls --home {home}`: it is recovered then. Nothing was changed."
    path: str
    home: str


class ReplayRefused(WorkbookError):
    """Records that don't follow where the workbook stands."""

    retryable = False
    code = "TOR-219"
    says = "{path} can't take up transaction {found:,}: transaction {expected:,} comes before it."
    hint = "Give the records from {expected:,} on, or a snapshot that has them. Nothing was changed."
    path: str
    expected: int
    found: int


# --- runs ---------------------------------------------------------------------------------------------------------


class RunError(TorporError):
    """Something is wrong with one run."""


class Nondeterminism(RunError):
    """A replay asked for something else than the journal has."""

    code = "TOR-301"
    says = "Run {run}, step {position}: the journal has {recorded}; the code now asks for {asked}."
    hint = "A handler must do the same when replayed: put clocks, chance and reads of the world into steps."
    run: str
    position: str
    recorded: str
    asked: str


class StepFailed(RunError):
    """A step raised, after its retries; the same error comes again at every replay."""

    code = "TOR-302"
    says = "{name} failed after {attempts} attempt(s): {kind}: {detail}"
    hint = "Catch StepFailed in the handler to go on without it; the journal keeps every attempt."
    name: str
    kind: str
    detail: str
    attempts: int


class UnknownOutcome(RunError):
    """An effect may or may not have happened, and nobody but you can tell."""

    code = "TOR-303"
    says = "Whether {name} with key {key!r} happened is not known: {reason}. The run is parked."
    hint = "Look at the world, then say so: `torpor settle FILE {key} --happened` or `--did-not-happen`."
    run: str
    name: str
    key: str
    reason: str


class EffectRefused(RunError):
    """For effects to raise: the world said no, and nothing happened."""

    code = "TOR-304"
    says = "The world refused: {reason}."
    hint = "Nothing happened outside; the effect is recorded as failed."
    reason: str


class RunCancelled(RunError):
    """The run was cancelled."""

    code = "TOR-305"
    says = "Run {run} was cancelled: {reason}."
    hint = "Its finished steps stay in the journal; send the message again to start afresh."
    run: str
    reason: str


# --- sources ------------------------------------------------------------------------------------------------------


class SourceError(TorporError):
    """One source could not be read; it never loses the others."""

    source: str


class SourceMissing(SourceError):
    """There is no such file or page."""

    code = "TOR-401"
    says = "{source} can't be read: {reason}."
    hint = "Check the path or address."
    reason: str


class SourceUnreachable(SourceError):
    """The host didn't answer in time, or broke off."""

    code = "TOR-402"
    says = "{source} didn't answer: {reason}."
    hint = "It is asked again at the next briefing."
    reason: str


class SourceRefused(SourceError):
    """An address that we will not call."""

    code = "TOR-403"
    says = "{source} is refused: {reason}."
    hint = "Agents may call public http(s) addresses only; type the address yourself to allow it."
    reason: str


class SourceTooLarge(SourceError):
    """More bytes than the limit."""

    code = "TOR-404"
    says = "{source} has more than {limit:,} bytes."
    hint = "Ask for a shorter feed, or one page of it."
    limit: int


class SourceMalformed(SourceError):
    """The bytes are no feed."""

    code = "TOR-405"
    says = "{source} is no readable feed at line {line}, column {column}: {reason}."
    hint = "RSS 2.0, Atom and JSON Feed are read; tell the feed's owner."
    line: int
    column: int
    reason: str


# --- models -------------------------------------------------------------------------------------------------------


class ModelError(TorporError):
    """A model could not do what it was asked."""

    model: str
    reason: str


class ModelUnavailable(ModelError):
    """The model didn't answer, or is busy; trying again may help, after `retry_after_s` seconds if it said so."""

    code = "TOR-501"
    says = "The model {model} is unavailable: {reason}."
    hint = "Try again later, or use --model local, which needs no network."
    retry_after_s: float | None = None


class ModelRefused(ModelError):
    """The model said no; trying again won't help."""

    retryable = False
    code = "TOR-502"
    says = "The model {model} refused: {reason}."
    hint = "Check the key, the address and the model's name."


class ModelAnswerUnusable(ModelError):
    """The model answered, but not in a form that passes the membrane."""

    code = "TOR-503"
    says = "The answer of {model} can't be used: {reason}."
    hint = "Ask another model, or use --model local."


class HomeError(TorporError):
    """Something is wrong with an agent as a whole, or with where agents are kept."""


class AgentUnknown(HomeError):
    """There is no agent or template of that name."""

    retryable = False
    code = "TOR-701"
    says = "There is no {what} {name!r:.120} in {home}."
    hint = "`torpor ls` lists them, `torpor new` makes an agent; --home names another home, and ./NAME a file."
    name: str
    what: str
    home: str


class TemplateMeant(HomeError):
    """The name is a template's, where an agent's is needed."""

    retryable = False
    code = "TOR-714"
    says = "{name} is a template, not an agent."
    hint = "`torpor clone {name} --tenant NAME` makes agents of it, and `torpor show {name}` shows it."
    name: str


class NameTaken(HomeError):
    """The name is, or once was, somebody's: names are never used again."""

    retryable = False
    code = "TOR-702"
    says = "The name {name!r} is taken by {owner}."
    hint = "Choose another; a name is never used twice, and upper and lower case count as the same."
    name: str
    owner: str


class AgentBusy(HomeError):
    """The agent is in use, so it can't be moved."""

    code = "TOR-703"
    says = "{name} is in use: {reason}."
    hint = "Try again when it is done; nothing was changed."
    name: str
    reason: str


class AgentAsleep(HomeError):
    """The agent's file is not here."""

    code = "TOR-704"
    says = "{name} is {state}, and its file is not here."
    hint = "`torpor wake {name}` wakes it; `torpor prefetch {name}` brings a frozen agent's file without waking it."
    name: str
    state: str


class AgentSwapped(HomeError):
    """The file in the agent's place is another agent's, or an older one of its own."""

    retryable = False
    code = "TOR-705"
    says = "{path} is not {name} as it was left: {reason}."
    hint = "Put the right file back; the other was left where it is. `torpor show {name}` says what is expected."
    name: str
    path: str
    reason: str


class MoveConflict(HomeError):
    """Somebody else moved the agent meanwhile."""

    code = "TOR-706"
    says = "{name} was moved by somebody else meanwhile: it is {state} now."
    hint = "Look at it with `torpor show {name}` and ask again if you still want to."
    name: str
    state: str


class CopyMissing(HomeError):
    """A cold or archived copy is not where it was put."""

    code = "TOR-707"
    says = "The copy of {name} is not at {place}: {reason}."
    hint = "Put it back there: nothing was changed, and no agent was made without it."
    name: str
    place: str
    reason: str


class CopyDamaged(HomeError):
    """A copy is not what was put there."""

    code = "TOR-708"
    says = "The copy of {name} at {place} is damaged: {reason}."
    hint = "Restore it from a backup; nothing was changed, and no agent was made from it."
    name: str
    place: str
    reason: str


class StoreUnreachable(HomeError):
    """A store doesn't answer, or refuses."""

    code = "TOR-709"
    says = "The store {place} can't be used: {reason}."
    hint = "Check the address, the key and the network, then ask again: nothing was lost."
    place: str
    reason: str


class TemplateTouched(HomeError):
    """A template that somebody has opened, written to or replaced."""

    retryable = False
    code = "TOR-710"
    says = "The template {name} can't be cloned: {reason}."
    hint = "A template is read-only for ever: make a new one from an agent with `torpor template create`."
    name: str
    reason: str


class ImportRefused(HomeError):
    """A file that can't be taken in as an agent."""

    retryable = False
    code = "TOR-711"
    says = "{path} can't be imported: {reason}."
    hint = "Give a file that `torpor export` has made, or a whole workbook that nobody has open."
    path: str
    reason: str


class LedgerDamaged(HomeError):
    """The ledger is no ledger, is of a newer Torpor, or contradicts itself."""

    retryable = False
    code = "TOR-712"
    says = "The ledger {path} can't be used: {reason}."
    hint = "It was left as it is. Restore it from a backup; the agents' files are whole without it."
    path: str
    reason: str


class LedgerFailed(HomeError):
    """The ledger can't be written or read just now."""

    code = "TOR-713"
    says = "The ledger {path} can't be written: {reason}."
    hint = "Free some space or wait for whoever holds it, and try again: nothing was changed."
    path: str
    reason: str


class RestoreRefused(HomeError):
    """An agent that can't be restored as asked; nothing was changed."""

    retryable = False
    code = "TOR-715"
    says = "{name} can't be restored: {reason}."
    hint = "{advice} Nothing was changed."
    name: str
    reason: str
    advice: str


class DeliveryFailed(TorporError):
    """The briefing could not be put where it belongs; nothing half-written is left."""

    code = "TOR-601"
    says = "The briefing can't be delivered to {path}: {reason}."
    hint = "Make the folder writable or choose another --out, then run the same command: nothing is lost."
    path: str
    reason: str


# --- heartbeat: the log -------------------------------------------------------------------------------------------


class HeartbeatError(TorporError):
    """Something is wrong with the node's write-ahead log."""

    path: str


class HeartbeatFailed(HeartbeatError):
    """The log can't keep anything any more: what was not acknowledged may or may not be there after a power loss."""

    retryable = False
    code = "TOR-801"
    says = "The heartbeat {path} has failed: {reason}. What was not acknowledged may or may not survive a power loss."
    hint = "Look at the device and the system's log, free some space if it is full, then start the node again."
    reason: str


class HeartbeatOwned(HeartbeatError):
    """Another process, or another part of this one, holds the heartbeat."""

    code = "TOR-802"
    says = "The heartbeat {path} is held by process {pid} ({command}) since {since}."
    hint = "One node at a time runs on a home: stop the other one, or ask it to do this."
    pid: int
    command: str
    since: str


class HeartbeatStalled(HeartbeatError):
    """The device has not answered in time: the commits that wait may still become durable."""

    code = "TOR-803"
    says = "A sync of the heartbeat {path} has taken {seconds:.1f} s (limit {limit:g} s): {waiting:,} records wait."
    hint = "They may still become durable. Look at the device and its load before writing more."
    seconds: float
    limit: float
    waiting: int


class HeartbeatDamaged(HeartbeatError):
    """The bytes of a segment contradict themselves, or are another home's, or a newer Torpor's."""

    retryable = False
    code = "TOR-804"
    says = "The heartbeat {path} is damaged at byte {offset:,}: {reason}."
    hint = "It was left as it is: keep a copy. The agents' workbooks are whole without it, up to their last checkpoint."
    offset: int
    reason: str


class HeartbeatReleased(HeartbeatError):
    """Records were asked for that are no longer kept."""

    retryable = False
    code = "TOR-805"
    says = "The heartbeat {path} no longer has record {asked:,}: it begins with {first:,}."
    hint = "Go on from record {first:,}, with a new snapshot of each agent that had records before it."
    asked: int
    first: int


class HeartbeatClosed(HeartbeatError):
    """The log was used after it was closed, or in a forked child."""

    retryable = False
    code = "TOR-806"
    says = "The heartbeat {path} is closed here."
    hint = "Open it again; a forked child never uses what its parent has open."


class AgentQuarantined(HeartbeatError):
    """An agent's records could not all be applied to its file after a death, so nobody may open it."""

    retryable = False
    code = "TOR-841"
    says = "The agent {name} is quarantined: {reason}."
    hint = "`torpor restore {name}` brings it back from the replica; its file and its records were left as they are."
    name: str
    reason: str


class RecordRefused(HeartbeatError):
    """A record that the log can't take."""

    retryable = False
    code = "TOR-807"
    says = "The heartbeat {path} can't take a record of {size:,} bytes; the limit is {limit:,}."
    hint = "Keep large content in several transactions."
    size: int
    limit: int


class HeartbeatFull(HeartbeatError):
    """There is no room for the log's next segment: commits wait, and may become durable once there is."""

    code = "TOR-808"
    says = "No room left for the heartbeat {path}: {reason}. Nothing is acknowledged until there is."
    hint = "Free some space: what was committed meanwhile becomes durable with the next commit that is acknowledged."
    reason: str


# --- stores ---


class ObjectError(TorporError):
    """An object in a store is not as it should be."""

    retryable = False
    place: str


class ObjectMissing(ObjectError):
    """There is no such object in the store."""

    code = "TOR-821"
    says = "There is no object at {place}."
    hint = "Look whether it was moved or removed; nothing was changed."


class ObjectCut(ObjectError):
    """An object ends before what was to be read of it."""

    code = "TOR-822"
    says = "The object at {place} has {size:,} bytes, and {wanted:,} were expected."
    hint = "Restore it from a backup of the store; nothing was changed."
    size: int
    wanted: int


# --- the replica ---


class ReplicaError(TorporError):
    """Something is wrong with the heartbeat's copy in an object store."""

    place: str


class HeartbeatFenced(ReplicaError):
    """Another node writes this home's replica now, so this one acknowledges nothing any more."""

    retryable = False
    code = "TOR-811"
    says = "Another node has taken over the replica {place}: {reason}."
    hint = "Stop this node. What it had not shipped is in its home's heartbeat folder: keep that before you remove it."
    reason: str


class ReplicaTaken(ReplicaError):
    """The replica is another home's."""

    retryable = False
    code = "TOR-812"
    says = "The replica {place} is that of the home {home}, and this is {own}."
    hint = "Give each home an address of its own."
    home: str
    own: str


class ReplicaDamaged(ReplicaError):
    """Bytes of the replica contradict themselves, or are missing."""

    retryable = False
    code = "TOR-813"
    says = "The replica is damaged at {place}, byte {offset:,}: {reason}."
    hint = "Nothing was made from it. Other agents, and other moments of this one, may well be whole: try --at."
    offset: int
    reason: str


class ReplicaLacks(ReplicaError):
    """The replica doesn't have the agent, or not at that moment."""

    retryable = False
    code = "TOR-814"
    says = "The replica {place} can't give {agent}: {reason}."
    hint = "Ask for another moment, or look with `torpor heartbeat status` what there is."
    agent: str
    reason: str


class ReplicaAhead(ReplicaError):
    """The replica has records that the home's log never had: the home is an older copy of itself."""

    retryable = False
    code = "TOR-815"
    says = "The replica {place} has records up to {replica:,}, and this home's log ends at {log:,}."
    hint = "This home is an older copy of itself: bring it up to date with `torpor restore --all` into a new home."
    replica: int
    log: int


# --- litestream ---------------------------------------------------------------------------------------------------


class LitestreamError(TorporError):
    """Something is wrong with Litestream, or with what it was asked; the workbook is as it was."""


class LitestreamMissing(LitestreamError):
    """There is no Litestream on this machine."""

    retryable = False
    code = "TOR-831"
    says = "There is no Litestream to run: {reason}."
    hint = (
        "Install it from https://litestream.io/install, or unpack the npm package @flydotio/litestream-linux-x64, and"
        " put `litestream` on PATH or its path into TORPOR_LITESTREAM."
    )
    reason: str


class LitestreamFailed(LitestreamError):
    """Litestream ended by itself, or could not do what it was asked."""

    code = "TOR-832"
    says = "Litestream could not {what}: {reason}."
    hint = "Check the address, the key and the network, then ask again; the workbook is as it was."
    what: str
    reason: str
    lines: tuple[str, ...] = ()
    """The last that it said, oldest first."""


class LitestreamIdle(LitestreamError):
    """Litestream doesn't replicate this workbook."""

    retryable = False
    code = "TOR-833"
    says = "Litestream doesn't replicate {path}."
    hint = "`torpor litestream replicate` begins it."
    path: str


# --- access -------------------------------------------------------------------------------------------------------


class AccessError(TorporError):
    """Somebody may not do what they asked for, or it can't be told; nothing was done."""


class AccessDenied(AccessError):
    """Somebody who is known may not do that."""

    retryable = False
    code = "TOR-930"
    says = "{who} may not {action}: {reason}."
    hint = "Ask whoever runs the node for a token that reaches it."
    who: str
    action: str
    reason: str


class CredentialMissing(AccessError):
    """Something that needs a token was asked for without one."""

    retryable = False
    code = "TOR-931"
    says = "{action} needs a token, and none was sent."
    hint = (
        "Send `Authorization: Bearer TOKEN`; a join token, which the node's first start prints, is exchanged for one."
    )
    action: str


class CredentialRefused(AccessError):
    """A token or a peer that isn't accepted."""

    retryable = False
    code = "TOR-932"
    says = "Who you are isn't accepted: {reason}."
    hint = "Ask whoever runs the node for a new token."
    reason: str


class AttemptsExceeded(AccessError):
    """So many attempts were refused that the next ones have to wait."""

    code = "TOR-933"
    says = "Too many attempts, from {peer} or from all together."
    hint = "Try again in {retry_after_s:.0f} s. Tokens that were accepted lately are not affected."
    peer: str
    retry_after_s: float


class JoinRefused(AccessError):
    """A join token that isn't accepted. It isn't said why: it may be a guess."""

    retryable = False
    code = "TOR-934"
    says = "The join token isn't accepted: it is none, or was used or replaced, or is too old."
    hint = "Whoever runs the node makes a new one there; it is good for a few minutes, and once."


class ScopeRefused(AccessError):
    """A token that can't be issued as asked."""

    retryable = False
    code = "TOR-935"
    says = "There can't be a token like that: {reason}."
    hint = "Ask for no more than you may do yourself, with a name for the token and an end."
    reason: str


class TokenUnknown(AccessError):
    """There is no such token, or it is out of the asker's reach."""

    retryable = False
    code = "TOR-936"
    says = "There is no token {token!r:.80}."
    hint = "The list of tokens has their ids."
    token: str


class AccessDamaged(AccessError):
    """The key, the file of tokens or the audit contradict themselves. Nobody gets in by a token meanwhile."""

    retryable = False
    code = "TOR-937"
    says = "{path} is damaged: {reason}."
    hint = "Move its folder away: that makes every token void, and the next start makes a new join token."
    path: str
    reason: str


class AccessFailed(AccessError):
    """The file of tokens can't be read or written just now."""

    code = "TOR-938"
    says = "{path} can't be used: {reason}."
    hint = "Look at the device and the permissions, then try again; what was acknowledged before is safe."
    path: str
    reason: str


class ExtraMissing(AccessError):
    """A package that only nodes need is not installed."""

    retryable = False
    code = "TOR-939"
    says = "{package} is not installed."
    hint = 'Install what nodes need: pip install "torpor[{extra}]".'
    package: str
    extra: str
