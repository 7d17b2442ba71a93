"""Interaction tables, pruning, costs, prizes and Steiner graphs, on networks small enough to check by eye."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from image2reg.cli import app
from image2reg.errors import ConfigurationError, DataError
from image2reg.genes import (
    GeneNetwork,
    Interactome,
    coexpression_costs,
    expression_prizes,
    prize_collecting,
    read_interactions,
    steiner_tree,
)
from image2reg.genes.building import build_network, read_targets
from image2reg.genes.expression import read_expression

# A chain A-B-C-D with a dear short cut A-D, a leaf E on C, and a pair apart.
EDGES = [("A", "B", 0.1), ("B", "C", 0.1), ("C", "D", 0.1), ("A", "D", 0.9), ("C", "E", 0.2), ("X", "Y", 0.1)]


def chain() -> Interactome:
    first, second, costs = zip(*EDGES, strict=True)
    return Interactome.from_edges(first, second, costs)


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_cost_table(tmp_path: Path) -> None:
    path = write(
        tmp_path / "i.tsv", "protein1\tprotein2\tcost", ["NA\tB\t0.3", "B\tNA\t0.2", "B\tB\t0.1", "C\tB\t0"]
    )
    net = read_interactions(path)
    assert net.names.tolist() == ["B", "C", "NA"]  # NA is a gene, not a gap
    assert net.n_edges == 2
    assert net.edges()[2].tolist() == pytest.approx([1e-6, 0.2])  # the lower of two; 0 stays an interaction


def test_string_with_names(tmp_path: Path) -> None:
    links = write(
        tmp_path / "l.txt", "protein1 protein2 combined_score", ["9606.P1 9606.P2 900", "9606.P1 9606.P3 400"]
    )
    names = write(
        tmp_path / "n.txt", "#string_protein_id\tpreferred_name", ["9606.P1\tAKT1", "9606.P2\tTP53"]
    )
    net = read_interactions(links, names=names)
    assert net.names.tolist() == ["AKT1", "TP53"]
    assert net.edges()[2].tolist() == pytest.approx([0.1])
    assert read_interactions(links).n_edges == 2


def test_biogrid_counts_publications_of_physical_pairs(tmp_path: Path) -> None:
    header = "\t".join(
        [
            "Official Symbol Interactor A",
            "Official Symbol Interactor B",
            "Experimental System Type",
            "Publication Source",
        ]
    )
    rows = [
        "A\tB\tphysical\tP1",
        "B\tA\tphysical\tP2",
        "A\tB\tphysical\tP1",
        "A\tC\tgenetic\tP3",
        "A\tD\tphysical\tP1",
    ]
    net = read_interactions(write(tmp_path / "b.tab3.txt", header, rows))
    assert net.names.tolist() == ["A", "B", "D"]
    assert net.edges()[2].tolist() == pytest.approx([1 / 3, 1 / 2])


@pytest.mark.parametrize(
    ("header", "rows", "text"),
    [("geneA\tgeneB\tscore", ["A\tB\t1"], r"columns \['geneA', 'geneB', 'score'\] are not those of an interaction "
      r"table. Allowed are \['protein1', 'protein2', 'cost'\]"),
     ("protein1\tprotein2\tcost", ["A\tB\t0.5", "A\tC\tlow"], "1 of 2 cells of column 'cost' .* row 2: 'low'"),
     ("protein1\tprotein2\tcost", ["A\tB\t7"], "not numbers in 0 to 1, the first in row 1: '7'"),
     ("protein1\tprotein2\tcost", ["A\tA\t0.5"], "no interaction between two named proteins among 1 rows"),
     ("protein1\tprotein2\tcost", ["A\tB\t0.5\tx\ty"], "not numbers|cannot be read")],
)  # fmt: skip
def test_wrong_interaction_files_are_refused(tmp_path: Path, header: str, rows: list[str], text: str) -> None:
    with pytest.raises(DataError, match=text):
        read_interactions(write(tmp_path / "i.tsv", header, rows))


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_interactions(tmp_path / "none.tsv")
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(DataError, match="cannot be read as a table of interactions"):
        read_interactions(tmp_path / "empty.tsv")
    names = write(tmp_path / "n.txt", "id\tname", ["P1\tAKT1"])
    links = write(tmp_path / "l.txt", "protein1 protein2 combined_score", ["P1 P2 900"])
    with pytest.raises(DataError, match="hold no names"):
        read_interactions(links, names=names)


def test_hubs_go_except_those_to_keep() -> None:
    star = Interactome.from_edges(["H"] * 50 + ["A"], [f"L{i}" for i in range(50)] + ["L0"], [0.5] * 51)
    assert "H" not in star.without_hubs(0.98).names
    assert "H" in star.without_hubs(0.98, keep=["H"]).names
    with pytest.raises(ConfigurationError, match="hub quantile is 2"):
        star.without_hubs(2)


def test_confidence_and_component() -> None:
    net = chain()
    assert net.confident(0.1).n_edges == 4
    assert net.largest_component().names.tolist() == ["A", "B", "C", "D", "E"]
    with pytest.raises(DataError, match=r"no interaction costs at most 0.01; costs are 0.1 to 0.9"):
        net.confident(0.01)


def test_steiner_takes_the_cheap_way_and_names_what_is_lost() -> None:
    made = steiner_tree(chain(), ["A", "D", "NOWHERE", "X"])
    assert made.graph.names.tolist() == ["A", "B", "C", "D"]
    assert made.graph.n_edges == 4  # all interactions among them, the dear one too
    assert made.terminals == ("A", "D")
    assert made.lost == ("NOWHERE", "X")
    assert "4 genes, 4 interactions, 2 targets joined, 2 lost" in made.summary()


def test_steiner_needs_two_targets() -> None:
    with pytest.raises(
        DataError, match=r"1 of 2 targets is in the network; .*Absent are 1, such as \['GONE'\]"
    ):
        steiner_tree(chain(), ["A", "GONE"])


def random_net(seed: int, n: int = 14) -> tuple[Interactome, nx.Graph]:
    graph = nx.connected_watts_strogatz_graph(n, 4, 0.4, seed=seed)
    rng = np.random.default_rng(seed)
    edges = [(f"N{a:02d}", f"N{b:02d}", float(rng.uniform(0.1, 1))) for a, b in graph.edges]
    weighted = nx.Graph()
    weighted.add_weighted_edges_from(edges)
    return Interactome.from_edges(*zip(*edges, strict=True)), weighted


def tree_cost(graph: nx.Graph, names: list[str]) -> float:
    return nx.minimum_spanning_tree(graph.subgraph(names)).size("weight")


@pytest.mark.parametrize("seed", range(6))
def test_steiner_costs_at_most_twice_the_best(seed: int) -> None:
    net, graph = random_net(seed)
    targets = ["N00", "N05", "N11"]
    others = [n for n in graph if n not in targets]
    best = min(
        tree_cost(graph, [*targets, *extra])
        for k in range(6)
        for extra in combinations(others, k)
        if nx.is_connected(graph.subgraph([*targets, *extra]))
    )
    assert tree_cost(graph, steiner_tree(net, targets).graph.names.tolist()) <= 2 * best
    prizes = np.isin(net.names, targets).astype(float)
    assert tree_cost(graph, prize_collecting(net, prizes, targets).graph.names.tolist()) <= 2 * best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beta", [0.2, 0.6, 2.0])
def test_pruning_keeps_what_is_worth_it(seed: int, beta: float) -> None:
    """On a tree the answer is exact: nothing connected is worth more around the root."""
    tree = nx.random_labeled_tree(9, seed=seed)
    rng = np.random.default_rng(seed)
    edges = [(f"N{a}", f"N{b}", float(rng.uniform(0.1, 1))) for a, b in tree.edges]
    net = Interactome.from_edges(*zip(*edges, strict=True))
    prizes = rng.uniform(0.05, 0.5, size=9)
    prizes[[0, 1]] = 1.0
    graph = nx.Graph()
    graph.add_weighted_edges_from(edges)

    def worth(names: list[str]) -> float:
        return beta * prizes[np.isin(net.names, names)].sum() - graph.subgraph(names).size("weight")

    made = prize_collecting(net, prizes, ["N0", "N1"], betas=[beta]).graph.names.tolist()
    best = max(
        worth(["N0", *extra])
        for k in range(9)
        for extra in combinations([n for n in graph if n != "N0"], k)
        if nx.is_connected(graph.subgraph(["N0", *extra]))
    )
    assert worth(made) == pytest.approx(best)


def test_smallest_beta_that_spans_is_taken() -> None:
    net = Interactome.from_edges(["A", "B"], ["B", "C"], [0.5, 0.5])
    made = prize_collecting(net, np.array([1.0, 0.0, 1.0]), ["A", "C"], betas=[0.4, 0.9, 1.1, 5.0])
    assert made.beta == 1.1
    assert made.terminals == ("A", "C")
    with pytest.raises(DataError, match=r"prizes have shape \(2,\) for 3 proteins"):
        prize_collecting(net, np.ones(2), ["A", "C"])


def test_prizes_and_costs_from_expression() -> None:
    net = chain()
    rng = np.random.default_rng(0)
    expression = pd.DataFrame(rng.uniform(1, 2, size=(20, 4)), columns=["A", "B", "C", "E"])
    case = np.arange(20) < 5
    expression.loc[case, "B"] += 3
    expression["E"] = expression["C"] * 2
    prizes = expression_prizes(net, expression, case, ["D"])
    at = dict(zip(net.names, prizes, strict=True))
    assert (at["B"], at["D"], at["X"]) == (1.0, 1.0, 0.0)
    assert at["C"] == 0.0
    costs = coexpression_costs(net, expression)
    a, b, value = costs.edges()
    found = {(costs.names[i], costs.names[j]): v for i, j, v in zip(a, b, value, strict=True)}
    assert found["C", "E"] == pytest.approx(1e-6)
    assert found["C", "D"] == 1.0  # D is not expressed
    rho = expression[["A", "B"]].corr("spearman").iloc[0, 1]
    assert found["A", "B"] == pytest.approx(1 - abs(rho))
    with pytest.raises(DataError, match="0 of 20 samples are the case"):
        expression_prizes(net, expression, np.zeros(20, bool), ["D"])
    with pytest.raises(DataError, match="none of 1 expressed genes"):
        expression_prizes(net, expression[["A"]].set_axis(["ENSG1"], axis=1), case, ["D"])
    with pytest.raises(DataError, match="over 2 samples is undefined"):
        coexpression_costs(net, expression[:2])


def test_expression_that_says_nothing_sure_is_refused() -> None:
    net, case = chain(), np.arange(20) < 5
    expression = pd.DataFrame(np.random.default_rng(0).uniform(1, 2, size=(20, 3)), columns=["A", "B", "F"])
    gap = expression.copy()
    gap.loc[0, "B"] = np.nan
    twice = expression.set_axis(["A", "A", "F"], axis=1)
    for use in (coexpression_costs, lambda *given: expression_prizes(*given, case, ["D"])):
        with pytest.raises(
            DataError, match=r"1 genes of the network have values that are not finite, such as \['B'\]"
        ):
            use(net, gap)
        with pytest.raises(
            DataError, match=r"1 genes of the network have more than one column, such as \['A'\]"
        ):
            use(net, twice)


def test_the_memory_of_coexpression_does_not_grow_with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    net = chain()
    expression = pd.DataFrame(np.random.default_rng(0).uniform(1, 2, size=(20, 5)), columns=list("ABCDE"))
    whole = coexpression_costs(net, expression).edges()[2]
    shapes = []

    def seen(rule: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        shapes.append(first.shape)
        return (first * second).sum(axis=1)

    monkeypatch.setattr("image2reg.genes.expression._BLOCK_VALUES", 40)
    monkeypatch.setattr(np, "einsum", seen)
    assert coexpression_costs(net, expression).edges()[2] == pytest.approx(whole)
    assert {shape[0] * shape[1] for shape in shapes} <= {20, 40}


def test_network_directory_round_trip(tmp_path: Path) -> None:
    wide = chain()
    made = GeneNetwork(wide, steiner_tree(wide.largest_component(), ["A", "D"]), {"max_cost": 0.5})
    made.write(tmp_path / "net")
    back = GeneNetwork.read(tmp_path / "net")
    assert back.interactome.names.tolist() == wide.names.tolist()
    assert (back.interactome.costs != wide.costs).nnz == 0
    assert back.steiner.graph.names.tolist() == ["A", "B", "C", "D"]
    assert (back.steiner.graph.costs != made.steiner.graph.costs).nnz == 0
    assert back.steiner.terminals == ("A", "D")
    with pytest.raises(DataError, match="already exists"):
        made.write(tmp_path / "net")
    (tmp_path / "net" / "genes.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match="cannot be read as a gene network"):
        GeneNetwork.read(tmp_path / "net")
    with pytest.raises(DataError, match="give a directory that image2reg network wrote"):
        GeneNetwork.read(tmp_path)


def test_building_with_a_contrast_collects_prizes(tmp_path: Path) -> None:
    table = write(tmp_path / "i.tsv", "protein1\tprotein2\tcost", [f"{a}\t{b}\t{c}" for a, b, c in EDGES])
    targets = write(tmp_path / "t.txt", "A", ["D", "", "NOWHERE"])
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(1, 2, size=(8, 5)), columns=list("ABCDE"))
    frame.insert(0, "Metadata_CellLine", ["U2OS"] * 4 + ["other"] * 4)
    frame.to_csv(tmp_path / "e.csv", index=False)
    made = build_network(
        table, targets, expression=tmp_path / "e.csv", case="Metadata_CellLine=U2OS", max_cost=1.0, hubs=1.0
    )
    assert made.steiner.method == "prize-collecting Steiner tree"
    assert {"A", "D"} <= set(made.steiner.terminals)
    assert made.steiner.lost == ("NOWHERE",)
    with pytest.raises(ConfigurationError, match="pass --expression too"):
        build_network(table, targets, case="a=b")
    with pytest.raises(ConfigurationError, match="no column 'Line'"):
        build_network(table, targets, expression=tmp_path / "e.csv", case="Line=U2OS")
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(DataError, match="no gene symbol"):
        read_targets(tmp_path / "none.txt")


def test_single_cells_are_read_through_anndata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = SimpleNamespace(
        to_df=lambda: pd.DataFrame({"A": [1.0, 2.0], "B": [0.0, 1.0]}, index=["cell1", "cell2"]),
        obs=pd.DataFrame({"cycle": [1, 2]}, index=["cell1", "cell2"]),
    )
    monkeypatch.setitem(sys.modules, "anndata", SimpleNamespace(read_h5ad=lambda path: held))
    values, metadata = read_expression(str(tmp_path / "cells.h5ad"))
    assert values.columns.tolist() == ["A", "B"]
    assert metadata["cycle"].tolist() == ["1", "2"]
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(DataError, match=r"reading .h5ad needs anndata: pip install"):
        read_expression(str(tmp_path / "cells.h5ad"))


def test_targets_that_are_hubs_stay_and_each_loss_has_its_reason(tmp_path: Path) -> None:
    star = [("H", f"L{i}", 0.1) for i in range(30)] + [("G", f"L{i}", 0.1) for i in range(30)]
    rows = [f"{a}\t{b}\t{c}" for a, b, c in [*star, ("L1", "L2", 0.1), ("X", "Y", 0.1), ("L3", "FAR", 0.9)]]
    table = write(tmp_path / "i.tsv", "protein1\tprotein2\tcost", rows)
    targets = write(tmp_path / "t.txt", "H  # the hub", ["# others", "L1", "L2", "g", "FAR"])
    made = build_network(table, targets, max_cost=0.5, hubs=0.9)
    assert made.steiner.terminals == ("H", "L1", "L2")
    assert "G" not in made.interactome.names
    assert made.facts["hub_targets"] == ["H"]
    assert (made.facts["absent"], made.facts["unreached"]) == (["g"], ["FAR"])
    result = CliRunner().invoke(app, ["network", "--interactions", str(table), "--targets", str(targets), "--max-cost",
                                      "0.5", "--hubs", "0.9", "--out", str(tmp_path / "n")])  # fmt: skip
    assert result.stdout.splitlines()[1:] == [
        "lost, not among the interactions: g", "lost, no interactions up to cost 0.5 lead to them: FAR",
        "hubs, kept as targets (--hubs 0.9): H", "Written in other capitals: 'g' (here 'G').",
        f"written: {tmp_path / 'n'}",
    ]  # fmt: skip
    (tmp_path / "t.txt").write_text("l1\nl2\n")
    with pytest.raises(DataError, match=r"Written in other capitals: 'l1' \(here 'L1'\), 'l2'"):
        build_network(table, targets, max_cost=0.5)


def test_one_protein_in_two_spellings_is_told_and_stays_two(tmp_path: Path) -> None:
    rows = ["BRAF,KRAS,0.1", "braf,MAP2K1,0.2", "KRAS,MAP2K1,0.3", "Trp53,MAP2K1,0.3", "TP53,KRAS,0.4"]
    table = write(tmp_path / "own.csv", "protein1,protein2,cost", rows)
    targets = write(tmp_path / "t.txt", "BRAF", ["KRAS", "MAP2K1"])
    result = CliRunner().invoke(app, ["network", "--interactions", str(table), "--targets", str(targets), "--max-cost",
                                      "1", "--hubs", "1", "--out", str(tmp_path / "n")])  # fmt: skip
    assert (
        "1 protein written in several capitals, each a protein of its own: BRAF and braf. If" in result.stdout
    )
    made = GeneNetwork.read(tmp_path / "n")
    assert made.facts["several_cases"] == [["BRAF", "braf"]]
    assert {"BRAF", "braf"} <= set(made.interactome.names)


def test_an_edge_list_of_ones_own_is_read_with_its_blanks_and_what_is_too_dear_is_told(
    tmp_path: Path,
) -> None:
    rows = ["A,B,0.1", "TP53, MDM2,0.2", "MDM2 ,CDKN1A,0.3", "CDKN1A,TP53,0.5"]
    table = write(tmp_path / "own.csv", "protein1,protein2,cost", rows)
    targets = write(tmp_path / "t.txt", "TP53", ["MDM2", "CDKN1A"])
    with pytest.raises(
        DataError, match=r"3 have interactions, but none up to cost 0.25 .* raise --max-cost"
    ) as told:
        build_network(table, targets)
    assert "capitals" not in str(told.value)
    made = build_network(table, targets, max_cost=0.5)
    assert made.steiner.terminals == ("CDKN1A", "MDM2", "TP53")


def test_targets_in_every_kind_of_list(tmp_path: Path) -> None:
    for name, text in {
        "a.txt": "\ufeff# mine\nTP53 # tumour\n\nAKT1\n", "a.gmt": "mine\tabout\tTP53\tAKT1\n",
        "a.csv": "id,Symbol\n1,TP53\n2,AKT1\n", "b.csv": "Metadata_Gene,f\nTP53,1\nAKT1,2\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
        assert read_targets(tmp_path / name) == ["AKT1", "TP53"]
    for name, text, said in (
        ("c.gmt", "a\t\tTP53\nb\t\tAKT1\n", r"2 gene sets, such as \['a', 'b'\]\. Give a file of the one"),
        ("c.csv", "id,name\n1,TP53\n", r"no column of gene symbols; there are \['id', 'name'\]"),
        ("d.csv", "id;gene\n1;TP53\n", "separated by semicolons"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=said):
            read_targets(tmp_path / name)
    with pytest.raises(DataError, match="is a folder"):
        read_targets(tmp_path)
