"""Recordings at fixed times, started by cron or systemd.

cron.py         the five fields of a cron expression: when is it due, what is that as an OnCalendar
definition.py   a schedule as it is kept: folder/<name>/schedule.json
install.py      /etc/cron.d/netrec-<name>, or netrec-<name>.service and .timer
history.py      what became of each time that it was due: folder/<name>/runs.ndjson
run.py          one run: never two at once, missed ones noted, a log that stays small
"""
