"""Tokens differ, every part can be left out, genes go by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_generators import GENES, small_signatures

from image2reg.errors import DataError
from morphgen.condition import Condition, ConditionEncoder
from morphgen.signature_condition import condition_of


def encoder(**changes) -> ConditionEncoder:
    torch.manual_seed(0)
    settings = {"genes": GENES, "tokens": 3, "width": 8, "hidden": 6, "dose": True, "time": True,
                "cell_lines": ["A549", "U2OS"], "compound_size": 5, "descriptors": 3}  # fmt: skip
    return ConditionEncoder(**{**settings, **changes}).eval()


def condition(n: int = 4) -> Condition:
    torch.manual_seed(1)
    return Condition(
        torch.randn(n, len(GENES)),
        torch.randn(n, 5),
        torch.randn(n),
        torch.rand(n) * 48,
        torch.tensor([0, 1, -1, 0]),
        torch.randn(n, 3),
    )


def test_every_token_has_parameters_of_its_own() -> None:
    with torch.no_grad():
        tokens, pooled = encoder()(condition())
    assert tokens.shape == (4, 3 + 5, 8)
    assert pooled.shape == (4, 8)
    distances = torch.cdist(tokens, tokens) + torch.eye(8) * 9
    assert float(distances.min()) > 0.1


def test_tokens_follow_the_signature() -> None:
    with torch.no_grad():
        tokens, _ = encoder()(condition())
    assert float((tokens[0, :3] - tokens[1, :3]).abs().min(1).values.max()) > 1e-4


@pytest.mark.parametrize("part", ["expression", "compound", "dose", "time", "cell_line"])
def test_each_part_can_be_left_out_alone(part: str) -> None:
    net, full = encoder(), condition()
    parts = {**full._parts()}
    parts.pop(part)
    tokens, _ = net(Condition(**parts))
    whole, _ = net(full)
    changed = (tokens - whole).abs().amax((0, 2)) > 1e-6
    own = {"expression": range(3), "compound": [3], "dose": [4], "time": [5], "cell_line": [6]}[part]
    assert torch.nonzero(changed).flatten().tolist() == list(own)
    null = net.null[part].detach()
    assert torch.equal(tokens[0, list(own)], null)


def test_unknown_values_in_a_row_become_the_null_there_alone() -> None:
    net, full = encoder(), condition()
    full.dose[1] = torch.nan
    tokens, _ = net(full)
    assert torch.equal(tokens[1, 4], net.null["dose"][0])
    assert torch.equal(tokens[2, 6], net.null["cell_line"][0])  # cell line -1
    assert not torch.equal(tokens[0, 4], net.null["dose"][0])


def test_dropping_everything_is_the_null_condition() -> None:
    net = encoder()
    dropped, pooled = net(condition(), drop=torch.tensor([True, True, True, True]))
    null, null_pooled = net(None, batch=4)
    assert torch.equal(dropped, null)
    assert torch.equal(pooled, null_pooled)


def test_a_missing_gene_is_masked_not_zero_expression() -> None:
    net = encoder()
    net.fit(torch.randn(50, len(GENES)) + 3)
    net.read_mask.weight.data.normal_()
    given = condition()
    known, _ = net(given)
    given.expression[:, 2] = torch.nan
    missing, _ = net(given)
    at_mean = Condition(
        given.expression.nan_to_num(float(net.centre[2])),
        *[given._parts()[k] for k in ("compound", "dose", "time", "cell_line")],
    )
    assert not torch.allclose(missing, known)
    assert not torch.allclose(missing, net(at_mean)[0])


def test_a_programme_is_all_the_networks_see_and_a_missing_gene_counts_as_an_average_one() -> None:
    net = encoder(programmes=2)
    net.fit(torch.randn(50, len(GENES)) + 3)
    net.programmes.weight.data.zero_()[:, 2] = 1.0
    given = condition()
    told, missing, other = (given.expression.clone() for _ in range(3))
    missing[:, 2] = torch.nan
    other[:, 3] += 5.0  # in no programme
    average = told.clone()
    average[:, 2] = net.centre[2]
    tokens = {
        name: net(replace(given, expression=e))[0]
        for name, e in {"told": told, "missing": missing, "other": other, "average": average}.items()
    }
    assert torch.equal(tokens["told"], tokens["other"])
    assert torch.allclose(tokens["missing"], tokens["average"])
    assert not torch.allclose(tokens["told"], tokens["missing"])


def test_signatures_are_aligned_by_name_whatever_the_order_of_columns() -> None:
    table = small_signatures(3, Metadata_Dose_uM="10", Metadata_CellLine="U2OS")
    turned = table.replace(table.frame[table.frame.columns[::-1]])
    first, second = (condition_of(t, GENES, ("A549", "U2OS")) for t in (table, turned))
    assert torch.equal(first.expression, second.expression)
    assert first.dose.tolist() == [1.0, 1.0, 1.0]
    assert first.cell_line.tolist() == [1, 1, 1]


def test_missing_genes_are_named() -> None:
    table = small_signatures(3)
    short = table.replace(table.frame.drop(columns=["GENE3", "GENE7"]))
    with pytest.raises(
        DataError, match=r"2 of the model's 12 genes are missing, such as \['GENE3', 'GENE7'\]"
    ):
        condition_of(short, GENES)


def test_another_number_of_genes_is_refused() -> None:
    with pytest.raises(DataError, match="signatures of 5 genes, the model reads 12"):
        encoder()(Condition(torch.randn(2, 5)))


def test_told_morphology_reaches_the_tokens_and_the_pooled_vector() -> None:
    net, own = encoder(), condition()
    other = replace(own, morphology=own.morphology + 5)
    with torch.no_grad():
        (tokens, pooled), (changed, moved) = net(own), net(other)
    assert torch.equal(tokens[:, :-1], changed[:, :-1])
    assert not torch.allclose(tokens[:, -1], changed[:, -1])
    assert not torch.allclose(pooled, moved)
