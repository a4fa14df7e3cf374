"""One address, one spelling: the form of a URL under which memory recognises a page.

Two feeds, or one feed on two days, spell the same address differently: capitals in the host, a
default port, a fragment, arguments in another order, arguments that only say where the reader came
from. `canonical_url` removes those differences (RFC 3986 §6.2.2 and §6.2.3, by way of w3lib) and
the tracking arguments.

It keeps `http` and `https` apart. The two usually show the same page, but the canonical address is
also the link that a reader clicks, and a host that serves only `http` would get a dead one. The
price, one repetition of the items of a feed that moves to `https`, is paid only where the feed
gives no guid either.
"""

from __future__ import annotations

import re
import urllib.parse

from w3lib.url import canonicalize_url

URL_MAX = 4096
"""Characters in an address; a longer one is data in disguise."""

_TRACKING = frozenset(
    {
        "dclid",
        "fbclid",
        "gbraid",
        "gclid",
        "gclsrc",
        "igsh",
        "igshid",
        "li_fat_id",
        "mc_cid",
        "mc_eid",
        "mkt_tok",
        "msclkid",
        "oly_anon_id",
        "oly_enc_id",
        "rb_clickid",
        "s_cid",
        "srsltid",
        "ttclid",
        "twclid",
        "vero_conv",
        "vero_id",
        "wbraid",
        "wickedid",
        "yclid",
        "_hsenc",
        "_hsmi",
        "_openstat",
    }
)
_TRACKING_FAMILIES = ("utm_", "mtm_", "matomo_", "piwik_", "hsa_", "pk_campaign", "pk_kwd")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ROUNDS_MAX = 4


_SECRET = re.compile(r"(?<=://)[^/?#\s@]*@")


def without_secret(text: str) -> str:
    """Return a text without the user names and passwords in its addresses: fit for a page that others read."""
    return _SECRET.sub("", text)


def canonical_url(url: str) -> str:
    """Return the canonical form of a web address, or "" for what is none.

    The form is a fixed point: `canonical_url(canonical_url(url)) == canonical_url(url)`. User names
    and passwords are dropped, so that no secret gets into a briefing.

    Args:
        url: an absolute address, as found in a feed.

    Returns:
        The canonical address; "" for other schemes than http and https, for relative addresses, for
        more than `URL_MAX` characters and for what can't be read as an address.

    """
    spelled = url
    for _ in range(_ROUNDS_MAX):
        again = _once(spelled)
        if again == spelled:
            return again
        spelled = again
    # An address that still changes has no spelling of its own (nested escapes made to confuse).
    return ""


def _once(url: str) -> str:
    text = url.strip()
    if not re.match(r"https?://", text, re.IGNORECASE) or len(text) > URL_MAX:
        return ""
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
        if not host:
            return ""
        place = f"[{host}]" if ":" in host else host.rstrip(".")
        if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
            place = f"{place}:{port}"
        query = "&".join(kept for kept in parts.query.split("&") if not _tracks(kept))
        bare = urllib.parse.urlunsplit((parts.scheme, place, parts.path, query, ""))
        spelled = str(canonicalize_url(bare))
        # w3lib passes a host through that it can't encode; an address has an ASCII host (RFC 3986
        # §3.2.2).
        known = urllib.parse.urlsplit(spelled).hostname or ""
    except ValueError:
        return ""
    if not re.fullmatch(r"[a-z0-9._:\-]+", known) or len(spelled) > URL_MAX:
        return ""
    return spelled


def _tracks(argument: str) -> bool:
    if not argument:
        return True
    name = urllib.parse.unquote_plus(argument.partition("=")[0]).strip().lower()
    return name in _TRACKING or name.startswith(_TRACKING_FAMILIES)
