"""The engine: one result whatever the runner, the shards and the order; restarts do only what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_work import kill_at_random, nothing, poison, squares

from image2reg.engine import (
    Shard,
    batches,
    carry_over,
    finished_elsewhere,
    keep_plan,
    kept_plan,
    make_plan,
    planning,
    run_plan,
)
from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.locking import run_lock

TESTS = Path(__file__).resolve().parents[1]
HAS_DASK = importlib.util.find_spec("distributed") is not None


def plan_of(n_units=40, **settings):
    return make_plan("test", [{"name": f"u{i}", "seed": i} for i in range(n_units)], settings)


def tables(outcome, folder):
    """Bytes of the two tables."""
    for name in ("rows", "units"):
        outcome.results.write(name, folder / f"{name}.parquet", range(outcome.n_units), overwrite=True)
    return [(folder / f"{name}.parquet").read_bytes() for name in ("rows", "units")]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    return tables(run_plan(plan_of(), squares, folder), folder)


def test_rows_are_in_the_order_of_the_plan(tmp_path):
    outcome = run_plan(plan_of(), squares, tmp_path)
    rows = outcome.results.read("rows", range(40))
    assert list(rows.Metadata_Unit) == [f"u{i}" for i in range(40) for _ in range(i % 4)]
    assert list(outcome.results.read("units", [7, 3]).Metadata_Unit) == ["u7", "u3"]
    assert (outcome.n_run, outcome.is_complete) == (40, True)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_units_are_read_in_any_order_and_selection(tmp_path, n_workers):
    outcome = run_plan(plan_of(90), squares, tmp_path, n_workers=n_workers)
    (tmp_path / "units" / "rows").joinpath(outcome.results.markers[2].name + ".parquet").unlink()
    results = run_plan(
        plan_of(90), squares, tmp_path, shard=Shard(1, 90)
    ).results  # units of that part are missing
    rng = np.random.default_rng(0)
    for positions in (range(90), [], [5], range(89, -1, -1), rng.integers(0, 90, 60).tolist()):
        single = [results.read("rows", [position]) for position in positions]
        expected = pd.concat([results.read("rows", []), *single], ignore_index=True)
        pd.testing.assert_frame_equal(results.read("rows", positions), expected, check_dtype=bool(single))


def test_what_is_said_of_units_is_put_before_their_rows(tmp_path):
    outcome = run_plan(plan_of(), squares, tmp_path)
    words = [None if i % 3 == 0 else f"w{i % 3}" for i in range(40)]
    said = {
        "Metadata_Said": words,
        "Metadata_Unit": ["never"] * 40,
    }  # the rows have a Metadata_Unit of their own
    said = pa.table({name: pa.array(values).dictionary_encode() for name, values in said.items()})
    for positions in (range(40), [7, 3, 3], []):
        bare, rows = (
            outcome.results.read("rows", positions),
            outcome.results.read("rows", positions, said=said),
        )
        pd.testing.assert_frame_equal(rows.drop(columns="Metadata_Said"), bare)
        assert rows.columns[0] == "Metadata_Said"
        assert list(rows["Metadata_Said"]) == [words[int(name[1:])] for name in rows["Metadata_Unit"]]
    outcome.results.write("rows", tmp_path / "rows.parquet", range(40), said=said)
    expected = outcome.results.read("rows", range(40), said=said)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), expected)


def test_schemas_of_parts_are_read_once_however_often_the_table_is(tmp_path, monkeypatch):
    outcome = run_plan(plan_of(), squares, tmp_path)
    opened, read_schema = [], pq.read_schema
    monkeypatch.setattr(pq, "read_schema", lambda path: opened.append(path) or read_schema(path))
    for position in range(40):
        outcome.results.read("rows", [position])
    assert len(opened) == len(set(opened)) == len(list((tmp_path / "units" / "rows").glob("*.parquet"))) > 1


def test_processes_give_the_same_bytes(tmp_path, serial):
    outcome = run_plan(plan_of(), squares, tmp_path, n_workers=2)
    assert tables(outcome, tmp_path) == serial
    assert outcome.n_run == 40


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_three_shards_in_any_order_give_the_same_bytes(tmp_path, serial, order):
    outcomes = [run_plan(plan_of(), squares, tmp_path, shard=Shard(i, 3)) for i in order]
    assert [o.is_complete for o in outcomes] == [False, False, True]
    assert sum(o.n_run for o in outcomes) == 40
    assert tables(outcomes[-1], tmp_path) == serial
    whole = run_plan(plan_of(), squares, tmp_path)
    assert whole.n_run == 0


@pytest.mark.skipif(not HAS_DASK, reason="dask is not installed")
def test_dask_gives_the_same_bytes(tmp_path, serial):
    assert tables(run_plan(plan_of(), squares, tmp_path, engine="dask", n_workers=2), tmp_path) == serial


@pytest.mark.skipif(HAS_DASK, reason="dask is installed")
def test_dask_that_is_absent_is_explained(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"pip install 'virtualstain\[dask\]', or use --engine local"
    ):
        run_plan(plan_of(), squares, tmp_path, engine="dask", n_workers=2)


@pytest.mark.parametrize(
    ("engine", "n_kills", "n_units"),
    [
        ("local", 2, 60),
        pytest.param("local", 20, 600, marks=pytest.mark.slow),
        pytest.param(
            "dask", 20, 600, marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_DASK, reason="no dask")]
        ),
    ],
)
def test_workers_killed_at_random_change_nothing(tmp_path, engine, n_kills, n_units):
    plan, pids = plan_of(n_units), tmp_path / "pids"
    pids.mkdir()
    expected = tables(run_plan(plan, squares, tmp_path / "serial"), tmp_path)
    over = threading.Event()
    killed = []
    killer = threading.Thread(target=lambda: killed.append(kill_at_random(pids, n_kills, 7, over.is_set)))
    killer.start()
    work = partial(squares, pause_s=0.04, pids=str(pids))
    outcome = run_plan(plan, work, tmp_path / "killed", engine=engine, n_workers=2)
    over.set()
    killer.join()
    assert killed == [n_kills]
    assert outcome.results.failed == {}
    assert tables(outcome, tmp_path) == expected


@pytest.mark.parametrize(
    "engine",
    [
        "local",
        pytest.param("dask", marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_DASK, reason="no dask")]),
    ],
)
def test_a_unit_that_kills_its_worker_is_listed_and_the_rest_is_done(tmp_path, engine):
    outcome = run_plan(plan_of(8), poison, tmp_path, engine=engine, n_workers=2)
    assert [f.unit for f in outcome.results.failed.values()] == ["u5"]
    assert "died 5 times" in (tmp_path / "failures.csv").read_text()
    assert len(outcome.results.read("units", range(8))) == 7
    assert outcome.is_complete


RUN = (
    "import sys; from functools import partial; from engine_work import squares; from image2reg.engine import *\n"
    "plan = make_plan('test', [{'name': f'u{i}', 'seed': i} for i in range(40)], {})\n"
    "if __name__ == '__main__':\n"
    "    run_plan(plan, partial(squares, pause_s=0.03, pids=sys.argv[2]), sys.argv[1], n_workers=int(sys.argv[3]))\n"
)


def started(tmp_path, n_workers):
    """A run in a process of its own, once a unit is under way."""
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(RUN)
    pids.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out"), str(pids), str(n_workers)],
        env={**os.environ, "PYTHONPATH": str(TESTS)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list((tmp_path / "out" / "units").glob("*.json")):
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, serial, number, code):
    process = started(tmp_path, 2)
    process.send_signal(number)
    assert process.wait(30) == code
    outcome = run_plan(plan_of(), squares, tmp_path / "out")
    assert 0 < outcome.n_run < 40
    assert tables(outcome, tmp_path) == serial


def test_after_the_parent_is_killed_only_unfinished_units_run(tmp_path, serial):
    process = started(tmp_path, 1)
    process.kill()
    process.wait()
    done = sum(len(json.loads(p.read_text())["units"]) for p in (tmp_path / "out" / "units").glob("*.json"))
    outcome = run_plan(plan_of(), squares, tmp_path / "out")
    assert outcome.n_run == 40 - done < 40
    assert tables(outcome, tmp_path) == serial


def test_failures_are_listed_tried_again_and_forgotten_once_they_succeed(tmp_path, serial):
    outcome = run_plan(plan_of(), partial(squares, fail=("u3", "u9")), tmp_path)
    listed = pd.read_csv(tmp_path / "failures.csv")
    assert listed.to_numpy().tolist() == [
        ["u3", "DataError", "u3: no such image"],
        ["u9", "DataError", "u9: no such image"],
    ]
    assert outcome.is_complete
    again = run_plan(plan_of(), partial(squares, fail=("u9",)), tmp_path)
    assert (again.n_run, list(again.results.failed)) == (2, [9])
    mended = run_plan(plan_of(), squares, tmp_path)
    assert (mended.n_run, mended.results.failed) == (1, {})
    assert not (tmp_path / "failures.csv").exists()
    assert tables(mended, tmp_path) == serial


def uneven(unit, fail=()):
    """Give u1 and u2 a column of their own."""
    if unit["name"] in fail:
        raise DataError("not yet")
    own = {"u1": {"B": ["x"]}, "u2": {"C": ["y"]}}.get(unit["name"], {})
    return {name: pd.DataFrame({"A": [unit["seed"]], **own}) for name in ("rows", "units")}


def test_columns_that_few_units_have_are_in_the_order_of_the_plan_however_it_was_run(tmp_path):
    at_once = run_plan(plan_of(), uneven, tmp_path / "at once")
    run_plan(plan_of(), partial(uneven, fail=("u1",)), tmp_path / "again")
    again = run_plan(plan_of(), uneven, tmp_path / "again")
    assert list(again.results.read("rows", [0]).columns) == ["A", "B", "C"]
    assert tables(again, tmp_path / "again") == tables(at_once, tmp_path / "at once")


def test_another_plan_is_refused_and_what_differs_is_said(tmp_path):
    run_plan(plan_of(5, diameter=12), squares, tmp_path)
    with pytest.raises(DataError, match=r"another plan \(diameter was 12, is 14; 5 units then, 6 now\)"):
        run_plan(plan_of(6, diameter=14), squares, tmp_path)
    assert run_plan(plan_of(6, diameter=14), squares, tmp_path, overwrite=True).n_run == 6


def plan_named(names, **settings):
    return make_plan("test", [{"name": f"u{i}", "seed": i} for i in names], settings)


GROWN = {
    "at the end": (range(40), range(46)),
    "in front": (range(8, 40), range(40)),
    "in between": ([*range(10), *range(20, 40)], range(40)),
    "smaller": (range(40), range(5, 35)),
    "turned round": (range(40), range(39, -1, -1)),
    "two change places": (range(40), [0, 37, *range(2, 37), 1, 38, 39]),
}


@pytest.mark.parametrize(("before", "now"), GROWN.values(), ids=GROWN)
def test_units_of_another_plan_that_are_the_same_keep_their_results(tmp_path, before, now):
    for index in (1, 2, 3):
        run_plan(plan_named(before), squares, tmp_path / "out", shard=Shard(index, 3))
    with pytest.raises(
        DataError, match="pass --overwrite to go on; units that are the same keep their results"
    ):
        run_plan(plan_named(now), squares, tmp_path / "out")
    outcome = run_plan(plan_named(now), squares, tmp_path / "out", overwrite=True)
    new = len(set(now) - set(before))
    assert new <= outcome.n_run <= len(now)
    if now is not GROWN["in between"][1] and now is not GROWN["smaller"][1]:
        assert outcome.n_run == new  # nothing that was done is done again
    fresh = run_plan(plan_named(now), squares, tmp_path / "fresh")
    assert tables(outcome, tmp_path / "out") == tables(fresh, tmp_path / "fresh")
    assert run_plan(plan_named(now), squares, tmp_path / "out").n_run == 0
    named = {path.stem for path in (tmp_path / "out" / "units").glob("*.json")}
    parts = {path.stem for path in (tmp_path / "out" / "units").glob("*/*.parquet")}
    assert parts <= named  # nothing is left behind of what does not count


def test_a_unit_that_is_named_otherwise_keeps_its_result(tmp_path):
    run_plan(plan_named(range(6)), nothing, tmp_path)
    renamed = make_plan("test", [{"name": f"plate 2/u{i}", "seed": i} for i in range(6)], {})
    assert finished_elsewhere(tmp_path, renamed) == []
    assert finished_elsewhere(tmp_path, plan_named(range(1, 6))) == ["u0"]
    assert run_plan(renamed, nothing, tmp_path, overwrite=True).n_run == 0


def test_going_over_to_another_plan_goes_on_after_a_kill(tmp_path, monkeypatch):
    for index in (1, 2, 3):
        run_plan(plan_named(range(30)), squares, tmp_path, shard=Shard(index, 3))
    written, write = [], carry_over.atomic_file

    def dying(path, **options):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(path, **options)

    monkeypatch.setattr(carry_over, "atomic_file", dying)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan_named(range(33)), squares, tmp_path, overwrite=True)
    monkeypatch.undo()
    outcome = run_plan(plan_named(range(33)), squares, tmp_path, overwrite=True)
    assert (outcome.n_run, outcome.is_complete) == (3, True)


def test_units_whose_inputs_changed_are_not_carried_over(tmp_path):
    for index in (1, 2):
        run_plan(seeing(5, 6), squares, tmp_path, shard=Shard(index, 2))
    assert run_plan(seeing(5, 7, 8), squares, tmp_path, overwrite=True).n_run == 2


def test_columns_are_in_the_order_of_the_plan_after_carrying_over(tmp_path):
    run_plan(plan_named([2, 3]), uneven, tmp_path / "out")
    grown = run_plan(plan_named(range(4)), uneven, tmp_path / "out", overwrite=True)
    fresh = run_plan(plan_named(range(4)), uneven, tmp_path / "fresh")
    assert grown.n_run == 2
    assert tables(grown, tmp_path / "out") == tables(fresh, tmp_path / "fresh")


def test_results_of_a_running_shard_are_not_overwritten(tmp_path):
    def meanwhile(unit):
        with pytest.raises(
            ResourceError, match=rf"shard-1-of-2: in use by process {os.getpid()}.*wait for it"
        ):
            run_plan(plan_of(6, diameter=14), squares, tmp_path, overwrite=True)
        return squares(unit)

    run_plan(plan_of(4), meanwhile, tmp_path, shard=Shard(1, 2))
    outcome = run_plan(plan_of(4), squares, tmp_path)
    assert (outcome.n_run, outcome.is_complete) == (2, True)


def test_units_that_another_shard_runs_are_not_run_twice(tmp_path):
    run_plan(plan_of(), squares, tmp_path, shard=Shard(1, 3))
    with run_lock(tmp_path / "units" / "shard-1-of-3"):
        for shard in (None, Shard(1, 2)):
            with pytest.raises(ResourceError, match=r"shard-1-of-3: in use by process"):
                run_plan(plan_of(), squares, tmp_path, shard=shard)
        assert run_plan(plan_of(), squares, tmp_path, shard=Shard(2, 2)).n_run == 20
    assert run_plan(plan_of(), squares, tmp_path).is_complete


@pytest.mark.parametrize("name", ["shard-1-of-3 copy", "shard-1-of-0", "shard-a-of-b"])
def test_a_folder_that_only_looks_like_a_shard_is_let_be(tmp_path, name):
    run_plan(plan_of(), squares, tmp_path, shard=Shard(1, 3))
    (tmp_path / "units" / name).mkdir()
    assert run_plan(plan_of(), squares, tmp_path).is_complete
    assert not any((tmp_path / "units" / name).iterdir())


def test_a_shard_waits_while_another_looks_at_the_plan(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with run_lock(tmp_path):
            shard = pool.submit(run_plan, plan_of(4), squares, tmp_path, shard=Shard(2, 2))
            assert not wait([shard], timeout=0.3).done
        assert shard.result(60).n_run == 2


def made_from(origin, n_units=10):
    units = [{"name": f"u{i}", "seed": i} for i in range(n_units)]
    return make_plan("test", units, {}, made_from=origin)


def test_shards_read_their_part_of_the_plan_that_lies_there(tmp_path):
    assert kept_plan(tmp_path, "a", Shard(1, 3)) is None
    with planning(tmp_path):
        keep_plan(tmp_path, made_from("a"))
    parts = [kept_plan(tmp_path, "a", Shard(i, 3)) for i in (1, 2, 3)]
    assert [len(part.lines) for part in parts] == [3, 3, 4]
    assert [len(part) for part in parts] == [10, 10, 10]
    for part, shard in zip(parts, (Shard(1, 3), Shard(2, 3), Shard(3, 3)), strict=True):
        outcome = run_plan(part, squares, tmp_path, shard=shard)
    assert outcome.is_complete
    whole = run_plan(made_from("a"), squares, tmp_path / "whole")
    assert tables(outcome, tmp_path) == tables(whole, tmp_path / "whole")


def test_a_plan_made_from_something_else_or_cut_short_is_not_read(tmp_path):
    with planning(tmp_path):
        keep_plan(tmp_path, made_from("a"))
    assert kept_plan(tmp_path, "b", Shard(1, 2)) is None
    with planning(tmp_path):
        keep_plan(tmp_path, made_from("b"))  # the same units, told by another table: it is found from now on
    assert len(kept_plan(tmp_path, "b", Shard(2, 2)).lines) == 5
    path = tmp_path / "plan.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:8]) + "\n")
    assert kept_plan(tmp_path, "b", Shard(1, 2)) is not None
    assert kept_plan(tmp_path, "b", Shard(2, 2)) is None
    path.write_text("{")
    assert kept_plan(tmp_path, "b", Shard(1, 2)) is None


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_part_of_a_plan_never_takes_the_place_of_a_whole_one(tmp_path, overwrite):
    with planning(tmp_path):
        keep_plan(tmp_path, made_from("a"))
        part = kept_plan(tmp_path, "a", Shard(1, 2))
        keep_plan(tmp_path, made_from("a", 12), overwrite=True)
    before = (tmp_path / "plan.jsonl").read_bytes()
    with pytest.raises(DataError, match=r"replaced just now|another plan"):
        run_plan(part, squares, tmp_path, shard=Shard(1, 2), overwrite=overwrite)
    assert (tmp_path / "plan.jsonl").read_bytes() == before


def test_markers_of_another_plan_are_removed_when_told(tmp_path):
    run_plan(plan_of(4), squares, tmp_path / "a")
    run_plan(plan_of(4, diameter=14), squares, tmp_path / "b")
    marker = next((tmp_path / "b" / "units").glob("*.json"))
    foreign = tmp_path / "a" / "units" / f"foreign-{marker.name}"
    foreign.write_bytes(marker.read_bytes())
    with pytest.raises(DataError, match=r"belongs to plan .*pass --overwrite"):
        run_plan(plan_of(4), squares, tmp_path / "a")
    outcome = run_plan(plan_of(4), squares, tmp_path / "a", overwrite=True)
    assert (outcome.n_run, outcome.is_complete, foreign.exists()) == (0, True, False)


def seeing(*times):
    units = [{"name": f"u{i}", "seed": i, "seen": {"a.tif": time}} for i, time in enumerate(times) if time]
    units += [{"name": f"u{i}", "seed": i, "seen": {}} for i, time in enumerate(times) if not time]
    return make_plan("test", units, {})


def test_inputs_that_change_while_their_shard_runs_are_noticed(tmp_path):
    """Its first unit was read from the old file and is not yet written when another shard looks at all files."""

    def meanwhile(unit):
        if unit["name"] == "u0":
            with pytest.raises(ResourceError, match=r"shard-1-of-2: in use by process"):
                run_plan(seeing(6, 5, 5, 5), squares, tmp_path, shard=Shard(2, 2))
            run_plan(seeing(5, 5, 6, 5), squares, tmp_path, shard=Shard(2, 2))
        return squares(unit)

    assert run_plan(seeing(5, 5, 5, 5), meanwhile, tmp_path, shard=Shard(1, 2)).is_complete
    with pytest.raises(DataError, match=r"inputs of 1 finished unit changed since .* first of 'u0'"):
        run_plan(seeing(6, 5, 6, 5), squares, tmp_path)


def test_units_whose_inputs_changed_are_done_anew_when_told(tmp_path):
    for index in (1, 2):
        run_plan(seeing(5, 6), squares, tmp_path, shard=Shard(index, 2))
    with pytest.raises(
        DataError, match=r"inputs of 1 finished unit changed since .* first of 'u1'\. Pass --over"
    ):
        run_plan(seeing(5, 7), squares, tmp_path)
    assert run_plan(seeing(5, 7), squares, tmp_path, overwrite=True).n_run == 1
    assert run_plan(seeing(5, 7), squares, tmp_path).n_run == 0


def test_inputs_that_are_gone_or_come_later_are_no_change(tmp_path):
    run_plan(seeing(5, 0), partial(squares, fail=("u1",)), tmp_path)
    mended = run_plan(seeing(5, 6), squares, tmp_path)
    assert (mended.n_run, mended.results.failed) == (1, {})
    assert run_plan(seeing(5, 0), squares, tmp_path).n_run == 0
    with pytest.raises(DataError, match="first of 'u1'"):  # what was seen of it is kept while it is gone
        run_plan(seeing(5, 7), squares, tmp_path)


def test_a_removed_part_is_made_again_and_a_changed_one_is_refused(tmp_path):
    run_plan(plan_of(4), squares, tmp_path)
    part = next((tmp_path / "units" / "units").glob("*.parquet"))
    content = part.read_bytes()
    part.unlink()
    outcome = run_plan(plan_of(4), squares, tmp_path)
    assert outcome.n_run > 0
    assert part.read_bytes() == content
    part.write_bytes(content[:-1] + b"x")
    with pytest.raises(DataError, match=r"differs from what was written \(sha256\)\. Remove it"):
        tables(run_plan(plan_of(4), squares, tmp_path), tmp_path)


def test_a_damaged_marker_is_refused(tmp_path):
    run_plan(plan_of(4), squares, tmp_path)
    next((tmp_path / "units").glob("*.json")).write_text("{")
    with pytest.raises(DataError, match="is no done marker of this program"):
        run_plan(plan_of(4), squares, tmp_path)


def test_units_without_results_cost_one_file_for_hundreds(tmp_path):
    outcome = run_plan(plan_of(9000), nothing, tmp_path)
    assert outcome.is_complete
    assert len(list((tmp_path / "units").glob("*.json"))) <= 20


def test_a_kill_costs_a_twentieth_of_the_run_and_days_leave_few_files(tmp_path, monkeypatch):
    clock, commits = [1000.0], [1000.0]
    monkeypatch.setattr(batches, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(batches, "_STARTED", 1000.0)
    journal = SimpleNamespace(commit=lambda done: commits.append(clock[0]) if done else None)

    def two_seconds(unit):
        clock[0] += 2.0
        return {}

    units = [(i, json.dumps({"name": f"u{i}"})) for i in range(14_000)]
    assert batches.work_through(units, two_seconds, journal, should_stop=lambda: False) == 14_000
    at = np.array(commits) - 1000
    assert (np.diff(at) <= np.clip(at[1:] / 20, 10, 120) + 2.0).all()
    assert len(commits) < 350


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_is_none_is_explained(text):
    with pytest.raises(ConfigurationError, match=r"write I/N with 1 <= I <= N"):
        Shard.parse(text)


def test_shards_cover_every_unit_once():
    for n_units, of in ((10, 3), (2, 5), (4_300_000, 213)):
        positions = (
            [p for i in range(1, of + 1) for p in (Shard(i, of).positions(n_units))]
            if n_units < 100
            else None
        )
        if positions is not None:
            assert positions == list(range(n_units))
        assert sum(len(Shard(i, of).positions(n_units)) for i in range(1, of + 1)) == n_units


def test_a_name_twice_and_an_empty_plan_are_refused():
    with pytest.raises(DataError, match=r"1 units have the name of an earlier one, such as \['a'\]"):
        make_plan("test", [{"name": "a"}, {"name": "a"}], {})
    with pytest.raises(DataError, match="nothing to do"):
        make_plan("test", [], {})


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"allowed are \['local', 'dask'\]"):
        run_plan(plan_of(1), nothing, tmp_path, engine="ray")
