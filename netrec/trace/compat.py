"""Format version -> what to do so that an old file reads like a new one.

Columns are only ever added, so an old file differs by columns that it lacks; those read as null. A fix-up
is needed only when a column's meaning changed: then `FIX_UPS[version]` maps a column to the SQL expression
that gives its present meaning.

Format 2 added flows that share a row (flow_count): without it, every row is one flow.
"""

from __future__ import annotations

FIX_UPS: dict[int, dict[str, str]] = {1: {}, 2: {}}
