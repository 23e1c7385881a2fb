"""A visit of the page: a window of the browser that notes whatever goes wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.page.mock import Mock

PATIENCE_MS = 30_000
NOTE_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


class Visit:
    """One window; everything that goes wrong is in `troubles`."""

    def __init__(self, page: Any, mock: Mock) -> None:
        self.page = page
        self.mock = mock
        self.troubles: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(NOTE_VIOLATIONS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("dialog", lambda dialog: self.troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)

    def open(self) -> None:
        self.page.goto(self.mock.url)
        self.wait("state", "live")

    def wait(self, element: str, text: str) -> None:
        """Until the element with this id has the text somewhere in it."""
        self.page.wait_for_function(
            "([id, text]) => document.getElementById(id).textContent.includes(text)",
            arg=[element, text],
        )

    def text(self, selector: str) -> str:
        return str(self.page.text_content(selector))

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.page.locator(selector).all_text_contents()]

    def tell(self, code: str) -> Any:
        return self.page.evaluate(code)


@contextmanager
def visit(
    browser: Any,
    mock: Mock,
    *,
    width: int = 1440,
    height: int = 900,
    forgives: str | None = None,
    **context: Any,
) -> Iterator[Visit]:
    """A visit that fails at its end if anything went wrong in the browser.

    Args:
        forgives: what errors of the console have in them that the test itself provokes.
        context: as of `browser.new_context`.
    """
    window = browser.new_context(viewport={"width": width, "height": height}, **context)
    try:
        visiting = Visit(window.new_page(), mock)
        visiting.open()
        yield visiting
        troubles = [
            trouble for trouble in visiting.troubles if not forgives or forgives not in trouble
        ]
        assert troubles == []
        assert visiting.tell("window.violations") == []
        assert [url for url in visiting.asked if not url.startswith(mock.url)] == []
    finally:
        window.close()
