"""Ask for the external links of the documents: `python -m tools.links`, as `make links` does.

Links within the project are compared with its files by tests/test_docs_references.py.

Exit codes: 0 each link has a page; 1 there are links without one; 2 some hosts could not be asked.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urldefrag, urlsplit

import requests

ROOT: Final = Path(__file__).parents[1]
REPOSITORY: Final = "https://github.com/servease/appointment-service"
TIMEOUT_S: Final = 10.0
PARALLEL: Final = 8
BROKEN, NOT_ASKED = 1, 2
_LINK: Final = re.compile(r"\]\((https?://[^)\s]+)\)")
_GONE: Final = (404, 410)


class Answer(Enum):
    """What is known of a link."""

    PAGE = "there is a page"
    BROKEN = "there is no page"
    NOT_ASKED = "the host could not be asked"


def main() -> int:
    """Ask for each link once; return the exit code."""
    links = sorted(external_links(documents()))
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = dict(zip(links, pool.map(ask, links), strict=True))
    code, lines = judge(answers)
    print(*lines, sep="\n")
    return code


def documents() -> Iterator[Path]:
    """Yield the documents that people read."""
    for folder in (ROOT, ROOT / "docs", ROOT / "examples", ROOT / "packaging"):
        yield from (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))


def external_links(paths: Iterable[Path]) -> set[str]:
    """Return the addresses that the documents link to, without fragments and without this repository's own."""
    found = {urldefrag(link).url for path in paths for link in _LINK.findall(path.read_text("utf-8"))}
    return {link for link in found if not link.startswith(REPOSITORY)}


def ask(link: str) -> Answer:
    """Request a page, following redirects. A refusal, a server's error or no answer says nothing of the link."""
    try:
        with requests.get(
            link, timeout=TIMEOUT_S, stream=True, headers={"User-Agent": "servease-links"}
        ) as response:
            if response.ok:
                return Answer.PAGE
            # A proxy or a mirror answers 404 without a body for what it does not have; a site has a page for it.
            is_gone = response.status_code in _GONE and bool(next(response.iter_content(1), b""))
            return Answer.BROKEN if is_gone else Answer.NOT_ASKED
    except requests.RequestException:
        return Answer.NOT_ASKED


def judge(answers: dict[str, Answer]) -> tuple[int, list[str]]:
    """Return the exit code and what is to be said."""
    broken = [link for link, answer in answers.items() if answer is Answer.BROKEN]
    not_asked = [link for link, answer in answers.items() if answer is Answer.NOT_ASKED]
    lines = [f"{link}: {Answer.BROKEN.value}" for link in broken]
    lines.append(
        f"{len(answers) - len(broken) - len(not_asked)} of {len(answers)} external links have a page."
    )
    if not_asked:
        hosts = sorted({urlsplit(link).netloc for link in not_asked})
        lines.append(
            f"NOT ASKED: {len(not_asked)}, so nothing can be said of them. No useful answer from"
            f" {', '.join(hosts)}"
        )
    return BROKEN if broken else NOT_ASKED if not_asked else 0, lines


if __name__ == "__main__":
    sys.exit(main())
