"""The training loop: resume, phases, averaging, best weights, stopping, log, refusals."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_models import Stopping, TwoPhases, same_tensors, small_settings
from torch import nn

from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.interruption import Interrupted
from image2reg.models import devices
from image2reg.models.history import read_history
from image2reg.models.settings import learning_rate_at
from image2reg.models.state import TrainingState, WeightAverage
from image2reg.models.train import fit


def run(task, out, **options):
    changes = {k: options.pop(k) for k in list(options) if k not in {"resume", "device", "basis"}}
    options = {"device": "cpu", "progress": False, **options}
    return fit(task, small_settings(**changes), out, **options)


def newest(out: Path) -> Path:
    return sorted((out / "checkpoints").iterdir())[-1]


def stored(out: Path) -> dict[str, bytes]:
    return {name: (newest(out) / f"{name}.safetensors").read_bytes() for name in ("model", "optim", "ema")}


def validations(result) -> list[dict]:
    return [r["validation"] for r in read_history(result.history_path) if "validation" in r]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return run(TwoPhases(), out / "run"), out / "run"


@pytest.mark.parametrize(
    ("stage", "at"),
    [("generator", 7), ("discriminator", 1), ("validate", 8), ("batch", 5), ("generator", 12)],
)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(tmp_path, uninterrupted, stage, at):
    whole, whole_out = uninterrupted
    with pytest.raises(Interrupted, match="Continue with --resume") as caught:
        run(Stopping(at, signal.SIGINT, stage), tmp_path)
    assert caught.value.code == 130
    torch.rand(17)  # numbers drawn in between must not matter
    parts = run(TwoPhases(seed=99), tmp_path, resume=True)
    assert same_tensors(whole.last_state, parts.last_state)
    assert same_tensors(whole.best_state, parts.best_state)
    assert (whole.best_step, whole.best_score) == (parts.best_step, parts.best_score)
    assert stored(whole_out) == stored(tmp_path)
    assert validations(whole) == validations(parts)
    assert len(validations(parts)) == 3


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first = run(TwoPhases(), tmp_path)
    log = first.history_path.read_bytes()
    again = run(TwoPhases(seed=3), tmp_path, resume=True)
    assert same_tensors(first.last_state, again.last_state)
    assert same_tensors(first.best_state, again.best_state)
    assert again.history_path.read_bytes() == log
    assert again.stopped == "steps"


def test_resume_without_a_checkpoint_starts_afresh(tmp_path, uninterrupted):
    assert same_tensors(run(TwoPhases(), tmp_path, resume=True).last_state, uninterrupted[0].last_state)


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    run(TwoPhases(), tmp_path, steps=6, schedule="constant")
    log = tmp_path / "metrics.jsonl"
    with log.open("a") as handle:
        handle.write('{"step": 6, "beyond": true}\n{"cut sho')
    result = run(TwoPhases(), tmp_path, steps=9, schedule="constant", resume=True)
    records = read_history(result.history_path)
    assert not any("beyond" in record for record in records)
    assert records[-1]["step"] == 9
    assert len(log.read_text().splitlines()) == len(records)


def test_the_log_holds_means_rates_and_scores(uninterrupted):
    records = read_history(uninterrupted[0].history_path)
    train = [record for record in records if "train" in record]
    assert [record["step"] for record in train] == [3, 4, 5, 6, 8, 9, 10, 12]
    assert set(train[0]["train"]) == {
        "generator/loss", "generator/l1", "generator/gradient_norm", "discriminator/loss",
        "discriminator/gradient_norm",
    }  # fmt: skip
    assert train[0]["learning_rate"] == pytest.approx(0.02)
    assert [record["step"] for record in records if "validation" in record] == [4, 8, 12]


class Watching(TwoPhases):
    """Looks at gradients, modes and weights from inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, torch.Tensor]] = []
        self.modes: list[bool] = []

    def loss(self, phase, batch):
        others = [module for name, module in self.phases.items() if name != phase]
        for module in others:
            assert all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert all(p.requires_grad for p in self.phases[phase].parameters())
        self.modes.append(self.phases["generator"].training)
        return super().loss(phase, batch)

    def validate(self, module):
        assert not module.training
        assert not torch.is_grad_enabled()
        self.seen.append({name: value.clone() for name, value in module.state_dict().items()})
        return super().validate(module)


def test_only_the_phase_at_work_holds_gradients(tmp_path):
    task = Watching()
    run(task, tmp_path)
    assert all(task.modes)
    assert all(p.requires_grad for module in task.phases.values() for p in module.parameters())


def test_a_phase_may_leave_something_for_the_next(tmp_path):
    class Leaving(TwoPhases):
        def loss(self, phase, batch):
            if phase == "generator":
                batch["left"] = batch["ids"][0]
            assert batch["left"] == batch["ids"][0]
            return super().loss(phase, batch)

    assert run(Leaving(), tmp_path, steps=4).steps_done == 4


def test_parameters_frozen_by_the_task_stay_frozen(tmp_path):
    task = TwoPhases()
    frozen = task.phases["generator"][0]
    frozen.requires_grad_(False)
    before = frozen.weight.clone()
    run(task, tmp_path)
    assert torch.equal(frozen.weight, before)
    assert not frozen.weight.requires_grad


def test_best_weights_are_a_copy_of_those_at_the_best_step(tmp_path):
    class Peaking(Watching):
        def validate(self, module):
            super().validate(module)
            return {"score": [1.0, 3.0, 2.0][len(self.seen) - 1]}

    task = Peaking()
    result = run(task, tmp_path)
    assert (result.best_step, result.best_score) == (8, 3.0)
    assert same_tensors(result.best_state, task.seen[1])
    assert not same_tensors(result.best_state, result.last_state)
    assert same_tensors(load_file(newest(tmp_path) / "best.safetensors"), task.seen[1])


def test_validation_sees_averaged_weights_and_leaves_the_trained_ones(tmp_path):
    task = Watching()
    averaged = run(task, tmp_path / "ema")
    run(TwoPhases(), tmp_path / "plain", ema_decay=None)
    assert same_tensors(task.seen[-1], averaged.last_state)
    raw = [load_file(newest(tmp_path / name) / "model.safetensors") for name in ("ema", "plain")]
    assert same_tensors(*raw)
    generator = {k.removeprefix("generator/"): v for k, v in raw[0].items() if k.startswith("generator/")}
    assert not same_tensors(generator, averaged.last_state)


def test_the_average_follows_its_formula():
    module = nn.Linear(3, 2)
    average = WeightAverage(module, decay=0.5)
    expected = module.weight.detach().clone()
    for n in range(1, 12):
        with torch.no_grad():
            module.weight.add_(n)
        average.update(n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(average.tensors["weight"], expected)
    raw = module.weight.detach().clone()
    average.swap()
    torch.testing.assert_close(module.weight.detach(), expected)
    average.swap()
    assert torch.equal(module.weight, raw)


def test_tied_weights_have_one_average():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    average = WeightAverage(module, decay=0.9)
    first = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.add_(1)
    average.update(1)
    raw, expected = first + 1, first + 9 / 11  # decay 2 / 11 at the first update
    for _ in range(2):
        average.swap()
        torch.testing.assert_close(module[2].weight.detach(), expected)
        for name in ("0.weight", "2.weight"):
            torch.testing.assert_close(average.tensors[name], raw)
        average.swap()
        torch.testing.assert_close(module[0].weight.detach(), raw)
        for name in ("0.weight", "2.weight"):
            torch.testing.assert_close(average.tensors[name], expected)


class Regression:
    """Plain least squares; the batch is the whole data set or a fixed part of it."""

    def __init__(self, part: int | None) -> None:
        torch.manual_seed(1)
        self.phases = {"model": nn.Linear(3, 1)}
        self.x = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
        self.part, self.n_calls = part, 0

    def batch(self, step, rng):
        self.n_calls += 1
        half = slice(None) if self.part is None else (slice(0, 4), slice(4, 8))[(self.n_calls - 1) % 2]
        return {"x": self.x[half]}

    def loss(self, phase, batch):
        x = batch["x"]
        return {"loss": (self.phases[phase](x) - x.sum(1, keepdim=True)).square().mean()}

    def validate(self, module):
        return {}


def test_accumulated_halves_take_the_step_of_the_whole_batch(tmp_path):
    options = {"steps": 5, "workers": 0, "ema_decay": None}
    whole = run(Regression(None), tmp_path / "a", accumulate=1, **options)
    halves = run(Regression(2), tmp_path / "b", accumulate=2, **options)
    for name, value in whole.last_state.items():
        torch.testing.assert_close(halves.last_state[name], value, rtol=1e-5, atol=1e-6)


def test_without_validation_there_is_no_best(tmp_path):
    result = run(Regression(None), tmp_path, patience=None)
    assert (result.best_state, result.best_step, result.best_score) == (None, None, None)
    assert not list(tmp_path.rglob("best.safetensors"))
    assert result.last_state.keys() == {"weight", "bias"}


def test_patience_needs_a_validation(tmp_path):
    result = run(Regression(None), tmp_path, validate_every=2, patience=1)
    assert (result.stopped, result.steps_done) == ("steps", 12)


def test_patience_counts_validations_without_a_better_score(tmp_path):
    class Falling(TwoPhases):
        scores = iter([1.0, 0.9, math.nan, 0.8, 0.7])

        def validate(self, module):
            return {"score": next(self.scores)}

    result = run(Falling(), tmp_path, steps=40, validate_every=2, patience=3)
    assert (result.stopped, result.steps_done, result.best_step, result.best_score) == ("patience", 8, 2, 1.0)
    assert read_history(result.history_path)[-1]["validation"] == {"score": 0.8}
    assert None in [v["score"] for v in validations(result)]  # NaN is null in JSON


def test_the_wall_clock_budget_ends_training_with_a_checkpoint(tmp_path):
    result = run(TwoPhases(), tmp_path, max_minutes=1e-9)
    assert (result.stopped, result.steps_done) == ("time", 1)
    assert newest(tmp_path).name == "step_000001"
    assert len(validations(result)) == 1


def test_old_checkpoints_and_half_written_ones_are_removed(tmp_path):
    run(TwoPhases(), tmp_path, steps=6, schedule="constant")
    (tmp_path / "checkpoints" / ".step_000007.partial-1-abc").mkdir()
    run(TwoPhases(), tmp_path, steps=12, schedule="constant", resume=True, keep_checkpoints=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_000009", "step_000012"]


def test_a_checkpoint_whose_removal_was_cut_short_is_removed_and_written_again(tmp_path):
    run(TwoPhases(), tmp_path, steps=6, schedule="constant")
    for step in ("step_000003", "step_000009"):  # state.json goes first, then the process is killed
        (tmp_path / "checkpoints" / step / "state.json").unlink(missing_ok=True)
        (tmp_path / "checkpoints" / step).mkdir(exist_ok=True)
    run(TwoPhases(), tmp_path, steps=9, schedule="constant", resume=True)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_000006", "step_000009"]
    assert (newest(tmp_path) / "state.json").is_file()


def test_the_best_weights_of_a_resumed_run_are_not_those_of_a_file(tmp_path):
    first = run(TwoPhases(), tmp_path)
    again = run(TwoPhases(), tmp_path, resume=True)
    file = newest(tmp_path) / "best.safetensors"
    with file.open("r+b") as handle:
        handle.write(bytes(file.stat().st_size))
    assert same_tensors(first.best_state, again.best_state)


def test_layout_in_memory_survives_a_resume(tmp_path):
    class Convolution(Regression):
        def __init__(self, part):
            super().__init__(part)
            self.phases = {"model": nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)}

        def loss(self, phase, batch):
            return {"loss": self.phases[phase](batch["x"].new_ones(1, 4, 5, 5)).square().mean()}

    run(Convolution(None), tmp_path, steps=4, schedule="constant")
    task = Convolution(None)
    result = run(task, tmp_path, steps=6, schedule="constant", resume=True)
    assert task.phases["model"].weight.is_contiguous(memory_format=torch.channels_last)
    whole = run(Convolution(None), tmp_path / "whole", steps=6, schedule="constant")
    assert same_tensors(result.last_state, whole.last_state)


def test_precision_can_differ_between_runs_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("image2reg.models.devices._computes_bfloat16", lambda: True)
    half = run(TwoPhases(), tmp_path / "a", precision="bf16")
    full = run(TwoPhases(), tmp_path / "b", precision="fp32")
    assert all(v.dtype in {torch.float32, torch.int64} for v in half.last_state.values())
    assert not same_tensors(half.last_state, full.last_state)


def test_a_processor_without_bfloat16_computes_float32(tmp_path, monkeypatch):
    lacking = {"architecture": "x86_64", "avx2": True, "avx512_bf16": False, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: lacking, raising=False)
    asked = run(TwoPhases(), tmp_path / "a", precision="bf16")
    assert same_tensors(asked.last_state, run(TwoPhases(), tmp_path / "b", precision="fp32").last_state)


def test_the_log_says_how_each_part_of_a_run_was_computed(tmp_path, monkeypatch):
    options = {"precision": "bf16", "schedule": "constant", "warmup_steps": 1}
    for steps, bfloat16 in ((3, True), (6, False), (9, False)):  # the second machine lacks bfloat16
        monkeypatch.setattr("image2reg.models.devices._computes_bfloat16", lambda told=bfloat16: told)
        result = run(TwoPhases(), tmp_path, steps=steps, resume=True, **options)
    told = [(r["step"], r["computed"]) for r in read_history(result.history_path) if "computed" in r]
    cpu = {"device": "cpu"}
    assert told == [(0, {**cpu, "precision": "bf16"}), (3, {**cpu, "precision": "fp32"})]


@pytest.mark.parametrize(
    ("processor", "computes"),
    [({"architecture": "x86_64", "avx512_bf16": True}, True), ({"architecture": "aarch64"}, True), ({}, True),
     ({"architecture": "x86_64", "avx2": True}, False)],
)  # fmt: skip
def test_only_a_processor_known_to_lack_bfloat16_is_said_to(monkeypatch, processor, computes):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert devices._computes_bfloat16() is computes


def test_an_occupied_directory_is_refused(tmp_path):
    run(TwoPhases(), tmp_path, steps=4)
    with pytest.raises(DataError, match=r"holds a training run\. Pass --resume to continue it"):
        run(TwoPhases(), tmp_path, steps=4)


def test_other_settings_are_refused_on_resume(tmp_path):
    run(TwoPhases(), tmp_path, steps=4)
    with pytest.raises(
        ConfigurationError, match=r"other settings \(learning_rate: 0\.02 -> 0\.1, seed: 5 -> 6\)"
    ):
        run(TwoPhases(), tmp_path, steps=4, learning_rate=0.1, seed=6, resume=True)


def test_a_run_is_prolonged_only_where_its_rates_do_not_depend_on_its_end(tmp_path):
    run(TwoPhases(), tmp_path / "cosine", steps=6)
    for steps in (9, 5):
        with pytest.raises(
            ConfigurationError, match=rf"steps: 6 -> {steps}\).*prolonged under schedule=constant"
        ):
            run(TwoPhases(), tmp_path / "cosine", steps=steps, resume=True)
    run(TwoPhases(), tmp_path / "constant", steps=6, schedule="constant")
    parts = run(TwoPhases(), tmp_path / "constant", steps=9, schedule="constant", resume=True)
    whole = run(TwoPhases(), tmp_path / "whole", steps=9, schedule="constant")
    assert same_tensors(parts.last_state, whole.last_state)


def test_another_basis_is_refused_on_resume(tmp_path):
    run(
        TwoPhases(),
        tmp_path,
        steps=4,
        schedule="constant",
        basis={"augment.noise": 0.1, "validation fields": "3"},
    )
    with pytest.raises(ConfigurationError, match=r"other settings \(validation fields: 3 -> 4\)"):
        run(
            TwoPhases(),
            tmp_path,
            steps=6,
            schedule="constant",
            resume=True,
            basis={"augment.noise": 0.1, "validation fields": "4"},
        )
    same = {"augment.noise": 0.1, "validation fields": "3"}
    assert run(TwoPhases(), tmp_path, steps=6, schedule="constant", resume=True, basis=same).steps_done == 6


def test_another_network_is_refused_on_resume(tmp_path):
    run(TwoPhases(), tmp_path, steps=4)
    other = TwoPhases()
    other.phases["discriminator"] = nn.Linear(2, 3)
    with pytest.raises(
        ConfigurationError, match="phase 'discriminator': the checkpoint holds another network"
    ):
        run(other, tmp_path, steps=4, resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    run(TwoPhases(), tmp_path, steps=4)
    file = newest(tmp_path) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"Remove this checkpoint's directory") as caught:
        run(TwoPhases(), tmp_path, steps=4, resume=True)
    assert str(file) in str(caught.value)


def test_a_number_of_a_checkpoint_that_changed_is_noticed(tmp_path):
    run(TwoPhases(), tmp_path, steps=4, schedule="constant")
    file = newest(tmp_path) / "state.json"
    file.write_text(file.read_text().replace('"step": 4', '"step": 3'))
    with pytest.raises(BundleError, match=r"state\.json: damaged or changed: not what its own hash says"):
        run(TwoPhases(), tmp_path, steps=6, schedule="constant", resume=True)
    kept = json.loads(file.read_text().replace('"step": 3', '"step": 4'))
    del kept["sha256"], kept["basis"]  # as earlier versions wrote it
    file.write_text(json.dumps(kept))
    assert run(TwoPhases(), tmp_path, steps=6, schedule="constant", resume=True).steps_done == 6


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown; allowed: auto, cpu, cuda"),
        ({"precision": "fp16"}, "'fp16' needs a GPU"),
        pytest.param(
            {"device": "cuda"}, "sees none here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)  # fmt: skip
def test_impossible_devices_are_refused(tmp_path, options, text):
    with pytest.raises(ConfigurationError, match=text):
        run(TwoPhases(), tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_errors_of_the_data_reach_the_caller(tmp_path):
    class Broken(TwoPhases):
        def batch(self, step, rng):
            if step == 3:
                raise DataError("plate1/A01.tif: gone")
            return super().batch(step, rng)

    with pytest.raises(DataError, match="plate1/A01"):
        run(Broken(), tmp_path, workers=2)


def test_decay_spares_biases_and_norms():
    state = TrainingState(TwoPhases().phases, small_settings(weight_decay=0.3))
    groups = state.optimizers["generator"].param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.3, {2}), (0.0, {1})]


def test_the_rate_rises_and_falls():
    settings = small_settings(steps=13, warmup_steps=3, learning_rate=0.3)
    rates = [learning_rate_at(settings, step) for step in range(1, 14)]
    np.testing.assert_allclose(rates[:4], [0.1, 0.2, 0.3, 0.3])
    np.testing.assert_allclose(rates[8], 0.15)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] > 0
    assert learning_rate_at(small_settings(schedule="constant"), 12) == 0.02


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="warmup_steps=12 must be below steps=12"):
        small_settings(warmup_steps=12)
    with pytest.raises(ValueError, match="betas"):
        small_settings(betas=(0.9, 1.0))


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    """Data parallel: 2 processes x 1 micro-batch = 1 process x 2 micro-batches, within float32 rounding."""
    one = run(TwoPhases(), tmp_path / "one", accumulate=2, ema_decay=None)
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})\n"
        "from small_models import TwoPhases, small_settings\n"
        "from image2reg.models.train import fit\n"
        "fit(TwoPhases(), small_settings(accumulate=1, ema_decay=None), sys.argv[1], device='cpu')\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launch, str(script), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    # Batch statistics differ from process to process, as in every data-parallel run. The bias before the
    # batch norm has a gradient of rounding noise, which Adam blows up; every other weight agrees.
    two = load_file(newest(tmp_path / "two") / "model.safetensors")
    for name in ("0.weight", "1.weight", "1.bias", "4.weight", "4.bias"):
        torch.testing.assert_close(two[f"generator/{name}"], one.last_state[name], rtol=1e-3, atol=1e-5)


class Shifted(TwoPhases):
    """The same task on other data."""

    def __init__(self, by: float, width: int = 4) -> None:
        super().__init__()
        self.by, self.width = by, width

    def batch(self, step: int, rng: np.random.Generator) -> dict:
        made = super().batch(step, rng)
        return {**made, "y": made["y"][:, : self.width] + self.by}


@pytest.mark.parametrize("known", [0, 1])
def test_a_batch_may_hold_values_that_are_not_known(tmp_path, known):
    class Gaps(TwoPhases):
        def batch(self, step, rng):
            dose = np.full(6, -np.inf, np.float32)
            dose[:known] = 1
            return {
                **super().batch(step, rng),
                "dose": torch.from_numpy(dose),
                "gene": torch.full((6,), np.nan),
            }

    run(Gaps(), tmp_path, steps=4, schedule="constant")
    assert run(Gaps(), tmp_path, steps=6, schedule="constant", resume=True).steps_done == 6


def test_other_data_are_refused_on_resume(tmp_path):
    run(Shifted(0.0), tmp_path, steps=4, schedule="constant")
    for other, seen in (
        (
            Shifted(3.0),
            r"the first batch differs in the mean of 'y' \(.*, now .*\)\. Give what the run began with",
        ),
        (Shifted(0.0, width=1), r"differs in the shape of 'y' \(\[6, 2\], now \[6, 1\]\)"),
    ):
        with pytest.raises(ConfigurationError, match=seen):
            run(other, tmp_path, steps=6, schedule="constant", resume=True)
    close = Shifted(1e-5)  # another processor's last bits
    assert run(close, tmp_path, steps=6, schedule="constant", resume=True).steps_done == 6
