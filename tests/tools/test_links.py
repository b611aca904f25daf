"""`make links`: which links have a page, which have none, and which could not be asked."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from servease_appt.testing.servers import free_port
from tools import links
from tools.links import Answer

ANSWERS = {"/page": (200, b"x"), "/gone": (404, b"Not found"), "/mirror": (404, b""), "/busy": (503, b"x")}


class Site(BaseHTTPRequestHandler):
    """Answers as `ANSWERS` says."""

    def do_GET(self) -> None:
        """Answer one request."""
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing to standard error."""


@pytest.fixture
def site() -> Iterator[str]:
    """Run the site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_answer_that_says_nothing_is_no_page_and_no_error(site: str) -> None:
    """Only a page that says so itself is missing."""
    assert links.ask(f"{site}/page") is Answer.PAGE
    assert links.ask(f"{site}/gone") is Answer.BROKEN
    assert links.ask(f"{site}/mirror") is Answer.NOT_ASKED
    assert links.ask(f"{site}/busy") is Answer.NOT_ASKED
    assert links.ask(f"http://127.0.0.1:{free_port()}/") is Answer.NOT_ASKED


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([Answer.PAGE], 0, "1 of 1 external links have a page."),
        ([Answer.PAGE, Answer.NOT_ASKED], 2, "NOT ASKED: 1"),
        ([Answer.BROKEN, Answer.NOT_ASKED], 1, "https://host0/: there is no page"),
    ],
)
def test_a_link_that_could_not_be_asked_is_not_called_well(
    answers: list[Answer], code: int, said: str
) -> None:
    """Behind a proxy the exit code is neither that of success nor that of a broken link."""
    judged, lines = links.judge({f"https://host{n}/": answer for n, answer in enumerate(answers)})
    assert judged == code
    assert said in "\n".join(lines)


def test_each_link_is_asked_once_and_the_projects_own_are_left_out(tmp_path: Path) -> None:
    """Its own are compared with the files."""
    document = tmp_path / "a.md"
    document.write_text(
        f"[a](https://x.org/p#1) [b](https://x.org/p#2) [c]({links.REPOSITORY}/issues) `https://y`"
    )
    assert links.external_links([document]) == {"https://x.org/p"}
    assert len(links.external_links(links.documents())) > 10
