"""`kernob doctor`: what this kernel and these privileges allow, what is off, what to do.

It finds out by trying: it loads what the agent would load, looks, and lets go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

import msgspec

from kernob.errors import ConfigError, KernobError
from kernob.kernel import features
from kernob.rates import bytes_text
from kernob.signals.network import LOSSES, KernelFlows
from kernob.signals.polling import blind_spots, describe
from kernob.signals.requests import LOSSES as REQUEST_LOSSES
from kernob.signals.requests import KernelRequests
from kernob.top import traffic_from_agent

if TYPE_CHECKING:
    from kernob.config import Config
    from kernob.traffic import Table


class Diagnosis(msgspec.Struct):
    """What was found.

    Attributes:
        ebpf: whether the agent can count in the kernel.
        refusal: why not; empty if it can.
        polling: how the agent counts instead, and what that misses; empty if it need not.
        programs: why each program is off, empty for those that work.
        requests: why requests of each protocol are not seen, empty for those that are.
        maps: bytes that the kernel keeps for each map.
        agent: whether an agent answers at the configured address.
        agent_refusal: why one could not be asked; empty if it could, or there is none.
        losses: what that agent could not count, by reason.
        advice: what to do, most important first; empty if all is well.
    """

    kernel: str
    btf: bool
    lockdown: str
    missing_capabilities: list[str]
    ebpf: bool
    refusal: str
    polling: str
    programs: dict[str, str]
    requests: dict[str, str]
    maps: dict[str, int]
    agent: bool
    agent_refusal: str
    agent_mode: str
    losses: dict[str, int]
    advice: list[str]


def examine(config: Config) -> Diagnosis:
    """Returns what the agent would find with `config`; loads the programs for a moment.

    Raises:
        KernelError: libbpf is missing and nothing can be said.
    """
    found = features.probe()
    diagnosis = Diagnosis(
        kernel=found.release,
        btf=found.btf,
        lockdown=found.lockdown,
        missing_capabilities=features.missing_capabilities(),
        ebpf=False,
        refusal=found.refusal,
        polling="",
        programs={},
        requests={},
        maps={},
        agent=False,
        agent_refusal="",
        agent_mode="",
        losses={},
        advice=[],
    )
    try:
        flows = KernelFlows(config.network, requests=config.requests.enabled)
    except KernobError as error:
        diagnosis.refusal = str(error)
        diagnosis.polling = describe(blind_spots())
    else:
        diagnosis.ebpf = True
        diagnosis.programs = flows.programs()
        diagnosis.maps = flows.memory()
        if config.requests.enabled:
            _examine_requests(config, flows, diagnosis)
        flows.close()
    table, diagnosis.agent_refusal = _ask_agent(config)
    if table is not None:
        diagnosis.agent, diagnosis.agent_mode = True, table.mode
        diagnosis.losses = {reason: count for reason, count in table.losses.items() if count}
    diagnosis.advice = _advice(diagnosis)
    return diagnosis


def _examine_requests(config: Config, flows: KernelFlows, diagnosis: Diagnosis) -> None:
    try:
        requests = KernelRequests(flows, config.requests)
    except KernobError as error:
        diagnosis.requests = {"all": str(error)}
        return
    parts = requests.parts().items()
    diagnosis.requests = {name.removeprefix("requests: "): reason for name, reason in parts}
    diagnosis.maps |= requests.memory()
    requests.close()


def _ask_agent(config: Config) -> tuple[Table | None, str]:
    """Returns the agent's table, None without one; and why one that is there was not asked."""
    if not config.prometheus.enabled:
        return None, ""
    try:
        return traffic_from_agent(config.prometheus.url, config.prometheus.token()), ""
    except ConfigError as error:
        # The token can't be read, or isn't the agent's.
        return None, str(error)
    except KernobError:
        # No agent runs here: what it lost can't be told, and the report says so.
        return None, ""


def _advice(diagnosis: Diagnosis) -> list[str]:
    advice = []
    if not diagnosis.ebpf:
        if diagnosis.missing_capabilities:
            advice.append("run Kernob as root, or give it CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")
        elif not diagnosis.btf:
            advice.append("boot a kernel with CONFIG_DEBUG_INFO_BTF (every distribution's has it)")
    if diagnosis.agent_refusal:
        advice.append("give doctor the agent's own prometheus.token_file")
    for reason in diagnosis.losses:
        if reason == "flows_overflowed":
            advice.append("raise network.flows: rows had no room")
        elif reason in ("processes_dropped", "exits_dropped"):
            advice.append("raise network.processes: names of processes had no room")
        elif reason == "series_overflowed":
            advice.append("raise requests.series: requests had no row of their own")
        elif reason == "operations_overflowed":
            advice.append("raise requests.series_per_process: operations had no row of their own")
    return advice


def _lines(diagnosis: Diagnosis) -> list[str]:
    lockdown = f", lockdown {diagnosis.lockdown}" if diagnosis.lockdown not in ("", "none") else ""
    lines = [
        f"kernel      {diagnosis.kernel}, {'with' if diagnosis.btf else 'WITHOUT'} BTF{lockdown}",
        f"user        {os.geteuid()}, "
        + (
            f"lacks {', '.join(diagnosis.missing_capabilities)}"
            if diagnosis.missing_capabilities
            else "all capabilities that are needed"
        ),
        "counting    " + ("in the kernel by eBPF: exact" if diagnosis.ebpf else diagnosis.polling),
    ]
    if not diagnosis.ebpf:
        lines.append(f"  since     {diagnosis.refusal}")
    for name, reason in diagnosis.programs.items():
        lines.append(f"  program   {name:20} {reason.splitlines()[0] if reason else 'works'}")
    for name, reason in diagnosis.requests.items():
        lines.append(f"  requests  {name:20} {reason or 'seen'}")
    for name, size in diagnosis.maps.items():
        lines.append(f"  map       {name:20} {bytes_text(size)}")
    if diagnosis.maps:
        lines.append(f"  maps      {'all':20} {bytes_text(sum(diagnosis.maps.values()))}")
    if diagnosis.agent_refusal:
        lines.append(f"agent       can't be asked: {diagnosis.agent_refusal}")
    elif not diagnosis.agent:
        lines.append("agent       none answers: what one lost can't be told")
    elif diagnosis.losses:
        lines.append(f"agent       runs ({diagnosis.agent_mode}), and has lost:")
        lines += [
            f"  lost      {count} {(LOSSES | REQUEST_LOSSES).get(reason, reason)}"
            for reason, count in diagnosis.losses.items()
        ]
    else:
        lines.append(f"agent       runs ({diagnosis.agent_mode}), nothing lost")
    lines += [f"to do       {line}" for line in diagnosis.advice] or ["to do       nothing"]
    return lines


def run(config: Config, *, as_json: bool, out: TextIO) -> int:
    """Prints the diagnosis; returns 0 if the agent can count in the kernel, else 3.

    Raises:
        KernelError: see `examine`.
    """
    diagnosis = examine(config)
    if as_json:
        out.write(msgspec.json.format(msgspec.json.encode(diagnosis)).decode() + "\n")
    else:
        out.write("\n".join(_lines(diagnosis)) + "\n")
    return 0 if diagnosis.ebpf else 3
