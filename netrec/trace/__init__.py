"""The trace format: the one thing that the recorder and the analysis share.

    fields.py     every field: name, Arrow type, unit, meaning, IPFIX and OpenTelemetry names
    tables.py     the Arrow schema of each table, composed of fields
    layout.py     file name <-> (table, host, capture, sequence, time)
    metadata.py   what every file's footer says about itself
    writer.py     record batches -> one finished Parquet file
    compat.py     format version -> fix-ups on reading

Imports neither SQL engines nor bcc.
"""
