"""Links from the docs to other files of the repository go on working in the built site.

In the repository such links are relative (`../results/theory/theory.json`). The site knows no
address of the repository, so the files they name travel with it, under `repository/`: documents as
pages, short texts as pages that show them, the rest as it is. A folder stands for its README.md, or for a list
of its files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FOLDER = "repository"
LANGUAGES = {
    ".json": "json",
    ".py": "python",
    ".service": "ini",
    ".timer": "ini",
    ".toml": "toml",
    ".yaml": "yaml",
}
MOST_BYTES = 100_000  # larger texts are offered as files

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, and those that these link to in turn."""
    repository = Repository.of(config)
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for linked in repository.links(page.src_uri, page.content_string):
            address = repository.address(linked)
            if address.startswith(FOLDER) and address not in files.src_uris:
                file = repository.file(linked, config)
                files.append(file)
                if file.is_documentation_page():
                    waiting.append(file)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page at the files that travel with the site."""
    repository = Repository.of(config)
    source = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        target = repository.target(source, link[1])
        if target is None:
            return link[1]
        return Path(os.path.relpath(repository.address(target), Path(source).parent)).as_posix()

    return _LINK.sub(moved, markdown)


@dataclass(frozen=True)
class Repository:
    """Where things stand: `root` of the repository, `docs` within it."""

    root: Path
    docs: str

    @classmethod
    def of(cls, config: MkDocsConfig) -> Repository:
        """The repository of `mkdocs.yml`."""
        root = Path(config.config_file_path).parent
        return cls(root, Path(config.docs_dir).relative_to(root).as_posix())

    def links(self, source: str, text: str) -> Iterator[Path]:
        """Files of the repository that a page links to."""
        targets = (self.target(source, link) for link in _LINK.findall(text))
        return (target for target in targets if target is not None)

    def target(self, source: str, link: str) -> Path | None:
        """The file, relative to the root, that a link on a page of the site means; None: not one."""
        path = Path(source)
        is_carried = path.is_relative_to(FOLDER)
        home = self.root / (path.relative_to(FOLDER) if is_carried else self.docs / path)
        target = Path(os.path.normpath(home.parent / link))
        target = target / "README.md" if (target / "README.md").is_file() else target
        inside = target.is_relative_to(self.root) and target != self.root and target.exists()
        return target.relative_to(self.root) if inside else None

    def address(self, target: Path) -> str:
        """Path among the site's sources; a text that is shown has a page of its own."""
        if target.is_relative_to(self.docs):
            return target.relative_to(self.docs).as_posix()
        if (self.root / target).is_dir():
            return f"{FOLDER}/{target.as_posix()}/index.md"
        return f"{FOLDER}/{target.as_posix()}{'.md' if self._is_shown(target) else ''}"

    def file(self, target: Path, config: MkDocsConfig) -> File:
        """The file as the site has it."""
        path, address = self.root / target, self.address(target)
        if path.is_dir():
            return File.generated(config, address, content=_listing(path))
        if not self._is_shown(target):
            return File.generated(config, address, abs_src_path=str(path))
        language, text = LANGUAGES[target.suffix], path.read_text(encoding="utf-8")
        page = f"# {target.name}\n\n`{target.as_posix()}`\n\n````{language}\n{text}\n````\n"
        return File.generated(config, address, content=page)

    def _is_shown(self, target: Path) -> bool:
        return target.suffix in LANGUAGES and (self.root / target).stat().st_size <= MOST_BYTES


def _listing(folder: Path) -> str:
    """A page of links to the files of a folder."""
    names = sorted(each.name for each in folder.iterdir() if each.is_file())
    return f"# {folder.name}\n\n" + "".join(f"- [{name}]({name})\n" for name in names)
