"""The charts are legible on a white page and on GitHub's dark one."""

import pytest

from benchmarks.pictures import INK, OTHERS, OURS

PAGES = {"white": "#ffffff", "GitHub's dark page": "#0d1117"}


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2 of a colour such as `#57606a`."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
@pytest.mark.parametrize(("colour", "least"), [(INK, 4.0), (OURS, 3.0), (OTHERS, 3.0)])
def test_colours_have_contrast(colour: str, least: float, page: str) -> None:
    """Text has a contrast of 4 or more, bars of 3 or more."""
    dark, light = sorted((luminance(colour), luminance(page)))
    assert (light + 0.05) / (dark + 0.05) >= least
