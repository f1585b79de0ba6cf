"""Which addresses a fetch may connect to.

An address is public when it is outside every range that is set aside for something else, in whatever form it
is written: an IPv4 address inside an IPv6 one (mapped, NAT64, ISATAP) is judged as the IPv4 address. The
tables are written out instead of taken from ``ipaddress.is_global``, whose answers differ between Python versions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from turnkeeper.core.tools import ToolDenied

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CLOSED_V4 = tuple(
    ipaddress.IPv4Network(net)
    for net in (
        "0.0.0.0/8",  # this network, "unspecified"
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; also where some clouds keep their metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent behind an address that looks public
        "169.254.0.0/16",  # link-local, metadata, container credentials
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
#: IPv6 is the other way around: only this is in use as public...
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
#: ...and these parts of it are not.
_CLOSED_V6 = tuple(
    ipaddress.IPv6Network(net)
    for net in (
        "2001::/23",  # Teredo, benchmarking, ORCHID and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)


def normal(text: str) -> Address:
    """The address, an IPv4 address that is mapped into IPv6 as the IPv4 address that it is.

    Raises:
        ValueError: not an address in its full, usual form.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """Whether the address may be reached without having been opened by name."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in net for net in _CLOSED_V4)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _GLOBAL_V6 or any(address in net for net in _CLOSED_V6):
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_MARKS:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return True


@dataclass(frozen=True)
class AddressPolicy:
    """Public addresses, and the networks that the agent's author opened."""

    opened: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allow_private: Iterable[str]) -> AddressPolicy:
        """Raises ValueError for what is not a network in CIDR form (host bits set included)."""
        return cls(tuple(ipaddress.ip_network(net) for net in allow_private))

    def opens(self, address: Address) -> bool:
        return any(address in net for net in self.opened if net.version == address.version)

    def choose(self, addresses: Sequence[Address]) -> list[Address]:
        """The addresses that may be connected to, out of everything that a name resolves to.

        One address that is neither public nor opened condemns the name: a name that mixes them is how rebinding
        starts. The one exception is loopback, where ``localhost`` has two addresses and the author opened one.

        Raises:
            ToolDenied: not all of them may be reached.
        """
        opened = [address for address in addresses if self.opens(address)]
        if any(address.is_loopback for address in opened):
            addresses = [address for address in addresses if not address.is_loopback or address in opened]
        if not addresses or not all(address in opened or is_public(address) for address in addresses):
            raise ToolDenied(
                "This host leads to an address that is not public (private, loopback, link-local, metadata, "
                f"multicast or reserved). Only {self.allowed()} may be reached."
            )
        return list(addresses)

    def allowed(self) -> str:
        return " and ".join(["public addresses", *(str(net) for net in self.opened)])
