"""The analysis commands, by name: (module, attribute, one-line help)."""

COMMANDS: dict[str, tuple[str, str, str]] = {
    "analyze": ("analyze.commands.analyze", "command", "Run a query of the catalogue over a trace."),
    "sql": ("analyze.commands.sql", "command", "Run your own SQL over a trace, read-only."),
    "inspect": (
        "analyze.commands.inspect",
        "command",
        "Show what a trace holds: captures, times, gaps, losses.",
    ),
    "verify": ("analyze.commands.verify", "command", "Check every file of a trace whole."),
    "compact": ("analyze.commands.compact", "command", "Merge a trace's small files into larger ones."),
}
