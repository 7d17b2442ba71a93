"""The prior: expected from the signature alone, spread like the cells it was fitted on, learnt from means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from small_generators import GENES

from image2reg.models.settings import TrainingSettings
from image2reg.models.train import fit
from morphgen.condition import Condition
from morphgen.prior import MorphologyPrior, PriorTask, means_of
from morphgen.recipe import ConditionSettings, PriorRecipe


def prior(descriptors: int = 3, members: int = 2) -> MorphologyPrior:
    torch.manual_seed(0)
    condition = {"genes": GENES, "tokens": 3, "width": 8, "hidden": 6}
    return MorphologyPrior(descriptors=descriptors, members=members, condition=condition).eval()


def signatures(n: int = 4, seed: int = 1) -> Condition:
    return Condition(torch.randn(n, len(GENES), generator=torch.Generator().manual_seed(seed)))


def uniform(n: int, model: MorphologyPrior, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, model.n_kept, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6)


@torch.no_grad()
def test_what_is_expected_ignores_a_told_morphology_and_is_the_mean_of_the_members() -> None:
    net, own = prior(), signatures()
    told = replace(own, morphology=torch.ones(4, 3))
    assert torch.equal(net.expected(own), net.expected(told))
    assert torch.allclose(net.expected(own), net.each(own).mean(0))
    assert not torch.allclose(*net.each(own))


@torch.no_grad()
def test_drawn_cells_spread_like_those_of_their_own_phenotype() -> None:
    net, own = prior(), signatures(2)
    net.heads[0].weight *= 8  # two phenotypes far apart
    rng = np.random.default_rng(0)
    index = torch.arange(2).repeat_interleave(5000)
    expected = net.expected(own)
    assert float(expected.abs().max()) < 3 < 4 * float((expected[0] - expected[1]).norm())
    narrow, skewed = 0.1 * rng.normal(size=(5000, 3)), rng.exponential(1, (5000, 3)) - 1
    cells = expected[index] + torch.from_numpy(np.vstack([narrow, skewed]).astype(np.float32))
    net.keep_deviations(own, index, cells)
    drawn = net.draw(own.rows(torch.arange(2).repeat_interleave(400)), uniform(800, net)).morphology
    deviation = (drawn - expected.repeat_interleave(400, 0)).numpy()
    assert np.allclose(deviation[:400].std(0), 0.1, rtol=0.2)
    assert np.allclose(deviation[400:].std(0), 1, rtol=0.25)
    assert (((deviation[400:] / deviation[400:].std(0)) ** 3).mean(0) > 0.8).all()


@torch.no_grad()
def test_a_draw_does_not_depend_on_what_is_drawn_beside_it() -> None:
    net, own = prior(), signatures(6)
    index = torch.arange(6).repeat_interleave(50)
    net.keep_deviations(own, index, torch.randn(300, 3, generator=torch.Generator().manual_seed(2)))
    noise = uniform(6, net)
    together = net.draw(own, noise).morphology
    alone = torch.cat([net.draw(own.rows(slice(i, i + 1)), noise[i : i + 1]).morphology for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_means_are_those_of_each_perturbation() -> None:
    values, index = torch.tensor([[1.0], [3.0], [10.0]]), torch.tensor([1, 1, 0])
    assert means_of(values, index, 2).tolist() == [[10.0], [2.0]]


def test_it_learns_what_the_signature_says_and_is_scored_on_others(tmp_path) -> None:
    weights = torch.randn(len(GENES), 3, generator=torch.Generator().manual_seed(5)) / 3

    def planted(n: int, seed: int) -> tuple[Condition, torch.Tensor]:
        own = signatures(n, seed)
        return own, torch.tanh(own.expression @ weights)

    training, unseen = planted(300, 3), planted(100, 4)
    recipe = PriorRecipe(
        members=2,
        condition=ConditionSettings(tokens=3, width=8, hidden=32, noise=0.1, drop=0.0),
        training=TrainingSettings(
            steps=300, batch_size=64, learning_rate=1e-2, workers=0, validate_every=300
        ),
    )
    torch.manual_seed(0)
    arguments = {"genes": GENES, **recipe.condition.model_dump(exclude={"drop"})}
    net = MorphologyPrior(descriptors=3, members=2, condition=arguments)
    net.fit(training[0].expression, training[1])
    task = PriorTask(net, recipe, training, unseen)
    with torch.no_grad():
        before = task.validate(net)["morphology_r2"]
    result = fit(task, recipe.training, tmp_path, device="cpu", progress=False)
    assert before < 0.2
    assert result.best_score > 0.7


def test_sparse_programmes_find_the_genes_that_matter_and_predict_unseen_perturbations_better(
    tmp_path,
) -> None:
    genes = tuple(f"G{i}" for i in range(200))
    rng = np.random.default_rng(7)
    causes = rng.permutation(200)[:6]

    def planted(n: int) -> tuple[Condition, torch.Tensor]:
        expression = rng.normal(size=(n, 200))
        drive = expression[:, causes] @ np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, -1, 1]]).T / 2
        return Condition(torch.tensor(expression, dtype=torch.float32)), torch.tensor(
            np.tanh(drive), dtype=torch.float32
        )

    training, unseen = planted(150), planted(100)
    found = {}
    for sparsity in (0.0, 3e-3):
        recipe = PriorRecipe(
            members=1,
            condition=ConditionSettings(tokens=1, width=8, hidden=16, programmes=4, noise=0.0, drop=0.0),
            sparsity=sparsity,
            training=TrainingSettings(
                steps=400, batch_size=64, learning_rate=1e-2, workers=0, validate_every=400
            ),
        )
        torch.manual_seed(0)
        net = MorphologyPrior(
            descriptors=2,
            members=1,
            condition={"genes": genes, **recipe.condition.model_dump(exclude={"drop"})},
        )
        net.fit(training[0].expression, training[1])
        task = PriorTask(net, recipe, training, unseen)
        result = fit(task, recipe.training, tmp_path / str(sparsity), device="cpu", progress=False)
        read = net.members[0].programmes.weight.detach().abs().sum(0)
        found[sparsity] = (result.best_score, float(read[causes].sum() / read.sum()))
    assert found[3e-3][0] > 0.8 > found[0.0][0] + 0.2
    assert found[3e-3][1] > 0.7 > found[0.0][1]


@torch.no_grad()
def test_a_single_unseen_perturbation_is_scored_by_its_error() -> None:
    net, own = prior(), signatures(1)
    recipe = PriorRecipe(members=2)
    wanted = net.expected(own) + 0.5
    scores = PriorTask(net, recipe, (own, wanted), (own, wanted)).validate(net)
    assert set(scores) == {"morphology_error", "score"}
    assert np.isclose(scores["morphology_error"], 0.25, atol=1e-5)
    assert scores["score"] == -scores["morphology_error"]
