"""Private keys of Coinbase, in the one form that ccxt takes."""

from __future__ import annotations

from koc_qt.domain.errors import VenueRejected

_WRONG_KIND = (
    "This Coinbase key is of the kind Ed25519, with which the stream of orders cannot be opened; make one with the "
    "signature algorithm ECDSA"
)


def private_key(text: str) -> str:
    """Give a private key as ccxt takes it, whatever copying has made of its lines. Raises VenueRejected.

    https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    begin, _, rest = text.replace("\\n", "\n").strip(" \t\r\n\"'").partition("KEY-----")
    body, dashes, end = rest.partition("-----END")
    if not dashes:
        if len(text) == 88 or text.endswith("="):
            raise VenueRejected(_WRONG_KIND)
        raise VenueRejected(
            "The private key of Coinbase cannot be read: paste the whole block, from -----BEGIN EC PRIVATE KEY----- to "
            "-----END EC PRIVATE KEY-----"
        )
    lines = "\n".join(body.split())
    pem = f"{begin}KEY-----\n{lines}\n-----END{end}\n"
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise VenueRejected(
            "The private key of Coinbase cannot be read: lines or characters are missing; paste it whole"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise VenueRejected(_WRONG_KIND)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain).decode()
