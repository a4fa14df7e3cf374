"""A briefing as a page: Markdown to read anywhere, HTML to look at.

Every word in it may be a stranger's. Each is made printable (`membrane.printable`) and then escaped
for where it goes; only http and https addresses become links. The HTML is one file: no script, no
picture, nothing is loaded, and its Content-Security-Policy says so, with the digest of its one
style sheet.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from torpor.skills.briefing.membrane import printable

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Not strftime's, which follow the machine's language."""

_BAR_PX = 34


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One item in a briefing."""

    title: str
    url: str
    """Linked if it is http or https, else not shown."""
    source: str
    """The title of the feed, or its name."""
    published_us: int | None = None
    """Microseconds since 1970 UTC."""
    score: float | None = None
    """0 to 1; None where nothing was ranked, and no bar is shown then."""
    summary: str = ""
    """"" where there is none."""
    why: list[str] = []
    """The reader's own words that it has."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A source or an item that could not be read, in words for the reader."""

    source: str
    message: str
    next_step: str = ""


class Briefing(msgspec.Struct, frozen=True, kw_only=True):
    """All that a briefing says."""

    title: str
    run_id: str
    made_us: int
    """When it was made, in microseconds since 1970 UTC."""
    interests: str = ""
    model: str = ""
    """Who made the summaries."""
    entries: list[Entry] = []
    """In the order to be shown."""
    new: int = 0
    """Items not read before, shown or not."""
    already_read: int = 0
    skipped: int = 0
    """New items that are not shown."""
    problems: list[Problem] = []


# --- shared -------------------------------------------------------------------------------------


class Link(NamedTuple):
    """An address that may be followed."""

    href: str
    """ASCII only, without quotes, blanks, brackets and parentheses."""
    host: str
    """What to show of it, so that nobody is led elsewhere than they think."""


def safe_link(url: str) -> Link | None:
    """Return the address as a link if it is http or https and has a host; else None.

    Args:
        url: From a feed; anything.

    """
    bare = url.strip()
    if any(character <= " " or character == "\x7f" for character in bare):
        return None  # parsers differ in what they do with these
    try:
        parts = urlsplit(bare)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host:
        return None
    href = quote(bare.encode(errors="replace"), safe=":/?#@!$&*+,;=%~")
    return Link(href=href, host=printable(host).removeprefix("www."))


def moment(when_us: int, *, with_time: bool) -> str:
    """Return "13 Jun 2026" or "13 Jun 2026, 05:30 UTC"; "" for a time that no calendar has.

    Args:
        when_us: Microseconds since 1970 UTC.
        with_time: Add the time of day.

    """
    date = _date(when_us)
    if date is None:
        return ""
    day = f"{date.day} {MONTHS[date.month - 1]} {date.year}"
    return f"{day}, {date:%H:%M} UTC" if with_time else day


def _date(when_us: int) -> datetime | None:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=when_us)
    except OverflowError:
        return None


def _percent(score: float) -> int:
    return round(100 * min(1.0, max(0.0, score)))


def _counts(briefing: Briefing) -> list[tuple[int, str]]:
    return [
        (briefing.new, "new"),
        (briefing.already_read, "read before"),
        (briefing.skipped, "left out"),
    ]


def _made_by(model: str) -> str:
    return f"Summaries by {printable(model)}." if model else ""


# --- Markdown -----------------------------------------------------------------------------------

_MARKS = re.compile(r"([\\`*\[\]<>~#$]|(?<![^\W_])_|_(?![^\W_]))|(?<=\w)(:)(?=//)|(&)(?=#?\w+;)")
_LINE_START = re.compile(r"^(?:([-+=])|(\d{1,9})([.)]))")


def to_markdown(briefing: Briefing) -> str:
    """Return the briefing as CommonMark; what comes from outside is inert text in it."""
    counts = " · ".join(f"{count} {what}" for count, what in _counts(briefing))
    blocks = [
        f"# {_md(briefing.title)}",
        f"{moment(briefing.made_us, with_time=True)} · {counts}",
    ]
    if briefing.interests.strip():
        blocks.append(f"For your interests: {_md(briefing.interests)}")
    blocks += [block for place, entry in enumerate(briefing.entries, start=1) for block in _md_entry(place, entry)]
    if not briefing.entries:
        blocks.append("Nothing new since the last briefing.")
    if briefing.problems:
        blocks += ["## Problems", "\n".join(map(_md_problem, briefing.problems))]
    blocks += ["---", f"Run {_md(briefing.run_id)}. {_md(_made_by(briefing.model))}".rstrip()]
    return "\n\n".join(blocks) + "\n"


def _md(text: str) -> str:
    line = _MARKS.sub(r"\\\g<0>", printable(text))
    return _LINE_START.sub(lambda at: f"\\{at[1]}" if at[1] else f"{at[2]}\\{at[3]}", line)


def _md_entry(place: int, entry: Entry) -> list[str]:
    link = safe_link(entry.url)
    title = _md(entry.title) or "Untitled"
    if link:
        # An entity would be read as the character that it names, even inside an address.
        href = re.sub(r"&(?=#?\w+;)", "&amp;", link.href)
        title = f"[{title}]({href})"
    facts = [_md(entry.source), _md(link.host) if link else ""]
    facts.append(moment(entry.published_us, with_time=False) if entry.published_us else "")
    facts.append(f"fit {_percent(entry.score)} %" if entry.score is not None else "")
    blocks = [f"## {place}. {title}", " · ".join(fact for fact in facts if fact)]
    blocks.append(_md(entry.summary))
    if entry.why:
        blocks.append(f"Because of: {', '.join(map(_md, entry.why))}")
    return [block for block in blocks if block]


def _md_problem(problem: Problem) -> str:
    return f"- **{_md(problem.source) or 'A source'}**: " + " ".join(
        part for part in (_md(problem.message), _md(problem.next_step)) if part
    )


# --- HTML ---------------------------------------------------------------------------------------


def to_html(briefing: Briefing) -> str:
    """Return the briefing as one page that needs nothing else and loads nothing."""
    page, style_hash = _page()
    when = moment(briefing.made_us, with_time=True)
    return page.substitute(
        style_hash=style_hash,
        title=_text(briefing.title) or "Briefing",
        when=_time(briefing.made_us, when),
        counts="".join(f"<div><dt>{what}</dt><dd>{count}</dd></div>" for count, what in _counts(briefing)),
        interests=_html_interests(briefing.interests),
        entries=_html_entries(briefing.entries),
        problems=_html_problems(briefing.problems),
        footer=_html_footer(briefing),
    )


@cache
def _page() -> tuple[Template, str]:
    """Return the page and the digest of its style sheet for the policy (CSP Level 3, §2.3.1)."""
    page = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Template(page), f"sha256-{digest}"


def _text(text: str) -> str:
    return escape(printable(text), quote=True)


def _time(when_us: int | None, shown: str) -> str:
    date = None if when_us is None else _date(when_us)
    return f'<time datetime="{date:%Y-%m-%dT%H:%M:%SZ}">{shown}</time>' if date else ""


def _html_interests(interests: str) -> str:
    text = _text(interests)
    return f'<p class="interests">For your interests: <b dir="auto">{text}</b></p>' if text else ""


def _html_entries(entries: list[Entry]) -> str:
    if not entries:
        return '<p class="empty">Nothing new since the last briefing.</p>'
    return f'<ol class="entries">\n{"".join(map(_html_entry, entries))}</ol>'


def _html_entry(entry: Entry) -> str:
    link = safe_link(entry.url)
    title = _text(entry.title) or "Untitled"
    if link:
        title = f'<a href="{escape(link.href)}" rel="noopener noreferrer">{title}</a>'
    day = moment(entry.published_us, with_time=False) if entry.published_us else ""
    facts = [f'<span dir="auto">{_text(entry.source)}</span>' if _text(entry.source) else ""]
    facts.append(f"<span>{escape(link.host)}</span>" if link else "")
    facts.append(_time(entry.published_us, day) if day else "")
    why = ", ".join(f"<b>{_text(word)}</b>" for word in entry.why)
    parts = [
        f'<h2 dir="auto">{title}</h2>',
        f'<p class="meta">{"".join(facts)}</p>',
        _html_fit(entry.score) if entry.score is not None else "",
        f'<p class="summary" dir="auto">{_text(entry.summary)}</p>' if entry.summary else "",
        f'<p class="why">Because of {why}</p>' if why else "",
    ]
    return f"<li><article>{''.join(parts)}</article></li>\n"


def _html_fit(score: float) -> str:
    percent = _percent(score)
    # Attributes of a drawing, not a style attribute: the policy allows no inline style.
    words = f"fit {percent} of 100"
    return (
        f'<p class="fit" title="{words}"><span class="unseen">{words}</span>'
        f'<svg width="{_BAR_PX}" height="5" aria-hidden="true" focusable="false">'
        f'<rect class="track" width="{_BAR_PX}" height="5" rx="2.5"/>'
        f'<rect class="level" width="{_BAR_PX * percent / 100:g}" height="5" rx="2.5"/></svg></p>'
    )


def _html_problems(problems: list[Problem]) -> str:
    if not problems:
        return ""
    rows = "".join(
        f'<li><p class="source" dir="auto">{_text(problem.source)}</p>'
        f"<p>{_text(problem.message)}</p>"
        + (f'<p class="next">{_text(problem.next_step)}</p>' if problem.next_step else "")
        + "</li>"
        for problem in problems
    )
    what = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return (
        f'<section class="problems" aria-labelledby="problems"><h2 id="problems">{what}</h2><ul>{rows}</ul></section>'
    )


def _html_footer(briefing: Briefing) -> str:
    by = escape(_made_by(briefing.model))
    return (
        f"<p>Run <code>{_text(briefing.run_id)}</code>. {by}</p>"
        "<p>This page is one file and loads nothing from anywhere.</p>"
    )
