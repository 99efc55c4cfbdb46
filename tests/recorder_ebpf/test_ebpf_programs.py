"""What is asked of the compiler."""

from __future__ import annotations

from recorder.sources.ebpf.programs import EVENTS, TCP, without_copy


def test_what_the_kernel_skips_of_a_program_with_a_copy_is_not_lost() -> None:
    alone = without_copy([*TCP.tracepoints, *EVENTS.tracepoints])
    assert "tcp_reset_received" in alone and "event_drop" in alone
    assert not [name for name in alone if name.startswith("tcp_state")]
