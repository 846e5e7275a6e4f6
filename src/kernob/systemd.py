"""`kernob systemd`: units with the least privileges that work.

Measured on Linux 6.18 with systemd 252. The agent's capabilities: CAP_BPF and CAP_PERFMON load and
attach its programs, CAP_NET_ADMIN those at the cgroup (peers of datagrams); CAP_SYS_PTRACE tells
the program of other users' processes, CAP_DAC_READ_SEARCH the names of their containers. The agent
itself gives up CAP_PERFMON and CAP_NET_ADMIN once it has started. Timing its programs would take
CAP_SYS_ADMIN: that part is off, and says so. The server and the pages have none.

Source of the settings: systemd.exec(5), systemd.resource-control(5), release 252.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS: Final = ("agent", "server", "pages")

_UNIT: Final = """\
# Made by `kernob systemd {part}`. To install it:
#   kernob systemd {part} > /etc/systemd/system/kernob-{part}.service
#   systemctl daemon-reload && systemctl enable --now kernob-{part}
# Its settings are those of /etc/kernob/kernob.yaml, if there is one.
[Unit]
Description=Kernob {part}: {what}
After=network.target {after}

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=2
# The configuration, the kernel, an address or another agent stand in the way: a start is in vain.
RestartPreventExitStatus=2 3 4 5
TimeoutStopSec=20
{own}
DynamicUser=yes
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_AGENT: Final = """\
RuntimeDirectory=kernob
# Where its figures go, if the configuration doesn't say it:
#Environment=KERNOB_OTLP_ENDPOINT=http://127.0.0.1:4318
MemoryMax=512M
AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
SystemCallFilter=@system-service bpf capset"""

_SERVER: Final = """\
# /var/lib/kernob, where the store is.
StateDirectory=kernob
StateDirectoryMode=0700
WorkingDirectory=%S/kernob
LimitNOFILE=65536
MemoryMax=4G
CapabilityBoundingSet=
PrivateUsers=yes
ProtectProc=invisible
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources"""

_PAGES: Final = """\
RuntimeDirectory=kernob-pages
WorkingDirectory=%t/kernob-pages
MemoryMax=1G
CapabilityBoundingSet=
PrivateUsers=yes
ProtectProc=invisible
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources"""

_PARTICULARS: Final = {
    "agent": ("what every service of this host does, counted in the kernel", "", _AGENT),
    "server": ("takes OTLP, keeps it, answers questions about it", "", _SERVER),
    "pages": ("what the server knows, in a browser", "kernob-server.service", _PAGES),
}


def unit(part: str, command: Sequence[str]) -> str:
    """Returns the unit file for one of `PARTS` that runs `command`."""
    what, after, own = _PARTICULARS[part]
    # In a unit % and $ mean something (systemd.service(5), "Command lines").
    line = shlex.join(command).replace("%", "%%").replace("$", "$$")
    text = _UNIT.format(part=part, what=what, after=after, command=line, own=own)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
