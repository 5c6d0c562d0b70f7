"""Tables of sensor readings: CSV, TSV, Parquet, NPY, NPZ and WFDB, read and written again.

Columns, time stamps and the containers' own layouts belong here; sound is in `audio`, and
what is done with the readings is in `tasks`.
"""

from signal_diffusion.tables.columns import Columns, TableForm
from signal_diffusion.tables.reader import TableReader, is_table, opened_table
from signal_diffusion.tables.writer import TableWriter, writing_table

__all__ = [
    "Columns",
    "TableForm",
    "TableReader",
    "TableWriter",
    "is_table",
    "opened_table",
    "writing_table",
]
