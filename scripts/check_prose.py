"""Check that the documents read well: `python -m scripts.check_prose`.

Long sentences, long paragraphs, and sentences full of numbers or parentheses are named with file and line. Tables, code
and headings are left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.documents.pages import PAGES, name_of
from markdown_it import MarkdownIt
from markdown_it.token import Token

MOST_WORDS = 45
MOST_CHARACTERS = 6 * 120
MOST_NUMBERS = 3
MOST_PARENTHESES = 1

_SENTENCE_END = re.compile(r"(?<=[.!?])[)\"]?\s+(?=[^a-z\s])")
_NUMBER = re.compile(r"(?<!phase )(?<![\w/.-])[-−+]?\d[\d,.]*(?:x\d+)?")
_GENERATED = re.compile(r"<!-- table \w+ -->\n.*?<!-- end -->", flags=re.DOTALL)
_READER = MarkdownIt("commonmark").enable("table")


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the fault of each place that reads badly."""
    for line, paragraph in paragraphs(_GENERATED.sub(lambda table: "\n" * table[0].count("\n"), text)):
        if len(paragraph) > MOST_CHARACTERS:
            yield line, f"a paragraph of {len(paragraph)} characters (at most {MOST_CHARACTERS}): {paragraph[:60]}..."
        for sentence in _SENTENCE_END.split(paragraph):
            counted = {
                "words": (len(sentence.split()), MOST_WORDS),
                "numbers": (len(_NUMBER.findall(sentence)), MOST_NUMBERS),
                "parentheses": (sentence.count("("), MOST_PARENTHESES),
            }
            for what, (count, most) in counted.items():
                if count > most:
                    yield line, f"a sentence with {count} {what} (at most {most}): {sentence[:60]}..."


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each paragraph, also of those in lists. Code counts as one word."""
    tokens = _READER.parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "paragraph_open" and inline.map is not None:
            yield inline.map[0] + 1, _plain(inline.children or [])


def _plain(children: list[Token]) -> str:
    words = {"text": None, "code_inline": "CODE", "softbreak": " ", "hardbreak": " "}
    return "".join(words[each.type] or each.content for each in children if each.type in words)


def main() -> int:
    """Print the faults of all documents; return 1 if there are any."""
    listed = [
        f"{name_of(page)}:{line}: {fault}" for page in PAGES for line, fault in faults(page.read_text(encoding="utf-8"))
    ]
    print("\n".join(listed), end="\n" if listed else "", file=sys.stderr)
    return 1 if listed else 0


if __name__ == "__main__":
    sys.exit(main())
