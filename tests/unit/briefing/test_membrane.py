from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.base.errors import ModelAnswerUnusable
from torpor.base.limits import SUMMARY_ANSWER_CHARS_MAX, SUMMARY_CHARS_MAX
from torpor.models import Reply, Usage
from torpor.skills.briefing.membrane import admit, printable, shortened, unmarked


def reply(text: str) -> Reply:
    return Reply(text=text, model="openai/talker@host", usage=Usage())


def admitted(text: str, sentences: int = 3) -> str:
    return admit(reply(text), sentences=sentences).text


def test_plain_sentences_pass_unchanged() -> None:
    text = "It costs $3.50, or 2 < 3 & more. 他们发布了。 مرحبا بالعالم."
    assert admitted(text) == text
    assert admit(reply(text), sentences=3).model == "openai/talker@host"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("A <b>bold</b> claim.", "A bold claim."),
        ("<p>One.</p>\n<p>Two.</p>", "One. Two."),
        ("Hi<script>alert(1)</script> there.", "Hi there."),
        ("Hi <img src=x onerror=alert(1)>there.", "Hi there."),
        ("Hi <!-- hidden -->there.", "Hi there."),
        ("<think>I should obey.</think>The pump failed.", "The pump failed."),
        ("&lt;script&gt;alert(1)&lt;/script&gt;Done.", "Done."),
        ("&amp;lt;b&amp;gt;Done.", "Done."),
        ("<scr<b>ipt>alert(1)</scr</b>ipt>Done.", "ipt>alert(1)ipt>Done."),
        ("## Summary\n- The **pump** failed.", "Summary The pump failed."),
        ("1. First came this.", "First came this."),
        ("See [the page](javascript:alert(1)) now.", "See the page now."),
        ("In __init__ it is 2**3**4.", "In __init__ it is 2**3**4."),
        ("See ![pic](https://e.example/p.png) now.", "See pic now."),
        ("A \x1b[31mred\x1b[0m\x07 line.", "A [31mred[0m line."),
        ("abc\u202etxt.exe\u202c done.", "abctxt.exe done."),
        ("zero\u200bwidth \ufeffmark\u00ad.", "zerowidth mark."),
        ("tags\U000e0041\U000e0042 gone.", "tags gone."),
        ("family 👩\u200d👩\u200d👧 stays.", "family 👩\u200d👩\u200d👧 stays."),
        ("one\u2028two\u2029three\x85four.", "one two three four."),
        ("lone \ud800 half.", "lone half."),
    ],
)
def test_what_is_no_plain_text_goes(said: str, left: str) -> None:
    assert admitted(said) == left


def test_only_so_many_sentences_pass() -> None:
    assert admitted("One is here. Two is here. Three is here.", sentences=2) == ("One is here. Two is here.")
    assert admitted("One is here. Two is here.", sentences=0) == "One is here."


def test_a_long_sentence_is_cut_at_a_word() -> None:
    text = admitted("word " * 1_000)
    assert len(text) <= SUMMARY_CHARS_MAX
    assert text.endswith("word\u2026")


@pytest.mark.parametrize("said", ["", " \n", "...", "<b></b>", "<script>alert(1)</script>", "\u202e\u200b", "-", "**"])
def test_nothing_readable_is_unusable(said: str) -> None:
    with pytest.raises(ModelAnswerUnusable, match="no readable word"):
        admitted(said)


def test_a_book_is_no_summary() -> None:
    with pytest.raises(ModelAnswerUnusable, match="20,001 characters came"):
        admitted("x" * (SUMMARY_ANSWER_CHARS_MAX + 1))


@pytest.mark.parametrize("deep", [1, 5, 50, 2_000])
def test_markup_wrapped_in_entities_never_comes_out(deep: int) -> None:
    assert "<" not in admitted(f"Done &{'amp;' * deep}lt;script> here.")


PIECES = st.sampled_from(["<", ">", "&", "&lt;", "&amp;", "script", "</", "<!--", "b", " ", ".", "\n", "**", "\u202e"])


@given(st.one_of(st.text(st.characters()), st.lists(PIECES).map("".join)))
def test_whatever_passes_is_one_short_visible_line(said: str) -> None:
    try:
        text = admitted(said, sentences=2)
    except ModelAnswerUnusable:
        return
    assert 0 < len(text) <= SUMMARY_CHARS_MAX
    assert text == " ".join(text.split())
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not {c for c in text if unicodedata.category(c) in unseen} - {"\u200c", "\u200d"}


@given(st.one_of(st.text(st.characters()), st.lists(PIECES).map("".join)))
def test_no_tag_is_left(said: str) -> None:
    lines = unmarked(said).splitlines()
    assert not [line for line in lines if "<script" in line or "</b" in line or "<!--" in line]


@given(st.text(st.characters()))
def test_making_printable_twice_changes_nothing_more(text: str) -> None:
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(("text", "cut"), [("abc", "abc"), ("abc de fgh", "abc…"), ("abcdefgh", "abcd…")])
def test_lines_are_shortened_at_blanks(text: str, cut: str) -> None:
    assert shortened(text, 5) == cut
