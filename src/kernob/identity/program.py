"""What a process runs: its program, and for an interpreter the script, module or jar it runs.

One table row for each interpreter says how its options are read; the first word that is no
option is the script. Command lines come redacted (`kernob.identity.redact`): a secret never
becomes a name.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interpreter:
    """How an interpreter, or a launcher such as `uv run`, reads its command line.

    Single letters stand for options of one dash and one letter, which may be written together.

    Attributes:
        name: pattern of the executable's base name.
        words: its options begin with one dash and are whole words (java).
        follows: options whose value is the next argument; a letter's may be attached to it.
        attached: letters whose value, if there is one, is attached.
        inline: options after which the program itself is on the command line.
        names: options whose value names the program (-m module, -jar file).
        commands: words that may (for a launcher: must) stand before the script.
        launcher: the script is a command of its own.
    """

    name: str
    words: bool = False
    follows: frozenset[str] = frozenset()
    attached: str = ""
    inline: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    launcher: bool = False


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_INTERPRETERS: Final = (
    _Interpreter(
        name=r"(?:python|pypy)[\d.]*t?",
        follows=_set("W X --check-hash-based-pycs --jit"),
        inline=_set("c"),
        names=_set("m"),
    ),
    _Interpreter(
        name=r"node|nodejs",
        follows=_set("r C --require --import --loader --experimental-loader --conditions --title"),
        inline=_set("--eval --print e p"),
    ),
    _Interpreter(
        name=r"bun|deno",
        follows=_set("r c L --preload --config --import-map --lock --location --cert --cwd"),
        inline=_set("--eval e"),
        commands=_set("run serve"),
    ),
    _Interpreter(
        name=r"ruby[\d.]*|jruby",
        follows=_set("I r C E X"),
        attached="FKTWxi0",
        inline=_set("e"),
    ),
    _Interpreter(name=r"perl[\d.]*", follows=_set("I"), attached="MmiF0CDldxV", inline=_set("e E")),
    _Interpreter(
        name=r"php(?:-cli)?[\d.]*",
        follows=_set("c d S t z --php-ini --define --server --docroot"),
        inline=_set("r R B E F --run"),
        names=_set("f --file"),
    ),
    _Interpreter(
        name=r"r?bash|dash|sh|ash|zsh|[mo]?ksh(?:93)?|fish",
        follows=_set("o O --rcfile --init-file"),
        inline=_set("c s"),
    ),
    _Interpreter(name=r"lua(?:jit)?[\d.]*|texlua", follows=_set("e l")),
    _Interpreter(
        name=r"java",
        words=True,
        follows=_set(
            "-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules "
            "--add-exports --add-opens --add-reads --limit-modules --patch-module --source "
            "--enable-native-access --illegal-native-access"
        ),
        names=_set("-jar -m --module"),
    ),
    _Interpreter(
        name=r"dotnet",
        words=True,
        follows=_set(
            "--additionalprobingpath --additional-deps --depsfile --fx-version --roll-forward "
            "--runtimeconfig"
        ),
        commands=_set("exec"),
    ),
    _Interpreter(
        name=r"uv",
        follows=_set(
            "p w --python --with --with-requirements --with-editable --project --directory "
            "--package --env-file --extra --group --index-url --cache-dir"
        ),
        names=_set("m --module"),
        commands=_set("run"),
        launcher=True,
    ),
    _Interpreter(
        name=r"poetry|pipenv|pdm|rye|hatch",
        follows=_set("C P p --directory --project"),
        commands=_set("run"),
        launcher=True,
    ),
    _Interpreter(
        name=r"bundle[rd]?[\d.]*",
        follows=_set("--gemfile"),
        commands=_set("exec"),
        launcher=True,
    ),
)

_MULTI_CALL = _set("busybox toybox coreutils")
_SUFFIX = re.compile(
    r"\.(?:py[cwz]?|pex|[cm]?[jt]sx?|rb|pl|php|phar|sh|bash|zsh|lua|java|jar|war|dll|exe)$"
)
_VERSION = re.compile(r"[-_]v?\d+(?:\.\d+)+(?:[-.+][\w.+-]*)?(?=\.(?:jar|war)$)")
_TITLE = re.compile(r"[\[(\s]*([A-Za-z][\w.+-]*)")
_PLAIN = re.compile(r"(?=.*\w)[^\s*/:\x00-\x1f\x7f]{1,64}")
_ERLANG = {"rabbit": "rabbitmq"}


def program_name(executable: str, command: Sequence[str]) -> str:
    """Returns the name of the program, at most 64 characters.

    The executable's base name; for an interpreter the base name of its script without suffix
    (`app.py` is `app`), its module (`http.server`), its jar without version (`shop-1.2.jar` is
    `shop`) or its main class (`com.example.Main`). An interpreter that has overwritten its command
    line (`gunicorn: master [app]`) is the first word of that. Where nothing better is known (code
    on the command line, a terminal) it is the interpreter itself.

    Args:
        executable: base name of the executed file; not empty.
        command: the command line without its secrets.
    """
    words = list(command)
    if executable in _MULTI_CALL and words:
        if _base(words[0]) == executable:
            words = words[1:]
        executable = _base(words[0]) if words else executable
    name = _erlang(words) if executable == "beam.smp" else _name(executable, words)
    return name if _PLAIN.fullmatch(name) else executable[:_NAME_LENGTH]


def is_interpreter(executable: str) -> bool:
    """Returns whether `executable` (a base name) is one whose script names the program."""
    return _interpreter(executable) is not None


@functools.lru_cache(maxsize=1024)
def _interpreter(executable: str) -> _Interpreter | None:
    return next((i for i in _INTERPRETERS if re.fullmatch(i.name, executable)), None)


def _name(executable: str, words: list[str]) -> str:
    interpreter = _interpreter(executable)
    if not interpreter or not words:
        return _plain(executable)
    if not is_interpreter(_base(words[0]).lstrip("-")):
        words = words[0].split()
        if len(words) < 2 or not is_interpreter(_base(words[0])):  # noqa: PLR2004
            return _title(words, executable)
    rest = _from_script(interpreter, words[1:])
    if not rest:
        return executable
    script = _plain(rest[0])
    if interpreter.launcher or _launches(script, rest):
        return _name(_base(rest[0]), [script, *rest[1:]]) if script else executable
    return script or executable


def _launches(script: str, rest: list[str]) -> bool:
    interpreter = _interpreter(script)
    return bool(interpreter and interpreter.launcher and len(rest) > 1)


def _title(words: list[str], executable: str) -> str:
    match = _TITLE.match(_base(words[0]) if words else "")
    return match[1][:_NAME_LENGTH] if match else executable


def _from_script(interpreter: _Interpreter, words: list[str]) -> list[str]:
    """Returns the words from the script (module, class) on; none if it has none."""
    commands = interpreter.commands
    if interpreter.launcher and (not words or words[0] not in commands):
        return []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            break
        if word in commands:
            commands = frozenset()
        elif word[:1] not in ("-", "+", "@"):
            return words[index - 1 :]
        else:
            meaning, value = _option(interpreter, word)
            if meaning == "inline":
                return []
            if meaning == "names":
                return [value, *words[index:]] if value else words[index:]
            index += meaning == "follows"
    return words[index:]


_Meaning = Literal["inline", "names", "follows", "flag"]


def _option(interpreter: _Interpreter, word: str) -> tuple[_Meaning, str]:
    """Returns what an option means for the search, and the value attached to it."""
    if word == "-":
        return "inline", ""
    if interpreter.words or word.startswith("--"):
        option, attached, value = word.partition("=")
        meaning = _meaning(interpreter, option)
        return ("flag" if meaning == "follows" and attached else meaning), value
    for position, letter in enumerate(word[1:], 2):
        meaning, value = _meaning(interpreter, letter), word[position:]
        if letter in interpreter.attached or (meaning == "follows" and value):
            break
        if meaning != "flag":
            return meaning, value
    return "flag", ""


def _meaning(interpreter: _Interpreter, option: str) -> _Meaning:
    if option in interpreter.inline:
        return "inline"
    if option in interpreter.names:
        return "names"
    return "follows" if option in interpreter.follows else "flag"


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _plain(script: str) -> str:
    directory, _, base = script.rstrip("/").rpartition("/")
    if base == "__main__.py":
        base = _base(directory)
    return _SUFFIX.sub("", _VERSION.sub("", base)).removesuffix(".__main__")


def _erlang(words: list[str]) -> str:
    """Returns the Erlang application started by -s or -run, else the node's name."""
    for option, value in pairwise(words):
        if option in ("-s", "-run") and value not in ("elixir", "init", "user"):
            return _ERLANG.get(value, value)
    for option, value in pairwise(words):
        if option in ("-sname", "-name"):
            return value.partition("@")[0]
    return "beam.smp"
