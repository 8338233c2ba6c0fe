"""Customer id files: lists of customers that commands take, as Parquet, CSV or plain text."""

from pathlib import Path

import polars as pl

from features.common.errors import InputError


def read_customer_ids(path: Path, role: str = "the customer list") -> list[str]:
    """Read the distinct ids in a file, in its order: a column customer_id of Parquet or CSV, else one id a line.

    `role` names the file in errors. Raises `InputError` where it cannot be read, has no such column or no id.
    """
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        elif path.suffix == ".csv":
            table = pl.read_csv(path, infer_schema=False)
        else:
            lines = (line.strip() for line in path.read_text().splitlines())
            table = pl.DataFrame({"customer_id": [line for line in lines if line]}, schema={"customer_id": pl.String})
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{role} {path} cannot be read: {error}") from error
    if "customer_id" not in table.columns:
        raise InputError(f"{role} {path} has no column customer_id; it has {', '.join(table.columns)}")
    ids = table["customer_id"].cast(pl.String).drop_nulls().unique(maintain_order=True)
    if ids.is_empty():
        raise InputError(f"{role} {path} holds no customer id")
    return ids.to_list()
