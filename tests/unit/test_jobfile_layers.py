"""Settings come from layers, later over earlier, key by key; a mistake is named with its layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from procstop.errors import JobFileError
from procstop.jobfile import load_job, single_job, user_config_file
from procstop.model import Job, Limits, Spawn, StopPolicy, Workers

TASK = '[[task]]\nname = "a"\nmodule = "add.wat"\n'


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration file, not yet there, in a directory of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("add.wat").write_text("")
    file = user_config_file()
    assert tmp_path in file.parents
    file.parent.mkdir(parents=True)
    return file


def load(content: str, *overrides: str, config: str | None = None, user_config: bool = True) -> Job:
    Path("job.toml").write_text(content)
    if config is not None:
        Path("more.toml").write_text(config)
    more = None if config is None else "more.toml"
    return load_job("job.toml", config=more, overrides=overrides, user_config=user_config)


def test_each_layer_wins_over_the_one_before(user_file: Path) -> None:
    layers = ["", "1s", "2s", "3s", "4s", "5s"]
    seen = []
    for top in range(len(layers)):
        user_file.write_text(f'[limits]\ntime = "{layers[1]}"' if top >= 1 else "")
        config = f'[limits]\ntime = "{layers[2]}"' if top >= 2 else ""
        job = f'[limits]\ntime = "{layers[3]}"\n' if top >= 3 else ""
        task = f'limits.time = "{layers[4]}"\n' if top >= 4 else ""
        overrides = [f"limits.time={layers[5]}"] if top >= 5 else []
        (only,) = load(job + TASK + task, *overrides, config=config).tasks
        assert only.limits is not None
        seen.append(only.limits.time)
    assert seen == [None, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_layers_are_merged_key_by_key(user_file: Path) -> None:
    user_file.write_text('concurrency = 7\n[limits]\nstart = "1s"\n[stop]\ninterrupt = "1s"')
    config = '[stop]\npreempt = "2s"\nkill_wait = "9s"'
    job = load(
        '[limits]\ntime = "3s"\n' + TASK + 'limits.output = "4B"\nstop.terminate = "4s"',
        "stop.kill_wait=5s",
        config=config,
    )
    (only,) = job.tasks
    assert job.concurrency == 7
    assert only.limits == Limits(start=1.0, time=3.0, output=4)
    assert job.limits == Limits(start=1.0, time=3.0)
    assert only.stop == StopPolicy(interrupt=1.0, preempt=2.0, terminate=4.0, kill_wait=5.0)
    assert job.stop == StopPolicy(interrupt=1.0, preempt=2.0, kill_wait=5.0)


def test_none_lifts_a_limit_that_an_earlier_layer_sets(user_file: Path) -> None:
    user_file.write_text('[limits]\ntime = "5s"\noutput = "1B"')
    job = load('[limits]\noutput = "none"\n' + TASK + 'limits.time = "none"')
    assert job.limits == Limits(time=5.0, output=None)
    assert job.tasks[0].limits == Limits(time=None, output=None)
    assert load(TASK, "limits.time=none").limits.time is None


def test_workers_are_settled_by_the_job_and_their_reuse_by_the_task(user_file: Path) -> None:
    assert load(TASK).workers == Workers()
    user_file.write_text('[workers]\nspawn = "fresh"\nreuse = 2\ncache = false')
    job = load("[workers]\nreuse = 3\n" + TASK + "workers.reuse = 500\n" + TASK.replace('"a"', '"b"'))
    assert job.workers == Workers(Spawn.FRESH, 3, cache=False)
    assert [task.reuse for task in job.tasks] == [500, 3]
    job = load(TASK + "workers = { reuse = 500 }", "workers.reuse=7", "workers.cache=true", "workers.spawn=server")
    assert job.workers == Workers(reuse=7)
    assert job.tasks[0].reuse == 7


def test_memory_of_a_compiler_is_a_limit_like_any_other(user_file: Path) -> None:
    user_file.write_text('[limits]\ncompile_memory = "1GiB"')
    job = load(TASK + 'limits.compile_memory = "none"')
    assert job.limits == Limits(compile_memory=1 << 30)
    assert job.tasks[0].limits == Limits(compile_memory=None)
    assert load(TASK, "limits.compile_memory=64MiB").limits == Limits(compile_memory=64 << 20)


def test_user_file_can_be_left_out(user_file: Path) -> None:
    user_file.write_text("concurrency = 7")
    assert load(TASK).concurrency == 7
    assert load(TASK, user_config=False).concurrency is None


def test_single_module_has_the_same_layers(user_file: Path) -> None:
    user_file.write_text('concurrency = 7\n[limits]\ntime = "5s"\nstart = "5s"')
    job = single_job("add.wat", overrides=["limits.time=1s"])
    assert job.concurrency == 7
    assert job.tasks[0].limits == Limits(start=5.0, time=1.0)


@pytest.mark.usefixtures("user_file")
def test_set_reaches_job_and_tasks() -> None:
    job = load(
        TASK + 'engine = "wasmer"\nstrategy = "ignore"\nretries = 1\n[[task]]\nname = "b"\nmodule = "add.wat"',
        "concurrency = 4",
        "on_interrupt=ignore",
        "engine=wasmtime",
        "strategy.next=2",
        "retries=3",
        "check_every=5",
        "check_every=6",
    )
    assert (job.concurrency, job.on_interrupt.kind.value) == (4, "ignore")
    for task in job.tasks:
        assert (task.engine, str(task.strategy), task.retries, task.check_every) == (
            "wasmtime",
            "next 2",
            3,
            6,
        )


@pytest.mark.usefixtures("user_file")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("limits.tme=5s", '--set limits.tme: unknown key; did you mean "limits.time"?'),
        ("time=5s", '--set time: unknown key; did you mean "limits.time"?'),
        ("limits=5s", '--set limits: unknown key; did you mean "limits.time"?'),
        ("limits.time=5", '--set limits.time: a duration needs a unit, got "5"; write "5s"'),
        ("limits.time=0s", '--set limits.time: must be above 0, got "0s"; write "none" for no limit'),
        ("limits.time=", '--set limits.time: not a duration, got ""; write a number and a unit'),
        ("limits.time", "--set limits.time: needs a value, as in --set limits.time=5s"),
        ("limits.memory", "--set limits.memory: needs a value, as in --set limits.memory=256MiB"),
        ("workers.cache", "--set workers.cache: needs a value, as in --set workers.cache=false"),
        ("retries", "--set retries: needs a value, as in --set retries=4"),
        ("foo", "--set foo: unknown key; it takes keys of a job file with a value, as in --set limits.time=5s"),
        (
            "limits.time=0",
            '--set limits.time: must be above 0, got "0"; write "none" for no limit, or a number with a unit, as in ',
        ),
        ("limits.output=1M", '--set limits.output: not a size, got "1M"; write "1MB"'),
        ("limits.fuel=1", "--set limits.fuel: not enforced by this version of procstop; leave it out "),
        ("limits.open_files=many", '--set limits.open_files: must be a whole number, got "many"'),
        ("containment.sandbox=no", "--set containment.sandbox: must be true or false"),
        ("containment.require=all", '--set containment.require: must be "full", "basic" or "none", got "all"'),
        ("stop.kill_wait=0s", '--set stop.kill_wait: must be above 0, got "0s"'),
        ("concurrency=many", '--set concurrency: must be a whole number, got "many"'),
        ("concurrency=0", "--set concurrency: must be a whole number of at least 1, got 0"),
        ("engine=v8", '--set engine: must be "auto", "wasmer" or "wasmtime", got "v8"'),
        ("strategy=next-n", '--set strategy: must be "finish-current", "ignore" or a number, '),
        ("name=x", "--set name: unknown key"),
        ("workers=4", '--set workers: unknown key; did you mean "concurrency"?'),
        ("reuse=4", '--set reuse: unknown key; did you mean "workers.reuse"?'),
        ("workers.reuse=0", "--set workers.reuse: must be a whole number of at least 1, got 0"),
        ("workers.reuse=many", '--set workers.reuse: must be a whole number, got "many"'),
        ("workers.cache=no", '--set workers.cache: must be true or false, got "no"'),
        ("workers.spawn=forked", '--set workers.spawn: must be "server" or "fresh", got "forked"'),
        ("limits.compile_memory=4", '--set limits.compile_memory: a size needs a unit, got "4"; write "4MiB"'),
        ("", "--set: needs a key and a value, as in --set limits.time=5s"),
        ("\udcff\x1b=1", "--set \\udcff\\u001b: unknown key"),
        ("engine=\udcff", '--set engine: must be "auto", "wasmer" or "wasmtime", got "\\udcff"'),
    ],
)
def test_mistake_in_a_set_option_is_named_with_its_key(override: str, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(TASK, override)
    (problem,) = caught.value.problems
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("concurency = 1", 'concurency: unknown key; did you mean "concurrency"?'),
        ("engine = 'auto'", "engine: unknown here; it is a key of a task and belongs in a job file"),
        ("limits.time = 5", 'limits.time: a duration needs a unit, got 5; write "5s"'),
        (TASK, "task: a configuration file has no tasks"),
    ],
)
def test_mistake_in_a_configuration_file_is_named_with_that_file(user_file: Path, content: str, message: str) -> None:
    user_file.write_text(content)
    with pytest.raises(JobFileError) as caught:
        load(TASK, config=content)
    assert caught.value.problems == (f"{user_file}: {message}", f"more.toml: {message}")


@pytest.mark.usefixtures("user_file")
def test_config_file_that_is_missing_is_a_mistake_like_any_other() -> None:
    Path("job.toml").write_text("x = 1")
    with pytest.raises(JobFileError) as caught:
        load_job("job.toml", config="gone.toml", overrides=["x=1"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "gone.toml",
        "--set x",
        "job.toml",
        "job.toml",
    ]


def test_configuration_that_is_not_toml_is_pointed_at(user_file: Path) -> None:
    user_file.write_text("time = 5s")
    with pytest.raises(JobFileError, match=r"config\.toml:1:9: not TOML"):
        load(TASK)
