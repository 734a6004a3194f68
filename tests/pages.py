"""What a page in the browser does that an offline page must not."""

from typing import Any


def listen(page: Any) -> tuple[list[str], list[str]]:
    """Lists that fill up from now on: addresses asked for outside the page itself, and what the console says."""
    foreign: list[str] = []
    complaints: list[str] = []

    def requested(request: Any) -> None:
        if not request.url.startswith(("file://", "data:")):
            foreign.append(request.url[:80])

    page.on("request", requested)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return foreign, complaints
