import shlex

import pytest

from kernob.identity.program import program_name


@pytest.mark.parametrize(
    ("executable", "command", "name"),
    [
        ("nginx", "'nginx: worker process'", "nginx"),
        ("postgres", "'postgres: 15/main: checkpointer '", "postgres"),
        ("sshd", "'sshd: root@pts/0'", "sshd"),
        ("curl", "curl https://example.org", "curl"),
        ("python3.11", "python3 app.py", "app"),
        ("python3.11", "/usr/bin/python3 -u -W ignore -Xdev -X utf8 /srv/shop/app.py --x", "app"),
        ("python3.11", "python -m http.server 8000", "http.server"),
        ("python3.11", "python -um http.server", "http.server"),
        ("python3.11", "python -mhttp.server", "http.server"),
        ("python3.11", "python -m celery.__main__ worker", "celery"),
        ("python3.11", "python -c 'import socket'", "python3.11"),
        ("python3.11", "python -", "python3.11"),
        ("python3.11", "python3", "python3.11"),
        ("python3.11", "python /usr/bin/gunicorn app:app", "gunicorn"),
        ("python3.11", "/v/bin/python /v/bin/uvicorn main:app --port 1", "uvicorn"),
        ("python3.11", "python /srv/shop/__main__.py", "shop"),
        ("python3.11", "python /srv/shop/", "shop"),
        ("python3.11", "'gunicorn: master [app:app]'", "gunicorn"),
        ("python3.11", "'[celeryd: celery@host:MainProcess]' -active-", "celeryd"),
        ("python3.13t", "python3.13t x.py", "x"),
        ("pypy3.10", "pypy3 --jit off x.py", "x"),
        ("node", "node server.js", "server"),
        (
            "node",
            "node --max-old-space-size=4096 -r dotenv/config --import ./a.mjs dist/api.mjs",
            "api",
        ),
        ("node", "node -e 'x'", "node"),
        ("node", "'npm start'", "npm"),
        ("node", "node /usr/bin/npm start", "npm"),
        ("node", "'node /srv/shop/worker.js'", "worker"),
        ("node", "node /srv/node_modules/.bin/next start", "next"),
        ("bun", "bun run --watch x.ts", "x"),
        ("deno", "deno run --allow-net -c deno.json main.ts", "main"),
        ("ruby3.1", "ruby -Ilib -r bundler/setup -W0 bin/work.rb", "work"),
        ("ruby3.1", "ruby /usr/bin/bundle exec puma -C puma.rb", "puma"),
        ("ruby3.1", "ruby /usr/bin/bundle install", "bundle"),
        ("ruby3.1", "'puma 5.6.5 (tcp://0.0.0.0:3000) [shop]'", "puma"),
        ("ruby3.1", "'unicorn master -c config.rb'", "unicorn"),
        ("perl", "perl -w -I lib -MData::Dumper script.pl", "script"),
        ("perl", "perl -ne print file", "perl"),
        ("perl", "/usr/bin/perl -wT /usr/sbin/munin-node", "munin-node"),
        ("php8.2", "php -d memory_limit=1G artisan queue:work", "artisan"),
        ("php8.2", "php -S 127.0.0.1:80 -t public router.php", "router"),
        ("php8.2", "php -S 127.0.0.1:80", "php8.2"),
        ("php8.2", "php -f job.php", "job"),
        ("php-fpm8.2", "'php-fpm: pool www'", "php-fpm8.2"),
        ("bash", "bash -euo pipefail -O extglob /opt/backup.sh now", "backup"),
        ("bash", "-bash", "bash"),
        ("dash", "/bin/sh -ec 'sleep 1; curl x'", "dash"),
        ("dash", "sh /usr/bin/start +o x", "start"),
        ("busybox", "sh /entry.sh", "entry"),
        ("busybox", "httpd -f", "httpd"),
        ("busybox", "busybox nc -l", "nc"),
        ("java", "java -jar x.jar", "x"),
        ("java", "java -Xmx1g -Dx=y -jar /opt/shop-1.2.3-SNAPSHOT.jar --server.port=1", "shop"),
        (
            "java",
            "java -cp a.jar:b.jar --add-opens java.base/x=ALL com.example.Main x",
            "com.example.Main",
        ),
        ("java", "java -cp '...' kafka.Kafka server.properties", "kafka.Kafka"),
        ("java", "java @args -p mods -m org.search.server/org.search.Boot", "org.search.Boot"),
        ("java", "java -version", "java"),
        ("dotnet", "dotnet x.dll", "x"),
        (
            "dotnet",
            "dotnet exec --depsfile a.json --runtimeconfig b.json /app/Shop.Api.dll",
            "Shop.Api",
        ),
        ("dotnet", "/usr/bin/dotnet /app/web.dll --urls http://*:80", "web"),
        (
            "beam.smp",
            "beam.smp -W w -P 1 -- -root /usr/lib/erlang -progname erl -- -home /var/lib -- "
            "-pa '' -noshell -noinput -s rabbit boot -boot start_sasl",
            "rabbitmq",
        ),
        ("beam.smp", "beam.smp -- -root /o -- -s elixir start_cli -sname shop@host", "shop"),
        ("uv", "uv run app.py", "app"),
        ("uv", "uv run --with flask -p 3.12 python -m flask run", "flask"),
        ("uv", "uv run -- gunicorn app:app", "gunicorn"),
        ("uv", "uv pip install x", "uv"),
        ("python3.11", "python /usr/bin/poetry run python app.py", "app"),
        ("python3.11", "python /usr/bin/poetry install", "poetry"),
        ("lua5.4", "lua -l socket x.lua", "x"),
        ("python3.11", "python --key '***'", "python3.11"),
        ("python3.11", "python ...", "python3.11"),
        ("java", "java -cp x ***", "java"),
        ("python3.11", "", "python3.11"),
    ],
)
def test_program_name(executable: str, command: str, name: str) -> None:
    assert program_name(executable, shlex.split(command)) == name


def test_names_are_bounded() -> None:
    assert len(program_name("x" * 300, [])) == 64
    assert program_name("python3", ["python3", "y" * 65 + ".py"]) == "python3"
