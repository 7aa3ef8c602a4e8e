"""The tables of a job file as pydantic models, every key with the words that the JSON schema shows.

The models only say what may be written; what a key is when nobody wrote it comes from `procstop.model`, and
`model_fields_set` tells which keys a layer gave. A test holds the keys here and the fields there equal.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator

from procstop.jobfile.units import format_duration, format_size
from procstop.jobfile.values import (
    LIST,
    TABLE,
    TEXT,
    TEXT_OR_LIST,
    TEXT_OR_TABLE,
    AllowWord,
    Argument,
    Count,
    CountLimit,
    CText,
    Engine,
    EnvName,
    Function,
    Grace,
    ImportName,
    LevelWord,
    Name,
    OnInterruptWord,
    OutcomeList,
    OutcomeWord,
    Positive,
    SizeLimit,
    SpawnWord,
    StartLimit,
    StrategyWord,
    Text,
    TimeLimit,
    Wait,
)
from procstop.model import Containment, Limits, OnInterrupt, StopPolicy, Strategy, Task, Workers

NOT_ENFORCED = ("fuel",)
"""Limits that procstop has words for and does not enforce yet: refused, never silently accepted."""


def _key(description: str, default: object = None) -> Any:
    """A key that may be left out; `default`, as it would be written, is for the reader of the schema."""
    extra: Any = {} if default is None else {"default": default}
    return Field(default=None, description=description, json_schema_extra=extra)


class Table(BaseModel):
    """A TOML table: nothing is converted silently, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class NextTable(Table):
    """`{ next = n }`: n more stopping points (a strategy) or tasks (on_interrupt)."""

    next: Count = Field(description="How many more before it stops; the one under way is not counted.")


class StopTable(Table):
    """The graces of the ladder; "0s" skips a rung."""

    interrupt: Grace | None = _key(
        "How long a guest has to reach a stopping point and leave once it was asked to.",
        format_duration(StopPolicy.interrupt),
    )
    preempt: Grace | None = _key("How long the engine may take to unwind it.", format_duration(StopPolicy.preempt))
    terminate: Grace | None = _key(
        "How long the worker's processes have to end after SIGTERM.", format_duration(StopPolicy.terminate)
    )
    kill_wait: Wait | None = _key(
        'How long to wait for the processes to be gone after SIGKILL before the outcome is "lost".',
        format_duration(StopPolicy.kill_wait),
    )


class LimitsTable(Table):
    """Caps on a guest; "none" lifts one that another file or the default sets, but not `start`."""

    start: StartLimit | None = _key(
        "How long an attempt may take until its guest is ready to run, compiling included.",
        format_duration(Limits.start),
    )
    time: TimeLimit = _key("How long the guest may run. No limit unless one is set.")
    cpu: TimeLimit = _key("How much CPU time the guest may use. No limit unless one is set.")
    stall: TimeLimit = _key(
        "The longest that a guest that has stopping points may go without passing one. No limit unless one is set."
    )
    memory: SizeLimit = _key(
        "How much memory the guest's memories and tables may have together. No limit unless one is set."
    )
    output: SizeLimit = _key(
        "How much the guest may write to each of standard output and standard error.",
        format_size(Limits.output or 0),
    )
    open_files: CountLimit = _key(
        "How many files and directories the guest may have open at a time. No limit unless one is set."
    )
    file_size: SizeLimit = _key("How large a file that the guest writes may get. No limit unless one is set.")
    compile_memory: SizeLimit = _key(
        "How much memory a compiler of its module may use.",
        format_size(Limits.compile_memory or 0),
    )


class ContainmentTable(Table):
    """How far workers are closed around their guests, and how far they must be."""

    require: LevelWord | None = _key(
        'Refuse to run with less than this: "full" has guards, limits and a closed sandbox, "basic" no whole sandbox, '
        '"none" not even guards. Unless set, a guest of wasmer that gets directories needs a file system sandbox.'
    )
    sandbox: bool | None = _key("Whether workers close the sandbox.", Containment.sandbox)


class TaskWorkersTable(Table):
    """What a task may say of its workers; the rest is the job's."""

    reuse: Positive | None = _key(
        "How many attempts of one `each` entry one worker may host, each after a clean return of the one before; "
        "1 is a worker of its own for each.",
        Workers.reuse,
    )


class WorkersTable(TaskWorkersTable):
    """How workers are made."""

    spawn: SpawnWord | None = _key(
        'Workers are forked by a "server" that has loaded the engine and the module, or each is started "fresh".',
        Workers.spawn.value,
    )
    cache: bool | None = _key("Whether compiled modules are kept on this machine for later runs.", Workers.cache)


StrategyValue = Annotated[Annotated[StrategyWord, Tag(TEXT)] | Annotated[NextTable, Tag(TABLE)], TEXT_OR_TABLE]
OnInterruptValue = Annotated[Annotated[OnInterruptWord, Tag(TEXT)] | Annotated[NextTable, Tag(TABLE)], TEXT_OR_TABLE]


class StdinTable(Table):
    """Standard input as a file or as a text, one of the two."""

    path: Text | None = _key("A file, relative to the job file.")
    text: str | None = _key("The text itself.")

    @model_validator(mode="after")
    def _one_of_the_two(self) -> StdinTable:
        if len(self.model_fields_set) != 1:
            raise ValueError("takes a path or a text, one of the two")
        return self


class DirTable(Table):
    """A directory that the guest gets, and whether it may write there."""

    path: Text = Field(description="A directory, relative to the job file.")
    write: bool | None = _key("Whether the guest may write there.", False)


StdinValue = Annotated[Annotated[Text, Tag(TEXT)] | Annotated[StdinTable, Tag(TABLE)], TEXT_OR_TABLE]
DirValue = Annotated[Annotated[Text, Tag(TEXT)] | Annotated[DirTable, Tag(TABLE)], TEXT_OR_TABLE]
ExpectValue = Annotated[Annotated[OutcomeWord, Tag(TEXT)] | Annotated[OutcomeList, Tag(LIST)], TEXT_OR_LIST]


class ConfigTable(Table):
    """What every task of a job shares; all that a configuration file may hold."""

    concurrency: Positive | None = _key("Attempts side by side. As many as there are CPUs unless set.")
    on_interrupt: OnInterruptValue | None = _key(
        'What a first Ctrl-C does to the run: "stop" interrupts what runs and starts nothing more, '
        '"finish-current" lets it finish, { next = n } starts n more tasks, "ignore" carries on.',
        OnInterrupt().kind.value,
    )
    stop: StopTable | None = _key('Graces of every task; a task may set its own. "0s" skips a rung.')
    limits: LimitsTable | None = _key(
        'Limits of every task; a task may set its own. "none" lifts any of them but `start`.'
    )
    workers: WorkersTable | None = _key("How workers are made; a task may set its own `reuse`.")
    containment: ContainmentTable | None = _key("What keeps guests inside.")


class CommonTaskTable(Table):
    """The keys of a task that `--set` can set for every task at once."""

    engine: Engine | None = _key("What runs the module; auto takes the first that can.", Task.engine)
    strategy: StrategyValue | None = _key(
        'What an interrupted guest does: "finish-current" leaves at the next stopping point, { next = n } '
        'n points later, "ignore" never.',
        str(Strategy()),
    )
    check_every: Positive | None = _key(
        "Look at the interrupt flag only at every n-th stopping point.", Task.check_every
    )
    retries: Count | None = _key("New attempts after one that failed; never after a stop.", Task.retries)


class SetTable(ConfigTable, CommonTaskTable):
    """What `--set KEY=VALUE` reaches."""


class TaskTable(CommonTaskTable):
    """One entry of a job: a module, what to call, with what. All paths are relative to the job file."""

    name: Name = Field(description="What reports, `needs` and --task call it; its own in the file.")
    module: Text = Field(description="The .wasm or .wat file.")
    call: Text | None = _key("The exported function to call.", Task.call)
    args: list[Argument] | None = _key("Numbers, typed by the function's signature; argv texts for _start.")
    env: dict[EnvName, CText] | None = _key("The guest's environment variables; it sees no others.")
    stdin: StdinValue | None = _key("Standard input: the path of a file, or { text = ... }.")
    dirs: dict[Text, DirValue] | None = _key(
        "Directories by the path under which the guest sees them; read-only unless { path = ..., write = true }."
    )
    imports: dict[ImportName, Function] | None = _key(
        'Imports of the guest bound to procstop\'s functions, as in "env.early_exit" = "exit".'
    )
    host: Text | None = _key("A Python file with a mapping `imports` of host functions, run in the worker.")
    host_allow: list[AllowWord] | None = _key(
        'What host functions may do beyond what the guest may: "network", "processes" (start some), "files" (beyond '
        "`dirs`).",
    )
    needs: list[Text] | None = _key("Tasks, or `each` entries, that must complete before this one starts.")
    stop: StopTable | None = _key("Graces of this task, over those of the job.")
    limits: LimitsTable | None = _key("Limits of this task, over those of the job.")
    workers: TaskWorkersTable | None = _key("How its workers are reused, over what the job says.")
    expect: ExpectValue | None = _key("The outcome, or outcomes, that count as ok.", Task.expect[0].value)
    each: Text | None = _key(
        "A glob, relative to the job file: one task per file that matches. {path}, {name} and {stem} are "
        "replaced in args, stdin and dirs."
    )


class HeadTable(ConfigTable):
    """A job file without its tasks."""

    name: Name | None = _key("What reports call the job. The file's name unless set.")


class JobTable(HeadTable):
    """A whole job file."""

    task: list[TaskTable] = Field(description="The tasks, each as a [[task]].", json_schema_extra={"minItems": 1})
