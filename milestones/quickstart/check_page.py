"""Check a page: title, language, every picture there and with an alternative text, nothing loaded."""

import sys
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Collects what is wrong with a page."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.problems: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one tag."""
        self.tags.add(tag)
        given = dict(attrs)
        if tag == "html" and not given.get("lang"):
            self.problems.append("the page has no language")
        if tag == "img":
            source = given.get("src") or ""
            if not given.get("alt"):
                self.problems.append(f"the picture {source} has no alternative text")
            if not (self.folder / source).is_file():
                self.problems.append(f"the picture {source} does not exist")
        if tag in {"script", "link", "iframe"}:
            self.problems.append(f"the page loads something: <{tag}>")


def main() -> None:
    """Exit 1 and say why if something is wrong."""
    path = Path(sys.argv[1])
    page = Page(path.parent)
    page.feed(path.read_text(encoding="utf-8"))
    if "title" not in page.tags:
        page.problems.append("the page has no title")
    for problem in page.problems:
        sys.stdout.write(f"{path}: {problem}\n")
    sys.exit(1 if page.problems else 0)


main()
