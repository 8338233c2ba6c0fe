import gzip
from pathlib import Path

import pytest

from features.common.errors import InputError
from features.sources.parsing.files import product_feed, readers

RSS = """<?xml version="1.0"{encoding}?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel>
<title>Leaf &amp; Mug</title><link>https://shop.example</link>
<item><g:id>00042</g:id><title>Mug</title><g:title>Mug, größer</g:title><g:price>12.00 EUR</g:price>
<g:shipping><g:country>DE</g:country><g:price>4.90 EUR</g:price></g:shipping>
<g:availability>in_stock</g:availability><g:product_type>Home &gt; Kitchen</g:product_type>
<g:product_type>Gifts</g:product_type><description><![CDATA[<b>blue</b>]]></description></item>
<item><g:id>7</g:id><g:title/></item>
</channel></rss>
"""
ATOM = """<?xml version="1.0"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title>
<entry><id>tag:shop,1</id><g:id>00042</g:id><title>Mug</title><link href="https://shop.example/m"/>
<g:price>12.00 EUR</g:price></entry></feed>
"""


@pytest.mark.parametrize("encoding", ["", "utf-8", "utf-16", "iso-8859-1", "windows-1252"])
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_an_rss_feed_is_a_table(tmp_path: Path, encoding: str, piece: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(product_feed, "PIECE", piece)
    declared = f' encoding="{encoding}"' if encoding else ""
    (tmp_path / "feed.xml").write_bytes(RSS.format(encoding=declared).encode(encoding or "utf-8"))
    first, second = readers.read_table(tmp_path / "feed.xml").to_dicts()
    assert first == {
        "id": "00042", "title": "Mug, größer", "price": "12.00 EUR", "shipping.country": "DE",
        "shipping.price": "4.90 EUR", "availability": "in_stock", "product_type": "Home > Kitchen",
        "description": "<b>blue</b>",
    }  # fmt: skip
    assert {k: v for k, v in second.items() if v} == {"id": "7"}


def test_an_atom_feed_under_another_name(tmp_path: Path):
    (tmp_path / "feed").write_bytes(gzip.compress(ATOM.encode()))
    assert readers.read_table(tmp_path / "feed").to_dicts() == [
        {"id": "00042", "title": "Mug", "link": "https://shop.example/m", "price": "12.00 EUR"}
    ]
    assert readers.read_column_names(tmp_path / "feed") == ["id", "title", "link", "price"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b"><!ENTITY b "&a;&a;">]><rss><item><id>&b;</id></item></rss>', "declares entities"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss><item>&a;</item></rss>', "declares entities"),
        ("<rss><channel><item><id>1</id></item></channel>", "line 1: no element found.*complete"),
        ("<urlset><url>x</url></urlset>", "it is no product feed"),
        ("<rss><item>" + "<a>" * 20 + "</item></rss>", "more than 8 deep"),
        ("id,title\n1,x\n", "does not begin as XML does"),
    ],
)  # fmt: skip
def test_what_is_no_feed_is_refused(tmp_path: Path, content: str, message: str):
    (tmp_path / "feed.xml").write_text(content)
    with pytest.raises(InputError, match=message):
        readers.read_table(tmp_path / "feed.xml")
