"""The page of the matrix: what follows from the registry is up to date, and every link leads on."""

from __future__ import annotations

import re
from pathlib import Path

from lab.pairs import current
from lab.plugin import entries
from lab.report.coexistence import MEASURED, static

PAGE = (Path(__file__).parents[1] / "docs" / "coexistence.md").read_text(encoding="utf-8")
ROWS = tuple(software for software in current(entries()) if software.registered)


def test_the_part_that_follows_from_the_registry_is_fresh() -> None:
    """Who is judged and what is predicted; after a change, ``fwmark-lab matrix --page``."""
    assert PAGE.partition(MEASURED)[0].rstrip("\n") == static(ROWS).rstrip("\n")


def test_every_cell_leads_to_its_evidence() -> None:
    """Each cell of the table is a link to a section, and no section is left alone."""
    rows = re.findall(r"^\| \*\*.+$", PAGE.partition(MEASURED)[2], re.MULTILINE)
    cells = [cell.strip() for row in rows for cell in row.split("|")[2:-1]]
    assert len(rows) == len(ROWS)
    assert cells.count("") == len(ROWS)  # the diagonal
    assert all(re.fullmatch(r"\[[a-z ]+\]\(#.+\)", cell) for cell in cells if cell)
    links = set(re.findall(r"\]\(#([a-z0-9-]+)\)", PAGE))
    sections = {h.lower().replace(" ", "-") for h in re.findall(r"^### (.+)$", PAGE, re.MULTILINE)}
    assert links == sections
    assert links


def test_every_section_names_an_outcome_flows_and_cases() -> None:
    """A conflict without its evidence would be hearsay."""
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        assert re.search(r"^- \*\*[a-z ]+\*\*.*: .+\.", section, re.MULTILINE), section
        assert re.search(r"^  Flows: .+; .+\.$", section, re.MULTILINE), section
        assert re.search(r"^  `fwmark-lab (trace|check) .+`$", section, re.MULTILINE), section
