"""The look for a newer release: one bounded request over TLS; signatures, replay and expiry; nothing unasked."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from koc_qt.adapters.releases import DAY_S, PREFIX, ReleaseFeed, fetch, read_keys
from koc_qt.config import UpdatesConfig, load_config, switch_updates
from koc_qt.domain.errors import ConfigError, KocError
from koc_qt.domain.release import ReleaseUntrusted
from koc_qt.paths import Paths
from tests.unit.domain.test_release import NOTE
from tests.wire.authority import Authority, make_authority

NOW_S = 1_795_000_000.0  # 2026-11-18
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


def envelope(note: dict[str, Any], key: Ed25519PrivateKey = KEY, prefix: bytes = PREFIX) -> bytes:
    text = json.dumps(note)
    signature = base64.b64encode(key.sign(prefix + text.encode())).decode()
    return json.dumps({"signed": text, "signature": signature}).encode()


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *more, "", ""]
    return "\r\n".join(head).encode() + body


class Server:
    """A loopback TLS server that answers each request with `answer`, or by `serve`; `requests` is what came."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.answer = b""
        self.serve: Callable[[ssl.SSLSocket], None] = lambda link: link.sendall(self.answer)
        self.requests: list[bytes] = []
        self.ended = threading.Event()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}/release.json?channel=stable"

    def close(self) -> None:
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while not self.ended.is_set():
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as link:
                self.requests.append(link.recv(65536))
                self.serve(link)
                link.unwrap()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"), [])


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    running = Server(authority.server_context)
    yield running
    running.close()


@pytest.fixture
def trusting(authority: Authority) -> Callable[[], ssl.SSLContext]:
    return lambda: ssl.create_default_context(cafile=str(authority.ca_file))


@pytest.fixture
def feed(profile: Paths, server: Server, trusting: Callable[[], ssl.SSLContext]) -> ReleaseFeed:
    profile.config_file.write_text(f"updates: {{address: '{server.address}'}}\n")
    return ReleaseFeed(profile, [b"\0" * 32, PUBLIC], wall=lambda: NOW_S, context=trusting, present="0.1.0")


def test_a_newer_release_is_told_with_one_request(feed: ReleaseFeed, server: Server) -> None:
    server.answer = answer(envelope(NOTE))
    release = feed.look()
    assert release is not None
    assert (release.version, release.notes) == ("0.2.0", "Better.\n<b>Faster.</b>")
    (request,) = server.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /release.json?channel=stable HTTP/1.1"
    assert {line.partition(":")[0] for line in lines[1:] if line} == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
    assert "User-Agent: koc" in lines, "not even the version is told"


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.1", "0.1rc1"])
def test_what_is_not_newer_is_none(version: str, feed: ReleaseFeed, server: Server) -> None:
    server.answer = answer(envelope({**NOTE, "version": version}))
    assert feed.look() is None


def test_a_wrong_signature_is_said_loudly(feed: ReleaseFeed, server: Server) -> None:
    other = Ed25519PrivateKey.generate()
    changed = json.loads(envelope(NOTE))
    changed["signed"] = changed["signed"].replace("0.2.0", "9.9.9")
    wrong = (envelope(NOTE, other), envelope(NOTE, KEY, b""), json.dumps(changed).encode(), short_signature())
    for body in wrong:
        server.answer = answer(body)
        with pytest.raises(ReleaseUntrusted, match=r"NOT signed by K\.O\.C\.'s publisher"):
            feed.look()


def short_signature() -> bytes:
    return json.dumps({"signed": json.dumps(NOTE), "signature": "AAAA"}).encode()


def test_an_old_note_is_refused_when_a_newer_one_was_seen(feed: ReleaseFeed, server: Server, profile: Paths) -> None:
    server.answer = answer(envelope({**NOTE, "serial": 9}))
    assert feed.look() is not None
    server.answer = answer(envelope({**NOTE, "serial": 8}))
    with pytest.raises(ReleaseUntrusted, match="an old one again"):
        feed.look()
    profile.release_file.write_text("{")
    assert feed.look() is not None, "a damaged memory is none"


def test_an_expired_note_is_refused(feed: ReleaseFeed, server: Server) -> None:
    server.answer = answer(envelope({**NOTE, "expires": "2026-11-02"}))
    with pytest.raises(ReleaseUntrusted, match="expired on 2026-11-02"):
        feed.look()


def test_a_forged_note_leaves_no_serial_behind(feed: ReleaseFeed, server: Server) -> None:
    server.answer = answer(envelope({**NOTE, "serial": 900}, Ed25519PrivateKey.generate()))
    with pytest.raises(ReleaseUntrusted):
        feed.look()
    server.answer = answer(envelope(NOTE))
    assert feed.look() is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"signed": 1, "signature": "x"}',
        b'{"signed": "{}", "signature": "?"}',
        b"[" * 9999,
    ],
)
def test_what_is_no_note_is_said(body: bytes, feed: ReleaseFeed, server: Server) -> None:
    server.answer = answer(body)
    with pytest.raises(KocError, match="no signed note about a release") as told:
        feed.look()
    assert not isinstance(told.value, ReleaseUntrusted)


@pytest.mark.parametrize("note", ["[]", "nothing"])
def test_a_signed_text_that_is_no_note(note: str, feed: ReleaseFeed, server: Server) -> None:
    signature = base64.b64encode(KEY.sign(PREFIX + note.encode())).decode()
    server.answer = answer(json.dumps({"signed": note, "signature": signature}).encode())
    with pytest.raises(KocError, match="cannot be read"):
        feed.look()


# ---- the request ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Elsewhere"])
def test_a_redirection_is_not_followed(status: str, feed: ReleaseFeed, server: Server, authority: Authority) -> None:
    server.answer = answer(b"", status, f"Location: http://127.0.0.1:{server.address.split(':')[2]}")
    with pytest.raises(KocError, match="is elsewhere, which is not followed"):
        feed.look()
    assert len(server.requests) == 1


def test_other_answers_are_said(feed: ReleaseFeed, server: Server) -> None:
    server.answer = answer(b"no", "404 Not Found")
    with pytest.raises(KocError, match="answers 404 Not Found"):
        feed.look()
    server.answer = b"what\r\n\r\n"
    with pytest.raises(KocError, match="could not be asked"):
        feed.look()
    server.answer = b""
    with pytest.raises(KocError, match="could not be asked"):
        feed.look()


def test_an_answer_without_end_is_cut_by_size(server: Server, trusting: Callable[[], ssl.SSLContext]) -> None:
    server.answer = answer(b"x" * 5000)
    assert len(fetch(server.address, trusting(), most_bytes=5000)) == 5000
    with pytest.raises(KocError, match="more than 4 kB"):
        fetch(server.address, trusting(), most_bytes=4999)


def test_an_answer_that_trickles_is_cut_by_time(server: Server, trusting: Callable[[], ssl.SSLContext]) -> None:
    def trickle(link: ssl.SSLSocket) -> None:
        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not server.ended.wait(0.02):
            link.sendall(b"x")

    server.serve = trickle
    with pytest.raises(KocError, match=r"no answer within 0\.3 s"):
        fetch(server.address, trusting(), all_s=0.3)


def test_a_handshake_that_never_ends_is_cut_by_time(trusting: Callable[[], ssl.SSLContext]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(KocError, match=r"no answer within 0\.2 s"):
            fetch(address, trusting(), all_s=0.2)


def test_a_certificate_of_somebody_else_is_refused(server: Server) -> None:
    with pytest.raises(KocError, match="its certificate is not to be trusted"):
        fetch(server.address, ssl.create_default_context())
    assert server.requests == []


@pytest.mark.parametrize("address", ["http://127.0.0.1/", "ftp://x/", "https://u:p@127.0.0.1/", "file:///etc/passwd"])
def test_only_https_is_asked(address: str) -> None:
    with pytest.raises(KocError, match="is no https address"):
        fetch(address, ssl.create_default_context())


def test_nobody_there(trusting: Callable[[], ssl.SSLContext]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(KocError, match=r"127\.0\.0\.1 could not be asked for a newer release: Connection refused"):
        fetch(f"https://127.0.0.1:{port}/", trusting())


# ---- when -----------------------------------------------------------------------------------------------------------


def test_it_is_off_and_has_no_address_by_default(profile: Paths) -> None:
    assert load_config(profile).updates == UpdatesConfig(check=False, address="")
    feed = ReleaseFeed(profile, [PUBLIC])
    assert not feed.is_on()
    for act in (feed.look, lambda: feed.turn(on=True)):
        with pytest.raises(KocError, match=r"No address .* is configured: set updates\.address"):
            act()
    assert not profile.config_file.exists()


def test_a_build_without_a_key_says_that_it_cannot_verify(profile: Paths, server: Server) -> None:
    profile.config_file.write_text(f"updates: {{check: true, address: '{server.address}'}}\n")
    with pytest.raises(KocError, match="This build cannot verify releases"):
        ReleaseFeed(profile, []).look()
    assert server.requests == []


def test_at_most_once_a_day_also_when_it_fails(
    profile: Paths, server: Server, trusting: Callable[[], ssl.SSLContext]
) -> None:
    profile.config_file.write_text(f"updates: {{address: '{server.address}'}}\n")
    now_s = [NOW_S]
    feed = ReleaseFeed(profile, [PUBLIC], wall=lambda: now_s[0], context=trusting, present="0.1.0")
    assert feed.is_due()
    server.answer = answer(b"no", "500 Sorry")
    with pytest.raises(KocError, match="500"):
        feed.look()
    assert not feed.is_due()
    now_s[0] += DAY_S - 1
    assert not feed.is_due()
    now_s[0] += 1
    assert feed.is_due()
    server.answer = answer(envelope(NOTE))
    feed.look()
    assert not feed.is_due()
    now_s[0] -= 10 * DAY_S
    assert feed.is_due(), "a clock that was set back"


def test_turned_on_and_off_in_the_file(feed: ReleaseFeed, profile: Paths) -> None:
    before = profile.config_file.read_text()
    profile.config_file.write_text("# mine\n" + before)
    feed.turn(on=True)
    assert feed.is_on()
    feed.turn(on=True)
    assert profile.config_file.read_text().startswith("# mine\nupdates: {check: true, address:")
    feed.turn(on=False)
    assert not feed.is_on()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "updates: {check: true}\n"),
        ("account: sim  # mine\n", "updates: {check: true}\naccount: sim  # mine\n"),
        ("updates:\n  # daily?\n  check: false\n", "updates:\n  # daily?\n  check: true\n"),
        (
            "updates:\n  address: https://a.example/  # here\n",
            "updates:\n  check: true\n  address: https://a.example/  # here\n",
        ),
        ("updates: {}\n", "updates: {check: true, }\n"),
        ("updates:\n", "updates: {check: true}\n"),
        ("{account: sim}", "{updates: {check: true}, account: sim}"),
    ],
)
def test_the_file_keeps_all_else(before: str, after: str, profile: Paths) -> None:
    profile.config_file.write_text(before)
    switch_updates(profile, check=True)
    assert profile.config_file.read_text() == after
    assert load_config(profile).updates.check


@pytest.mark.parametrize("address", ["http://a.example/", "https://u:p@a.example/", "a.example", "https://a b/"])
def test_other_addresses_are_wrong_in_the_file(address: str, profile: Paths) -> None:
    profile.config_file.write_text(f"updates:\n  address: '{address}'\n")
    with pytest.raises(ConfigError, match=r"line 2: updates\.address .* an https address"):
        load_config(profile)


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_keys_are_read_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "release_key.txt"
    assert read_keys(file) == []
    word = base64.b64encode(PUBLIC).decode()
    file.write_text(f"# K.O.C.\n{word}  # 2026\n\n{word}\n")
    assert read_keys(file) == [PUBLIC, PUBLIC]
    for wrong in ("!!!", "AAAA", "schlüssel"):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(KocError, match="so releases cannot be verified"):
            read_keys(file)


def test_no_request_is_made_by_what_only_reads(feed: ReleaseFeed, server: Server) -> None:
    feed.is_on()
    feed.is_due()
    feed.turn(on=True)
    assert server.requests == []
