"""Machine code and the machine that it is for."""

from __future__ import annotations

import msgspec

from koc_qt.sdk.machine_code import Code, MachineCode, host, is_for_this_machine


def test_code_is_for_the_kind_of_machine_that_it_was_compiled_on() -> None:
    own = MachineCode(*host(), {"f": Code("f", b"...")})
    assert all(host())
    assert is_for_this_machine(msgspec.msgpack.encode(own))
    assert not is_for_this_machine(msgspec.msgpack.encode(msgspec.structs.replace(own, processor="z80")))
    assert not is_for_this_machine(b"\x00nonsense")
