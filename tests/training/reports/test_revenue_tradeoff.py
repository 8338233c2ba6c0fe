"""The plot and the table of quality against revenue."""

import polars as pl

from training.reports import html, plots


def curve() -> pl.DataFrame:
    rows = [(0.0, 0.34, 9.0, 0.0, 0.0), (0.25, 0.32, 11.7, -0.02, 2.7), (1.0, 0.28, 12.6, -0.06, 3.6)]
    names = ("value", "ndcg_at_10", "revenue_at_10", "ndcg_change", "revenue_change")
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(trees=pl.lit(120.0))
    changes = (pl.col(f"{c}_change") for c in ("ndcg", "revenue"))
    ends = [change + by for change in changes for by in (-0.01, 0.01)]
    names = (f"{c}_change_{end}" for c in ("ndcg", "revenue") for end in ("low", "high"))
    return table.with_columns(end.alias(name) for end, name in zip(ends, names, strict=True))


def test_the_title_states_the_change_of_the_chosen_value():
    plot = plots.plot_revenue_tradeoff(curve(), 0.25, "one_to_one")
    assert plot.title.startswith("one-to-one: value 0.25 gives +30% revenue@10 for -0.020 NDCG@10")
    assert "value 1: NDCG@10 0.280, revenue@10 12.60" in plot.alt_text
    (axes,) = plot.figure().axes
    assert {text.get_text() for text in axes.texts} == {"0", "0.25", "1"}
    assert "currency" in axes.get_ylabel()


def test_without_revenue_the_title_states_an_absolute_change():
    table = curve().with_columns(revenue_at_10=0.0, revenue_change=0.0)
    assert "value 1 gives +0.00 revenue@10" in plots.plot_revenue_tradeoff(table, 1.0, "predictive").title


def test_the_page_has_a_row_for_each_value():
    section = html.render_revenue_tradeoff(curve(), 0.25, "one_to_one")
    assert section.count("<tr>") == 1 + 3
    assert "0.25 (chosen)" in section
    assert "-0.0200 (-0.0300 to -0.0100)" in section
    assert "<svg" in section
