"""A good job file becomes a job in which nothing is left to look up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from procstop.errors import JobFileError
from procstop.jobfile import load_job, single_job
from procstop.model import Dir, Job, Limits, Outcome, Spawn, Stdin, StopPolicy, Strategy, StrategyKind, Task, Workers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's folder, which is not the current directory."""
    job = tmp_path / "job"
    for name in ("add.wat", "hostfuncs.py", "in.txt", "images/cat.png", "images/dog.png", "images/cat.txt"):
        (job / name).parent.mkdir(exist_ok=True, parents=True)
        (job / name).write_text("")
    for name in ("data", "out", "images/sub.png"):
        (job / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return job


def load(folder: Path, content: str, *tasks: str) -> Job:
    (folder / "thumbs.toml").write_text(content)
    return load_job(folder / "thumbs.toml", tasks=tasks, user_config=False)


def names(job: Job) -> list[str]:
    return [task.name for task in job.tasks]


def task(name: str, *needs: str, more: str = "") -> str:
    wanted = ", ".join(f'"{need}"' for need in needs)
    return f'[[task]]\nname = "{name}"\nmodule = "add.wat"\nneeds = [{wanted}]\n{more}\n'


EVERYTHING = """
name = "thumbs"
concurrency = 2
on_interrupt = { next = 3 }

[stop]
interrupt = "2s"
preempt = "500ms"
terminate = "1s"
kill_wait = "3s"

[limits]
start = "30s"
time = "10s"
output = "10MiB"
compile_memory = "1GiB"

[workers]
spawn = "fresh"
reuse = 20
cache = false

[[task]]
name = "other"
module = "add.wat"

[[task]]
name = "add"
module = "add.wat"
call = "run"
args = [1, 7, 2.5, "x"]
env = { LANG = "C" }
stdin = "in.txt"
dirs = { "/data" = "data", "/out" = { path = "out", write = true } }
engine = "wasmtime"
strategy = { next = 3 }
check_every = 4
imports = { "env.early_exit" = "exit" }
host = "hostfuncs.py"
needs = ["other"]
limits = { time = "1m" }
workers = { reuse = 500 }
stop = { preempt = "0s" }
retries = 2
expect = ["completed", "exited"]
"""


def test_every_key_reaches_the_job(folder: Path) -> None:
    job = load(folder, EVERYTHING)
    stop = StopPolicy(interrupt=2.0, preempt=0.5, terminate=1.0, kill_wait=3.0)
    limits = Limits(start=30.0, time=10.0, output=10 * 1024 * 1024, compile_memory=1 << 30)
    assert (job.name, job.concurrency, job.source) == ("thumbs", 2, str(folder / "thumbs.toml"))
    assert (job.on_interrupt.kind.value, job.on_interrupt.n) == ("next", 3)
    assert (job.stop, job.limits, job.workers) == (stop, limits, Workers(Spawn.FRESH, 20, cache=False))
    assert job.tasks == (
        Task("other", str(folder / "add.wat"), limits=limits, stop=stop, reuse=20),
        Task(
            name="add",
            module=str(folder / "add.wat"),
            call="run",
            args=(1, 7, 2.5, "x"),
            env={"LANG": "C"},
            stdin=Stdin(path=str(folder / "in.txt")),
            dirs=(Dir("/data", str(folder / "data")), Dir("/out", str(folder / "out"), write=True)),
            engine="wasmtime",
            strategy=Strategy(StrategyKind.NEXT_N, 3),
            check_every=4,
            imports={"env.early_exit": "exit"},
            host=str(folder / "hostfuncs.py"),
            needs=("other",),
            limits=Limits(start=30.0, time=60.0, output=10 * 1024 * 1024, compile_memory=1 << 30),
            stop=StopPolicy(interrupt=2.0, preempt=0.0, terminate=1.0, kill_wait=3.0),
            retries=2,
            expect=(Outcome.COMPLETED, Outcome.EXITED),
            reuse=500,
        ),
    )


def test_what_is_left_out_is_the_models_default(folder: Path) -> None:
    job = load(folder, '[[task]]\nname = "add"\nmodule = "add.wat"\n')
    only = Task("add", str(folder / "add.wat"), limits=Limits(), stop=StopPolicy(), reuse=1)
    assert job == Job("thumbs", (only,), source=str(folder / "thumbs.toml"))


@pytest.mark.parametrize(
    ("written", "stdin"),
    [
        ('{ text = "a\\nb" }', Stdin(text="a\nb")),
        ('{ text = "" }', Stdin(text="")),
        ('{ path = "/dev/null" }', Stdin(path="/dev/null")),
    ],
)
def test_stdin_is_a_text_or_a_path(folder: Path, written: str, stdin: Stdin) -> None:
    assert load(folder, task("a", more=f"stdin = {written}")).tasks[0].stdin == stdin


def test_parent_directories_are_resolved_and_tildes_are_not(folder: Path) -> None:
    (folder / "~").mkdir()
    job = load(folder, task("a", more='dirs = { "/a" = "../job/data", "/b" = "~" }'))
    assert [d.host for d in job.tasks[0].dirs] == [str(folder / "data"), str(folder / "~")]


def test_each_makes_a_task_for_every_file_that_matches(folder: Path) -> None:
    more = """
        each = "images/*.png"
        args = ["{path}", "{name}", "{stem}", "{", "{}", '{"a": 1}', 5]
        stdin = { text = "<{stem}>" }
        dirs = { "/{stem}" = "images" }
    """
    cat, dog = load(folder, task("resize", more=more)).tasks
    assert (cat.name, cat.group) == ("resize[images/cat.png]", "resize")
    assert (dog.name, dog.group) == ("resize[images/dog.png]", "resize")
    assert cat.args == ("images/cat.png", "cat.png", "cat", "{", "{}", '{"a": 1}', 5)
    assert cat.stdin == Stdin(text="<cat>")
    assert dog.dirs == (Dir("/dog", str(folder / "images")),)


def test_tokens_are_just_braces_without_each(folder: Path) -> None:
    assert load(folder, task("a", more='args = ["{path}", "{foo}"]')).tasks[0].args == ("{path}", "{foo}")


def test_braces_in_the_name_of_a_file_stay(folder: Path) -> None:
    (folder / "{stem}.csv").write_text("")
    job = load(folder, task("a", more='each = "*.csv"\nargs = ["{name}"]\nstdin = "{path}"'))
    assert job.tasks[0].args == ("{stem}.csv",)
    assert job.tasks[0].stdin == Stdin(path=str(folder / "{stem}.csv"))


def test_file_that_a_pattern_finds_twice_makes_one_task(folder: Path) -> None:
    assert names(load(folder, task("a", more='each = "**/**/cat.png"'))) == ["a[images/cat.png]"]


@pytest.mark.parametrize("name", ["a\nb.csv", os.fsdecode(b"\xff.csv")])
def test_file_whose_name_reports_cannot_show_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("")
    with pytest.raises(JobFileError) as caught:
        load(folder, task("a", more='each = "*.csv"'))
    assert str(caught.value).endswith("a name that reports cannot show; rename the file")
    assert str(caught.value).isprintable()


def test_file_with_an_odd_space_in_its_name_is_fine(folder: Path) -> None:
    (folder / "Screenshot 1.00\u202fPM.csv").write_text("")
    assert len(load(folder, task("a", more='each = "*.csv"')).tasks) == 1


def test_task_with_the_name_of_one_made_by_each_is_refused(folder: Path) -> None:
    content = task("a", more='each = "images/*.png"') + task("a[images/cat.png]")
    with pytest.raises(JobFileError) as caught:
        load(folder, content)
    wanted = 'name: two tasks are called "a[images/cat.png]", one of them made by each; rename one'
    assert str(caught.value) == f"{folder / 'thumbs.toml'}: {wanted}"


def test_need_for_a_group_becomes_a_need_for_all_of_its_tasks(folder: Path) -> None:
    content = task("z", "first", "resize", "first") + task("resize", more='each = "images/*.png"') + task("first")
    job = load(folder, content)
    assert job.tasks[0].needs == ("first", "resize[images/cat.png]", "resize[images/dog.png]")


def test_need_may_name_one_task_of_a_group(folder: Path) -> None:
    content = task("resize", more='each = "images/*.png"') + task("z", "resize[images/dog.png]")
    assert load(folder, content).tasks[-1].needs == ("resize[images/dog.png]",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (task("a", "a"), 'task "a": needs: a task cannot need itself; drop its own name'),
        (
            task("a", "b") + task("b", "c") + task("c", "a"),
            'task "a": needs: tasks cannot wait for each other, "a" -> "b" -> "c" -> "a"; drop one of these needs',
        ),
        (
            task("z", "g") + task("g", "z", more='each = "images/*.png"'),
            'task "z": needs: tasks cannot wait for each other, "z" -> "g" -> "z"; drop one of these needs',
        ),
        (
            task("g", "g[images/cat.png]", more='each = "images/*.png"'),
            'task "g": needs: a task cannot need itself; drop its own name',
        ),
        (
            task("g", more='each = "images/*.png"') + task("z", "g[images/cow.png]"),
            'task "z": needs: no task is called "g[images/cow.png]"; did you mean ',
        ),
    ],
)
def test_need_that_cannot_be_met_is_refused(folder: Path, content: str, problem: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(folder, content)
    assert str(caught.value).startswith(f"{folder / 'thumbs.toml'}: {problem}")


def test_two_circles_are_told_apart(folder: Path) -> None:
    content = task("a", "b") + task("b", "a") + task("c", "d") + task("d", "c", "a")
    with pytest.raises(JobFileError) as caught:
        load(folder, content)
    assert len(caught.value.problems) == 2


def test_long_chain_of_needs_is_no_circle(folder: Path) -> None:
    content = "".join(task(f"t{n}", f"t{n + 1}") for n in range(3000)) + task("t3000")
    assert len(load(folder, content, "t1000").tasks) == 2001


def test_input_that_a_needed_task_can_write_need_not_be_there_yet(folder: Path) -> None:
    makes = task("makes", more='dirs = { "/out" = { path = "out", write = true } }')
    uses = 'stdin = "out/new.txt"\ndirs = { "/in" = "out/new" }'
    assert names(load(folder, makes + task("between", "makes") + task("uses", "between", more=uses)))
    with pytest.raises(JobFileError, match="no such file"):
        load(folder, makes + task("uses", more=uses))
    with pytest.raises(JobFileError, match="no such directory"):
        load(folder, makes.replace("true", "false") + task("uses", "makes", more=uses))


CHAIN = task("a") + task("b", "a") + task("g", "b", more='each = "images/*.png"') + task("d") + task("e", "g")


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        (["d"], ["d"]),
        (["b"], ["a", "b"]),
        (["d", "b"], ["a", "b", "d"]),
        (["g"], ["a", "b", "g[images/cat.png]", "g[images/dog.png]"]),
        (["g[images/dog.png]"], ["a", "b", "g[images/dog.png]"]),
        (["e"], ["a", "b", "g[images/cat.png]", "g[images/dog.png]", "e"]),
        ([], ["a", "b", "g[images/cat.png]", "g[images/dog.png]", "d", "e"]),
    ],
)
def test_chosen_tasks_bring_what_they_need(folder: Path, chosen: list[str], kept: list[str]) -> None:
    assert names(load(folder, CHAIN, *chosen)) == kept


def test_choice_of_an_unknown_task_is_refused_with_a_guess(folder: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        load(folder, task("resize") + task("add"), "resise", "add")
    assert caught.value.problems == ('--task resise: no task is called "resise"; did you mean "resize"?',)


def test_single_module_is_a_job_of_one_task(folder: Path) -> None:
    os.chdir(folder)
    job = single_job(
        "add.wat",
        call="run",
        args=["1", "-7", "2.5", "1e3", "0x10", "x", "99999999999999999999999", 3],
        dirs=[Dir("/out", "out", write=True)],
        env={"LANG": "C"},
        stdin=Stdin(path="in.txt"),
        engine="wasmtime",
        overrides=["limits.time=5s", "retries=1"],
        user_config=False,
    )
    limits = Limits(time=5.0)
    only = Task(
        name="add",
        module=str(folder / "add.wat"),
        call="run",
        args=(1, -7, 2.5, 1000.0, "0x10", "x", "99999999999999999999999", 3),
        env={"LANG": "C"},
        stdin=Stdin(path=str(folder / "in.txt")),
        dirs=(Dir("/out", str(folder / "out"), write=True),),
        engine="wasmtime",
        limits=limits,
        stop=StopPolicy(),
        retries=1,
        reuse=1,
    )
    assert job == Job("add", (only,), limits=limits)


def test_single_module_called_at_start_gets_its_arguments_as_texts(folder: Path) -> None:
    job = single_job(folder / "add.wat", args=["1", "x"], user_config=False)
    assert job.tasks[0].args == ("1", "x")


def test_single_module_that_is_not_there_is_named_without_a_task(folder: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        single_job("gone.wasm", engine="wasmtim", dirs=[Dir("/a", "x"), Dir("/a", "y")], user_config=False)
    assert caught.value.problems == (
        'dirs."/a": is given twice',
        'engine: must be "auto", "wasmer" or "wasmtime", got "wasmtim"; did you mean "wasmtime"?',
        'module: no such file, got "gone.wasm"',
        'dirs."/a": no such directory, got "y"',
    )
    assert folder.exists()
