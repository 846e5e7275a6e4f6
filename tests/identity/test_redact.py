import shlex
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernob.identity.redact import CUT, redact, redact_text, shorten

SECRET = "S3cr3tWord"

CORPUS = """
prog --password=S3cr3tWord
prog --password S3cr3tWord
prog -password S3cr3tWord
prog --db-password=S3cr3tWord --port 80
prog --dbPass S3cr3tWord
prog --token S3cr3tWord
prog --api-key S3cr3tWord
prog --apikey=S3cr3tWord
prog --client-secret S3cr3tWord
prog --secret-key-base=S3cr3tWord
prog --aws-secret-access-key S3cr3tWord
prog --private_key=S3cr3tWord
prog --auth bob:S3cr3tWord
prog --set db.password=S3cr3tWord
prog --dsn 'host=db password=S3cr3tWord dbname=x'
prog --json '{"user": "a", "password": "S3cr3tWord"}'
prog 'Server=db;Password=S3cr3tWord;Database=x'
prog https://bob:S3cr3tWord@example.org/x
prog redis://:S3cr3tWord@cache:6379/0
prog 'amqp://bob:p@ss/S3cr3tWord@queue:5672'
prog https://S3cr3tWordS3cr3tWord@github.com/x.git
prog 'https://example.org/?token=S3cr3tWord&page=2'
prog postgresql://db/x?password=S3cr3tWord
env PASSWORD=S3cr3tWord AWS_SECRET_ACCESS_KEY=S3cr3tWord prog
docker run -p 80:80 -e MYSQL_ROOT_PASSWORD=S3cr3tWord mysql
docker login -u bob -p S3cr3tWord registry
mysql -u root -pS3cr3tWord shop
/usr/bin/mysqldump '-pS3cr3tWord' shop
mariadb --password=S3cr3tWord
sudo mysql -pS3cr3tWord
redis-cli -h cache -a S3cr3tWord ping
redis-server --requirepass S3cr3tWord
sshpass -p S3cr3tWord ssh bob@host
sshpass -pS3cr3tWord ssh bob@host
mongosh -u bob -p S3cr3tWord
ldapsearch -D cn=admin -w S3cr3tWord
curl -u bob:S3cr3tWord https://example.org
curl -sSu bob:S3cr3tWord https://example.org
curl -ubob:S3cr3tWord https://example.org
curl --user bob:S3cr3tWord https://example.org
curl -H 'Authorization: Bearer S3cr3tWord' https://example.org
curl -H 'authorization: Digest a="b", response="S3cr3tWord"' https://example.org
curl -H 'X-Api-Key: S3cr3tWord' https://example.org
curl -H 'X-Shop-Key: S3cr3tWord' https://example.org
curl --header=Authorization:S3cr3tWord https://example.org
curl -H 'Cookie: session=S3cr3tWord; theme=S3cr3tWord' https://example.org
wget --http-password=S3cr3tWord https://example.org
openssl pkcs12 -passin pass:S3cr3tWord
java -Dspring.datasource.password=S3cr3tWord -jar x.jar
java -Djavax.net.ssl.keyStorePassword=S3cr3tWord -jar x.jar
keytool -storepass S3cr3tWord
sh -c 'mysql -pS3cr3tWord -h db'
sh -c 'curl -H "Authorization: Bearer S3cr3tWord" https://example.org'
sh -c 'PASSWORD="S3cr3tWord S3cr3tWord" exec prog'
sh -c 'prog --password "S3cr3tWord S3cr3tWord" x'
bash -c "sh -c 'prog --token S3cr3tWord'"
prog ghp_S3cr3tWord
prog --x github_pat_S3cr3tWord
prog glpat-S3cr3tWord
prog sk_live_S3cr3tWord
prog sk-proj-S3cr3tWordS3cr3tWord
prog xoxb-1-S3cr3tWord
prog eyJhbGciOiJIUzI1NiJ9.S3cr3tWord.S3cr3tWord
7z a -pS3cr3tWord x.7z
snmpget -v2c -c S3cr3tWord host
smbclient -U bob%S3cr3tWord //host/share
""".strip().splitlines()


@pytest.mark.parametrize("command", CORPUS)
def test_secret_is_cut(command: str) -> None:
    arguments = shlex.split(command)

    redacted = redact(arguments)

    assert SECRET not in " ".join(redacted)
    assert CUT in " ".join(redacted)
    assert redacted[0] == arguments[0]


def test_private_key_is_cut() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"

    assert redact(["prog", key]) == ["prog", CUT]


@pytest.mark.parametrize("key", ["AKIA", "ASIA"])
def test_aws_key_is_cut(key: str) -> None:
    assert redact(["prog", key + "IOSFODNN7EXAMPLE"]) == ["prog", CUT]


@pytest.mark.parametrize(
    "command",
    [
        "nginx -c /etc/nginx/nginx.conf -g 'daemon off;'",
        "python3 -m http.server 8000 --bind 127.0.0.1",
        "java -Xmx1g -cp /opt/a.jar:/opt/b.jar com.example.Main --port=80",
        "prog --password-file /run/secrets/db --no-password --max-tokens 100 --tokenizer fast",
        "prog --token-file=/x --tokenizer=y --max-tokens=5",
        "prog --authorization-mode=Node,RBAC --bypass x --compass y",
        "prog http://localhost:8080/a@b https://example.org:443/npm/@scope/x",
        "docker run -p 8080:80 -v /a:/b nginx",
        "git clone ssh://git@example.org/x.git",
        "mysql -p shop",
        "cp -p a b",
        "env PWD=/srv OLDPWD=/root prog",
        "sh -c 'sleep 1; echo \"a b\" | wc'",
        "postgres -D /var/lib/postgresql/15/main -c config_file=/etc/x.conf",
    ],
)
def test_what_is_no_secret_stays(command: str) -> None:
    assert redact(shlex.split(command)) == shlex.split(command)


def test_around_a_secret_the_rest_stays() -> None:
    assert redact(["curl", "https://bob:x@example.org:8443/y"]) == [
        "curl",
        "https://bob:***@example.org:8443/y",
    ]
    assert redact(shlex.split("mysql -uroot -px -hdb shop")) == [
        "mysql",
        "-uroot",
        "-p***",
        "-hdb",
        "shop",
    ]
    assert redact(["sh", "-c", "mysql -px shop; curl -H 'Authorization: Bearer y' a/b"]) == [
        "sh",
        "-c",
        "mysql -p*** shop; curl -H 'Authorization: ***' a/b",
    ]


NAMES = """
password passwd passphrase secret token api-key api_key apikey access-key private-key
client-secret auth-token db-password db_pass credential requirepass auth pin authorization cookie
AWS_SECRET_ACCESS_KEY MYSQL_PWD PGPASSWORD GITHUB_TOKEN
"""
name = st.sampled_from(NAMES.split())
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
secret = anything.map(lambda text: SECRET + text) | anything.map(lambda text: text + SECRET)
word = st.text(string.ascii_letters + string.digits + "-_=/.:", max_size=12)


@given(st.lists(word, max_size=4), name, secret, st.lists(word, max_size=4))
@example(["curl"], "password", "-" + SECRET, [])
@example(["--auth"], "password", SECRET, [])
def test_secret_after_a_known_name_never_survives(
    before: list[str], option: str, planted: str, after: list[str]
) -> None:
    for form in (
        [f"--{option}={planted}"],
        [f"--{option}", planted],
        [f"-{option}", planted],
        [f"{option.upper()}={planted}"],
        [f"{option}: {planted}"],
    ):
        redacted = redact(["prog", *before, *form, *after])

        assert SECRET not in " ".join(redacted), form


unspaced = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]),
    max_size=20,
)


@given(st.sampled_from(["https", "amqp", "postgresql+psycopg"]), unspaced)
def test_password_in_a_url_never_survives(scheme: str, planted: str) -> None:
    url = f"{scheme}://bob:{SECRET}{planted}@example.org/x"

    assert SECRET not in " ".join(redact(["prog", url]))
    assert SECRET not in redact_text(url)


@given(anything)
def test_client_options_never_survive(planted: str) -> None:
    for command in (
        ["mysql", f"-p{SECRET}{planted}"],
        ["curl", "-u", f"bob:{SECRET}{planted}"],
        ["redis-cli", "-a", f"{SECRET}{planted}"],
        ["sshpass", "-p", f"{planted}{SECRET}"],
        ["curl", "-H", f"Authorization: Bearer {planted}{SECRET}"],
    ):
        assert SECRET not in " ".join(redact(command)), command


@given(arguments=st.lists(st.text(max_size=40), max_size=10), complete=st.booleans())
def test_any_command_line_is_bounded_and_printable(*, arguments: list[str], complete: bool) -> None:
    redacted = redact(arguments, complete=complete)

    assert len(redacted) <= 257
    assert sum(map(len, shorten(redacted))) <= 512
    assert not any(character < " " for argument in redacted for character in argument)


def test_what_is_too_long_is_left_out_at_white_space() -> None:
    assert redact(["sh", "-c", "echo " + "x" * 2000]) == ["sh", "-c", "echo ..."]
    assert redact(["java", "-cp", "x" * 2000, "Main"]) == ["java", "-cp", "...", "Main"]
    assert len(redact(["x"] * 300)) == 257
    assert sum(map(len, redact(["x" * 1000] * 100))) < 8200


def test_half_a_secret_is_left_out() -> None:
    assert redact(["prog", "https://bob:S3c"], complete=False) == ["prog", "..."]


def test_shorten() -> None:
    assert shorten(["a", "b"]) == ("a", "b")
    assert shorten(["a" * 600]) == ("a" * 508 + "...",)
    assert shorten(["a"] * 600) == ("a",) * 256 + ("...",)
