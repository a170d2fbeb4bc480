"""Put the page together. Like many a first attempt, this one forgets something until a check says so."""

import os
import sys
from html import escape
from pathlib import Path

PICTURES = {
    "map.svg": "The layers of the package: commands on top, then the executor, importers, adapters and the pure core.",
    "sizes.svg": "A bar for every folder of the repository, as long as the folder has lines.",
}


def main() -> None:
    """Write the page to the file named on the command line."""
    target = Path(sys.argv[1])
    brief = Path(os.environ["EXECUTOR_BRIEF"]).read_text(encoding="utf-8")
    told = "no alternative text" in brief
    pictures = "\n".join(picture(name, text if told else "") for name, text in PICTURES.items())
    words = Path("tour/words.md").read_text(encoding="utf-8").splitlines()[2:]
    items = "\n".join(f"<li>{escape(line[2:]).replace('`', '')}</li>" for line in words)
    target.write_text(
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>A tour of this repository</title>\n'
        "<style>body{font:16px/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}img{width:100%}</style>\n"
        f"<h1>A tour of this repository</h1>\n{pictures}\n"
        f"<h2>What every module is for</h2>\n<ul>\n{items}\n</ul>\n</html>\n",
        encoding="utf-8",
    )


def picture(name: str, text: str) -> str:
    """An image, with its alternative text if there is one."""
    alternative = f' alt="{escape(text)}"' if text else ""
    return f'<p><img src="{name}"{alternative}></p>'


main()
