"""Every mistake in a job file gets its line: file, task, key, what, got, what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from procstop.errors import JobFileError
from procstop.jobfile import load_job
from procstop.jobfile.values import MOST


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module and a few other things in it."""
    for name in ("add.wat", "hostfuncs.py", "in.txt", "images/cat.png", "images/dog.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems_of(content: str | bytes) -> list[str]:
    path = Path("thumbs.toml")
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(JobFileError) as caught:
        load_job(path, user_config=False)
    return list(caught.value.problems)


TASK = '[[task]]\nname = "resize"\nmodule = "add.wat"\n'


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('limits.time = "0s"', 'limits.time: must be above 0, got "0s"; leave it out for no limit'),
        ("limits.time = 5", 'limits.time: a duration needs a unit, got 5; write "5s"'),
        ('limits.start = "0s"', 'limits.start: must be above 0, got "0s"'),
        ('limits.output = "0B"', 'limits.output: must be above 0, got "0B"; write "none" for no limit'),
        ('limits.tme = "1s"', 'limits.tme: unknown key; did you mean "limits.time"?'),
        ("limits.fuel = 1", "limits.fuel: not enforced by this version of procstop; leave it out "),
        ("limits.stall = 1", 'limits.stall: a duration needs a unit, got 1; write "1s"'),
        ('limits.open_files = "3"', 'limits.open_files: must be a whole number, got "3"; write 3'),
        ("limits.open_files = 0", 'limits.open_files: must be above 0, got 0; write "none" for no limit'),
        ("limits = 5", 'limits: must be a table, got 5; as in { time = "10s" }'),
        ('stop = "2s"', 'stop: must be a table, got "2s"; as in { interrupt = "2s" }'),
        (
            "limits.file_size = 0",
            'limits.file_size: must be above 0, got 0; write "none" for no limit, or a number with a unit, '
            'as in "10MiB"',
        ),
        (
            "limits.time = 0",
            'limits.time: must be above 0, got 0; leave it out for no limit, or a number with a unit, as in "10s"',
        ),
        ("limits.start = 0", 'limits.start: must be above 0, got 0; give a long one, as "1h"'),
        ("stop.kill_wait = 0", "stop.kill_wait: must be above 0, got 0; without it"),
        ("limits.memory = 268435456", 'limits.memory: a size needs a unit, got 268435456; write "256MiB"'),
        ("limits.compile_memory = 5", 'limits.compile_memory: a size needs a unit, got 5; write "5MiB"'),
        ('limits.compile_memory = "0B"', 'limits.compile_memory: must be above 0, got "0B"; write "none" for no limit'),
        ("workers = 4", "workers: must be a table, got 4; write { reuse = n }"),
        ("workers.reuse = 0", "workers.reuse: must be a whole number of at least 1, got 0"),
        ("workers.rouse = 2", 'workers.rouse: unknown key; did you mean "workers.reuse"?'),
        ("workers.max_tasks = 2", 'workers.max_tasks: unknown key; did you mean "workers.reuse"?'),
        ("workers.x = 2", 'workers.x: unknown key; there is "workers.reuse"'),
        (
            'workers.spawn = "fresh"',
            "workers.spawn: belongs to the job, as spawn below [workers]; a task sets reuse only",
        ),
        ("workers = { cache = false }", "workers.cache: belongs to the job, as cache below [workers]; a task sets "),
        ("cache = false", "cache: belongs to the job, as cache below [workers]; a task sets reuse only"),
        ("reuse = 2", 'reuse: unknown key; did you mean "workers.reuse"?'),
        ("maxtasksperchild = 2", 'maxtasksperchild: unknown key; did you mean "workers.reuse"?'),
        ('stop.interrupt = "-1s"', 'stop.interrupt: a duration cannot be negative, got "-1s"'),
        (
            'stop.kill_wait = "0s"',
            'stop.kill_wait: must be above 0, got "0s"; without it a kill could never be called lost',
        ),
        ('stop.grace = "1s"', "stop.grace: unknown key; there are "),
        ('modul = "x"', 'modul: unknown key; did you mean "module"?'),
        ('timeout = "5s"', 'timeout: unknown key; did you mean "limits.time"?'),
        ('time = "5s"', 'time: unknown key; did you mean "limits.time"?'),
        ('interrupt = "5s"', 'interrupt: unknown key; did you mean "stop.interrupt"?'),
        ("quux = 1", "quux: unknown key"),
        ('"a b\\u001b[1m" = 1', '"a b\\u001b[1m": unknown key'),
        (
            "concurrency = 2",
            "concurrency: unknown here; it is a key of the job and goes above the first [table]",
        ),
        ("args = [true]", "args[0]: must be a number or a text, got true; write 1 or 0"),
        ("args = [1, [2]]", "args[1]: must be a number or a text, got a list"),
        ("args = 7", "args: must be a list, got 7; write [7]"),
        ("args = [2024-01-01]", "args[0]: must be a number or a text, got the date or time 2024-01-01"),
        ("args = [36893488147419103232]", "args[0]: does not fit in 64 bits, got 36893488147419103232"),
        ('args = ["a\\u0000"]', 'args[0]: cannot hold a NUL character, got "a\\u0000"'),
        ("call = 5", "call: must be a text, got 5"),
        ('call = ""', "call: cannot be empty"),
        ('env."A=B" = "1"', 'env."A=B": the name of a variable cannot hold "="'),
        ('env."" = "1"', 'env."": cannot be empty'),
        ("env.LANG = 5", 'env.LANG: must be a text, got 5; write "5"'),
        ('env = ["A=1"]', 'env: must be a table, got a list; as in { LANG = "C" }'),
        ('env.LANG = "\\u0000"', 'env.LANG: cannot hold a NUL character, got "\\u0000"'),
        (
            'engine = "wasmtim"',
            'engine: must be "auto", "wasmer" or "wasmtime", got "wasmtim"; did you mean "wasmtime"?',
        ),
        (
            'strategy = "finish"',
            'strategy: must be "finish-current", "ignore" or { next = n }, got "finish"; '
            'did you mean "finish-current"?',
        ),
        ("strategy = { next = -1 }", "strategy.next: must be a whole number of at least 0, got -1"),
        ("strategy = {}", "strategy.next: is missing; write { next = 3 }"),
        ("strategy = { nxt = 1 }", 'strategy.nxt: unknown key; did you mean "strategy.next"?'),
        ("strategy = [1]", 'strategy: must be "finish-current", "ignore" or { next = n }, got a list'),
        ("check_every = 0", "check_every: must be a whole number of at least 1, got 0"),
        ("check_every = 1.5", "check_every: must be a whole number, got 1.5"),
        ("retries = true", "retries: must be a whole number, got true"),
        ('retries = "2"', 'retries: must be a whole number, got "2"; write 2'),
        ("retries = 5000000000", f"retries: must be a whole number of at most {MOST}, got 5000000000"),
        ('expect = "complete"', 'expect: must be "completed", '),
        ('expect = ["exited", "kiled"]', 'expect[1]: must be "completed", '),
        ("expect = []", 'expect: names no outcome, so nothing could be ok; leave it out for "completed"'),
        (
            'imports."env.leave" = "exot"',
            'imports."env.leave": must be "checkpoint", "interrupted", "progress", "exit" or "fail", '
            'got "exot"; did you mean "exit"?',
        ),
        (
            'imports."env.save" = "save"',
            'imports."env.save": "save" is not provided by this version of procstop; '
            'it has "checkpoint", "interrupted", "progress", "exit" and "fail"',
        ),
        (
            'imports.leave = "exit"',
            'imports.leave: an import has a module and a name, as in "env.early_exit"',
        ),
        ("stdin = 5", 'stdin: must be a text, got 5; as in "in.txt" or { text = "..." }'),
        ('stdin = { text = "a", path = "in.txt" }', "stdin: takes a path or a text, one of the two"),
        ("stdin = {}", "stdin: takes a path or a text, one of the two"),
        ('stdin = "out.txt"', 'stdin: no such file, got "out.txt"'),
        ('stdin = { path = "out.txt" }', 'stdin.path: no such file, got "out.txt"'),
        ('stdin = "images"', 'stdin: must be a file, got the directory "images"'),
        ('host = "host.py"', 'host: no such file, got "host.py"'),
        ('host = "~/host.py"', 'host: no such file, got "~/host.py"; "~" is not expanded here'),
        (
            'host_allow = ["network"]',
            "host_allow: is for host functions, and the task has no `host`; add one, as in "
            'host = "hostfuncs.py", or leave it out',
        ),
        ('dirs."/d" = "data"', 'dirs."/d": no such directory, got "data"'),
        ('dirs."/d" = "in.txt"', 'dirs."/d": not a directory, got "in.txt"'),
        (
            'dirs."/d" = { path = "out", write = true }',
            'dirs."/d": no such directory, got "out"; create it, procstop does not',
        ),
        ('dirs."/d" = { write = true }', 'dirs."/d".path: is missing; name the directory'),
        ('dirs."/d" = { path = "images", write = 1 }', 'dirs."/d".write: must be true or false, got 1'),
        (
            'dirs."/d" = { path = "images", wirte = true }',
            'dirs."/d".wirte: unknown key; did you mean "write"?',
        ),
        (
            'dirs = { "/d" = "images", "/d/" = "." }',
            'dirs."/d/": is the same path as "/d" to the guest; give each directory a path of its own',
        ),
        (
            'each = "images/*.png"\ndirs = { "/d/{name}" = ".", "//d/./{stem}.png" = "." }',
            'dirs."//d/./cat.png": is the same path as "/d/cat.png" to the guest; ',
        ),
        (
            'each = "images/*.png"\ndirs = { "{name}" = ".", "{stem}.png" = "." }',
            'dirs."cat.png": comes twice to the guest; ',
        ),
        ("dirs = []", 'dirs: must be a table, got an empty list; as in { "/in" = "images" }'),
        ('needs = ["resiz"]', 'needs: no task is called "resiz"; did you mean "resize"?'),
        ('needs = ["resize"]', "needs: a task cannot need itself; drop its own name"),
        ('needs = "other"', 'needs: must be a list, got "other"; write ["other"]'),
        ('each = "*.jpg"', 'each: no file matches "*.jpg"'),
        ('each = "imag*"', 'each: no file matches "imag*"; only directories do'),
        (
            'each = "images/*"\nargs = ["{pth}"]',
            'args[0]: unknown token "{pth}"; did you mean "{path}"?',
        ),
        (
            'each = "images/*"\nargs = ["a", "{foo}"]',
            'args[1]: unknown token "{foo}"; there are "{path}", "{name}" and "{stem}"',
        ),
        (
            'each = "images/*"\nenv.FILE = "{path}"',
            'env.FILE: {path} is replaced in args, stdin and dirs only, got "{path}"',
        ),
        ('each = "images/*"\nstdin = "{stem}.txt"', 'stdin: no such file, got "cat.txt"'),
    ],
)
def test_mistake_in_a_task_is_named_with_file_task_and_key(keys: str, message: str) -> None:
    expected = f'thumbs.toml: task "resize": {message}'
    problems = problems_of(TASK + keys)
    assert any(problem.startswith(expected) for problem in problems), problems


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no [[task]], so nothing to run; add one with a name and a module"),
        ("task = []", "there is no [[task]], so nothing to run; add one with a name and a module"),
        ("task = 3", "task: must be a list of tables, each a [[task]], got 3"),
        ('[task]\nname = "a"', "task: must be a list of tables, got one table; write [[task]]"),
        ("task = [1]", "task #1: must be a table, got 1"),
        ('[[task]]\nmodule = "add.wat"', "task #1: name: is missing; give the task a name of its own"),
        ('[[task]]\nname = "a"', 'task "a": module: is missing; name its .wasm or .wat file'),
        ('[[task]]\nname = ""\nmodule = "add.wat"', "task #1: name: cannot be empty"),
        ('[[task]]\nname = 5\nmodule = "add.wat"', 'task #1: name: must be a text, got 5; write "5"'),
        ('[[task]]\nname = "a"\nmodule = "ad.wat"', 'task "a": module: no such file, got "ad.wat"'),
        (
            '[[task]]\nname = "a\\nb"\nmodule = "add.wat"',
            'task "a\\nb": name: cannot hold control characters or begin or end with a space, got "a\\nb"',
        ),
        (
            TASK + TASK,
            'task #2: name: "resize" is taken by task #1; every task needs a name of its own',
        ),
        ("concurrency = 0\n" + TASK, "concurrency: must be a whole number of at least 1, got 0"),
        ("concurency = 2\n" + TASK, 'concurency: unknown key; did you mean "concurrency"?'),
        (
            'on_interrupt = "next"\n' + TASK,
            'on_interrupt: must be "stop", "finish-current", "ignore" or { next = n }, got "next"',
        ),
        ('module = "x"\n' + TASK, "module: unknown here; it is a key of a task and goes below [[task]]"),
        (
            "[limits]\nconcurrency = 2\n" + TASK,
            "limits.concurrency: unknown here; the job's own keys go above the first [table]",
        ),
        ("[limit]\n" + TASK, 'limit: unknown key; did you mean "limits"?'),
        (
            "workers = 4\n" + TASK,
            'workers: must be a table, got 4; how many attempts run side by side is "concurrency"',
        ),
        ("jobs = 4\n" + TASK, 'jobs: unknown key; did you mean "concurrency"?'),
        ("pool = 4\n" + TASK, 'pool: unknown key; did you mean "workers.reuse"?'),
        ('spawn = "fresh"\n' + TASK, 'spawn: unknown key; did you mean "workers.spawn"?'),
        ('containment = "full"\n' + TASK, 'containment: must be a table, got "full"; as in { require = "full" }'),
        ("containment = false\n" + TASK, "containment: must be a table, got false; write { sandbox = false }"),
        (
            '[containment]\nsandbox = "false"\n' + TASK,
            'containment.sandbox: must be true or false, got "false"; write false without quotes',
        ),
        ("[workers]\nspawn = true\n" + TASK, 'workers.spawn: must be "server" or "fresh", got true'),
        ("[workers]\ncache = 1\n" + TASK, "workers.cache: must be true or false, got 1"),
        ("[workers]\nreuse = 1.5\n" + TASK, "workers.reuse: must be a whole number, got 1.5"),
        (
            "[workers]\nmaxtasksperchild = 2\n" + TASK,
            'workers.maxtasksperchild: unknown key; did you mean "workers.reuse"?',
        ),
        (
            "[workers]\nconcurrency = 2\n" + TASK,
            "workers.concurrency: unknown here; the job's own keys go above the first [table]",
        ),
        ('[[tasks]]\nname = "a"\n' + TASK, 'tasks: unknown key; did you mean "task"?'),
        (
            '[limits]\ntime = "0s"\n' + TASK,
            'limits.time: must be above 0, got "0s"; leave it out for no limit',
        ),
    ],
)
def test_mistake_outside_of_a_task_is_named_with_file_and_key(content: str, message: str) -> None:
    assert problems_of(content)[0] == f"thumbs.toml: {message}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a = 1\nb = 5s\n",
            "thumbs.toml:2:6: not TOML: expected newline or end of document after a statement, "
            'in "b = 5s"; durations and sizes are written in quotes',
        ),
        ("a =\nb = 1", 'thumbs.toml:1:4: not TOML: invalid value, in "a ="'),
        ('a = "', "thumbs.toml: not TOML: "),
        ("a = 1\na = 2\n", "thumbs.toml:2:6: not TOML: cannot overwrite a value, "),
        (b"a = 1\n\xff", "thumbs.toml:2: not UTF-8, got byte 0xff; save it as UTF-8"),
        ("a = 1\n".encode("utf-16"), "thumbs.toml: holds NUL bytes, so it is not a text file"),
        (b"\0asm\1\0\0\0", "thumbs.toml: holds NUL bytes, so it is not a text file; is this a job file?"),
        ("a = " + "[" * 100_000, "thumbs.toml: lists or tables are nested too deeply"),
        ("a = " + "9" * 5000, "thumbs.toml: "),
    ],
)
def test_what_is_not_toml_is_pointed_at(content: str | bytes, message: str) -> None:
    (problem,) = (
        [problem for problem in problems_of(content) if "[[task]]" not in problem]
        if isinstance(content, str)
        else problems_of(content)
    )
    assert problem.startswith(message)
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.toml", "none.toml: no such file"),
        ("images", "images: is a directory; name the job file in it"),
        ("/dev/zero", "/dev/zero: is larger than 16 MiB, so it cannot be a job file"),
        ("a\0b", "a\\u0000b: cannot be read: embedded null byte"),
        ("in.txt/job.toml", "in.txt/job.toml: cannot be read: not a directory"),
        ("x" * 300, "x" * 300 + ": cannot be read: file name too long"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_job_file_that_cannot_be_read_says_why(name: str, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(name, user_config=False)
    assert caught.value.problems == (message,)


@pytest.mark.usefixtures("folder")
def test_byte_order_mark_is_no_mistake() -> None:
    Path("job.toml").write_bytes(b"\xef\xbb\xbf" + TASK.encode())
    assert load_job("job.toml", user_config=False).tasks[0].name == "resize"


@pytest.mark.usefixtures("folder")
def test_import_written_without_quotes_is_told_to_use_them() -> None:
    problems = problems_of(TASK + 'imports.env.early_exit = "exit"')
    assert problems[-1].endswith('a name with a dot needs quotes, as in "env.early_exit" = "exit"')


@pytest.mark.usefixtures("folder")
def test_all_problems_are_told_at_once() -> None:
    content = """
        concurrency = 0
        [[task]]
        name = "a"
        module = "gone.wat"
        needs = ["b", "nobody"]
        limits = { time = "0s" }
        dirs = { "/x" = 5, "/y" = "gone" }
        [[task]]
        name = "b"
        module = "add.wat"
        retries = -1
        needs = ["a"]
    """
    assert sorted(problems_of(content)) == [
        "thumbs.toml: concurrency: must be a whole number of at least 1, got 0",
        'thumbs.toml: task "a": dirs."/x": must be a text, got 5',
        'thumbs.toml: task "a": dirs."/y": no such directory, got "gone"',
        'thumbs.toml: task "a": limits.time: must be above 0, got "0s"; leave it out for no limit',
        'thumbs.toml: task "a": module: no such file, got "gone.wat"',
        'thumbs.toml: task "a": needs: no task is called "nobody"; there are "a" and "b"',
        'thumbs.toml: task "a": needs: tasks cannot wait for each other, "a" -> "b" -> "a"; drop one of these needs',
        'thumbs.toml: task "b": retries: must be a whole number of at least 0, got -1',
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("host = 5", "host: must be a text, got 5"),
        ('hots = "hostfuncs.py"', 'hots: unknown key; did you mean "host"?'),
        ('host = "gone.py"', 'host: no such file, got "gone.py"'),
    ],
)
def test_host_that_was_refused_is_not_missed_by_what_it_may_do(keys: str, message: str) -> None:
    problems = problems_of(f'{TASK}host_allow = ["network"]\n{keys}')
    assert problems == [f'thumbs.toml: task "resize": {message}']


@pytest.mark.usefixtures("folder")
def test_host_functions_that_may_do_nothing_more_need_not_be_there() -> None:
    Path("job.toml").write_text(TASK + "host_allow = []")
    assert load_job("job.toml", user_config=False).tasks[0].host_allow == ()


@pytest.mark.usefixtures("folder")
def test_needs_of_a_task_with_problems_of_its_own_are_known() -> None:
    content = TASK + 'each = "*.jpg"\n[[task]]\nname = "b"\nmodule = "add.wat"\nneeds = ["resize", "resize[x]"]'
    assert problems_of(content) == ['thumbs.toml: task "resize": each: no file matches "*.jpg"']


@pytest.mark.usefixtures("folder")
def test_bad_each_does_not_make_its_tokens_look_wrong() -> None:
    assert problems_of(TASK + 'each = 5\nstdin = "{path}"') == [
        'thumbs.toml: task "resize": each: must be a text, got 5'
    ]


@pytest.mark.usefixtures("folder")
def test_deep_lists_in_a_task_of_each_are_refused_quietly() -> None:
    deep = "[" * 150 + '"{foo}"' + "]" * 150
    problems = problems_of(TASK + f'each = "images/*"\nargs = [{deep}]\n')
    assert 'thumbs.toml: task "resize": args[0]: must be a number or a text, got a list' in problems


def test_path_is_shown_resolved_when_the_job_lies_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "job.toml").write_text(TASK.replace("add", "ad"))
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(JobFileError) as caught:
        load_job("../job.toml", user_config=False)
    wanted = f'../job.toml: task "resize": module: no such file, got "ad.wat"; looked for "{folder}/ad.wat"'
    assert str(caught.value) == wanted


def test_current_directory_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "job.toml"
    job.write_text(TASK)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(JobFileError) as caught:
        load_job(job, user_config=False)
    assert "no such file" in str(caught.value)
    with pytest.raises(JobFileError, match="no such file"):
        load_job("job.toml", user_config=False)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("keys", "sound"),
    [
        ("args = [true]", False),
        ("arg = [1]", False),
        ('function = "run"', False),
        ("call = 7", False),
        ('imports."env.f" = "exi"', False),
        ('host = "gone.py"', False),
        ('limits.tme = "1s"', True),
        ("retires = 1", True),
        ('engine = "wasmtim"', True),
    ],
)
def test_task_is_looked_at_further_only_if_nothing_would_follow_from_what_was_refused(keys: str, sound: bool) -> None:
    path = Path("thumbs.toml")
    path.write_text(f'{TASK}{keys}\n[[task]]\nname = "other"\nmodule = "add.wat"\nneeds = ["resize"]\n')
    with pytest.raises(JobFileError) as caught:
        load_job(path, user_config=False)
    names = [task.name for task in caught.value.sound.tasks]
    assert names == (["resize", "other"] if sound else ["other"])
