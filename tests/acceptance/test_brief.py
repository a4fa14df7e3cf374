"""`torpor brief`: what is new is delivered once, whatever the source, and one bad source loses nothing else."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.kit import (
    Ended,
    Story,
    Zygote,
    atom,
    events,
    json_feed,
    left_in,
    pages,
    rss,
    steps,
    stories,
    torpor,
)
from tests.unit.briefing.feeds_server import Exchange, FeedsServer, body, cut, feeds_server, status

from torpor.base.limits import FEED_BYTES_MAX

BOOK = ("--workbook", "x.workbook", "--out", "out")


@pytest.fixture
def server() -> Iterator[FeedsServer]:
    with feeds_server() as serving:
        yield serving


def titles(ended: Ended) -> list[str]:
    return [choice["title"] for choice in ended.json["chosen"]]


def validated(data: bytes, etag: str = '"v1"', modified: str = "Sat, 01 Nov 2025 10:00:00 GMT") -> object:
    """Answer as a server does that knows conditional requests."""

    def answer(exchange: Exchange) -> None:
        if exchange.headers.get("If-None-Match") == etag:
            exchange.begin(304, {"ETag": etag})
            return
        headers = {"Content-Length": str(len(data)), "ETag": etag, "Last-Modified": modified}
        exchange.begin(200, {**headers, "Content-Type": "application/rss+xml"})
        exchange.wfile.write(data)

    return answer


def test_the_installed_command_reads_every_kind_of_feed_from_files_and_over_http(
    tmp_path: Path, server: FeedsServer
) -> None:
    (tmp_path / "a.xml").write_bytes(rss([Story("rss-file")]))
    (tmp_path / "b.atom").write_bytes(atom([Story("atom-file")]))
    (tmp_path / "c.json").write_bytes(json_feed([Story("json-file")]))
    server.answers = {
        "/a": body(rss([Story("rss-http")])),
        "/b": body(atom([Story("atom-http")])),
        "/c": body(json_feed([Story("json-http")]), Content_Type="application/feed+json"),
    }
    sources = ["a.xml", str(tmp_path / "b.atom"), (tmp_path / "c.json").as_uri(), *map(server.url, ("/a", "/b", "/c"))]
    first = torpor("brief", *sources, *BOOK, cwd=tmp_path)
    assert first.code == 0, first.err
    run = first.out.splitlines()[-1].split()[1]
    assert left_in(tmp_path / "out") == [f"briefing-{run}.html", f"briefing-{run}.md"]
    assert first.out.splitlines() == [
        "6 new, 0 already read.",
        *(
            f"  {place}. {name}"
            for place, name in enumerate(
                ("rss-file", "atom-file", "json-file", "rss-http", "atom-http", "json-http"), 1
            )
        ),
        f"Delivered {tmp_path}/out/briefing-{run}.md",
        f"Delivered {tmp_path}/out/briefing-{run}.html",
        f"Run {run} completed.",
    ]
    markdown, html = pages(tmp_path / "out")
    for name in ("rss-file", "atom-http", "json-http"):
        assert name in markdown
        assert name in html
    second = torpor("brief", *sources, *BOOK, cwd=tmp_path)
    assert (second.code, second.out.splitlines()[0]) == (
        0,
        "0 new, 6 already read: nothing to deliver, and that is fine.",
    )
    assert len(left_in(tmp_path / "out")) == 2
    assert left_in(tmp_path) == ["a.xml", "b.atom", "c.json", "out", "x.workbook"]


def test_only_the_new_item_of_a_feed_is_delivered(run: Zygote, tmp_path: Path) -> None:
    feed = tmp_path / "f.xml"
    feed.write_bytes(rss(stories(3)))
    assert run("brief", "f.xml", *BOOK, cwd=tmp_path).code == 0
    feed.write_bytes(rss([*stories(3), Story("late", title="The late one")]))
    ended = run("brief", "f.xml", "--json", "--workbook", "x.workbook", "--out", "next", cwd=tmp_path)
    assert titles(ended) == ["The late one"]
    assert (ended.json["new"], ended.json["already_read"]) == (1, 3)
    assert "Story s0" not in pages(tmp_path / "next")[0]


def test_a_server_is_asked_conditionally_and_its_304_counts_its_items_as_read(
    run: Zygote, tmp_path: Path, server: FeedsServer
) -> None:
    server.answers["/f"] = validated(rss(stories(4)))  # type: ignore[assignment]
    url = server.url("/f")
    first = run("brief", url, *BOOK, "--json", cwd=tmp_path)
    assert first.json["new"] == 4
    second = run("brief", url, *BOOK, "--json", cwd=tmp_path)
    assert (second.code, second.json["new"], second.json["already_read"]) == (0, 0, 4)
    third = run("brief", url, *BOOK, "--json", cwd=tmp_path)
    assert third.json["already_read"] == 4
    asked = [headers for _, headers in server.requests]
    assert "If-None-Match" not in asked[0]
    assert [headers.get("If-None-Match") for headers in asked[1:]] == ['"v1"', '"v1"']
    assert asked[1]["If-Modified-Since"] == "Sat, 01 Nov 2025 10:00:00 GMT"
    server.answers["/f"] = validated(rss([*stories(4), Story("fifth")]), etag='"v2"')  # type: ignore[assignment]
    assert titles(run("brief", url, *BOOK, "--json", cwd=tmp_path)) == ["fifth"]


@pytest.mark.parametrize("point", ["effect.begun", "delivery.half"])
def test_validators_are_kept_only_after_delivery(run: Zygote, tmp_path: Path, server: FeedsServer, point: str) -> None:
    """Another workbook of the same server would get a 304 for items it never delivered."""
    server.answers["/f"] = validated(rss(stories(2)))  # type: ignore[assignment]
    words = ("brief", server.url("/f"), *BOOK)
    assert run(*words, cwd=tmp_path, kill=(point, 1)).killed
    kept = [e.body["source"] for e in events(tmp_path / "x.workbook") if e.kind == "memory.kept"]
    assert kept == []
    ended = run(*words, "--json", cwd=tmp_path)
    assert (ended.json["new"], ended.json["resumed"]) == (2, True)
    assert len(server.requests) == 1, "the recorded answer is used"
    assert run(*words, cwd=tmp_path).code == 0
    assert server.requests[1][1]["If-None-Match"] == '"v1"'


def test_a_failed_delivery_forgets_the_validators_too(run: Zygote, tmp_path: Path, server: FeedsServer) -> None:
    server.answers["/f"] = validated(rss(stories(2)))  # type: ignore[assignment]
    words = ("brief", server.url("/f"), *BOOK, "--json")
    (tmp_path / "out").write_text("in the way")
    assert run(*words, cwd=tmp_path).code == 1
    (tmp_path / "out").unlink()
    assert run(*words, cwd=tmp_path).json["new"] == 2
    assert "If-None-Match" not in server.requests[1][1]


def test_one_article_in_two_feeds_is_delivered_once(run: Zygote, tmp_path: Path) -> None:
    same = "https://news.example/article"
    (tmp_path / "a.xml").write_bytes(rss([Story("a", url=f"{same}?utm_source=rss&utm_medium=feed")]))
    (tmp_path / "b.xml").write_bytes(atom([Story("b", url=f"{same}#comments"), Story("c")]))
    ended = run("brief", "a.xml", "b.xml", *BOOK, "--json", cwd=tmp_path)
    assert titles(ended) == ["a", "c"]
    assert pages(tmp_path / "out")[0].count(same) == 1


def test_an_item_that_moved_to_another_address_is_known_by_its_guid(run: Zygote, tmp_path: Path) -> None:
    feed = tmp_path / "f.xml"
    feed.write_bytes(rss([Story("a", url="https://old.example/1", guid="the-one")]))
    assert run("brief", "f.xml", *BOOK, cwd=tmp_path).code == 0
    feed.write_bytes(rss([Story("a", url="https://new.example/1", guid="the-one")]))
    ended = run("brief", "f.xml", *BOOK, cwd=tmp_path)
    assert "0 new, 1 already read" in ended.out


def test_one_source_named_twice_is_read_once(run: Zygote, tmp_path: Path, server: FeedsServer) -> None:
    server.answers["/f"] = body(rss(stories(2)))
    ended = run("brief", server.url("/f"), server.url("/f"), *BOOK, "--json", cwd=tmp_path)
    assert ended.json["new"] == 2
    assert len(server.requests) == 1


def test_interests_order_the_items_and_can_be_kept(run: Zygote, tmp_path: Path) -> None:
    (tmp_path / "f.xml").write_bytes(rss(stories(6)))
    (tmp_path / "g.xml").write_bytes(rss(stories(6, "g")))
    words = ("--workbook", "x.workbook", "--out", "out", "--count", "2", "--json")
    first = run("brief", "f.xml", *words, "--interest", "yeast dough bread", "--keep-interest", cwd=tmp_path)
    assert titles(first)[0] == "Story s3"
    assert len(titles(first)) == 2
    second = run("brief", "g.xml", *words, cwd=tmp_path)
    assert second.json["interests"] == "yeast dough bread"
    assert titles(second)[0] == "Story g3"


# --- sources that can't be read


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]><rss><channel><title>&j;</title></channel></rss>"
)


def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bad_sources(folder: Path, server: FeedsServer) -> dict[str, str]:
    """Return each bad source with what must be said of it."""
    (folder / "dir").mkdir()
    (folder / "page.html").write_text("<!doctype html><html><head><title>Hi</title></head><body>no feed</body></html>")
    (folder / "broken.xml").write_text('<rss version="2.0">\n<channel>\n  <title>x</titel>\n</channel></rss>')
    (folder / "bomb.xml").write_bytes(BOMB)
    with (folder / "huge.xml").open("wb") as file:
        file.truncate(FEED_BYTES_MAX + 1)
    server.answers |= {"/500": status(500), "/cut": cut(rss(stories(1))[:60], 5000)}
    return {
        "missing.xml": "there is no such file",
        "dir": "it is a folder",
        "page.html": "line",
        "broken.xml": "line 3, column",
        "bomb.xml": "bomb.xml",
        "huge.xml": f"more than {FEED_BYTES_MAX:,} bytes",
        server.url("/404"): "404",
        server.url("/500"): "500",
        server.url("/cut"): "/cut",
        f"http://127.0.0.1:{refused_port()}/f": "refused",
        "gopher://old.example/f": "not read",
    }


def test_bad_sources_are_each_reported_and_the_good_ones_delivered(
    run: Zygote, tmp_path: Path, server: FeedsServer
) -> None:
    bad = bad_sources(tmp_path, server)
    (tmp_path / "good.xml").write_bytes(rss(stories(2)))
    order = [*list(bad)[:5], "good.xml", *list(bad)[5:]]
    ended = run("brief", *order, *BOOK, cwd=tmp_path)
    assert ended.code == 3, ended.err
    assert "2 new, 0 already read" in ended.out
    assert "completed with errors" in ended.out
    problems = [line for line in ended.out.splitlines() if line.startswith("problem: ")]
    assert len(problems) == len(bad), ended.out
    for (source, said), line in zip(bad.items(), problems, strict=True):
        assert source in line
        assert said in line
    markdown, html = pages(tmp_path / "out")
    for source in ("missing.xml", "broken.xml"):
        assert source in markdown
        assert source in html
    again = run("brief", *order, *BOOK, "--json", cwd=tmp_path)
    assert (again.code, again.json["new"], len(again.json["problems"])) == (3, 0, len(bad))
    assert all(problem["code"].startswith("TOR-4") for problem in again.json["problems"])
    assert all(problem["next_step"] for problem in again.json["problems"])


def test_where_every_source_is_bad_nothing_is_delivered_and_nothing_remembered(
    run: Zygote, tmp_path: Path, server: FeedsServer
) -> None:
    bad = bad_sources(tmp_path, server)
    ended = run("brief", *bad, *BOOK, "--json", cwd=tmp_path)
    assert ended.code == 3
    assert (ended.json["new"], ended.json["delivered"], ended.json["status"]) == (0, [], "completed with errors")
    assert left_in(tmp_path / "out") == []
    assert [e for e in events(tmp_path / "x.workbook") if e.kind == "memory.kept"] == []


def test_a_source_that_recovers_is_delivered_by_the_next_run(run: Zygote, tmp_path: Path, server: FeedsServer) -> None:
    (tmp_path / "good.xml").write_bytes(rss(stories(1)))
    words = ("brief", "good.xml", server.url("/f"), "--json", *BOOK)
    server.answers["/f"] = status(503)
    assert run(*words, cwd=tmp_path).code == 3
    server.answers["/f"] = body(atom([Story("back")]))
    ended = run(*words, cwd=tmp_path)
    assert (ended.code, titles(ended)) == (0, ["back"])


# --- hostile and large


def test_hostile_titles_steer_neither_terminal_nor_page(run: Zygote, tmp_path: Path) -> None:
    nasty = [
        "\x9b31mred \u202egnp.exe",
        "one\r\ntwo \u2066iso\u2069",
        "<script>alert(1)</script> <b>bold</b>",
        "[link](javascript:alert(1)) `code` # heading",
        "famille \U0001f468\u200d\U0001f469\u200d\U0001f467 «\u00a0oui\u00a0»",
    ]
    items = [
        {"id": str(i), "title": title, "url": f"https://x.example/{i}", "content_text": title}
        for i, title in enumerate(nasty)
    ]
    feed = {"version": "https://jsonfeed.org/version/1.1", "title": "\x1b]0;owned\x07", "items": items}
    (tmp_path / "f.json").write_text(json.dumps(feed))
    plain = run("brief", "f.json", *BOOK, cwd=tmp_path)
    assert plain.code == 0, plain.err
    machine = run("brief", "f.json", "--workbook", "y.workbook", "--out", "out2", "--json", cwd=tmp_path)
    listing = run("events", "x.workbook", cwd=tmp_path)
    listing_json = run("events", "x.workbook", "--json", cwd=tmp_path)
    for ended in (plain, machine, listing, listing_json):
        for text in (ended.out, ended.err):
            assert not any(c in text for c in "\x1b\x9b\x07\r\u202e\u2066\u2069"), ended
    assert len(plain.out.splitlines()) == 1 + len(nasty) + 3
    assert len(machine.json["chosen"]) == len(nasty)
    markdown, html = pages(tmp_path / "out")
    assert "<script" not in html
    assert not re.search(r"href=.?javascript", html)
    assert not re.search(r"(?<!\\)\]\(javascript", markdown)


def test_broken_surrogates_and_bytes_in_a_feed_are_survived(run: Zygote, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"version":"https://jsonfeed.org/version/1.1","title":"t","items":'
        '[{"id":"1","title":"half \\ud83d a pair","content_text":"x \\udc00 y"}]}'
    )
    (tmp_path / "b.xml").write_bytes(rss([Story("b", title="Caf\u00e9")]).replace("\u00e9".encode(), b"\xff\xfe"))
    ended = run("brief", "a.json", "b.xml", *BOOK, "--json", cwd=tmp_path)
    assert ended.code in {0, 3}, ended.err
    assert any("Caf" in title for title in titles(ended)), ended.out
    assert "Traceback" not in ended.err


def test_a_large_odd_feed_goes_through_and_is_all_remembered(run: Zygote, tmp_path: Path) -> None:
    """Dates of 1900 and 2100, HTML in titles, invalid UTF-8 and guids used twice: 1,500 entries."""
    dates = ("Mon, 01 Jan 1900 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "no date at all", "")
    names = {0: "ancient", 2: "futuristic"}
    items = [
        Story(
            f"n{i}", title=f"<b>{names.get(i, f'N{i}')}</b> &amp; caf\u00e9", guid=f"g{i // 2}", date=dates[i // 2 % 4]
        )
        for i in range(1500)
    ]
    (tmp_path / "f.xml").write_bytes(rss(items).replace("\u00e9".encode(), b"\xe9"))
    ended = run("brief", "f.xml", *BOOK, "--json", "--interest", "ancient futuristic", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.json["new"] == 750
    assert not any("<b>" in title for title in titles(ended))
    assert {title.split()[0] for title in titles(ended)[:2]} == {"ancient", "futuristic"}
    assert not {"1900", "2100"} & set(pages(tmp_path / "out")[0].split()), "dates that nobody can believe are left out"
    again = run("brief", "f.xml", *BOOK, "--json", cwd=tmp_path)
    assert (again.json["new"], again.json["already_read"]) == (0, 750)
    assert len(steps(tmp_path / "x.workbook", "step.completed", "summarise")) == 10


@pytest.mark.parametrize(
    "file", ["a\u00a0b.xml", "tab\there.xml", "new\nline.xml", "rtl\u202egnp.xml", f"{'long' * 60}.xml"]
)
def test_a_feed_whose_file_has_an_odd_name_is_delivered_once(run: Zygote, tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(rss([Story("a", url=" ", guid="only-a-guid"), Story("b")]))
    first = run("brief", file, *BOOK, "--json", cwd=tmp_path)
    assert (first.code, first.json["new"]) == (0, 2), first.err
    second = run("brief", file, *BOOK, "--json", cwd=tmp_path)
    assert (second.code, second.json["new"], second.json["already_read"]) == (0, 0, 2), second


def test_items_with_odd_identities_are_delivered_once(run: Zygote, tmp_path: Path) -> None:
    odd = ["x" * 5000, "a\u00a0b", "line\nbreak", "\u202ertl", " ", "https://x.example/" + "p" * 6000, "\u00e9" * 4090]
    items: list[dict[str, str]] = [{"id": name, "title": f"T{i}", "content_text": "x"} for i, name in enumerate(odd)]
    items += [{"id": f"u{i}", "url": f"https://u.example/{name}", "title": f"U{i}"} for i, name in enumerate(odd)]
    feed = {"version": "https://jsonfeed.org/version/1.1", "title": "t", "items": items}
    (tmp_path / "f.json").write_text(json.dumps(feed))
    first = run("brief", "f.json", *BOOK, "--json", "--count", "0", cwd=tmp_path)
    assert first.code == 0, first.err
    assert first.json["new"] >= 12
    second = run("brief", "f.json", *BOOK, "--json", cwd=tmp_path)
    assert (second.code, second.json["new"]) == (0, 0), second
