import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernob.identity.addresses import NetworkClass, local_addresses, network_class, packed, plain
from kernob.identity.peers import Peers

TCP, UDP = 6, 17


def address(text: str) -> bytes:
    return packed(ip_address(text))


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    file = tmp_path / "hosts"
    file.write_text(
        "127.0.0.1 localhost\n192.0.2.7 db db.example.org # primary\n192.0.2.7 again\n"
        "2001:db8::7\tcache\nfe80::7%eth0 printer\nnonsense here\n192.0.2.9\n"
    )
    return file


def test_names_from_the_configuration_first_the_narrowest(hosts: Path) -> None:
    peers = Peers(
        {"10.0.0.0/8": "lan", "10.1.0.0/16": "office", "10.1.2.3": "door", "fd00::/8": "six"}, hosts
    )

    assert peers.name(address("10.2.0.1"), 80, TCP) == "lan"
    assert peers.name(address("10.1.0.1"), 80, TCP) == "office"
    assert peers.name(address("10.1.2.3"), 80, TCP) == "door"
    assert peers.name(address("fd00::1"), 80, TCP) == "six"


def test_names_from_hosts_else_the_address(hosts: Path) -> None:
    peers = Peers({}, hosts)

    assert peers.name(address("192.0.2.7"), 80, TCP) == "db"
    assert peers.name(address("2001:db8::7"), 80, TCP) == "cache"
    assert peers.name(address("fe80::7"), 80, TCP) == "printer"
    assert peers.name(address("192.0.2.8"), 80, TCP) == "192.0.2.8"
    assert peers.name(address("2001:db8::8"), 80, TCP) == "2001:db8::8"
    assert peers.name(address("127.0.0.1"), 80, TCP) == "127.0.0.1"


def test_hosts_is_read_again_when_it_changes(hosts: Path) -> None:
    peers = Peers({}, hosts)
    assert peers.name(address("192.0.2.7"), 80, TCP) == "db"

    hosts.write_text("192.0.2.7 other\n")
    os.utime(hosts, ns=(1, 1))
    peers.refresh()
    assert peers.name(address("192.0.2.7"), 80, TCP) == "other"

    hosts.unlink()
    peers.refresh()
    assert peers.name(address("192.0.2.7"), 80, TCP) == "192.0.2.7"


def test_services_of_this_host_at_its_own_addresses(hosts: Path) -> None:
    own = next(a for a in local_addresses() if network_class(a) is not NetworkClass.LOOPBACK)
    peers = Peers({"127.9.9.9": "configured"}, hosts)

    peers.serves(TCP, 5432, "postgresql")

    for local in (own, address("127.0.0.1"), address("127.0.0.2"), address("::1")):
        assert peers.is_local(local)
        assert peers.name(local, 5432, TCP) == "postgresql"
        assert peers.name(local, 5432, UDP) == str(plain(local))
        assert peers.name(local, 0, TCP) == str(plain(local))
    assert peers.name(address("192.0.2.200"), 5432, TCP) == "192.0.2.200"
    assert peers.name(address("127.9.9.9"), 5432, TCP) == "configured"


def test_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match="host bits"):
        Peers({"10.0.0.1/8": "x"})
