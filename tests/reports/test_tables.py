from __future__ import annotations

import dataclasses

from gradaudit.records import Estimate, HeadRow
from gradaudit.reports.tables import attention, cells, halves, trunk, units, weights
from gradaudit.reports.tables.cells import Table
from tests import shared_report, shared_rows


def labels(table: Table) -> list[str]:
    return [column.label for column in table.columns]


def column(table: Table, label: str) -> list[str]:
    place = labels(table).index(label)
    return [row[place].text for row in table.rows]


def test_gates_stand_below_their_weight() -> None:
    table = weights.table(shared_rows.gated("lstm", 64))
    names = [row[0] for row in table.rows]
    assert [cell.text for cell in names[:5]] == ["lstm.weight_ih_l0", *shared_rows.GATES]
    assert [cell.kind for cell in names[:3]] == ["name", "name sub", "name sub"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    radii = column(table, "Spectral radius")
    assert radii[:5] == ["–", "–", "–", "–", "–"]
    assert all(float(radius) > 0 for radius in radii[6:10])


def test_a_folded_norm_stands_below_its_weight_with_its_interval() -> None:
    table = weights.table(shared_rows.weights(6, 1.0))
    (folded,) = [row for row in table.rows if "folded" in row[0].text]
    assert folded[0].text == "with layers.6.norm folded in"
    assert folded[labels(table).index("Spectral norm")].aside == "± 0.05%"


def test_columns_without_a_number_are_left_out() -> None:
    assert "Spectral radius" not in labels(weights.table(shared_rows.weights(3, 1.0)))
    bare = [dataclasses.replace(row, forward_gain=None) for row in shared_rows.stages(5, 1.0)]
    assert "Forward gain" not in labels(trunk.table(bare, ()))
    assert "Gain" in labels(trunk.table(bare, ()))


def test_singular_values_of_a_stage_share_a_cell() -> None:
    values = [Estimate(v, v * 0.99, v * 1.01, "") for v in (3.0, 2.0, 1.0)]
    cell = trunk.singular_values(values)
    assert (cell.text, cell.aside) == ("3.00", "2.97 – 3.03; then 2.00, 1.00")
    assert trunk.singular_values([]).text == cells.EMPTY
    assert (
        column(trunk.table(shared_rows.stages(31, 1.3), {6}), "Singular values")[6] != cells.EMPTY
    )


def test_rank_and_cosine_stand_with_the_modules_and_sameness_is_marked() -> None:
    rows = shared_rows.gpt_modules(2, 64)
    rows = (dataclasses.replace(rows[0], sample_correlation=0.99), *rows[1:])
    table = units.modules(rows)
    first = table.rows[0]
    rank, cosine = (first[labels(table).index(n)] for n in ("Effective rank", "Sample cosine"))
    assert (rank.text, rank.aside) == ("61.0", "of 64")
    assert cosine.alert
    assert not table.rows[1][labels(table).index("Sample cosine")].alert


def test_heads_are_a_map_with_the_largest_strongest() -> None:
    table = attention.qk(shared_rows.head_norms(4, 4))
    assert table
    assert labels(table) == ["Attention", "0", "1", "2", "3"]
    shades = [[cell.kind for cell in row[1:]] for row in table.rows]
    assert shades[3][3] == "number heat4"
    assert [kind for row in shades for kind in row].count("number heat4") == 1


def test_even_heads_are_not_coloured_apart() -> None:
    table = attention.ov(shared_rows.head_norms(4, 4))
    assert table
    assert {cell.kind for row in table.rows for cell in row[1:]} == {"number heat0"}


def test_many_heads_are_summed_up() -> None:
    table = attention.qk(shared_rows.head_norms(3, 40))
    assert table
    assert labels(table) == ["Attention", "Heads", "Median", "Largest", "Head"]
    assert column(table, "Heads") == ["40", "40", "40"]


def test_heads_that_were_not_measured_make_no_map() -> None:
    assert attention.qk([]) is None
    assert attention.ov([HeadRow("a", 0, None, None)]) is None
    half = attention.qk(
        [
            HeadRow("a", 0, None, None),
            HeadRow("a", 1, Estimate.exact(0.0, ""), None),
            HeadRow("a", 2, Estimate.exact(2.0, ""), None),
        ]
    )
    assert half
    assert [cell.text for cell in half.rows[0]] == ["a", "–", "0", "2.00"]


def test_masked_queries_stand_out() -> None:
    rows = shared_rows.attention(3, 2)
    table = attention.calls((*rows, dataclasses.replace(rows[0], masked_queries=7)))
    masked = [row[labels(table).index("Masked queries")] for row in table.rows]
    assert [cell.text for cell in masked] == ["–", "–", "–", "7"]
    assert masked[3].alert
    assert "Masked queries" not in labels(attention.calls(rows))


def test_half_precision_says_what_overflows_and_what_is_lost() -> None:
    table = halves.table(shared_rows.halves())
    assert column(table, "Overflows in") == ["transformer.h.11.mlp.c_proj", "nowhere"]
    assert column(table, "Gradients lost") == ["13%", "0%"]
    assert column(table, "Adam's eps") == ["becomes 0", "kept"]
    assert table.rows[0][0].aside == "your recipe"
    shares = table.rows[0][labels(table).index("Gradients lost")]
    assert shares.aside == "12.8% – 13.4%"


def test_an_overflow_that_stays_inside_is_no_alarm() -> None:
    row = shared_rows.halves()
    tame = dataclasses.replace(row.formats[0], overflow_spreads=False)
    table = halves.table(dataclasses.replace(row, formats=(tame,)))
    cell = table.rows[0][labels(table).index("Overflows in")]
    assert cell.aside == "without changing the loss"
    assert not cell.alert


def test_many_overflows_are_counted() -> None:
    row = shared_rows.halves()
    first = dataclasses.replace(row.formats[0], overflows_in=("a", "b", "c", "d"))
    table = halves.table(dataclasses.replace(row, formats=(first,)))
    cell = table.rows[0][labels(table).index("Overflows in")]
    assert (cell.text, cell.aside) == ("a, b", "and 2 more modules")


def test_long_tables_are_cut_to_what_stands_out() -> None:
    many = tuple(shared_rows.gpt_modules(50, 64))
    odd = dataclasses.replace(many[130], saturated_fraction=0.97, module="odd")
    table = units.modules((*many[:130], odd, *many[131:]))
    assert len(table.rows) == cells.ROWS_SHOWN
    assert "odd" in column(table, "Module")
    assert "The 250 of 300 rows" in table.note


def test_every_row_has_a_cell_for_every_column() -> None:
    m = shared_report.transformer().measurements
    tables = (weights.table(m.weights), units.modules(m.modules), attention.calls(m.attention))
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_rows_that_do_not_pass_are_told_apart() -> None:
    stages = trunk.table(shared_rows.stages(31, 1.3), {6})
    assert cells.addressed(stages, "table-stages", ()).hot == {6}
    assert cells.addressed(stages, "table-stages", {"layers.4"}).hot == {2, 6}
    folded = trunk.table(shared_rows.stages(500, 1.0), {6})  # six stages each
    assert cells.addressed(folded, "table-stages", ()).hot == {1}


def test_what_stands_below_a_row_stands_out_with_it() -> None:
    table = weights.table(shared_rows.gated("rnn", 8))  # a weight, then its four gates, twice
    found = cells.addressed(table, "table-weights", {"rnn.weight_hh_l0"})
    assert (found.id, found.hot) == ("table-weights", {5, 6, 7, 8, 9})


def test_peaks_peers_and_dead_outputs_have_columns() -> None:
    rows = list(shared_rows.weights(6, 1.0))
    assert not {"Peak", "Peers", "Dead outputs"} & set(labels(weights.table(rows)))
    rows[2] = dataclasses.replace(
        rows[2],
        outputs=128,
        dead_outputs=96,
        peak=41.0,
        random_peak=4.4,
        peer_ratio=0.031,
        peers=6,
    )
    table = weights.table(rows)
    at = {label: i for i, label in enumerate(labels(table))}
    row = next(row for row in table.rows if row[0].text == rows[2].parameter)
    peak, peers, dead = (row[at[label]] for label in ("Peak", "Peers", "Dead outputs"))
    assert (peak.text, peak.aside) == ("41.0", "random: 4.40")
    assert (peers.text, peers.aside) == ("0.0310×", "of 6")
    assert (dead.text, dead.aside, dead.alert) == ("96", "of 128", True)


def test_a_weight_far_from_its_peers_is_among_those_that_are_shown() -> None:
    rows = list(shared_rows.weights(400, 1.0))
    rows[300] = dataclasses.replace(rows[300], peer_ratio=0.01, peers=400)
    shown = {row[0].text for row in weights.table(rows).rows}
    assert rows[300].parameter in shown
