"""The recorder's commands, by name: (module, attribute, one-line help)."""

COMMANDS: dict[str, tuple[str, str, str]] = {
    "record": ("recorder.commands.record", "command", "Record this host's traffic into a trace folder."),
    "repair": (
        "recorder.commands.repair",
        "command",
        "Turn what a killed recorder left behind into Parquet.",
    ),
    "doctor": ("recorder.commands.doctor", "command", "Say which sources can run here and, if not, why."),
    "programs": (
        "recorder.commands.programs",
        "command",
        "Your own eBPF programs: list, show and check them.",
    ),
    "schedule": (
        "recorder.commands.schedule",
        "command",
        "Record at fixed times, by cron or systemd.",
    ),
}
