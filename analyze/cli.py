"""The analysis commands, by name: (module, attribute, one-line help).

`COMMANDS` are commands of `netrec`, `ANALYSES` are commands of `netrec analyze` that are written in Python; the queries
of the catalogue join them there. How to write one: `analyze.options`.
"""

COMMANDS: dict[str, tuple[str, str, str]] = {
    "analyze": ("analyze.commands.analyze", "command", "Answer a question from a trace: who, when, how much."),
    "report": ("analyze.commands.report", "command", "Write an analysis as one HTML file to send and keep."),
    "sql": ("analyze.commands.sql", "command", "Run your own SQL over a trace, read-only."),
    "inspect": (
        "analyze.commands.inspect",
        "command",
        "Show what a trace holds: captures, times, gaps, losses.",
    ),
    "verify": ("analyze.commands.verify", "command", "Check every file of a trace whole."),
    "compact": ("analyze.commands.compact", "command", "Merge a trace's many small files into fewer, larger ones."),
}

ANALYSES: dict[str, tuple[str, str, str]] = {
    "capacity": (
        "analyze.commands.capacity",
        "command",
        "What fills first, when, how sure; what fits; what is billed?",
    ),
    "incident": (
        "analyze.commands.incident",
        "command",
        "What changed, when, where, and which known pattern fits?",
    ),
    "compare": (
        "analyze.commands.compare",
        "command",
        "Is this capture worse than that one, where, and how sure is that?",
    ),
    "security": (
        "analyze.commands.security",
        "command",
        "Scans, beacons, new peers, unusual volume: findings with their evidence.",
    ),
}
