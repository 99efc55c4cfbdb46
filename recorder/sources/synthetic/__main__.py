"""Write a long history that is invented: `python -m recorder.sources.synthetic DIR --days 90`.

For trying out forecasts and retention without recording for months. Every row says that it is synthetic: the host and
the source are called so, and the addresses are those of nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from netrec.text import format_size


@click.command(help=__doc__)
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--days", type=click.FloatRange(0.001, 3660), default=28.0, show_default=True, help="How long it is.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The day that it ends before (UTC); default: today.")
@click.option(
    "--flows-per-day", type=click.IntRange(1), default=20_000, show_default=True, help="Of the first day, about."
)
@click.option("--growth-per-day", type=float, default=0.0, show_default=True, help="0.01 is 1% of the first day a day.")
@click.option("--daily-swing", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Day against night.")
@click.option("--clients", type=click.IntRange(1), default=2000, show_default=True, help="Distinct client addresses.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed gives the same flows."
)
def command(
    trace: Path,
    days: float,
    until: datetime | None,
    flows_per_day: int,
    growth_per_day: float,
    daily_swing: float,
    clients: int,
    seed: int,
) -> None:
    from recorder.sources.synthetic.history import write_history

    if trace.exists() and (not trace.is_dir() or any(trace.iterdir())):
        raise click.UsageError(f"{trace} exists already: give a new folder, invented rows do not belong among others")
    end = until.replace(tzinfo=UTC) if until else datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    flows = round(flows_per_day * days * max(0.0, 1 + growth_per_day * days / 2))
    if not flows:
        raise click.UsageError("no flows would be left by the end: give a --growth-per-day nearer to 0")
    files = write_history(
        trace,
        flows,
        start=datetime.fromtimestamp(end.timestamp() - days * 86400, UTC),
        duration=days * 86400,
        seed=seed,
        clients=clients,
        daily_swing=daily_swing,
        growth_per_day=growth_per_day,
    )
    size = format_size(sum(file.path.stat().st_size for file in files))
    click.echo(f"wrote {flows} synthetic flows in {len(files)} files, {size}; now run: netrec analyze capacity {trace}")


if __name__ == "__main__":
    command(prog_name="python -m recorder.sources.synthetic")
