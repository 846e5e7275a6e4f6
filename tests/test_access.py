from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from kernob.access import Access, Tls
from kernob.errors import ListenError

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Certificates


def test_on_loopback_everybody_comes_in() -> None:
    for address in ("127.0.0.1:0", "[::1]:0", "localhost:0"):
        assert Access(address).allows("")


def test_off_loopback_a_guard_is_wanted(tmp_path: Path, certificates: Certificates) -> None:
    c = certificates
    token = tmp_path / "token"
    token.write_text("s")

    for address in ("0.0.0.0:0", "[::]:0", ":0"):
        with pytest.raises(ListenError, match="nothing guards it"):
            Access(address)
        with pytest.raises(ListenError, match="nothing guards it"):
            Access(address, tls=Tls(c.server, c.server_key))
        assert not Access(address, token_file=token).allows("")
        assert Access(address, tls=Tls(c.server, c.server_key, c.ca)).allows("")


def test_the_token_is_wanted_to_the_letter(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" sécret \n", "latin-1")
    access = Access("127.0.0.1:0", token_file=tmp_path / "token")

    assert access.allows("Bearer sécret")
    assert access.allows("bearer  sécret")
    for wrong in (
        "",
        "sécret",
        "Bearer",
        "Bearer secret",
        "Bearer sécrets",
        "Basic sécret",
        "日本",
    ):
        assert not access.allows(wrong)


def test_what_can_not_be_used_is_said(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "empty").write_text("\n")
    for address in ("", "x", "x:", "x:99999", "nowhere.invalid:1", "127.0.0.1:-1"):
        with pytest.raises(ListenError):
            Access(address)
    with pytest.raises(ListenError, match="is empty"):
        Access("127.0.0.1:0", token_file=tmp_path / "empty")
    with pytest.raises(ListenError, match="can't read"):
        Access("127.0.0.1:0", token_file=tmp_path / "none")
    with pytest.raises(ListenError, match="TLS"):
        Tls(certificates.server, certificates.client_key).context()


def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=rf"can't listen on {address}.*set another address"):
            Access(address).bind()
    Access(address).bind().close()


def test_of_two_that_bound_an_address_one_listens() -> None:
    with Access("127.0.0.1:0").bind() as first:
        access = Access(f"127.0.0.1:{first.getsockname()[1]}")
        with access.bind() as second:
            access.listen(first, 1)

            with pytest.raises(ListenError, match="in use"):
                access.listen(second, 1)
