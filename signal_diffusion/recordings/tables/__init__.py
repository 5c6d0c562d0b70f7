"""Tables of sensor readings: CSV, TSV, Parquet, NPY, NPZ and WFDB, read and written again."""

from signal_diffusion.recordings.tables.form import TableForm
from signal_diffusion.recordings.tables.reader import TableReader, is_table, opened_table
from signal_diffusion.recordings.tables.writer import TableWriter, writing_table

__all__ = ["TableForm", "TableReader", "TableWriter", "is_table", "opened_table", "writing_table"]
