"""Data Docs made steady and self-contained: the same data gives the same pages, and they fetch nothing.

Great Expectations puts times, random ids and links to scripts, styles and pictures of other hosts into them.
"""

import re
import shutil
from pathlib import Path

TIME = re.compile(r"\d{8}T\d{6}\.\d+Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
FETCHED = re.compile(
    r"""<link[^>]*\bhref="https?://[^>]*>|"""
    r"""<img[^>]*\bsrc="https?://[^>]*>""",
    re.DOTALL,
)
PICTURE = re.compile(r"url\([\"']?https?://[^)]*\)")
NEEDLESS = ("static/fonts", "static/images")
STYLE = "static/styles/data_docs_default_styles.css"
OWN_STYLE = """
/* In place of the style sheets that Great Expectations links to on other hosts. */
body { font-family: system-ui, sans-serif; line-height: 1.45; margin: 1rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0; width: 100%; }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; }
.badge { background: #eee; border-radius: .3rem; padding: 0 .3rem; }
.modal, .navbar-toggler, .close { display: none; }
"""
INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Data Docs</title><link rel="stylesheet" href="{style}"></head>
<body>
<h1>Data Docs</h1>
<p>Validation results</p><ul>{results}</ul>
<p>Expectation suites</p><ul>{suites}</ul>
</body></html>
"""


def settle(folder: Path) -> None:
    """Rewrite the pages in `folder` by `steady`, with an index that needs no script; pictures and fonts go."""
    for page in sorted([*folder.rglob("*.html"), *folder.rglob("*.css")]):
        page.write_text(steady(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name in NEEDLESS:
        shutil.rmtree(folder / name, ignore_errors=True)
    with (folder / STYLE).open("a", encoding="utf-8") as style:
        style.write(OWN_STYLE)
    results, suites = (_links(folder, name) for name in ("validations", "expectations"))
    index = INDEX.format(style=STYLE, results=results, suites=suites)
    (folder / "index.html").write_text(index, encoding="utf-8")


def _links(folder: Path, name: str) -> str:
    pages = sorted(page.relative_to(folder) for page in (folder / name).rglob("*.html"))
    return "".join(f'<li><a href="{page.as_posix()}">{page.parts[1].removesuffix(".html")}</a></li>' for page in pages)


def steady(page: str) -> str:
    """A page of Data Docs without what changes from run to run and without what would be fetched from elsewhere."""
    ids: dict[str, str] = {}
    page = FETCHED.sub("", PICTURE.sub("none", page))
    page = TIME.sub("20000101T000000.000000Z", SCRIPT.sub("", page))
    return UUID.sub(lambda found: ids.setdefault(found[0], f"id-{len(ids)}"), page)
