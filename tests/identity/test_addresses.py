import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernob.identity.addresses import NetworkClass, local_addresses, network_class, packed, plain


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", NetworkClass.LOOPBACK),
        ("127.9.9.9", NetworkClass.LOOPBACK),
        ("::1", NetworkClass.LOOPBACK),
        ("10.1.2.3", NetworkClass.PRIVATE),
        ("192.168.1.1", NetworkClass.PRIVATE),
        ("100.64.0.1", NetworkClass.PRIVATE),
        ("fd00::1", NetworkClass.PRIVATE),
        ("0.0.0.0", NetworkClass.PRIVATE),
        ("169.254.1.1", NetworkClass.LINK_LOCAL),
        ("fe80::1", NetworkClass.LINK_LOCAL),
        ("224.0.0.1", NetworkClass.MULTICAST),
        ("ff02::1", NetworkClass.MULTICAST),
        ("8.8.8.8", NetworkClass.PUBLIC),
        ("2606:4700::1", NetworkClass.PUBLIC),
    ],
)
def test_network_class(address: str, expected: NetworkClass) -> None:
    assert network_class(packed(ip_address(address))) is expected


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::", "0.0.0.0"])
def test_packed_and_plain(address: str) -> None:
    binary = packed(ip_address(address))

    assert len(binary) == 16
    assert str(plain(binary)) == address


def test_local_addresses_are_those_in_proc() -> None:
    trie = Path("/proc/net/fib_trie").read_text()
    four = re.findall(r"-- (\S+)\n\s+/32 host LOCAL", trie)
    six = [line.split()[0] for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    expected = {packed(ip_address(address)) for address in four}
    expected |= {bytes.fromhex(address) for address in six}

    assert local_addresses() == expected
    assert expected
