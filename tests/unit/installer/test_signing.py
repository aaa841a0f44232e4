from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from building import signing

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


@needs_openssl
def test_a_signature_holds_for_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    file = tmp_path / "koc ü.deb"
    file.write_bytes(b"what was built")
    assert signing.main([str(file), "--ed25519", str(key)]) == 0
    signature = tmp_path / "koc ü.deb.sig"
    assert capsys.readouterr().out == f"{signature}\n"
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-sigfile", signature, "-in", file]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    file.write_bytes(b"what was built, and changed")
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0


@needs_openssl
def test_what_cannot_be_signed_is_said_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "koc.deb"
    assert signing.main([str(file), "--ed25519", "key.pem"]) == 1
    assert "is not there" in capsys.readouterr().err
    file.write_bytes(b"x")
    assert signing.main([str(file), "--ed25519", str(tmp_path / "none.pem")]) == 1
    assert "was not signed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]
