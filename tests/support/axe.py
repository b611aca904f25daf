"""axe-core in the browser of the tests: violations of accessibility rules on a page.

The script comes from npm, pinned with the other tools of `make api-tools`. Without it, or without Chromium, the
tests that need both are skipped.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Chromium, find_chromium

SCRIPT = Path(__file__).parents[2] / ".venv-api-tools/node/node_modules/axe-core/axe.min.js"
CHROMIUM = find_chromium()
WIDE, NARROW = (1366, 900), (390, 844)

needs_axe = pytest.mark.skipif(
    CHROMIUM is None or not SCRIPT.is_file(),
    reason="Chromium (Debian: apt-get install chromium) or axe-core (npm, then: make api-tools) is not installed",
)
# Rules of all its tags, the best practices too.
_RUN = """
axe.run(%s, {resultTypes: ["violations"], elementRef: false}).then(({violations}) => violations.flatMap(
  ({id, nodes}) => nodes.map(({target, any, all, none}) =>
    `${id}: ${target.flat().join(" ")} (${[...any, ...all, ...none][0]?.message ?? ""})`)))
"""
_AT_REST = "document.getAnimations().every(({ playState }) => playState === 'finished')"


def violations(browser: Chromium, within: str | None = None) -> list[str]:
    """Return what is wrong with the page, or with the part that the selector `within` names.

    Each violation begins with the rule's name and names the element.
    """
    if not browser.evaluate("'axe' in window"):
        browser.evaluate(f"{SCRIPT.read_text()}; 0")
    browser.wait_for(_AT_REST)  # colours that change slowly are of little contrast in between
    found: list[str] = browser.evaluate(_RUN % (json.dumps(within) if within else "document"))
    return found


def four_views(browser: Chromium) -> Iterator[str]:
    """Show the page wide and narrow, light and dark; yield each view's name, for messages."""
    for width, height in (WIDE, NARROW):
        for dark in (False, True):
            browser.look(width=width, height=height, dark=dark)
            yield f"{width} px, {'dark' if dark else 'light'}"
