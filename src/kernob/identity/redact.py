"""Cuts secrets out of command lines, before anybody keeps them.

One table for each way a secret gets onto a command line: the names of options, variables and
headers that take one; the short options of well-known clients; credentials in URLs; tokens that
are known by their first letters. When in doubt a value is cut: a lost word costs less than a
leaked one. What follows an unknown option and looks like nothing special stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT: Final = "***"
"""Stands where a secret was."""
OMITTED: Final = "..."
"""Stands where text was left out because it is too long."""

_ARGUMENTS = 256
_ARGUMENT_LENGTH = 1024
_LENGTH = 8192
_SHOWN_LENGTH = 512

# Names that take a secret, anywhere within an option, variable, property or header.
# Not secrets themselves: --password-file, --no-password, --max-tokens, --tokenizer.
_NAME = (
    r"(?:pass(?:word|wd|phrase)|secret|credential|requirepass|masterauth|cookie"
    r"|authorization(?!-mode)"
    r"|token(?!iz|s(?![a-z]))"
    r"|(?:api|access|private|auth|account|encryption|signing|master)[-_.]?key"
    r"|(?<![a-z])(?:pass|passwd|pwd|passin|passout|auth|pin)(?![a-z])"
    r"|(?:db|user|http|proxy|ftp|mail|smtp|root|admin|key|store|my|pg)_?(?:pass|pwd)(?![a-z]))"
)
_TAIL = r"(?![\w.-]*[-_](?:file|path|dir|stdin|fd|length|policy|name|type)\b)[\w.-]{0,64}"
_VALUE = r"""(?:"(?:\\.|[^"\\])*(?:"|$)|'[^']*(?:'|$)|(?!\*\*\*['"]?(?:\s|$))[^\s&]+)"""

_IN_TEXT: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # Headers, to the end of the quotation: Authorization: Bearer x, Cookie: a=b; c=d.
    (
        re.compile(
            r"((?:authorization|cookie|x-[\w-]{0,32}key)[\"']?\s{0,3}:)\s{0,3}[\"']?[^'\"\n]*",
            re.IGNORECASE,
        ),
        rf"\1 {CUT}",
    ),
    (re.compile(r"\b((?:bearer|basic)\s{1,3})[^\s'\"]+", re.IGNORECASE), rf"\1{CUT}"),
    # scheme://user:password@host; the password may hold anything but white space. A port is none.
    (re.compile(r"(://[^\s/:@?#]*:)(?!\d{1,5}/)[^\s]*@"), rf"\1{CUT}@"),
    (re.compile(r"(https?://)[^\s/:@]{20,}@"), rf"\1{CUT}@"),
    # name=value, name: value, "name": "value", wherever they stand.
    (
        re.compile(rf"({_NAME}{_TAIL}[\"']?\s{{0,3}}[=:]\s{{0,3}}){_VALUE}", re.IGNORECASE),
        rf"\1{CUT}",
    ),
    # Tokens known by their first letters: GitHub, GitLab, Stripe, OpenAI and its like, Slack, AWS,
    # Google, SendGrid, Hugging Face, npm, PyPI, DigitalOcean; JSON web tokens; private keys.
    (
        re.compile(
            r"\b(?:gh[pousr]_|github_pat_|glpat-|[sr]k_(?:live|test)_|sk-(?=[\w-]{16})"
            r"|xox[a-z]-|(?:AKIA|ASIA|AROA)(?=[0-9A-Z]{12})|AIza(?=[\w-]{20})|ya29\.|SG\.(?=[\w-]{16})"
            r"|hf_(?=\w{16})|npm_(?=\w{16})|pypi-(?=[\w-]{16})|dop_v1_|eyJ(?=[\w-]{6}))[\w.~+/=-]+"
        ),
        CUT,
    ),
    (re.compile(r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----.*", re.DOTALL), CUT),
)

_OPTION = re.compile(rf"--?[\w.-]*{_NAME}{_TAIL}", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"(-{{0,2}}[\w.-]*{_NAME}{_TAIL}[=:]).+", re.IGNORECASE | re.DOTALL)
_CLUSTER = re.compile(r"-[A-Za-z]+")
_NO_SECRET = re.compile(r"--?no-|(?:OLD)?PWD=")

# The short options of clients: their value follows, attached or as the next argument.
# mysql's -p without a value asks at the terminal, so its next argument is none.
_CLIENTS: Final[tuple[tuple[str, tuple[str, ...], bool], ...]] = (
    (r"(?:mysql|mariadb|mycli)[\w-]*", ("-p",), False),
    (r"(?:redis|valkey|keydb)-(?:cli|benchmark)", ("-a",), True),
    (r"sshpass|mongo\w*|rabbitmqadmin|login", ("-p",), True),
    (r"ldap\w+", ("-w",), True),
    (r"sqlcmd|mosquitto_\w+|ipmitool|zip|unzip", ("-P",), True),
    (r"7z[ar]?", ("-p",), False),
    (r"snmp\w+", ("-c", "-A", "-X"), True),
    (r"influx", ("-t",), True),
    (r"openssl", ("-k", "-K"), True),
    (r"smbclient|rpcclient|smbmap", ("-U",), True),
    (
        r"curl|curlie",
        ("-u", "-U", "--user", "--proxy-user", "-b", "--cookie", "--oauth2-bearer"),
        True,
    ),
    (r"https?", ("-a",), True),
)
_CLIENT = re.compile(
    "|".join(f"(?P<c{i}>{names})" for i, (names, _, _) in enumerate(_CLIENTS)) + r"|[\w.+-]*"
)

# An argument that is a command itself (sh -c "..."): its words, quoted ones whole.
_WORD = re.compile(r"""((?:'[^']*(?:'|$)|"[^"]*(?:"|$)|[^\s'"])+)""")
_CONTROL = dict.fromkeys((*range(32), 127), " ") | dict.fromkeys(range(128, 160), "?")

# In lower case, one of these is in everything that a pattern above matches: a quick first look.
_HINTS = re.compile(
    r"pass|pwd|secret|token|cred|auth|cookie|key|pin|bearer|basic|@|gh[pousr]_|github_pat|glpat-"
    r"|k_live|k_test|sk-|xox|akia|asia|aroa|aiza|ya29|sg\.|hf_|npm_|pypi-|dop_v1|eyj|-----begin"
)
_CLIENT_HINTS = re.compile(
    r"mysql|mariadb|mycli|-cli|-benchmark|mongo|rabbitmqadmin|login|ldap|sqlcmd|mosquitto|ipmi|zip"
    r"|7z|snmp|influx|openssl|smb|rpcclient|curl|http"
)


def redact(arguments: Sequence[str], *, complete: bool = True) -> list[str]:
    """Returns the command line without its secrets.

    At most 256 arguments, an argument at most 1,024 characters, all at most 8,192; `...` stands
    for what is left out.

    Args:
        arguments: the program's name and what follows it.
        complete: False if the last argument may have been cut short; what is left of it is left
            out, since half a secret can't be recognised.
    """
    bounded: list[str] = []
    length = 0
    for argument in arguments if complete else [*arguments[:-1], OMITTED]:
        kept = _bound(argument)
        length += len(kept)
        if len(bounded) == _ARGUMENTS or length > _LENGTH:
            bounded.append(OMITTED)
            break
        bounded.append(kept)
    text = "\0".join(bounded).lower()
    if _HINTS.search(text) or _CLIENT_HINTS.search(text):
        bounded = _redact_words(bounded)
    return [argument.translate(_CONTROL) for argument in bounded]


def redact_text(text: str) -> str:
    """Returns `text` (a URL, a setting) without the secrets that can be told by its form."""
    if not _HINTS.search(text.lower()):
        return text
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def shorten(arguments: Sequence[str]) -> tuple[str, ...]:
    """Returns the first arguments, together at most 512 characters; `...` stands for the rest."""
    kept: list[str] = []
    room = _SHOWN_LENGTH
    for argument in arguments:
        if len(argument) + 1 > room:
            return (*kept, argument[: max(room - len(OMITTED) - 1, 0)] + OMITTED)
        kept.append(argument)
        room -= len(argument) + 1
    return tuple(kept)


def _bound(argument: str) -> str:
    """Cuts at white space, so that no half of a secret is left."""
    if len(argument) <= _ARGUMENT_LENGTH:
        return argument
    head = argument[:_ARGUMENT_LENGTH].rsplit(None, 1)
    return f"{head[0]} {OMITTED}" if len(head) > 1 else OMITTED


def _redact_words(words: Sequence[str]) -> list[str]:
    result: list[str] = []
    options: dict[str, bool] = {}
    cut_next = False
    for word in words:
        bare = word.strip("'\"")
        option = next((option for option in options if bare.startswith(option)), None)
        if cut_next:
            result.append(CUT)
            # The option before may have been a flag, and this one the name of what follows.
            cut_next = options.get(bare, False) or _takes_secret(bare)
        elif option and bare != option and not option.startswith("--"):
            result.append(option + CUT)
        else:
            result.append(_redact_word(word, bare))
            last = f"-{bare[-1]}" if _CLUSTER.fullmatch(bare) else bare
            cut_next = options.get(last, False) or _takes_secret(bare)
            options |= _options_of(bare)
    return result


def _options_of(word: str) -> dict[str, bool]:
    """Returns the options that take a secret if `word` is a known client: whether one follows."""
    match = _CLIENT.fullmatch(word.rpartition("/")[2])
    if not match or not match.lastgroup:
        return {}
    _, options, follows = _CLIENTS[int(match.lastgroup[1:])]
    return dict.fromkeys(options, follows)


def _takes_secret(option: str) -> bool:
    return bool(_OPTION.fullmatch(option)) and not _NO_SECRET.match(option)


def _redact_word(word: str, bare: str) -> str:
    has_words = any(character.isspace() for character in bare)
    if not has_words and (_NO_SECRET.match(word) or not _HINTS.search(word.lower())):
        return word
    if match := _ASSIGNMENT.fullmatch(word):
        return match[1] + CUT
    # Quotations nest no deeper than there are kinds of quotes, and so does this.
    parts = _WORD.split(bare) if has_words else []
    inner = parts[1::2]
    if len(inner) > 1:
        parts[1::2] = _redact_words(inner)
        word = word.replace(bare, "".join(parts), 1)
    return redact_text(word)
