"""The authority of a backend's own, seen by the TLS that its clients have."""

import ssl
import stat

import pytest
from cryptography import x509
from teleop_schema.certificates.authority import CERTIFICATE_FILE, KEY_FILE, Authority, Signed
from teleop_schema.certificates.pins import is_pin, pin_of
from teleop_schema.certificates.secret_file import write_secret


@pytest.fixture(scope="module")
def authority() -> Authority:
    """One for all tests."""
    return Authority.make()


def shake_hands(signed: Signed, trusted: str, name: str, folder) -> None:
    """Client and server in memory; raises ssl.SSLError as a client would."""
    chain = folder / "server.pem"
    write_secret(chain, signed.key + signed.certificate)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(chain)
    client_side = ssl.create_default_context(cadata=trusted)
    # As Python has it by default from 3.13 on.
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = {client, server}
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize("name", ["192.168.1.5", "backend.lan", "localhost", "::1"])
def test_a_server_is_known_by_each_of_its_names(authority, tmp_path, name):
    """By IP addresses, too; strictly."""
    signed = authority.sign_server(["192.168.1.5", "backend.lan", "localhost", "[::1]"])
    shake_hands(signed, authority.signed.certificate, name, tmp_path)


@pytest.mark.parametrize("name", ["192.168.1.6", "evil.lan", "127.0.0.1"])
def test_no_server_is_known_by_another_name(authority, tmp_path, name):
    """Although the same authority has signed it."""
    signed = authority.sign_server(["192.168.1.5", "backend.lan"])
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(signed, authority.signed.certificate, name, tmp_path)


def test_another_authority_is_not_trusted(authority, tmp_path):
    """Its name is another one, its key too."""
    signed = Authority.make().sign_server(["localhost"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(signed, authority.signed.certificate, "localhost", tmp_path)


def test_a_server_signs_nobody(authority):
    """Its certificate is that of a server, whatever its key is used for."""
    made = x509.load_pem_x509_certificate(authority.sign_server(["localhost"]).certificate.encode())
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.value.ca, basic.critical) == (False, True)
    assert not made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_it_is_kept(tmp_path):
    """Made once; nobody else can read it; a key of another one is found out."""
    made, found = Authority.kept_in(tmp_path), Authority.kept_in(tmp_path)
    assert pin_of(made.signed.certificate) == pin_of(found.signed.certificate)
    for name in (CERTIFICATE_FILE, KEY_FILE):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    write_secret(tmp_path / KEY_FILE, Authority.make().signed.key)
    with pytest.raises(ValueError, match="is not the key of"):
        Authority.kept_in(tmp_path)


def test_a_start_that_was_cut_short_leaves_nothing_half_made(tmp_path):
    """A key without its certificate is made again."""
    write_secret(tmp_path / KEY_FILE, "unfinished")
    assert is_pin(pin_of(Authority.kept_in(tmp_path).signed.certificate))


def test_a_pin_is_of_one_certificate():
    """43 characters that fit into an address; of something else there is none."""
    pins = {pin_of(Authority.make().signed.certificate) for _ in range(3)}
    assert len(pins) == 3
    assert all(map(is_pin, pins))
    for wrong in ("", "A" * 42, "A" * 42 + "=", "A" * 44):
        assert not is_pin(wrong)
    with pytest.raises(ValueError, match="PEM"):
        pin_of("no certificate")
