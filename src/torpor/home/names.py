"""Names: what an agent, a template and a tenant may be called, and what a clone is called.

An agent's name is part of the name of its file, so it has neither dot nor slash nor anything that a shell, a terminal
or a file system reads in its own way. On the command line a word with a dot or a slash is therefore a file, and any
other may be a name.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from torpor.base.errors import NameRefused
from torpor.base.ids import IdSource

NAME_MAX: Final = 100
"""Characters in the name of an agent or a template."""

TENANT_MAX: Final = 200
"""Characters in the name of a tenant, which may be in any script."""

SLUG_MAX: Final = 60
"""Characters of a tenant's name that go into the names of its clones."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_STRANGE: Final = re.compile(r"[^A-Za-z0-9_-]")
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ULID_CHARACTERS: Final = 26


def check_name(name: str, what: str = "an agent") -> None:
    """Refuse what can't name an agent or a template.

    Args:
        name: letters, digits, "-" and "_" of ASCII, beginning with a letter or digit.
        what: what it is to name, with its article.

    Raises:
        NameRefused: it can't.

    """
    if reason := _objection(name):
        raise NameRefused(name=name, what=what, reason=reason)


def check_tenant(tenant: str) -> None:
    """Refuse what can't name a tenant: 1 to 200 characters that can be seen, with blanks between them only.

    Raises:
        NameRefused: it can't.

    """
    if reason := _objection_to_tenant(tenant):
        raise NameRefused(name=tenant, what="a tenant", reason=reason)


def clone_name(tenant: str, ids: IdSource) -> str:
    """Return a new name for a clone: what can be kept of the tenant's name, and a ULID, which is never used twice.

    The ULID (26 characters in the Base32 of Crockford, in lower case) is the 128 bits of an id from `ids`, so the
    names of one tenant's clones sort by the time they were made.
    """
    return f"{_slug(tenant)}-{_ulid(int(ids.text().replace('-', ''), 16))}"


def _objection(name: str) -> str:
    if not isinstance(name, str):
        return f"{type(name).__name__} is not text"
    if not name:
        return "it is empty"
    if len(name) > NAME_MAX:
        return f"it has {len(name):,} characters, more than {NAME_MAX}"
    if strange := _STRANGE.search(name):
        return f"it has the character {strange[0]!a}"
    if not _NAME.fullmatch(name):
        return f"it begins with {name[0]!r}"
    return ""


def _objection_to_tenant(tenant: str) -> str:
    if not isinstance(tenant, str):
        return f"{type(tenant).__name__} is not text"
    if not tenant:
        return "it is empty"
    if len(tenant) > TENANT_MAX:
        return f"it has {len(tenant):,} characters, more than {TENANT_MAX}"
    if tenant != tenant.strip():
        return "it begins or ends with a blank"
    for character in tenant:
        # Blanks of other scripts are no control characters, although Python doesn't call them printable.
        if not character.isprintable() and unicodedata.category(character) != "Zs":
            return f"it has the character {character!a}"
    return ""


def _slug(tenant: str) -> str:
    letters = unicodedata.normalize("NFKD", tenant.casefold())
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    slug = re.sub(r"[^a-z0-9]+", "-", bare).strip("-")
    return slug[:SLUG_MAX].strip("-") or "tenant"


def _ulid(number: int) -> str:
    places = range(5 * (_ULID_CHARACTERS - 1), -1, -5)
    return "".join(_CROCKFORD[number >> place & 31] for place in places)
