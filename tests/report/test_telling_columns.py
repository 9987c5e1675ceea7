"""Are the columns shown of an example those in which it differs most from its neighbours?"""

import math

import numpy as np
import torch

from leftout.data.encoding import encoding_of_classes
from leftout.data.examples import Examples
from leftout.data.table_encoding import MISSING
from leftout.report.telling_columns import TellingColumns

N = 60


def examples(table: np.ndarray, inputs: np.ndarray) -> Examples:
    labels = torch.arange(len(table)) % 2
    encoding = encoding_of_classes(labels, ("no", "yes"))
    columns = tuple(f"c{place}" for place in range(table.shape[1]))
    return Examples(
        torch.from_numpy(inputs),
        torch.zeros(len(table), encoding.outputs, dtype=torch.float64),
        encoding,
        labels,
        tuple(map(str, range(len(table)))),
        table=table,
        columns=columns,
    )


def made(odd: dict[int, object]) -> TellingColumns:
    """Return six columns of numbers and one of colours, row 0 changed in some places."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((N, 6))
    table = np.empty((N, 7), dtype=object)
    table[:, :6] = numbers
    table[:, 6] = ["red" if row % 3 else "blue" for row in range(N)]
    for place, cell in odd.items():
        table[0, place] = cell
    train = examples(table[:40], numbers[:40].copy())
    return TellingColumns(train, examples(table[40:], numbers[40:].copy()))


def test_the_largest_deviation_from_the_neighbours_comes_first() -> None:
    columns = made({4: 30.0, 2: -15.0})
    near = [1, 2, 3, 5]
    cells = columns.cells(0, near)
    assert [cell.name for cell in cells[:2]] == ["c4", "c2"]
    assert cells[0].text == "30"
    table = columns.train.table
    # The definition: |x − mean of the neighbours| over the deviation of the column, in training rows.
    deviations = [
        abs(table[0, place] - np.mean([table[row, place] for row in near]))
        / np.std(table[:, place].astype(float))
        for place in range(6)
    ]
    shares = np.array([np.mean(table[:, 6] == colour) for colour in ("red", "blue")])
    differs = np.mean([table[row, 6] != table[0, 6] for row in near])
    deviations.append(differs / math.sqrt(1 - float((shares**2).sum())))
    order = np.argsort(-np.array(deviations), kind="stable")[:4]
    assert [cell.name for cell in cells] == [f"c{place}" for place in order]


def test_neighbours_are_the_nearest_by_inputs_and_never_the_example_itself() -> None:
    columns = made({})
    inputs = columns.train.inputs.numpy()
    distances = ((inputs - inputs[7]) ** 2).sum(1)
    nearest = [row for row in np.argsort(distances) if row != 7][:10]
    mean = np.mean([columns.train.table[row, 0] for row in nearest])
    cell = next(cell for cell in columns.cells(7, most=7) if cell.name == "c0")
    assert float(cell.neighbours.replace("−", "-")) == float(f"{mean:.3g}")


def test_a_query_is_compared_with_training_examples() -> None:
    columns = made({})
    inputs, asked = columns.train.inputs.numpy(), columns.query.inputs.numpy()[3]
    nearest = np.argsort(((inputs - asked) ** 2).sum(1))[:10].tolist()
    assert columns.cells(40 + 3) == columns.cells(40 + 3, nearest)


def test_missing_cells_are_told_from_numbers_and_few_columns_keep_their_order() -> None:
    columns = made({1: MISSING})
    cells = {cell.name: cell for cell in columns.cells(0, [1, 2], most=7)}
    assert (cells["c1"].text, list(cells)) == ("missing", [f"c{place}" for place in range(7)])
    assert cells["c1"].neighbours not in ("", MISSING)
    assert cells["c6"].neighbours == "red"


def test_digits_in_texts_are_names_of_kinds() -> None:
    columns = made({})
    for examples_of in (columns.train, columns.query):
        examples_of.table[:, 5] = [("1", "2", "30")[row % 3] for row in range(len(examples_of))]
    cell = next(cell for cell in columns.cells(0, [1, 4, 2], most=7) if cell.name == "c5")
    assert (cell.text, cell.neighbours) == ("1", "2")


def test_texts_and_missing_cells_differ_by_their_share_of_the_neighbours() -> None:
    columns = made({1: MISSING, 6: "green"})
    near, table = [1, 2, 4, 5], columns.train.table
    shares = np.array([np.mean(table[:, 6] == colour) for colour in ("red", "blue", "green")])
    of_colour = 1 / math.sqrt(1 - float((shares**2).sum()))  # all neighbours have another
    # A missing cell differs from all neighbours that have a number: by 1.
    places = [place for place in range(6) if place != 1]
    distances = {
        place: abs(table[0, place] - np.mean([table[row, place] for row in near]))
        / np.std(table[:, place].astype(float))
        for place in places
    } | {1: 1.0, 6: of_colour}
    order = sorted(distances, key=lambda place: -distances[place])
    # The numbers beside them, so that no factor between the kinds of columns goes unnoticed.
    assert 0 < order.index(1) < 6
    assert [cell.place for cell in columns.cells(0, near, most=6)] == order[:6]


def test_without_a_table_there_are_no_columns() -> None:
    columns = made({})
    train = examples(columns.train.table, columns.train.inputs.numpy())
    bare = TellingColumns(Examples(train.inputs, train.targets, train.encoding, train.labels), train)
    assert bare.cells(0) == []
    assert bare.line(0) == ""
