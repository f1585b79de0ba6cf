"""Which addresses and URLs are what they look like."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.core.tools import ToolDenied
from turnkeeper.tools.web.address import AddressPolicy, is_public, normal
from turnkeeper.tools.web.url import follow, parse

_CLOSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16
169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.168.1.1 192.88.99.1
198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:10.0.0.1 ::ffff:0:127.0.0.1
64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a9fe:a9fe:: 2002:808:808:: 3fff::1 5f00::1
fc00::1 fd00:ec2::254 fd12:3456::1 fe80::1 fe80::a9fe:a9fe fec0::1 ff02::1 ff0e::1
2a00:1450::5efe:10.0.0.1 2a00:1450::200:5efe:127.0.0.1
"""
_OPEN = """
1.1.1.1 8.8.8.8 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 168.63.129.17 169.253.255.255
172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255
::ffff:8.8.8.8 64:ff9b::8.8.8.8 2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::5efe:8.8.8.8
"""


@pytest.mark.parametrize("text", _CLOSED.split())
def test_an_address_that_is_not_public_is_closed(text: str) -> None:
    assert not is_public(normal(text))
    with pytest.raises(ToolDenied, match="Only public addresses"):
        AddressPolicy.of([]).choose([normal(text)])


@pytest.mark.parametrize("text", _OPEN.split())
def test_a_public_address_is_open(text: str) -> None:
    assert AddressPolicy.of([]).choose([normal(text)])


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """As Python knows it; but not where an address of the old kind stands in it, which decides then."""
    known = normal(str(address))
    if known in ipaddress.ip_network("64:ff9b::/96"):
        return False
    return known.is_private or known.is_loopback or known.is_link_local or known.is_multicast or known.is_unspecified


@given(st.ip_addresses().filter(_is_private))
def test_nothing_is_open_that_python_knows_as_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert not is_public(normal(str(address)))


def test_an_opened_network_opens_just_that() -> None:
    policy = AddressPolicy.of(["10.1.2.3/32", "fd00::/64"])
    assert policy.choose([normal("10.1.2.3"), normal("8.8.8.8"), normal("::ffff:10.1.2.3"), normal("fd00::7")])
    for other in ("10.1.2.4", "10.1.2.2", "127.0.0.1", "fd00:0:0:1::1", "169.254.169.254"):
        with pytest.raises(ToolDenied, match=r"10\.1\.2\.3/32"):
            policy.choose([normal(other)])


def test_one_bad_address_condemns_the_name() -> None:
    for policy in (AddressPolicy.of([]), AddressPolicy.of(["127.0.0.1/32"])):
        with pytest.raises(ToolDenied):
            policy.choose([normal("8.8.8.8"), normal("169.254.169.254")])
    with pytest.raises(ToolDenied):
        AddressPolicy.of(["127.0.0.1/32"]).choose([normal("127.0.0.1"), normal("10.0.0.1")])


def test_localhost_may_have_its_other_address() -> None:
    assert AddressPolicy.of(["127.0.0.1/32"]).choose([normal("::1"), normal("127.0.0.1")]) == [normal("127.0.0.1")]


@pytest.mark.parametrize("net", ["10.1.2.3/8", "nonsense", "10.0.0.0/33", ""])
def test_a_network_that_cannot_be_is_refused_at_once(net: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        AddressPolicy.of([net])


REFUSED = [
    "",
    " ",
    "example.com",
    "//example.com/",
    "http:/example.com",
    "http:example.com",
    "http:///example.com",
    "http://",
    "https://?x",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "data:text/plain,hi",
    "javascript:alert(1)",
    "jar:http://example.com!/",
    "http+unix://%2Fvar%2Frun/x",
    "view-source:http://example.com/",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http://@example.com/",
    "http://example.com@evil.org/",
    "http://example.com:80@evil.org/",
    "http://evil.org#@example.com/ ",
    "http://example.com\\@evil.org/",
    "http://example.com\\.evil.org/",
    "http:\\\\example.com\\",
    "http://example.com/\\..\\x",
    "http://example.com/a b",
    "http://example.com/a\tb",
    "http://exam\tple.com/",
    "http://exam\nple.com/",
    "http://example.com/\r\nHost: evil.org",
    "http://example.com/\x00",
    "http://example.com\x00.evil.org/",
    "\x01http://example.com/",
    " http://example.com/",
    "http://example.com/ ",
    "http://example.com/\x7f",
    "http://example.com/\u200b",
    "http://exam\u00adple.com/",
    "http://exam\u200dple.com/",
    "http://example.com\u2028/",
    "http://example.com/\ud800",
    "http://exa%6dple.com/",
    "http://example.com%00.evil.org/",
    "http://example.com%2f@evil.org/",
    "http://example.com:/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:999999/",
    "http://example.com:-1/",
    "http://example.com:8 0/",
    "http://example.com:+80/",
    "http://example.com:\u0661\u0662/",
    "http://example.com:80:80/",
    "http://example..com/",
    "http://.example.com/",
    "http://example.com../",
    "http://-example.com/",
    "http://example-.com/",
    "http://exa mple.com/",
    "http://example,com/",
    "http://(example.com)/",
    "http://" + "a" * 64 + ".com/",
    "http://" + "a." * 130 + "com/",
    "http://example.com/" + "a" * 5000,
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://0X7F000001/",
    "http://2130706433/",
    "http://0177.0.0.1/",
    "http://0177.0.0.01/",
    "http://00000177.1/",
    "http://127.0.0.0x1/",
    "http://127.0.0.1.1/",
    "http://256.256.256.256/",
    "http://1.2.3.4.5/",
    "http://example.com.0x7f/",
    "http://4294967296/",
    "http://0x/",
    "http://[::1/",
    "http://::1/",
    "http://[::1%25eth0]/",
    "http://[::1%eth0]/",
    "http://[fe80::1%251]/",
    "http://[::g]/",
    "http://[]/",
    "http://[127.0.0.1]/",
    "http://[example.com]/",
    "http://[::1]x/",
    "http://x[::1]/",
    "http://[::ffff:127.1]/",
    "http://[v1.x]/",
    "http://\u2488.example.com/\u0000",
    "http://\u2100.com/",
    "http://a\uff0fb.com/",
    "http://a\uff1ab.com/",
    "http://a\uff20b.com/",
    "http://*.example.com/",
    "http://exam*ple.com/",
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_is_not_plainly_one_is_refused(url: str) -> None:
    with pytest.raises(ToolDenied):
        parse(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://example.com", "example.com", 80, "/"),
        ("HTTPS://EXAMPLE.com./x", "example.com", 443, "/x"),
        ("https://example.com:8443/a/../b?c=d#e@f", "example.com", 8443, "/a/../b?c=d"),
        ("https://example.com?x=//evil.org", "example.com", 443, "/?x=//evil.org"),
        ("https://example.com/@evil.org", "example.com", 443, "/@evil.org"),
        ("https://example.com#@evil.org", "example.com", 443, "/"),
        ("https://b\u00fccher.example/\u00e4", "xn--bcher-kva.example", 443, "/%C3%A4"),
        ("https://XN--BCHER-KVA.example/", "xn--bcher-kva.example", 443, "/"),
        ("http://ex\uff41mple\u3002com/", "example.com", 80, "/"),
        ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1", 80, "/"),
        ("http://\u2460\u2461\u2466.0.0.1/", "127.0.0.1", 80, "/"),
        ("http://127.0.0.1./", "127.0.0.1", 80, "/"),
        ("http://[::1]:81/", "::1", 81, "/"),
        ("http://[0:0::0:1]/", "::1", 80, "/"),
        ("http://[::ffff:127.0.0.1]/", "127.0.0.1", 80, "/"),
        ("http://[::ffff:7f00:1]/", "127.0.0.1", 80, "/"),
        ('http://example.com/a"b<c>{d}|e^f`', "example.com", 80, "/a%22b%3Cc%3E%7Bd%7D%7Ce%5Ef%60"),
        ("http://example.com/%00%0d%0a", "example.com", 80, "/%00%0d%0a"),
        ("http://dead.beef/", "dead.beef", 80, "/"),
        ("http://a_b.example.com/", "a_b.example.com", 80, "/"),
    ],
)
def test_a_url_has_one_reading(url: str, host: str, port: int, path: str) -> None:
    target = parse(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    # What goes onto the wire reads the same again: no second parser can see another host in it.
    assert parse(target.url) == target


@given(st.text())
def test_whatever_is_sent_is_either_refused_or_ascii_on_the_wire(text: str) -> None:
    for url in (text, "http://" + text, "http://example.com/" + text, f"http://{text}@example.com/"):
        try:
            target = parse(url)
        except ToolDenied:
            continue
        wire = target.url
        assert wire.isascii() and wire.isprintable() and " " not in wire and "\\" not in wire
        assert parse(wire) == target


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "https://example.com/x"),
        ("x", "https://example.com/a/x"),
        ("?q", "https://example.com/a/b?q"),
        ("//evil.org/x", "https://evil.org/x"),
        ("https://evil.org", "https://evil.org/"),
        ("HTTP://EVIL.org:80/", "http://evil.org/"),
        ("../../../x", "https://example.com/x"),
        ("/\u00e4", "https://example.com/%C3%A4"),
    ],
)
def test_a_redirect_is_read_the_same_way(location: str, url: str) -> None:
    assert follow(parse("https://example.com/a/b"), location).url == url


@pytest.mark.parametrize(
    "location",
    [
        "",
        "\\\\evil.org",
        "/\\evil.org",
        "ht\ttp://evil.org",
        "http:evil.org/x",
        "http://u:p@evil.org/",
        "file:///etc/passwd",
        "javascript:x",
        "http://[::1",
        "data:,x",
        "x\x00",
        "http://2130706433/",
    ],
)
def test_a_redirect_to_nowhere_plain_is_refused(location: str) -> None:
    with pytest.raises(ToolDenied):
        follow(parse("https://example.com/"), location)
