"""Reads the table `payment` with another tool and writes it as zstd Parquet: `peers.py check|run TOOL URL OUT`."""

import glob
import os
import shutil
import sys


def duckdb(url, out):
    import duckdb
    import duckdb_extension_postgres_scanner as extension

    found = glob.glob(os.path.dirname(extension.__file__) + "/**/*.duckdb_extension", recursive=True)
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute(f"load '{found[0]}'")
    if out:
        connection.execute(f"attach '{url}' as pg (type postgres, read_only)")
        connection.execute(f"copy (select * from pg.public.payment) to '{out}.parquet' (format parquet, compression zstd)")


def connectorx(url, out):
    import connectorx
    import pyarrow.parquet

    if out:
        table = connectorx.read_sql(url, "select * from payment", return_type="arrow", protocol="binary")
        pyarrow.parquet.write_table(table, out + ".parquet", compression="zstd")


def adbc(url, out):
    import adbc_driver_postgresql.dbapi
    import pyarrow.parquet

    if out:
        with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("select * from payment")
            reader = cursor.fetch_record_batch()
            with pyarrow.parquet.ParquetWriter(out + ".parquet", reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)


def dlt(url, out):
    import dlt
    from dlt.sources.sql_database import sql_table

    if out:
        os.environ["DLT_DATA_DIR"] = out + ".state"
        os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
        os.environ["NORMALIZE__DATA_WRITER__COMPRESSION"] = "zstd"
        rows = sql_table(credentials=url.replace("postgres://", "postgresql://"), table="payment", backend="pyarrow", chunk_size=100_000)
        pipeline = dlt.pipeline("bench", destination=dlt.destinations.filesystem(out), dataset_name="payment", pipelines_dir=out + ".state")
        pipeline.run(rows, loader_file_format="parquet")


if __name__ == "__main__":
    verb, tool, url, out = sys.argv[1:]
    for old in (out, out + ".state"):
        shutil.rmtree(old, ignore_errors=True)
    {"duckdb": duckdb, "connectorx": connectorx, "adbc": adbc, "dlt": dlt}[tool](url, out if verb == "run" else None)
