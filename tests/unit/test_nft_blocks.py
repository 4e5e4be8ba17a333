"""nft text is divided into blocks and statements as nft does."""

from __future__ import annotations

from lab.native.nft_blocks import Place, statements


def test_nft_text_is_divided_as_its_grammar_says() -> None:
    """Whole tables on a line, sets over many, commands, continued lines and variables."""
    text = (
        "define bit = 0x20\n"
        "table ip t { chain c { accept; meta mark set $bit } }\n"
        "table inet u {\n  set s {\n    type ipv4_addr\n  }\n  chain d {\n"
        "    ip saddr {\n 1.1.1.1,\n 2.2.2.2 } \\\n      drop\n  }\n}\n"
        "insert rule ip t c counter drop\n"
    )
    found = [(s.place.table, s.place.name, s.text, s.line) for s in statements(text)]
    assert found == [
        ("t", "c", "accept", 2),
        ("t", "c", "meta mark set 0x20", 2),
        ("u", "s", "type ipv4_addr", 5),
        ("u", "d", "ip saddr { 1.1.1.1, 2.2.2.2 } drop", 8),
        ("t", "c", "counter drop", 14),
    ]


def test_statements_outside_of_blocks_have_no_place() -> None:
    """``flush ruleset`` belongs to no chain."""
    (found,) = statements("flush ruleset\n")
    assert found.place == Place()
