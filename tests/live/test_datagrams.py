"""UDP: every datagram is one operation, its bytes go to the peer it was sent to or came from."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from observer import agree, own_observer
from workshop import Moved, Who, free_udp_port

from kernob.config import Network

if TYPE_CHECKING:
    from observer import Observer
    from workshop import Puppet, Workshop

pytestmark = pytest.mark.live

UDP, SEGMENT, GRO = 17, 103, 104  # SOL_UDP, UDP_SEGMENT, UDP_GRO


def udp_pair(
    workshop: Workshop, address: str = "127.0.0.1"
) -> tuple[Puppet, int, Puppet, int, int]:
    """Returns a client, its socket, a server, its bound socket and its port."""
    client, server = workshop.puppet(), workshop.puppet()
    port = free_udp_port()
    s = server.call("udp", address, port)
    return client, client.call("udp", address, "-"), server, s, port


@pytest.mark.parametrize("send", ["sendto", "sendmsg", "sendmmsg", "uring"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_unconnected_sends(observer: Observer, workshop: Workshop, send: str, address: str) -> None:
    client, c, server, s, port = udp_pair(workshop, address)

    client.call("udp_send", c, send, address, port, 1000, 50)
    assert server.call("udp_receive", s, "recvfrom", 50, 2000) == 50_000

    agree(observer, workshop)


@pytest.mark.parametrize("send", ["send", "write", "sendmsg", "sendmmsg", "uring"])
def test_connected_sends(observer: Observer, workshop: Workshop, send: str) -> None:
    client, c, server, s, port = udp_pair(workshop)
    client.call("udp_connect", c, "127.0.0.1", port)

    client.call("udp_send", c, send, "-", 0, 1000, 50)
    server.call("udp_receive", s, "recvfrom", 50, 2000)

    agree(observer, workshop)


@pytest.mark.parametrize(
    "receive", ["recvfrom", "recvmsg", "recvmmsg", "trunc", "uring", "recv", "read"]
)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_receives(observer: Observer, workshop: Workshop, receive: str, address: str) -> None:
    client, c, server, s, port = udp_pair(workshop, address)

    client.call("udp_send", c, "sendto", address, port, 1000, 50)
    server.call("udp_receive", s, receive, 50, 2000)

    agree(observer, workshop)


@pytest.mark.parametrize(("receive", "counted"), [("recvfrom", 10), ("trunc", 1000)])
def test_a_buffer_too_small(
    observer: Observer, workshop: Workshop, receive: str, counted: int
) -> None:
    client, c, server, s, port = udp_pair(workshop)

    client.call("udp_send", c, "sendto", "127.0.0.1", port, 1000, 1)
    assert server.call("udp_receive", s, receive, 1, 10) == counted

    agree(observer, workshop)


def test_there_and_back(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s, port = udp_pair(workshop)

    server.start("udp_echo", s, 50)
    client.call("udp_send", c, "sendto", "127.0.0.1", port, 700, 50)
    client.call("udp_receive", c, "recvmsg", 50, 2000)
    server.finish()

    agree(observer, workshop)


def test_empty_datagrams(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s, port = udp_pair(workshop)

    client.call("udp_send", c, "sendto", "127.0.0.1", port, 0, 5)
    server.call("udp_receive", s, "recvfrom", 5, 100)

    agree(observer, workshop)
    assert set(observer.flows().values()) == {Moved(0, 0, 5, 0), Moved(0, 0, 0, 5)}


def test_peeked_datagrams_count_once(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s, port = udp_pair(workshop)

    client.call("udp_send", c, "sendto", "127.0.0.1", port, 500, 1)
    server.call("udp_receive", s, "peek", 1, 1000)
    agree(observer, workshop)
    server.call("udp_receive", s, "recvfrom", 1, 1000)

    agree(observer, workshop)


@pytest.mark.parametrize("send", ["sendto", "sendmmsg"])
def test_many_peers_from_one_socket(observer: Observer, workshop: Workshop, send: str) -> None:
    client = workshop.puppet()
    server = workshop.puppet()
    port = free_udp_port()
    addresses = [f"127.0.1.{i}" for i in range(1, 33)]
    sockets = [server.call("udp", address, port) for address in addresses]
    c = client.call("udp", "127.0.0.1", "-")

    client.call("udp_send", c, send, ",".join(addresses), port, 100, 64)
    for s in sockets:
        server.call("udp_receive", s, "recvfrom", 2, 1000)

    flows = observer.flows()
    assert flows == workshop.truth()
    assert len([who for who in flows if who.pid == client.pid]) == 32


def test_a_failed_send_leaves_no_peer_behind(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s, port = udp_pair(workshop)
    with pytest.raises(PermissionError):  # no SO_BROADCAST
        server.call("udp_send", s, "sendto", "255.255.255.255", 9, 100, 1)

    client.call("udp_send", c, "sendto", "127.0.0.1", port, 100, 1)
    server.call("udp_receive", s, "recv", 1, 1000)

    agree(observer, workshop)


@pytest.mark.parametrize("receive", ["recvmsg", "recv"])
def test_segmentation_offload(observer: Observer, workshop: Workshop, receive: str) -> None:
    client, c, server, s, port = udp_pair(workshop)
    client.call("option", c, UDP, SEGMENT, 1000)
    server.call("option", s, UDP, GRO, 1)

    client.call("udp_send", c, "sendto", "127.0.0.1", port, 40_500, 1)
    assert server.call("udp_receive", s, receive, 1, 65536) == 40_500

    agree(observer, workshop)


def test_segmentation_offload_into_single_datagrams(observer: Observer, workshop: Workshop) -> None:
    client, c, server, s, port = udp_pair(workshop)
    client.call("option", c, UDP, SEGMENT, 1000)

    client.call("udp_send", c, "sendto", "127.0.0.1", port, 40_500, 1)
    assert server.call("udp_receive", s, "recvfrom", 41, 65536) == 40_500

    agree(observer, workshop)


def test_ipv4_through_an_ipv6_socket(observer: Observer, workshop: Workshop) -> None:
    client, server = workshop.puppet(), workshop.puppet()
    port = free_udp_port()
    s, c = server.call("udp", "::", port), client.call("udp", "::", "-")

    server.start("udp_echo", s, 3)
    client.call("udp_send", c, "sendto", "::ffff:127.0.0.1", port, 100, 3)
    client.call("udp_receive", c, "recvfrom", 3, 100)
    server.finish()

    agree(observer, workshop)
    assert {who.address for who in observer.flows()} == {"127.0.0.1"}


def test_multicast_on_loopback(observer: Observer, workshop: Workshop) -> None:
    sender, receivers = workshop.puppet(), [workshop.puppet() for _ in range(3)]
    port = free_udp_port()
    sockets = []
    for receiver in receivers:
        sockets.append(receiver.call("udp", "0.0.0.0", port))
        receiver.call("udp_join", sockets[-1], "239.1.2.3", "127.0.0.1")
    c = sender.call("udp", "127.0.0.1", "-")
    sender.call("udp_interface", c, "127.0.0.1")

    sender.call("udp_send", c, "sendto", "239.1.2.3", port, 300, 10)
    for receiver, s in zip(receivers, sockets, strict=True):
        receiver.call("udp_receive", s, "recvfrom", 10, 1000)

    agree(observer, workshop)
    assert sum(row.receive for row in observer.flows().values()) == 9000


def test_broadcast(observer: Observer, workshop: Workshop, second_host: str) -> None:
    there, here = workshop.puppet(second_host), workshop.puppet()
    port = free_udp_port()
    s = here.call("udp", "0.0.0.0", port)
    c = there.call("udp", "10.99.0.2", "-")
    there.call("option", c, 1, 6, 1)  # SOL_SOCKET, SO_BROADCAST

    there.call("udp_send", c, "sendto", "10.99.0.255", port, 123, 4)
    here.call("udp_receive", s, "recvfrom", 4, 1000)

    agree(observer, workshop)


def test_a_port_unreachable_is_no_byte(observer: Observer, workshop: Workshop) -> None:
    client = workshop.puppet()
    port = free_udp_port()
    c = client.call("udp", "127.0.0.1", "-")
    client.call("udp_connect", c, "127.0.0.1", port)

    client.call("udp_send", c, "send", "-", 0, 100, 1)
    with pytest.raises(ConnectionRefusedError):
        client.call("udp_receive", c, "recv", 1, 100)

    agree(observer, workshop)
    assert set(observer.flows()) == {Who(client.pid, "udp", "client", "127.0.0.1", port)}


def test_raw_sockets_are_not_tcp_nor_udp(workshop: Workshop) -> None:
    puppet = workshop.puppet()
    raw = [puppet.call("raw", protocol) for protocol in (6, 17)]  # IPPROTO_TCP, IPPROTO_UDP

    with own_observer(workshop, Network()) as observer:
        for fd in raw:
            assert puppet.call("send", fd, "send", 40, 40) == 40
            assert puppet.call("receive", fd, "recv", 60, 60) == 60  # with the IP header

        assert observer.flows() == {}
        assert observer.connections() == {}


def test_unix_and_netlink_are_not_network(observer: Observer, workshop: Workshop) -> None:
    puppet = workshop.puppet()  # every command to it travels over a Unix socket

    for _ in range(100):
        puppet.call("pid")
    subprocess.run(["ip", "link", "show"], check=True, capture_output=True)  # netlink

    assert observer.flows() == {}
