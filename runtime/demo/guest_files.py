"""The guests' responses as CSV files, one for each month, as an RSVP service would leave them in a folder."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from runtime.demo.columns import Integers, numbers
from runtime.demo.dataset import Dataset

PATTERN = "guests-*.csv"


def write_guest_files(folder: Path, guests: Dataset) -> list[Path]:
    """Write `guests-YYYY-MM.csv` with a header, by the month of the response, or of the invitation without one.

    Files of an earlier writing go. Text is quoted, and some of it holds commas, quotes and line breaks. Answers the
    files in order; each row is in one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(PATTERN):
        old.unlink()
    months = _months(guests)
    order = np.argsort(months, kind="stable")
    rows = guests.delivered.take(pa.array(order))
    firsts = np.flatnonzero(np.diff(months[order], prepend=-1))
    lasts = np.append(firsts[1:], len(order))
    files = list[Path]()
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        month = np.datetime64(int(months[order[first]]), "M")
        files.append(folder / f"guests-{month}.csv")
        pcsv.write_csv(rows.slice(first, last - first), files[-1])
    return files


def _months(guests: Dataset) -> Integers:
    """The month, since 1970, under which each delivered row is filed; told by the clean rows, whose dates are whole."""
    known = pc.coalesce(guests.clean["responded_on"], guests.clean["invited_on"])
    month = numbers(known).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    again = guests.delivered["guest_id"].to_numpy()[guests.clean.num_rows :] - 1
    filed: Integers = np.concatenate([month, month[again]])
    return filed
